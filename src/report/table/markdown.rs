//! Tables as GitHub Markdown, and the escaping of Markdown text.

use super::{MARKDOWN, Role, Shape};
use crate::report::text;

pub fn write(shape: &Shape) -> String {
    if shape.rows == 0 {
        return String::new();
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let columns: Vec<_> = shape.shown(MARKDOWN).collect();
    let titles = columns.iter().map(|column| format!("{} {}", column.title.replace('\n', " "), column.unit));
    let mut out = line(titles.map(|title| escape(title.trim())).collect());
    let rules: Vec<&str> = columns.iter().map(|column| if column.number { "--:" } else { "---" }).collect();
    out.push_str(&format!("|{}|\n", rules.join("|")));
    for row in 0..shape.rows {
        out.push_str(&line(
            columns
                .iter()
                .map(|column| {
                    if column.role == Role::Group && shape.is_named(row) {
                        return String::new();
                    }
                    let cell = &column.cells[row];
                    let words = cell.joined(|words| escaped(&column.line(words)), Some(" "));
                    if cell.strong || cell.badge.is_some() { format!("**{words}**") } else { words }
                })
                .collect(),
        ));
    }
    out.push('\n');
    out
}

/// Escapes text so that Markdown shows it unchanged: one line, no markup, no HTML, no link, no
/// mention.
#[must_use]
pub fn escape(raw: &str) -> String {
    escaped(&text::label(raw))
}

/// [`escape`] for whole sentences, which are shortened later.
#[must_use]
pub fn escape_sentence(raw: &str) -> String {
    escaped(&text::sentence(raw))
}

fn escaped(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                out.push('\\');
                out.push(c);
            }
            ':' => out.push_str("&#58;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_shown_not_obeyed() {
        assert_eq!(escape("a|b"), "a\\|b");
        assert_eq!(escape("<script>@x"), "&lt;script&gt;&#64;x");
        assert_eq!(escape("[l](http://x)"), "\\[l\\](http&#58;//x)");
        assert_eq!(escape("two\nlines `code`"), "two lines \\`code\\`");
    }
}
