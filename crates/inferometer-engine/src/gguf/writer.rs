//! Writes GGUF files, for tests.

use std::path::Path;

use super::GgmlType;

/// A file to be.
#[derive(Debug, Clone)]
pub struct Writer {
    pub version: u32,
    pairs: Vec<u8>,
    count: u64,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
    alignment: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { version: 3, pairs: Vec::new(), count: 0, tensors: Vec::new(), alignment: 32 }
    }
}

impl Writer {
    /// A pair whose value is written already, without its type.
    pub fn raw(&mut self, key: &str, kind: u32, value: &[u8]) -> &mut Self {
        self.pairs.extend(prefixed(key.as_bytes()));
        self.pairs.extend(kind.to_le_bytes());
        self.pairs.extend(value);
        self.count += 1;
        self
    }

    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.raw(key, 8, &prefixed(value.as_bytes()))
    }

    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub fn u16(&mut self, key: &str, value: u16) -> &mut Self {
        self.raw(key, 2, &value.to_le_bytes())
    }

    pub fn i32(&mut self, key: &str, value: i32) -> &mut Self {
        self.raw(key, 5, &value.to_le_bytes())
    }

    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    pub fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.raw(key, 7, &[u8::from(value)])
    }

    pub fn texts<T: AsRef<str>>(&mut self, key: &str, values: &[T]) -> &mut Self {
        let values: Vec<Vec<u8>> = values.iter().map(|value| prefixed(value.as_ref().as_bytes())).collect();
        self.array(key, 8, values.len(), &values.concat())
    }

    pub fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        self.array(key, 5, values.len(), &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    pub fn f32s(&mut self, key: &str, values: &[f32]) -> &mut Self {
        self.array(key, 6, values.len(), &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    pub fn flags(&mut self, key: &str, values: &[bool]) -> &mut Self {
        self.array(key, 7, values.len(), &values.iter().map(|v| u8::from(*v)).collect::<Vec<_>>())
    }

    pub fn array(&mut self, key: &str, kind: u32, count: usize, bytes: &[u8]) -> &mut Self {
        self.raw(key, 9, &[&kind.to_le_bytes(), &(count as u64).to_le_bytes()[..], bytes].concat())
    }

    /// A tensor of a row-major shape.
    pub fn tensor(&mut self, name: &str, shape: &[usize], kind: GgmlType, bytes: Vec<u8>) -> &mut Self {
        let dimensions = shape.iter().rev().map(|dimension| *dimension as u64).collect();
        self.tensors.push((name.to_owned(), dimensions, kind.id(), bytes));
        self
    }

    pub fn alignment(&mut self, alignment: usize) -> &mut Self {
        self.alignment = alignment;
        self.u32("general.alignment", alignment as u32)
    }

    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let padded = |length: usize| length.next_multiple_of(self.alignment);
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend(self.count.to_le_bytes());
        file.extend(&self.pairs);
        let mut offset = 0;
        for (name, dimensions, kind, bytes) in &self.tensors {
            file.extend(prefixed(name.as_bytes()));
            file.extend((dimensions.len() as u32).to_le_bytes());
            file.extend(dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend((offset as u64).to_le_bytes());
            offset = padded(offset + bytes.len());
        }
        // No padding after the last tensor, so that a file is cut by every byte that is missing.
        for (_, _, _, bytes) in &self.tensors {
            file.resize(padded(file.len()), 0);
            file.extend(bytes);
        }
        file
    }

    pub fn write(&self, path: &Path) {
        fs_err::write(path, self.bytes()).unwrap();
    }
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}
