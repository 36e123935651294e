//! One description of a table, its columns and its cells, which four writers show.
//!
//! ```ignore
//! Table::of("Every gate", &summary.gates)
//!     .head("gate", |gate| gate.title())
//!     .number("pairs", |gate| gate.pairs.len()).meaning("valid pairs")
//!     .markdown()
//! ```

mod csv;
mod html;
mod markdown;
mod terminal;

pub use markdown::{escape, escape_sentence};

use maud::Markup;

use super::summary::NOT_MEASURED;
use super::text;

/// Writers that show a column; join them with `|`.
pub const TERMINAL: u8 = 1;
pub const MARKDOWN: u8 = 2;
pub const HTML: u8 = 4;

/// Rows of some kind and the columns described so far.
pub struct Table<R> {
    rows: Vec<R>,
    shape: Shape,
}

/// The input of the writers.
#[derive(Default)]
struct Shape {
    /// The table's name for screen readers.
    name: String,
    caption: Option<String>,
    rows: usize,
    /// The page shows it with more space around figures.
    roomy: bool,
    /// Spaces between columns in the terminal.
    gap: u16,
    columns: Vec<Column>,
    /// Whether each row begins a group.
    begins: Vec<bool>,
}

#[derive(Default)]
struct Column {
    /// A line break in it counts in the terminal only.
    title: String,
    unit: String,
    meaning: &'static str,
    role: Role,
    number: bool,
    /// The title is a name.
    named: bool,
    /// Has room for whole sentences.
    said: bool,
    /// What joins a median and its range in the terminal; absent if the terminal shows the median
    /// alone.
    between: Option<&'static str>,
    width: Width,
    shown: u8,
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Data,
    /// Names the row.
    Header,
    /// Names a group of rows, once for all of them.
    Group,
    /// The terminal writes it beneath the row, for lack of room.
    Beneath,
}

/// Width of a column in the terminal.
#[derive(Clone, Copy, Default)]
enum Width {
    #[default]
    Content,
    AtMost(u16),
    Exactly(u16),
    /// The width that the other columns leave.
    Rest,
}

/// A cell of a table. Its text is untrusted: every writer escapes it.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// Absent: not measured.
    words: Option<String>,
    unit: &'static str,
    range: Option<String>,
    code: bool,
    strong: bool,
    alarm: bool,
    badge: Option<(&'static str, &'static str)>,
    hint: Option<String>,
    page: Option<Markup>,
}

impl<R> Table<R> {
    /// A table without columns; `name` is for screen readers.
    pub fn of(name: impl Into<String>, rows: impl IntoIterator<Item = R>) -> Self {
        let rows: Vec<R> = rows.into_iter().collect();
        let shape = Shape { name: name.into(), rows: rows.len(), gap: 1, ..Shape::default() };
        Self { rows, shape }
    }

    /// Adds a column of short texts.
    pub fn text<C: Into<Cell>>(mut self, title: impl Into<String>, of: impl Fn(&R) -> C) -> Self {
        let cells = self.rows.iter().map(|row| of(row).into()).collect();
        let shown = TERMINAL | MARKDOWN | HTML;
        self.shape.columns.push(Column { title: title.into(), between: Some("\n"), shown, cells, ..Column::default() });
        self
    }

    /// Adds a column whose texts name the rows.
    pub fn head<C: Into<Cell>>(self, title: impl Into<String>, of: impl Fn(&R) -> C) -> Self {
        self.text(title, of).header()
    }

    /// Adds a column of figures.
    pub fn number<C: Into<Cell>>(self, title: impl Into<String>, of: impl Fn(&R) -> C) -> Self {
        self.text(title, of).last(|column| column.number = true)
    }

    /// Adds a column of sentences, which takes the width that the other columns leave.
    pub fn said<C: Into<Cell>>(self, title: impl Into<String>, of: impl Fn(&R) -> C) -> Self {
        self.text(title, of).last(|column| (column.said, column.width) = (true, Width::Rest))
    }

    /// Adds a column that names groups of neighbouring rows with the same key.
    pub fn group<K: PartialEq, C: Into<Cell>>(
        mut self,
        title: &str,
        key: impl Fn(&R) -> K,
        of: impl Fn(&R) -> C,
    ) -> Self {
        let same = |at: usize| at > 0 && key(&self.rows[at]) == key(&self.rows[at - 1]);
        self.shape.begins = (0..self.rows.len()).map(|at| !same(at)).collect();
        self.text(title, of).last(|column| column.role = Role::Group)
    }

