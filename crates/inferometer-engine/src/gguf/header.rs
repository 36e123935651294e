//! Parses and checks everything that stands before the tensors' bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use inferometer_protocol::bounded::{brief, quote};

use super::metadata::{Metadata, NumberType, Numbers, Texts, Value};
use super::{GgmlType, TensorInfo};

pub(super) const MAGIC: [u8; 4] = *b"GGUF";
const VERSIONS: [u32; 2] = [2, 3];
const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: usize = 32;
/// Most dimensions of a tensor, as in ggml.
const DIMENSIONS: usize = 4;
/// Longest key or name of a tensor that the specification allows.
const LONGEST_NAME: usize = 65_535;
/// Least bytes of a key-value pair: length of the key, type, value.
const LEAST_PAIR: usize = 8 + 4 + 1;
/// Least bytes of a tensor's entry: length of the name, dimensions, type, offset.
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;

/// The header of one file.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
}

/// Parses the header of a file whose bytes are `file`.
///
/// # Errors
/// What is wrong, without the file's name.
pub(super) fn parse(file: &[u8], path: &Path) -> Result<Header, String> {
    let mut reader = Reader { file, at: 0 };
    reader.version()?;
    let tensors = reader.count("the number of tensors", LEAST_TENSOR)?;
    let pairs = reader.count("the number of metadata entries", LEAST_PAIR)?;
    let mut values = BTreeMap::new();
    for _ in 0..pairs {
        let key = reader.name("a metadata key")?;
        let value = reader.value(key)?;
        if values.insert(key.to_owned(), value).is_some() {
            return Err(format!("the key {} stands twice in the metadata", brief(key)));
        }
    }
    let alignment = alignment(&values)?;
    let entries = (0..tensors).map(|_| reader.tensor()).collect::<Result<Vec<_>, _>>()?;
    let tensors = place(entries, reader.at, alignment, file.len())?;
    Ok(Header { metadata: Metadata::new(path, values), tensors })
}

/// A tensor's entry: `offset` counts from the first byte after the header, aligned.
struct Entry<'a> {
    name: &'a str,
    shape: Vec<usize>,
    kind: GgmlType,
    length: usize,
    offset: u64,
}

fn alignment(values: &BTreeMap<String, Value>) -> Result<usize, String> {
    match values.get(ALIGNMENT) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Integer(bytes)) if *bytes > 0 && (*bytes & (*bytes - 1)) == 0 && *bytes <= 1 << 30 => {
            Ok(*bytes as usize)
        }
        Some(other) => Err(format!("{ALIGNMENT} is {}; it must be a power of two", other.said())),
    }
}

