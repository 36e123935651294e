//! A cursor over one table of the scenario: reads keys according to the key table, collects
//! problems, and finally reports unknown keys.

use std::cell::RefCell;

use super::diagnose::{Problem, Source, Span, echo, list, nearest};
use super::keys::{CELLS, ENGINE_TOGGLES, KIND, SCENARIO, SECTIONS, Section, Shape, WORKLOAD_KINDS};
use super::tree::{Data, Entry, Node};
use inferometer_protocol::toggle;

/// Longest list of values: a plan has no more cells than this.
const MOST_VALUES: usize = super::plan::MOST_CELLS;

/// Collects problems, so that several are reported at once, together with their source texts.
#[derive(Debug)]
pub struct Problems {
    problems: RefCell<Vec<Problem>>,
    sources: RefCell<Vec<Source>>,
}

impl Problems {
    /// No problems yet; `file` is source 0.
    #[must_use]
    pub fn of(file: Source) -> Self {
        Self { problems: RefCell::default(), sources: RefCell::new(vec![file]) }
    }

    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Adds a further text that values are read from; returns its number for [`Span::source`].
    pub fn add_source(&self, source: Source) -> usize {
        let mut sources = self.sources.borrow_mut();
        sources.push(source);
        sources.len() - 1
    }

    /// The texts and the problems in them.
    #[must_use]
    pub fn take(self) -> (Vec<Source>, Vec<Problem>) {
        (self.sources.into_inner(), self.problems.into_inner())
    }
}

/// One table of the file with its section's keys. A wrong value is reported and replaced by its
/// default.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    pub section: &'static Section,
    /// Where the table is named; `None` if the file has no such table.
    pub span: Option<Span>,
    entries: &'a [Entry],
    problems: &'a Problems,
}

impl<'a> Table<'a> {
    #[must_use]
    pub fn new(section: &'static Section, span: Option<Span>, entries: &'a [Entry], problems: &'a Problems) -> Self {
        let table = Self { section, span, entries, problems };
        table.report_unknown();
        table.report_missing();
        table
    }

