//! The key-value pairs of a GGUF file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inferometer_host::Result;
use inferometer_protocol::EngineError;
use inferometer_protocol::bounded::brief;

/// The metadata of a model.
///
/// A getter returns `None` if the key is absent, and an error that names file and key if the value
/// has another type.
#[derive(Debug)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
    Flag(bool),
    Text(String),
    Texts(Texts),
    Numbers(Numbers),
}

/// An array of texts, kept as one text and the ends of its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    joined: String,
    ends: Vec<usize>,
}

/// An array of numbers or flags, kept as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbers {
    pub kind: NumberType,
    /// Little-endian.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Flag,
    U64,
    I64,
    F64,
}

impl Metadata {
    pub(super) fn new(path: &Path, values: BTreeMap<String, Value>) -> Self {
        Self { path: path.to_owned(), values }
    }

    /// The file that it comes from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys, in alphabetical order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// # Errors
    /// When the value is no text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer that is not negative, of any width.
    ///
    /// # Errors
    /// When the value is no such integer.
    pub fn count(&self, key: &str) -> Result<Option<u64>> {
        self.get(key, "an integer from 0 to 2^64-1", |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// # Errors
    /// When the value is no floating-point number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a floating-point number", |value| match value {
            Value::Float(number) => Some(*number),
            _ => None,
        })
    }

    /// # Errors
    /// When the value is no flag.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "a flag", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// # Errors
    /// When the value is no array of texts.
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>> {
        self.get(key, "an array of texts", |value| match value {
            Value::Texts(texts) => Some(texts),
            _ => None,
        })
    }

    /// An array of integers, of any width.
    ///
    /// # Errors
    /// When the value is no such array.
    pub fn integers(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = i128> + '_>> {
        self.get(key, "an array of integers", |value| match value {
            Value::Numbers(numbers) => numbers.integers(),
            _ => None,
        })
    }

    /// An array of floating-point numbers.
    ///
    /// # Errors
    /// When the value is no such array.
    pub fn floats(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = f64> + '_>> {
        self.get(key, "an array of floating-point numbers", |value| match value {
            Value::Numbers(numbers) => numbers.floats(),
            _ => None,
        })
    }

    /// An integer for each layer: one for all, or an array with one for each.
    ///
    /// # Errors
    /// When the value is neither, an integer is negative, or the array has another length.
    pub fn counts_by_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<u64>>> {
        let expected = format!("an integer from 0 to 2^64-1, or an array of {layers} of them");
        self.get(key, &expected, |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok().map(|number| vec![number; layers]),
            Value::Numbers(numbers) if numbers.len() == layers => {
                numbers.integers()?.map(|number| u64::try_from(number).ok()).collect()
            }
            _ => None,
        })
    }

    /// A flag for each layer: one for all, or an array with one for each.
    ///
    /// # Errors
    /// When the value is neither or the array has another length.
    pub fn flags_by_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<bool>>> {
        self.get(key, &format!("a flag, or an array of {layers} flags"), |value| match value {
            Value::Flag(flag) => Some(vec![*flag; layers]),
            Value::Numbers(numbers) if numbers.len() == layers && numbers.kind == NumberType::Flag => {
                Some(numbers.bytes.iter().map(|byte| *byte != 0).collect())
            }
            _ => None,
        })
    }

    /// The error for a key that the caller needs.
    #[must_use]
    pub fn missing(&self, key: &str) -> EngineError {
        self.wrong(key, "is missing in the metadata")
    }

    /// An error that names the file and `key`.
    #[must_use]
    pub fn wrong(&self, key: &str, problem: impl std::fmt::Display) -> EngineError {
        super::wrong(&self.path, format!("{} {problem}", brief(key)))
    }

    fn get<'a, R>(&'a self, key: &str, expected: &str, read: impl FnOnce(&'a Value) -> Option<R>) -> Result<Option<R>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.wrong(key, format!("is {}, not {expected}", value.said()))),
        }
    }
}

impl Value {
    /// The value in a message.
    pub fn said(&self) -> String {
        match self {
            Value::Integer(number) => format!("the integer {number}"),
            Value::Float(number) => format!("the floating-point number {number}"),
            Value::Flag(flag) => format!("the flag {flag}"),
            Value::Text(text) => format!("the text {:?}", brief(text)),
            Value::Texts(texts) => format!("an array of {} texts", texts.len()),
            Value::Numbers(numbers) => {
                let of = match numbers.kind {
                    NumberType::F32 | NumberType::F64 => "floating-point numbers",
                    NumberType::Flag => "flags",
                    _ => "integers",
                };
                format!("an array of {} {of}", numbers.len())
            }
        }
    }
}

impl Texts {
    pub(super) fn with_capacity(texts: usize, bytes: usize) -> Self {
        Self { joined: String::with_capacity(bytes), ends: Vec::with_capacity(texts) }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.joined.push_str(text);
        self.ends.push(self.joined.len());
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    #[must_use]
    pub fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.joined[start..end])
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|at| self.get(at).unwrap_or_default())
    }
}

impl Numbers {
    fn len(&self) -> usize {
        self.bytes.len() / self.kind.width()
    }

    fn integers(&self) -> Option<impl ExactSizeIterator<Item = i128> + '_> {
        let kind = self.kind;
        if matches!(kind, NumberType::F32 | NumberType::F64 | NumberType::Flag) {
            return None;
        }
        Some(self.bytes.chunks_exact(kind.width()).map(move |bytes| kind.integer(bytes)))
    }

    fn floats(&self) -> Option<impl ExactSizeIterator<Item = f64> + '_> {
        let kind = self.kind;
        if !matches!(kind, NumberType::F32 | NumberType::F64) {
            return None;
        }
        Some(self.bytes.chunks_exact(kind.width()).map(move |bytes| kind.float(bytes)))
    }
}

impl NumberType {
    /// Bytes of a number.
    pub const fn width(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Flag => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// One value; `bytes` has its width.
    pub fn value(self, bytes: &[u8]) -> Value {
        match self {
            Self::Flag => Value::Flag(bytes != [0]),
            Self::F32 | Self::F64 => Value::Float(self.float(bytes)),
            _ => Value::Integer(self.integer(bytes)),
        }
    }

    fn integer(self, bytes: &[u8]) -> i128 {
        let negative = matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
            && bytes.last().is_some_and(|highest| *highest >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    }

    fn float(self, bytes: &[u8]) -> f64 {
        match *bytes {
            [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => f64::NAN,
        }
    }
}
