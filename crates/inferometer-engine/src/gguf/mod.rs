//! Reader of GGUF files: metadata, tensors and, in [`crate::text`], the tokenizer inside.
//!
//! Source: the GGUF specification, `docs/gguf.md` of the `ggml` repository. Versions 2 and 3 in
//! little-endian byte order are read, in one file or split into several by `llama-gguf-split`.
//!
//! A file is mapped into memory and checked completely when it is opened. No length in it is
//! trusted: each is compared with the bytes that are left before anything is allocated.

mod header;
mod kind;
mod metadata;
mod split;
#[cfg(test)]
pub mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use inferometer_host::Result;
use inferometer_protocol::EngineError;
use inferometer_protocol::bounded::brief;

use header::Header;
pub use kind::GgmlType;
pub use metadata::{Metadata, Texts};

/// An open GGUF model: one file, or all files of a split one.
#[derive(Debug)]
pub struct Gguf {
    parts: Vec<Part>,
    metadata: Metadata,
    tensors: BTreeMap<String, (usize, TensorInfo)>,
}

/// What a file says about one of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    /// Row-major: the last dimension is contiguous. The file lists dimensions in the other order.
    pub shape: Vec<usize>,
    pub kind: GgmlType,
    /// Offset of the first byte in its file.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
}

/// A tensor as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    pub info: &'a TensorInfo,
    /// The file that holds it.
    pub path: &'a Path,
    /// Little-endian blocks of `info.kind`, row by row. The bytes are those of the mapped file:
    /// they come from the disk when they are first read.
    pub bytes: &'a [u8],
}

/// One file.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    bytes: Bytes,
}

/// Where the bytes of a file are.
#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Memory(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

impl Gguf {
    /// Opens the file at `path`. If it is one part of a split model, opens all parts.
    ///
    /// # Errors
    /// When a file cannot be read or contradicts the format; the message names the file and the key
    /// or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        Self::completed(Part::open(path)?)
    }

    /// A model whose only file is in memory; `path` is what error messages name.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        Self::completed(Part::of(Bytes::Memory(bytes), path)?)
    }

    /// Opens the other files of a split model.
    fn completed((part, header): (Part, Header)) -> Result<Self> {
        let path = part.path.clone();
        match split::of(&path, &header.metadata)? {
            None => Self::joined(vec![(part, header)]),
            Some(split) => Self::joined(split.open_others(part, header)?),
        }
    }

    /// Whether the file at `path` begins as a GGUF file does.
    #[must_use]
    pub fn recognises(path: &Path) -> bool {
        let mut magic = [0; 4];
        let read = fs_err::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
        read.is_ok() && magic == header::MAGIC
    }

    /// Joins the parts of a model, the first of which has its metadata.
    fn joined(files: Vec<(Part, Header)>) -> Result<Self> {
        let mut parts = Vec::new();
        let mut metadata = None;
        let mut tensors: BTreeMap<String, (usize, TensorInfo)> = BTreeMap::new();
        for (at, (part, header)) in files.into_iter().enumerate() {
            for tensor in header.tensors {
                let name = tensor.name.clone();
                if let Some((before, _)) = tensors.insert(name.clone(), (at, tensor)) {
                    let before: &Part = parts.get(before).unwrap_or(&part);
                    let problem = format!("tensor {} is also in {}", brief(&name), before.path.display());
                    return Err(wrong(&part.path, problem));
                }
            }
            metadata.get_or_insert(header.metadata);
            parts.push(part);
        }
        let metadata = metadata.ok_or_else(|| EngineError::internal("a GGUF model without files"))?;
        Ok(Self { parts, metadata, tensors })
    }

    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in order of their names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.values().map(|(_, info)| info)
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn tensor(&self, name: &str) -> Result<Stored<'_>> {
        let Some((part, info)) = self.tensors.get(name) else {
            let count = self.tensors.len();
            return Err(wrong(
                self.path(),
                format!("tensor {name} is missing among the {count} tensors of this model"),
            ));
        };
        let part = &self.parts[*part];
        Ok(Stored { info, path: &part.path, bytes: &part.bytes[info.offset..info.offset + info.length] })
    }

    /// Gives the memory of the pages that hold a range of a tensor's bytes back to the system, for
    /// example after a copy was made. The tensor can still be read: its bytes then come from the
    /// file again.
    pub fn forget(&self, name: &str, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if let Some((part, info)) = self.tensors.get(name)
            && range.start < range.end
            && range.end <= info.length
            && let Bytes::Mapped(map) = &self.parts[*part].bytes
        {
            // SAFETY: the map is read-only and shared, and nothing writes to it. Dropped pages are
            // read from the same file again, so no byte that a reader sees changes.
            // It is advice: an error changes nothing.
            let _ = unsafe {
                let drop = memmap2::UncheckedAdvice::DontNeed;
                map.unchecked_advise_range(drop, info.offset + range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = (name, range);
    }

    /// The file, or the first of several.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.parts[0].path
    }

    /// All files, in order.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// Length of all files in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }
}

impl Part {
    fn open(path: &Path) -> Result<(Self, Header)> {
        // fs_err's errors name the path.
        let io = |e: std::io::Error| EngineError::model(e.to_string());
        let file = fs_err::File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(wrong(path, "is no file"));
        }
        // SAFETY: the map is read-only and stays as long as the slices that borrow from it. As with
        // every mapped file, nobody may shorten or rewrite it meanwhile; model files are written
        // once.
        let map = unsafe { Mmap::map(file.file()) }.map_err(|e| wrong(path, format!("cannot be mapped: {e}")))?;
        Self::of(Bytes::Mapped(map), path)
    }

    fn of(bytes: Bytes, path: &Path) -> Result<(Self, Header)> {
        let header = header::parse(&bytes, path).map_err(|problem| wrong(path, problem))?;
        Ok((Self { path: path.to_owned(), bytes }, header))
    }
}

impl Stored<'_> {
    /// The type of candle that holds these blocks.
    ///
    /// # Errors
    /// When candle has none; the message names file, tensor and type.
    pub fn candle(&self) -> Result<candle_core::quantized::GgmlDType> {
        self.info.kind.candle().ok_or_else(|| {
            let TensorInfo { name, kind, .. } = self.info;
            let problem = format!(
                "tensor {} is {kind}, which this engine cannot compute with; take the model in one of {}",
                brief(name),
                GgmlType::supported()
            );
            wrong(self.path, problem)
        })
    }

    /// The values of a tensor that is F32, F16 or BF16, widened to f32.
    #[must_use]
    pub fn floats(&self) -> Option<Vec<f32>> {
        let halves = || self.bytes.as_chunks::<2>().0.iter();
        match self.info.kind {
            GgmlType::F32 => Some(self.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            GgmlType::F16 => Some(halves().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()),
            GgmlType::BF16 => Some(halves().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()),
            _ => None,
        }
    }
}

fn wrong(path: &Path, problem: impl std::fmt::Display) -> EngineError {
    EngineError::model(format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests;
