//! How Python prints values: `str`, `repr` and `json.dumps`.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, Output, State, Value};

use super::failed;

/// Deepest nesting that is printed, so that the stack suffices.
const DEEPEST: usize = 200;

/// A list or a map that a template is given: it prints as in Python wherever minijinja makes a text
/// of it, such as in `a ~ b`. What a template makes itself prints so in [`formatter`] only.
#[derive(Debug)]
struct Given(Value);

impl Object for Given {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.0.kind() == ValueKind::Map { ObjectRepr::Map } else { ObjectRepr::Seq }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get_item(key).ok().filter(|value| !value.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.repr() {
            ObjectRepr::Map => Enumerator::Values(self.0.try_iter().into_iter().flatten().collect()),
            _ => Enumerator::Seq(self.0.len().unwrap_or(0)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Style::python().of(&self.0).map_err(|_| fmt::Error)?)
    }
}

/// A value that a template is given.
pub fn given(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Array(items) => {
            Value::from_object(Given(items.into_iter().map(given).collect::<Vec<_>>().into()))
        }
        serde_json::Value::Object(map) => {
            Value::from_object(Given(map.into_iter().map(|(key, value)| (key, given(value))).collect()))
        }
        other => Value::from_serialize(other),
    }
}

/// What `{{ value }}` prints.
///
/// # Errors
/// When the value holds an error or is too deep.
pub fn formatter(out: &mut Output, _: &State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&text(value)?),
    }
    .map_err(|_| failed("the text cannot be written"))
}

/// Python's `str(value)`.
///
/// # Errors
/// As [`formatter`].
pub fn text(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => Style::python().of(value),
    }
}

/// How lists and maps are laid out.
pub struct Style {
    pub json: bool,
    pub ascii: bool,
    /// Text of one level; `None`: everything on one line.
    pub indent: Option<String>,
    pub item: String,
    pub key: String,
    pub sorted: bool,
}

impl Style {
    /// Python's `repr`.
    pub fn python() -> Self {
        let [item, key] = [", ", ": "].map(str::to_owned);
        Self { json: false, ascii: false, indent: None, item, key, sorted: false }
    }

    /// # Errors
    /// When the value holds an error, is too deep, or is no JSON where that is asked for.
    pub fn of(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.write(value, 0, &mut out)?;
        Ok(out)
    }

    fn write(&self, value: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        if level > DEEPEST {
            return Err(failed(format!("a value is nested more than {DEEPEST} levels deep")));
        }
        match value.kind() {
            ValueKind::None => out.push_str(if self.json { "null" } else { "None" }),
            ValueKind::Bool if self.json => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&self.float(f64::try_from(value.clone())?)),
            ValueKind::String => self.quoted(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.several(['[', ']'], level, out, items, |item, out| self.write(&item, level + 1, out))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.several(['{', '}'], level, out, keys.into_iter(), |key, out| {
                    let quoted = self.json && key.kind() != ValueKind::String;
                    out.push_str(if quoted { "\"" } else { "" });
                    self.write(&key, level + 1, out)?;
                    out.push_str(if quoted { "\"" } else { "" });
                    out.push_str(&self.key);
                    self.write(&value.get_item(&key)?, level + 1, out)
                })?;
            }
            ValueKind::Invalid => return Err(failed(value.to_string())),
            kind if self.json => return Err(failed(format!("a value of type {kind} cannot be written as JSON"))),
            ValueKind::Undefined => out.push_str("Undefined"),
            _ => out.push_str(&value.to_string()),
        }
        Ok(())
    }

    fn several(
        &self,
        [open, close]: [char; 2],
        level: usize,
        out: &mut String,
        items: impl Iterator<Item = Value>,
        write: impl Fn(Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new_line = |level: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.push_str(&indent.repeat(level));
            }
        };
        out.push(open);
        let mut empty = true;
        for item in items {
            out.push_str(if empty { "" } else { &self.item });
            empty = false;
            new_line(level + 1, out);
            write(item, out)?;
        }
        if !empty {
            new_line(level, out);
        }
        out.push(close);
        Ok(())
    }

    /// The shortest digits that give a float back, with an exponent below 1e-4 and from 1e16 on.
    fn float(&self, number: f64) -> String {
        let special = |json: &str, python: &str| if self.json { json.to_owned() } else { python.to_owned() };
        if number.is_nan() {
            return special("NaN", "nan");
        }
        if number.is_infinite() {
            return if number > 0.0 { special("Infinity", "inf") } else { special("-Infinity", "-inf") };
        }
        let scientific = format!("{number:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if number != 0.0 && !(-4..16).contains(&exponent) {
            let sign = if exponent < 0 { '-' } else { '+' };
            return format!("{digits}e{sign}{:02}", exponent.abs());
        }
        let plain = number.to_string();
        if plain.contains('.') { plain } else { plain + ".0" }
    }

    /// A text in quotes: in Python single ones, unless it holds such and no double ones.
    fn quoted(&self, text: &str, out: &mut String) {
        let quote = if self.json || (text.contains('\'') && !text.contains('"')) { '"' } else { '\'' };
        out.push(quote);
        for c in text.chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x08' if self.json => out.push_str("\\b"),
                '\x0c' if self.json => out.push_str("\\f"),
                c if c == quote || c == '\\' => out.extend(['\\', c]),
                c if self.json && (c < ' ' || (self.ascii && !c.is_ascii())) => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
                }
                c if self.json || printable(c) => out.push(c),
                c => match u32::from(c) {
                    code @ 0..=0xff => out.push_str(&format!("\\x{code:02x}")),
                    code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                    code => out.push_str(&format!("\\U{code:08x}")),
                },
            }
        }
        out.push(quote);
    }
}

/// Python's `str.isprintable` of one character: no control, format, private or unassigned
/// character, and of the separators only the blank. Rust's `escape_debug` follows the same
/// categories; behind a letter it does not escape combining marks either.
fn printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let text: String = ['a', c].into_iter().collect();
    text.escape_debug().nth(1) != Some('\\')
}