    /// The entry of that key.
    ///
    /// # Panics
    /// When the section has no such key: the parser does not match the key table.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&'a Entry> {
        assert!(self.section.key(key).is_some(), "the key table has no `{key}` in {}", self.section.words());
        self.entries.iter().find(|e| e.key == key)
    }

    pub fn entries(&self) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter()
    }

    pub fn problem(&self, problem: Problem) {
        self.problems.add(problem);
    }

    /// The table under `key`; empty if the file has none.
    #[must_use]
    pub fn table(&self, key: &str) -> Table<'a> {
        let section = match self.shape(key) {
            Shape::Section(section) => section,
            other => unreachable!("`{key}` is read as a table and is {other:?}"),
        };
        let empty = Table { section, span: None, entries: &[], problems: self.problems };
        let Some(entry) = self.entry(key) else { return empty };
        self.inside(section, Some(entry.key_span), &entry.value).unwrap_or(empty)
    }

    /// The kind of the table under `key`, and the table with that kind's keys.
    #[must_use]
    pub fn kind(&self, key: &str) -> (&'static str, Table<'a>) {
        let Shape::Kinds(kinds) = self.shape(key) else { unreachable!("`{key}` is read as a table of kinds") };
        let named = self.entry(key).and_then(|entry| match &entry.value.data {
            Data::Table(entries) => entries.iter().find(|e| e.key == KIND),
            _ => None,
        });
        let of = |text: &str| kinds.iter().find(|(kind, _)| *kind == text);
        let (kind, section) = match named.map(|entry| &entry.value.data) {
            Some(Data::Text(text)) => of(text).unwrap_or(&kinds[0]),
            _ => &kinds[0],
        };
        let empty = Table { section, span: None, entries: &[], problems: self.problems };
        let table = self.entry(key).and_then(|entry| self.inside(section, Some(entry.key_span), &entry.value));
        (kind, table.unwrap_or(empty))
    }

    /// Reads another text as a table of `section`; its problems are shown in it.
    ///
    /// # Errors
    /// When it is not a TOML document.
    pub fn document<T>(
        &self,
        section: &'static Section,
        source: Source,
        read: impl FnOnce(Table<'_>) -> T,
    ) -> Result<T, Problem> {
        let text = source.text.clone();
        let number = self.problems.add_source(source);
        let root = super::tree::document(&text, number)?;
        let Data::Table(entries) = &root.data else { unreachable!("a document is a table") };
        let beginning = Span { source: number, start: 0, end: 0 };
        Ok(read(Table::new(section, Some(beginning), entries, self.problems)))
    }

    /// The tables under `key`, in order; `None` if the file has none.
    #[must_use]
    pub fn tables(&self, key: &str) -> Option<Vec<Table<'a>>> {
        let Shape::Sections(section) = self.shape(key) else { unreachable!("`{key}` is read as tables") };
        let entry = self.entry(key)?;
        let Data::List(items) = &entry.value.data else {
            let problem = Problem::new(format!("`{key}` must be a list of tables, not {}", entry.value.words()));
            self.problem(problem.at(entry.key_span).help(format!("write `{}` above its keys", section.title)));
            return Some(Vec::new());
        };
        Some(items.iter().filter_map(|item| self.inside(section, Some(item.span), item)).collect())
    }

    /// `node` as a table with the keys of `section`.
    pub fn inside(&self, section: &'static Section, span: Option<Span>, node: &'a Node) -> Option<Table<'a>> {
        if let Data::Table(entries) = &node.data {
            return Some(Table::new(section, span, entries, self.problems));
        }
        let keys = list(section.keys.iter().map(|k| k.name));
        let problem = Problem::new(format!("{} must be a table, not {}", section.title, node.words()));
        self.problem(problem.at(node.span).label("expected a table").help(format!("its keys are {keys}")));
        None
    }

    /// A non-empty text, if the key is present.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let node = &self.entry(key)?.value;
        match &node.data {
            Data::Text(text) if text.trim().is_empty() => {
                self.wrong(key, node, "must not be empty");
                None
            }
            Data::Text(text) => Some(text),
            _ => {
                self.wrong(key, node, &format!("must be a text in quotes, not {}", node.words()));
                None
            }
        }
    }

    /// `true` or `false`.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        let default = self.default(key) == "true";
        let Some(entry) = self.entry(key) else { return default };
        if let Data::Bool(flag) = entry.value.data {
            return flag;
        }
        self.wrong(key, &entry.value, &format!("must be true or false, not {}", entry.value.words()));
        default
    }

    /// A whole number within the key's bounds.
    #[must_use]
    pub fn count(&self, key: &str) -> u64 {
        let Shape::Count { least, most, or_zero } = self.shape(key) else { unreachable!("`{key}` is read as a count") };
        let default = self.default(key).parse().unwrap_or(least);
        let Some(entry) = self.entry(key) else { return default };
        self.whole(key, &entry.value, least, most, or_zero).unwrap_or(default)
    }

    /// [`Table::count`] for keys with bounds below 2^32.
    #[must_use]
    pub fn count32(&self, key: &str) -> u32 {
        u32::try_from(self.count(key)).expect("the key table bounds it to 32 bits")
    }

    /// A number within the key's bounds.
    #[must_use]
    pub fn number(&self, key: &str) -> f64 {
        let Shape::Number { least, open, most } = self.shape(key) else { unreachable!("`{key}` is read as a number") };
        let default = self.default(key).parse().unwrap_or(least);
        let Some(entry) = self.entry(key) else { return default };
        let node = &entry.value;
        let number = match node.data {
            Data::Int(n) => n as f64,
            Data::Float(x) => x,
            _ => {
                self.wrong(key, node, &format!("must be a number, not {}", node.words()));
                return default;
            }
        };
        let low_enough = number <= most;
        let high_enough = if open { number > least } else { number >= least };
        if low_enough && high_enough {
            return number;
        }
        let bound = if open { format!("above {least}") } else { format!("at least {least}") };
        self.wrong(key, node, &format!("must be {bound} and at most {most}, not {}", node.words()));
        default
    }

    /// Distinct numbers within the key's bounds; `None` if the key is absent.
    #[must_use]
    pub fn numbers(&self, key: &str) -> Option<Vec<f64>> {
        let Shape::Numbers { least, most } = self.shape(key) else { unreachable!("`{key}` is read as numbers") };
        let items = self.items(key)?;
        if items.is_empty() {
            let node = &self.entry(key)?.value;
            self.wrong(key, node, "must not be an empty list: remove the key or give at least one value");
        }
        let read = |node: &Node| {
            let number = match node.data {
                Data::Int(n) => Some(n as f64),
                Data::Float(x) => Some(x),
                _ => None,
            };
            let found = number.filter(|number| *number > least && *number <= most);
            if found.is_none() {
                let told = format!("must be numbers above {least} and at most {most}, not {}", node.words());
                self.wrong(key, node, &told);
            }
            found
        };
        Some(self.different(key, items, read))
    }

    /// One of the key's sizes; `None` if the key is absent.
    #[must_use]
    pub fn size(&self, key: &str) -> Option<u64> {
        let Shape::Size(sizes) = self.shape(key) else { unreachable!("`{key}` is read as a size") };
        let node = &self.entry(key)?.value;
        let size = if let Data::Int(n) = node.data { u64::try_from(n).ok() } else { None };
        let found = size.filter(|n| sizes.contains(n));
        if found.is_none() {
            let known: Vec<String> = sizes.iter().map(u64::to_string).collect();
            let known = list(known.iter().map(String::as_str)).replace(" and ", " or ").replace('`', "");
            self.wrong(key, node, &format!("must be {known}, not {}", node.words()));
        }
        found
    }

    /// One of the key's choices.
    #[must_use]
    pub fn choice(&self, key: &str) -> &'static str {
        let Shape::Choice(choices) = self.shape(key) else { unreachable!("`{key}` is read as a choice") };
        let default = self.default(key).trim_matches('"');
        let default = choices.iter().find(|c| **c == default).unwrap_or(&choices[0]);
        let Some(entry) = self.entry(key) else { return default };
        self.chosen(key, &entry.value, choices).unwrap_or(default)
    }

    /// Distinct whole numbers within the key's bounds; `None` if the key is absent.
    #[must_use]
    pub fn counts(&self, key: &str) -> Option<Vec<u64>> {
        let Shape::Counts { least, most } = self.shape(key) else { unreachable!("`{key}` is read as counts") };
        let items = self.items(key)?;
        if items.is_empty() {
            let node = &self.entry(key)?.value;
            self.wrong(key, node, "must not be an empty list: remove the key or give at least one value");
        }
        Some(self.different(key, items, |node| self.whole(key, node, least, most, false)))
    }

    /// Distinct texts from the key's choices.
    #[must_use]
    pub fn choices(&self, key: &str) -> Vec<String> {
        let Shape::Choices(choices) = self.shape(key) else { unreachable!("`{key}` is read as choices") };
        match self.items(key) {
            Some(items) => self.different(key, items, |node| self.chosen(key, node, choices).map(str::to_owned)),
            None if self.default(key) == "[]" => Vec::new(),
            None => choices.iter().map(|c| (*c).to_owned()).collect(),
        }
    }

    fn items(&self, key: &str) -> Option<&'a [Node]> {
        let node = &self.entry(key)?.value;
        if let Data::List(items) = &node.data {
            return Some(items);
        }
        self.wrong(key, node, &format!("must be a list in square brackets, not {}", node.words()));
        None
    }

    /// Reads every item and reports duplicates.
    pub fn different<T: PartialEq>(&self, key: &str, items: &[Node], read: impl Fn(&Node) -> Option<T>) -> Vec<T> {
        if items.len() > MOST_VALUES {
            let problem = Problem::new(format!("`{key}` has {} values", items.len()));
            self.problem(problem.at(items[0].span).label(format!("the limit is {MOST_VALUES}")));
            return Vec::new();
        }
        let mut values = Vec::new();
        for item in items {
            match read(item) {
                Some(value) if values.contains(&value) => {
                    let problem = Problem::new(format!("`{key}` has {} twice", item.words()));
                    self.problem(problem.at(item.span).label("remove one of the two"));
                }
                Some(value) => values.push(value),
                None => {}
            }
        }
        values
    }

    fn whole(&self, key: &str, node: &Node, least: u64, most: u64, or_zero: bool) -> Option<u64> {
        let value = match node.data {
            Data::Int(n) => u64::try_from(n).ok().filter(|n| (least..=most).contains(n) || or_zero && *n == 0),
            _ => None,
        };
        if value.is_none() {
            let zero = if or_zero { ", or 0" } else { "" };
            let must = if matches!(self.shape(key), Shape::Counts { .. }) {
                "must contain whole numbers"
            } else {
                "must be a whole number"
            };
            self.wrong(key, node, &format!("{must} from {least} to {most}{zero}, not {}", node.words()));
        }
        value
    }

    fn chosen(&self, key: &str, node: &Node, choices: &'static [&'static str]) -> Option<&'static str> {
        let Data::Text(text) = &node.data else {
            let names = list(choices.iter().copied());
            self.wrong(key, node, &format!("must be one of {names}, not {}", node.words()));
            return None;
        };
        let found = choices.iter().find(|c| *c == text).copied();
        if found.is_none() {
            let problem = Problem::new(format!("`{key}` cannot be {}", echo(text))).at(node.span);
            let problem = match nearest(text, choices.iter().copied()) {
                Some(name) => problem.label(format!("did you mean `{name}`?")),
                None => problem,
            };
            self.problem(
                problem.help(format!("it must be {}", list(choices.iter().copied()).replace(" and ", " or "))),
            );
        }
        found
    }

    /// Reports an invalid value of `key`.
    pub fn wrong(&self, key: &str, node: &Node, what: &str) {
        let problem = Problem::new(format!("`{key}` {what}")).at(node.span);
        let meaning = self.section.key(key).map_or("", |k| k.meaning);
        self.problem(if meaning.is_empty() { problem } else { problem.help(format!("`{key}`: {meaning}")) });
    }

    fn shape(&self, key: &str) -> Shape {
        self.section.key(key).expect("the parser asks only for keys of the table").shape
    }

    fn default(&self, key: &str) -> &'static str {
        self.section.key(key).expect("the parser asks only for keys of the table").default
    }

    fn report_missing(&self) {
        for key in self.section.keys.iter().filter(|k| k.required) {
            if self.entries.iter().any(|e| e.key == key.name) {
                continue;
            }
            let problem = match key.shape {
                Shape::Section(section) | Shape::Kinds(&[(_, section), ..]) => {
                    Problem::new(format!("{} is missing", section.title)).help(format!(
                        "{} Its keys are {}",
                        section.meaning,
                        list(section.keys.iter().map(|k| k.name))
                    ))
                }
                _ => Problem::new(format!("{} needs the key `{}`", self.section.words(), key.name))
                    .help(format!("`{}`: {}", key.name, key.meaning)),
            };
            self.problem(match self.span {
                Some(span) => problem.at(span),
                None => problem,
            });
        }
    }

    fn report_unknown(&self) {
        for entry in self.entries {
            if self.section.key(&entry.key).is_none() {
                self.problem(self.unknown(entry));
            }
        }
    }

    fn unknown(&self, entry: &Entry) -> Problem {
        let name = entry.key.as_str();
        let section = self.section;
        let top = section.title.is_empty();
        let place = if top { "at the top level".to_owned() } else { format!("in {}", section.title) };
        let problem = Problem::new(format!("unknown key {} {place}", echo(name))).at(entry.key_span);
        let names = || section.keys.iter().map(|k| k.name);
        if let Some(kind) = other_kind(section, name) {
            return problem
                .label(format!("this key belongs to `kind = \"{kind}\"`"))
                .help(format!("valid keys of a workload of this kind: {}", list(names())));
        }
        let problem = match (nearest(name, names()), home(name)) {
            (_, Some(home)) if home.contains(&format!("[{name}]")) => {
                problem.label(format!("this is a separate table: {home}"))
            }
            (_, Some(home)) => problem.label(format!("this key belongs in {home}")),
            (Some(near), None) => problem.label(format!("did you mean `{near}`?")),
            (None, None) => problem,
        };
        let toggles = [&super::keys::TOGGLES, &ENGINE_TOGGLES];
        if toggles.into_iter().any(|of| std::ptr::eq(section, of)) {
            return problem.help("docs/reference/scenarios.md lists the toggles");
        }
        problem.help(format!("valid keys in {}: {}", section.words(), list(names())))
    }
}

