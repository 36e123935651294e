//! What a key of the table is made of.

use inferometer_protocol::toggle::ToggleSpec;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A text that is not empty.
    Text,
    Flag,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// One of these whole numbers.
    Size(&'static [u64]),
    /// A whole number between `least` and `most`, both included; with `or_zero` 0 as well.
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
    /// A list, not empty, of different whole numbers between the bounds.
    Counts {
        least: u64,
        most: u64,
    },
    /// A list of different texts out of these.
    Choices(&'static [&'static str]),
    /// A list of texts; with `or_none` it may be empty.
    Texts {
        or_none: bool,
    },
    /// A smallest change: a share as a text with a percent sign, above 0 and below 100 %; or of counts a number above 0, of bytes
    /// also a text such as `64 MiB`.
    Delta,
    /// A table with the keys of that section.
    Section(&'static Section),
    /// A list of tables with the keys of that section.
    Sections(&'static Section),
    /// A table whose `kind` says which section's keys it has; without it those of the first.
    Kinds(&'static [(&'static str, &'static Section)]),
    /// The text `all`, or a table with the keys of that section.
    AllOr(&'static Section),
    /// The options of an engine; what they are, the engine says.
    Options,
    /// A value of the toggle, or a list of different values to vary.
    Toggle(&'static ToggleSpec),
    /// One value of the toggle.
    ToggleValue(&'static ToggleSpec),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    /// The value when the key is not there, as TOML; empty where there is none.
    pub default: &'static str,
    /// Whether the key must be there.
    pub required: bool,
    pub meaning: &'static str,
}

/// A table of the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Section {
    /// As the file writes it: `[run]`, `[[engine]]`, `[model] synthetic`; empty for the top level.
    pub title: &'static str,
    pub meaning: &'static str,
    /// Two keys of which exactly one must be there.
    pub one_of: Option<(&'static str, &'static str)>,
    pub keys: &'static [Key],
}

impl Key {
    /// The default as JSON, where there is one.
    ///
    /// # Panics
    /// When the table's default is not TOML, which a test holds.
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