    fn last(mut self, change: impl FnOnce(&mut Column)) -> Self {
        change(self.shape.columns.last_mut().expect("a column was added before"));
        self
    }

    /// The last column names the row.
    pub fn header(self) -> Self {
        self.last(|column| column.role = Role::Header)
    }

    /// The terminal writes the last column beneath the row, on lines of its own.
    pub fn beneath(self) -> Self {
        self.last(|column| column.role = Role::Beneath)
    }

    /// Unit of the last column.
    pub fn unit(self, unit: &str) -> Self {
        self.last(|column| unit.clone_into(&mut column.unit))
    }

    /// The exact meaning of the last column, shown as a tooltip.
    pub fn meaning(self, meaning: &'static str) -> Self {
        self.last(|column| column.meaning = meaning)
    }

    /// Only these writers show the last column.
    pub fn only(self, writers: u8) -> Self {
        self.last(|column| column.shown = writers)
    }

    /// The terminal shows the last column's medians without their ranges.
    pub fn narrow(self) -> Self {
        self.last(|column| column.between = None)
    }

    /// The terminal writes the last column's medians and ranges on one line.
    pub fn on_one_line(self) -> Self {
        self.last(|column| column.between = Some(" "))
    }

    /// The last column's title is a name, which no writer changes.
    pub fn named(self) -> Self {
        self.last(|column| column.named = true)
    }

    /// The greatest width of the last column in the terminal, in characters.
    pub fn at_most(self, width: u16) -> Self {
        self.last(|column| column.width = Width::AtMost(width))
    }

    /// The width of the last column in the terminal, in characters, whatever its content.
    pub fn exactly(self, width: u16) -> Self {
        self.last(|column| column.width = Width::Exactly(width))
    }

    /// A sentence above the table on the page.
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.shape.caption = Some(caption.into());
        self
    }

    /// The page shows it with more space, as a headline table.
    pub fn roomy(mut self) -> Self {
        self.shape.roomy = true;
        self
    }

    /// Spaces between columns in the terminal; the default is one.
    pub fn gap(mut self, spaces: u16) -> Self {
        self.shape.gap = spaces;
        self
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For a terminal of 80 columns, each line ended by a newline; empty without rows.
    #[must_use]
    pub fn terminal(&self) -> String {
        terminal::write(&self.shape)
    }

    /// As GitHub Markdown, followed by an empty line; empty without rows.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::write(&self.shape)
    }

    /// For an HTML page; scrolls sideways on a narrow screen.
    #[must_use]
    pub fn html(&self) -> Markup {
        html::write(&self.shape)
    }

    /// As CSV, with unchanged texts.
    #[must_use]
    pub fn csv(&self) -> String {
        csv::write(&self.shape)
    }
}

impl Shape {
    fn shown(&self, writer: u8) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(move |column| column.shown & writer != 0)
    }

    /// Whether a row above has already named this row's group.
    fn is_named(&self, row: usize) -> bool {
        !self.begins.get(row).copied().unwrap_or(true)
    }
}

impl Column {
    /// A cell's text as one line with all characters visible, shortened if too long.
    fn line(&self, words: &str) -> String {
        if self.said { text::sentence(words) } else { text::label(words) }
    }
}

impl Cell {
    /// A value that was not measured.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Written after the text in a paler colour.
    pub fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// The interval of a median, without brackets.
    pub fn range(self, ends: Option<(String, String)>) -> Self {
        Self { range: ends.map(|(lo, hi)| format!("[{lo}, {hi}]")), ..self }
    }

    /// A note below or after the text, if there is room.
    pub fn beside(self, words: impl Into<String>) -> Self {
        Self { range: Some(words.into()), ..self }
    }

    /// A name in code.
    pub fn code(self) -> Self {
        Self { code: true, ..self }
    }

    /// Bold in Markdown, followed by a star on the page.
    pub fn strong(self, holds: bool) -> Self {
        Self { strong: holds, ..self }
    }

    /// The page shows it in the colour of errors.
    pub fn alarm(self, holds: bool) -> Self {
        Self { alarm: holds, ..self }
    }

    /// A verdict: bold in Markdown; on the page with that CSS class and sign.
    pub fn badge(self, class: &'static str, sign: &'static str) -> Self {
        Self { badge: Some((class, sign)), ..self }
    }

    /// A tooltip on the page.
    pub fn hint(self, words: impl Into<String>) -> Self {
        Self { hint: Some(words.into()), ..self }
    }