/// Whether it is a table in which a key may have been misplaced. Conditions of a gate and an
/// engine's own toggles are not: they are named after other tables' keys.
fn is_table(section: &Section) -> bool {
    let others = [&CELLS, &ENGINE_TOGGLES];
    !section.title.is_empty() && !others.into_iter().any(|other| std::ptr::eq(section, other))
}

/// The section of a key with exactly this name, if there is only one.
fn home(name: &str) -> Option<&'static str> {
    if let Some(Shape::Section(own) | Shape::Sections(own) | Shape::Kinds(&[(_, own), ..])) =
        SCENARIO.key(name).map(|k| k.shape)
    {
        return Some(own.title);
    }
    let mut homes: Vec<&str> =
        SECTIONS.iter().filter(|s| is_table(s) && s.key(name).is_some()).map(|s| s.title).collect();
    homes.dedup();
    let home = homes.first()?;
    (homes.len() == 1 || toggle::find(name).is_some()).then_some(*home)
}

/// The other kind of workload that has a key of this name, if `section` is a workload.
fn other_kind(section: &Section, name: &str) -> Option<&'static str> {
    let is_own = |of: &Section| std::ptr::eq(of, section);
    if !WORKLOAD_KINDS.iter().any(|(_, of)| is_own(of)) {
        return None;
    }
    WORKLOAD_KINDS.iter().find(|(_, of)| !is_own(of) && of.key(name).is_some()).map(|(kind, _)| *kind)
}
