//! Values of toggles and engine options.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings by name, sorted so that equal maps print and hash alike.
pub type Settings = BTreeMap<String, Value>;

/// One setting, written in TOML and JSON as the plain value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
}

/// The kind of value that a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Bool,
    /// A whole number, zero or more.
    Count,
    Float,
    Text,
    /// A list of texts, such as a command line.
    Texts,
}

impl Kind {
    /// The kind in words, for messages: "a whole number".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Kind::Bool => "true or false",
            Kind::Count => "a whole number, zero or more",
            Kind::Float => "a number",
            Kind::Text => "a text",
            Kind::Texts => "a list of texts",
        }
    }

    /// Whether `value` is of this kind. A whole number is also a valid float.
    #[must_use]
    pub fn admits(self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Bool, Value::Bool(_)) | (Kind::Text, Value::Text(_)) | (Kind::Float, Value::Int(_)) => true,
            (Kind::Float, Value::Float(f)) => f.is_finite(),
            (Kind::Count, Value::Int(n)) => *n >= 0,
            (Kind::Texts, Value::List(items)) => items.iter().all(|item| matches!(item, Value::Text(_))),
            _ => false,
        }
    }
}

impl Value {
    /// The value as a count, if it is a whole number, zero or more.
    #[must_use]
    pub fn as_count(&self) -> Option<u64> {
        match self {
            Value::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The value as a float; whole numbers convert.
    #[must_use]
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    /// The items, if it is a list of texts.
    #[must_use]
    pub fn as_texts(&self) -> Option<Vec<String>> {
        match self {
            Value::List(items) => items.iter().map(|i| i.as_text().map(str::to_owned)).collect(),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(n) => write!(f, "{n}"),
            Value::Float(x) => write!(f, "{x}"),
            Value::Text(t) => f.write_str(t),
            Value::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

macro_rules! from {
    ($($ty:ty => $make:expr;)*) => {$(
        impl From<$ty> for Value {
            fn from(v: $ty) -> Self { ($make)(v) }
        }
    )*};
}
from! {
    bool => Value::Bool;
    u32 => |v| Value::Int(i64::from(v));
    i64 => Value::Int;
    u64 => |v| Value::Int(i64::try_from(v).unwrap_or(i64::MAX));
    usize => |v| Value::Int(i64::try_from(v).unwrap_or(i64::MAX));
    f64 => Value::Float;
    &str => |v: &str| Value::Text(v.to_owned());
    String => Value::Text;
}
