//! Keys of the key table, and the values that they accept.

use inferometer_protocol::toggle::ToggleSpec;

/// The values that a key accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A non-empty text.
    Text,
    Flag,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// One of these whole numbers.
    Size(&'static [u64]),
    /// A whole number from `least` to `most`; with `or_zero` also 0.
    Count {
        least: u64,
        most: u64,
        or_zero: bool,
    },
    /// A number up to `most`, from `least` (or, if `open`, above it).
    Number {
        least: f64,
        open: bool,
        most: f64,
    },
    /// A non-empty list of distinct whole numbers between the bounds.
    Counts {
        least: u64,
        most: u64,
    },
    /// A non-empty list of distinct numbers above `least` up to `most`.
    Numbers {
        least: f64,
        most: f64,
    },
    /// A list of distinct texts from these.
    Choices(&'static [&'static str]),
    /// A list of texts; with `or_none` it may be empty.
    Texts {
        or_none: bool,
    },
    /// A smallest change: a percentage as a text, above 0 and below 100 %; for counts a number
    /// above 0; for bytes also a text such as `64 MiB`.
    Delta,
    /// A table with the keys of this section.
    Section(&'static Section),
    /// A list of tables with the keys of this section.
    Sections(&'static Section),
    /// A table whose `kind` selects the section; by default the first.
    Kinds(&'static [(&'static str, &'static Section)]),
    /// The text `all`, or a table with the keys of this section.
    AllOr(&'static Section),
    /// A table of anything that JSON can hold, keys as they come.
    AnyTable,
    /// A list of such tables.
    AnyTables,
    /// The options of an engine, which the engine defines.
    Options,
    /// A value of the toggle, or a list of distinct values to vary.
    Toggle(&'static ToggleSpec),
    /// One value of the toggle.
    ToggleValue(&'static ToggleSpec),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    /// The default as TOML; empty if there is none.
    pub default: &'static str,
    /// Whether the key is required.
    pub required: bool,
    pub meaning: &'static str,
}

/// A table of the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Section {
    /// As written in the file: `[run]`, `[[engine]]`, `[model] synthetic`; empty for the top level.
    pub title: &'static str,
    pub meaning: &'static str,
    /// Keys of which exactly one is required.
    pub one_of: &'static [&'static str],
    pub keys: &'static [Key],
}

impl Key {
    /// The default as JSON, if there is one.
    ///
    /// # Panics
    /// When the table's default is not TOML, which a test rules out.
    #[must_use]
    pub fn default_value(&self) -> Option<serde_json::Value> {
        if self.default.is_empty() {
            return None;
        }
        let table: toml::Table = format!("x = {}", self.default).parse().expect("defaults of the table are TOML");
        Some(serde_json::to_value(&table["x"]).expect("a TOML value is a JSON value"))
    }
}

impl Section {
    /// The key of that name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// `[run]`, or `the scenario` for the top level.
    #[must_use]
    pub fn words(&self) -> &'static str {
        if self.title.is_empty() { "a scenario" } else { self.title }
    }
}

pub(super) const fn key(name: &'static str, shape: Shape, default: &'static str, meaning: &'static str) -> Key {
    Key { name, shape, default, required: false, meaning }
}

pub(super) const fn required(name: &'static str, shape: Shape, meaning: &'static str) -> Key {
    Key { name, shape, default: "", required: true, meaning }
}

pub(super) const fn count(least: u64, most: u64) -> Shape {
    Shape::Count { least, most, or_zero: false }
}