    /// Replaces the text on the page.
    pub fn page(self, markup: Markup) -> Self {
        Self { page: Some(markup), ..self }
    }

    /// Words with the unit and, if wanted, the range, joined by `between`.
    fn joined(&self, line: impl Fn(&str) -> String, between: Option<&str>) -> String {
        let mut out = self.words.as_deref().map_or_else(|| NOT_MEASURED.to_owned(), &line);
        if !self.unit.is_empty() {
            out.push_str(&format!(" {}", self.unit));
        }
        match (between, &self.range) {
            (Some(between), Some(range)) => format!("{out}{between}{}", line(range)),
            _ => out,
        }
    }
}

macro_rules! plain_cells {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Cell {
            fn from(words: $kind) -> Self {
                Self { words: Some(words.to_string()), ..Self::default() }
            }
        }
    )*};
}

plain_cells!(&str, &String, String, bool, u8, u32, u64, usize, f64);

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(words: Option<T>) -> Self {
        words.map_or_else(Self::nothing, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<(u32, &'static str, Option<f64>)> {
        Table::of("Things", [(0, "a|b", Some(1.5)), (0, "<i>", None), (1, "=x", Some(-2.0))])
            .group("cell", |row| row.0, |row| format!("cell {}", row.0))
            .head("thing", |row| row.1)
            .number("median", |row| Cell::from(row.2).range(row.2.map(|v| (v.to_string(), "9".to_owned()))))
            .unit("ms")
            .meaning("of all")
            .text("mark", |row| Cell::from(if row.0 == 1 { "bad" } else { "" }).alarm(row.0 == 1))
            .text("by", |row| format!("by {}", row.1))
            .beneath()
            .only(TERMINAL)
    }

    #[test]
    fn the_terminal_names_a_group_once_and_has_ranges_and_notes_below() {
        insta::assert_snapshot!(table().terminal(), @r"
        cell    thing    median  mark
                             ms
        ──────────────────────────────
        cell 0  a|b         1.5
                       [1.5, 9]
            by a|b
                <i>           –
            by <i>
        cell 1  =x           -2  bad
                        [-2, 9]
            by =x
        ");
    }

    #[test]
    fn markdown_names_a_group_once_and_escapes() {
        assert_eq!(
            table().markdown(),
            "| cell | thing | median ms | mark |\n|---|---|--:|---|\n| cell 0 | a\\|b | 1.5 \\[1.5, 9\\] |  |\n\
             |  | &lt;i&gt; | – |  |\n| cell 1 | =x | -2 \\[-2, 9\\] | bad |\n\n"
        );
        assert_eq!(Table::of("", [0; 0]).text("a", |n| *n as usize).markdown(), "");
    }

    #[test]
    fn the_page_names_rows_and_groups_for_those_who_hear_it() {
        let page = table().html().into_string();
        assert!(page.contains("<th scope=\"rowgroup\" rowspan=\"2\">cell 0</th><th scope=\"row\">a|b</th>"), "{page}");
        assert!(page.contains("title=\"of all\">Median<br><span class=\"unit\">ms</span></th>"), "{page}");
        assert!(page.contains("&lt;i&gt;") && !page.contains("<i>") && page.contains("<td class=\"alarm\">bad</td>"));
        assert_eq!(page.matches("<tbody>").count(), 2);
        assert!(page.starts_with("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Things\">"));
    }

    #[test]
    fn csv_has_nothing_where_nothing_was_measured() {
        let csv = table().csv();
        assert_eq!(csv.lines().nth(2), Some("cell 0,<i>,,,by <i>"));
    }

    #[test]
    fn csv_has_numbers_as_numbers_and_no_formula() {
        assert_eq!(table().csv().lines().nth(3), Some("cell 1,'=x,-2,bad,by =x"));
        let table = Table::of("", ["-2.5", "-x", "@a", "\t=1", "-inf"]).text("=t", |text| *text);
        assert_eq!(table.csv(), "'=t\n-2.5\n'-x\n'@a\n'\t=1\n'-inf\n");
    }

    #[test]
    fn escape_sequences_in_titles_are_shown() {
        let evil = "a\u{1b}]0;pwned\u{7}\nb\u{9b}31m";
        let table = Table::of(evil, ["x"]).text(evil, |text| *text).unit(evil);
        for shown in [table.terminal(), table.markdown(), table.html().into_string()] {
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        }
    }
}