/// Turns offsets into places in the file of `length` bytes. Checks that every tensor is aligned, in
/// the file, and alone in its bytes.
fn place(entries: Vec<Entry<'_>>, header: usize, alignment: usize, length: usize) -> Result<Vec<TensorInfo>, String> {
    let mut names = BTreeSet::new();
    let mut tensors = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = brief(entry.name);
        if !names.insert(entry.name) {
            return Err(format!("there are two tensors with the name {name}"));
        }
        if !entry.offset.is_multiple_of(alignment as u64) {
            return Err(format!("tensor {name} is at offset {}, no multiple of {alignment}", entry.offset));
        }
        let start = header.next_multiple_of(alignment);
        let first = usize::try_from(entry.offset).ok().and_then(|offset| start.checked_add(offset));
        let offset = first.filter(|first| first.checked_add(entry.length).is_some_and(|end| end <= length));
        let Some(offset) = offset else {
            return Err(format!(
                "truncated: tensor {name} has {} bytes from {} on, but the file has {length}; download it again",
                entry.length,
                u128::from(entry.offset) + start as u128,
            ));
        };
        let Entry { name, shape, kind, length, .. } = entry;
        tensors.push(TensorInfo { name: name.to_owned(), shape, kind, offset, length });
    }
    let mut in_order: Vec<&TensorInfo> = tensors.iter().collect();
    in_order.sort_unstable_by_key(|tensor| (tensor.offset, tensor.length));
    for pair in in_order.windows(2) {
        if pair[0].offset + pair[0].length > pair[1].offset {
            return Err(format!("tensors {} and {} overlap", brief(&pair[0].name), brief(&pair[1].name)));
        }
    }
    Ok(tensors)
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn version(&mut self) -> Result<(), String> {
        let magic = self.file.get(..4).unwrap_or(self.file);
        if magic != MAGIC {
            return Err(format!("not a GGUF file: it begins with {} instead of `GGUF`", quote(magic)));
        }
        self.at = 4;
        let version = self.u32("the version")?;
        match version {
            known if VERSIONS.contains(&known) => Ok(()),
            1 => Err("GGUF version 1 (of 2023) is not supported; convert the model again".to_owned()),
            swapped if VERSIONS.contains(&swapped.swap_bytes()) => {
                Err("the file is big-endian; take the model in little-endian byte order".to_owned())
            }
            other => Err(format!("GGUF version {other} is not supported; this program reads versions 2 and 3")),
        }
    }

    /// The next `length` bytes.
    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], String> {
        let left = &self.file[self.at..];
        match left.get(..length) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => Err(self.truncated(length as u128, what)),
        }
    }

    fn truncated(&self, length: u128, what: &str) -> String {
        let left = self.file.len() - self.at;
        format!(
            "truncated or damaged: {what} at byte {} needs {length} bytes, but the file has {left} more; download it again",
            self.at
        )
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        let mut word = [0; 4];
        word.copy_from_slice(self.take(4, what)?);
        Ok(u32::from_le_bytes(word))
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8, what)?);
        Ok(u64::from_le_bytes(word))
    }

    /// A number of things that have at least `least` bytes each, which the file must still have.
    fn count(&mut self, what: &str, least: usize) -> Result<usize, String> {
        let count = self.u64(what)?;
        let needed = u128::from(count) * least as u128;
        if needed > (self.file.len() - self.at) as u128 {
            return Err(format!("{what} is {count}: {}", self.truncated(needed, "that")));
        }
        Ok(count as usize)
    }

    fn text(&mut self, what: &str) -> Result<&'a str, String> {
        let length = self.count(&format!("the length of {what}"), 1)?;
        let bytes = self.take(length, what)?;
        str::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8: {}", quote(bytes)))
    }

    fn name(&mut self, what: &str) -> Result<&'a str, String> {
        let name = self.text(what)?;
        if name.len() > LONGEST_NAME {
            return Err(format!("{what} has {} bytes, more than {LONGEST_NAME}: {}", name.len(), brief(name)));
        }
        Ok(name)
    }

    fn value(&mut self, key: &str) -> Result<Value, String> {
        let what = format!("the value of {}", brief(key));
        match self.u32(&what)? {
            TEXT => Ok(Value::Text(self.text(&what)?.to_owned())),
            ARRAY => self.array(&what),
            id => {
                let kind = number_type(id).ok_or_else(|| format!("{what} has the unknown type {id}"))?;
                let bytes = self.numbers(kind, 1, &what)?;
                Ok(kind.value(bytes))
            }
        }
    }

    fn array(&mut self, what: &str) -> Result<Value, String> {
        let id = self.u32(what)?;
        let kind = match id {
            TEXT => return self.texts(what),
            ARRAY => return Err(format!("{what} is an array of arrays, which no known model has")),
            id => number_type(id).ok_or_else(|| format!("{what} is an array of the unknown type {id}"))?,
        };
        let count = self.count(&format!("the length of {what}"), kind.width())?;
        let bytes = self.numbers(kind, count, what)?.to_vec();
        Ok(Value::Numbers(Numbers { kind, bytes }))
    }

    /// The bytes of `count` numbers, which the file has.
    fn numbers(&mut self, kind: NumberType, count: usize, what: &str) -> Result<&'a [u8], String> {
        let bytes = self.take(count * kind.width(), what)?;
        match bytes.iter().find(|byte| kind == NumberType::Flag && **byte > 1) {
            Some(byte) => Err(format!("{what} has the flag {byte}; a flag is 0 or 1")),
            None => Ok(bytes),
        }
    }

    fn texts(&mut self, what: &str) -> Result<Value, String> {
        let count = self.count(&format!("the length of {what}"), 8)?;
        // A first pass adds the lengths up, so that the second allocates once.
        let start = self.at;
        let mut bytes = 0;
        for _ in 0..count {
            let length = self.count(what, 1)?;
            self.at += length;
            bytes += length;
        }
        self.at = start;
        let mut texts = Texts::with_capacity(count, bytes);
        for _ in 0..count {
            let length = self.count(what, 1)?;
            let bytes = self.take(length, what)?;
            let text = str::from_utf8(bytes);
            texts.push(text.map_err(|_| format!("{what}, text {}, is not UTF-8: {}", texts.len(), quote(bytes)))?);
        }
        Ok(Value::Texts(texts))
    }

    fn tensor(&mut self) -> Result<Entry<'a>, String> {
        let name = self.name("the name of a tensor")?;
        let what = format!("the entry of tensor {}", brief(name));
        let dimensions = self.u32(&what)? as usize;
        if dimensions > DIMENSIONS {
            return Err(format!("tensor {} has {dimensions} dimensions, more than {DIMENSIONS}", brief(name)));
        }
        let mut shape = Vec::with_capacity(dimensions);
        for _ in 0..dimensions {
            shape.push(self.u64(&what)?);
        }
        shape.reverse();
        let id = self.u32(&what)?;
        let kind = GgmlType::from_id(id).ok_or_else(|| {
            format!("tensor {} has the type {id}, which is unknown; this program may be too old", brief(name))
        })?;
        let (shape, length) = size(&shape, kind).map_err(|problem| format!("tensor {} {problem}", brief(name)))?;
        let offset = self.u64(&what)?;
        Ok(Entry { name, shape, kind, length, offset })
    }
}

/// The shape and the bytes of a tensor.
fn size(shape: &[u64], kind: GgmlType) -> Result<(Vec<usize>, usize), String> {
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(kind.block_values() as u64) {
        return Err(format!("has rows of {row} values, no multiple of the {} of a {kind} block", kind.block_values()));
    }
    if shape.contains(&0) {
        return Err(format!("has the empty shape {shape:?}"));
    }
    let values = shape.iter().try_fold(1u64, |product, dimension| product.checked_mul(*dimension));
    let bytes = values
        .map(|values| values / kind.block_values() as u64)
        .and_then(|blocks| blocks.checked_mul(kind.block_bytes() as u64))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| format!("has the shape {shape:?}, larger than any file"))?;
    // Each dimension is at most the number of values, which fits.
    Ok((shape.iter().map(|dimension| *dimension as usize).collect(), bytes))
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

fn number_type(id: u32) -> Option<NumberType> {
    Some(match id {
        0 => NumberType::U8,
        1 => NumberType::I8,
        2 => NumberType::U16,
        3 => NumberType::I16,
        4 => NumberType::U32,
        5 => NumberType::I32,
        6 => NumberType::F32,
        7 => NumberType::Flag,
        10 => NumberType::U64,
        11 => NumberType::I64,
        12 => NumberType::F64,
        _ => return None,
    })
}
