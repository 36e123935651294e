//! Weights of a model's folder: safetensors, one file or shards with an index.
//!
//! Everything is checked before a tensor is read: each tensor that the model needs is there once, with its shape and a
//! dtype that can be converted, nothing else is there, and every file is as long as its header says. Files are read a
//! tensor at a time, so loading needs memory for the model as it will be held plus one layer's part.
//! Source: the safetensors format page (8 bytes header length, JSON header, tensor bytes).

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::config::read_json;
use crate::engine::Result;
use crate::spec::EngineError;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Longest index that is read: a line for each tensor.
const LONGEST_INDEX: u64 = 16 << 20;
/// Longest header that the format allows.
const LONGEST_HEADER: u64 = 100_000_000;

/// A tensor that the model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub name: String,
    pub shape: Vec<usize>,
}

/// One tensor, read.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// F32, F16 or BF16.
    pub dtype: Dtype,
    /// Little-endian, row-major.
    pub bytes: Vec<u8>,
}

impl HostTensor {
    /// The values, widened to f32.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let halves = || self.bytes.as_chunks::<2>().0.iter();
        match self.dtype {
            Dtype::F16 => halves().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => halves().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
            _ => self.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        }
    }
}

/// The weight files of a folder, all checked.
#[derive(Debug)]
pub struct WeightFolder {
    files: Vec<WeightFile>,
    /// Tensor name to index into `files`.
    places: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct WeightFile {
    path: PathBuf,
    /// Where tensor bytes begin.
    data_start: u64,
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFolder {
    /// Opens and checks the weight files of `folder`.
    ///
    /// `optional` tensors may be there or not, in the shape given; rotary frequency buffers may always be there.
    ///
    /// # Errors
    /// For the first missing, extra, wrong-shape, wrong-dtype or truncated tensor, by name and file.
    pub fn open(folder: &Path, expected: &[Expected], optional: &[Expected]) -> Result<Self> {
        let (index, names) = Self::file_names(folder)?;
        let files = names.iter().map(|name| WeightFile::open(folder.join(name))).collect::<Result<Vec<_>>>()?;
        let mut places = BTreeMap::new();
        for (at, file) in files.iter().enumerate() {
            for name in file.metadata.offset_keys() {
                if let Some(before) = places.insert(name.clone(), at) {
                    let before: &WeightFile = &files[before];
                    return Err(file.wrong(format!("tensor {name} is also in {}", before.path.display())));
                }
            }
        }
        let opened = Self { files, places };
        if let Some(index) = index {
            opened.check_index(&folder.join(INDEX), &index, &names)?;
        }
        opened.check(folder, expected, optional)?;
        Ok(opened)
    }

    /// The index, where there is one, and the names of the weight files in order.
    fn file_names(folder: &Path) -> Result<(Option<Index>, Vec<String>)> {
        let index_path = folder.join(INDEX);
        if folder.join(SINGLE).is_file() && !index_path.is_file() {
            return Ok((None, vec![SINGLE.to_owned()]));
        }
        if !index_path.is_file() {
            return Err(EngineError::model(format!("{} has neither {SINGLE} nor {INDEX}", folder.display())));
        }
        let index: Index = read_json(&index_path, LONGEST_INDEX)?;
        let mut names: Vec<String> = index.weight_map.values().cloned().collect();
        names.sort_unstable();
        names.dedup();
        // An index may not point out of its folder.
        if let Some(name) = names.iter().find(|n| n.contains(['/', '\\']) || !n.ends_with(".safetensors")) {
            let path = index_path.display();
            return Err(EngineError::model(format!("{path}: {name:?} is no name of a .safetensors file beside it")));
        }
        Ok((Some(index), names))
    }

    fn check_index(&self, path: &Path, index: &Index, names: &[String]) -> Result<()> {
        let said_wrong = |problem: String| Err(EngineError::model(format!("{}: {problem}", path.display())));
        for (tensor, file) in &index.weight_map {
            match self.places.get(tensor) {
                None => return said_wrong(format!("tensor {tensor} should be in {file}, but is missing there")),
                Some(at) if names[*at] != *file => {
                    return said_wrong(format!("tensor {tensor} should be in {file}, but is in {}", names[*at]));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn check(&self, folder: &Path, expected: &[Expected], optional: &[Expected]) -> Result<()> {
        for tensor in expected {
            if !self.places.contains_key(&tensor.name) {
                let file = match self.files.as_slice() {
                    [one] => one.path.display().to_string(),
                    _ => format!("the {} weight files of {}", self.files.len(), folder.display()),
                };
                return Err(EngineError::model(format!("tensor {} is missing in {file}", tensor.name)));
            }
        }
        let known: BTreeMap<&str, &Expected> =
            expected.iter().chain(optional).map(|tensor| (tensor.name.as_str(), tensor)).collect();
        for (name, at) in &self.places {
            let file = &self.files[*at];
            let info = file.metadata.info(name).expect("the name came from this file's header");
            let Some(wanted) = known.get(name.as_str()) else {
                if name.ends_with("rotary_emb.inv_freq") {
                    continue;
                }
                return Err(file.wrong(format!("tensor {name} is extra: the configuration has no use for it")));
            };
            if info.shape != wanted.shape {
                return Err(file.wrong(format!(
                    "tensor {name} has shape {:?}, but the configuration says {:?}",
                    info.shape, wanted.shape
                )));
            }
            if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(
                    file.wrong(format!("tensor {name} is {:?}; this engine reads F32, F16 and BF16", info.dtype))
                );
            }
        }
        Ok(())
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Reads one tensor.
    ///
    /// # Errors
    /// When it is not there or its bytes cannot be read; the message names tensor and file.
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        let missing = || EngineError::internal(format!("tensor {name} was not among those checked at opening"));
        let file = &self.files[*self.places.get(name).ok_or_else(missing)?];
        let info = file.metadata.info(name).ok_or_else(missing)?;
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut source = fs_err::File::open(&file.path).map_err(|e| EngineError::model(e.to_string()))?;
        source
            .seek(SeekFrom::Start(file.data_start + start as u64))
            .and_then(|_| source.read_exact(&mut bytes))
            .map_err(|e| file.wrong(format!("tensor {name} cannot be read: {e}")))?;
        Ok(HostTensor { name: name.to_owned(), shape: info.shape.clone(), dtype: info.dtype, bytes })
    }

    /// Paths of the weight files, in order of their names.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }
}

impl WeightFile {
    fn open(path: PathBuf) -> Result<Self> {
        let wrong = |problem: String| EngineError::model(format!("{}: {problem}", path.display()));
        // fs_err names the path itself.
        let io = |e: std::io::Error| EngineError::model(e.to_string());
        let mut file = fs_err::File::open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut word = [0; 8];
        file.read_exact(&mut word).map_err(|_| wrong(format!("{length} bytes is too short for safetensors")))?;
        let header = u64::from_le_bytes(word);
        if header > LONGEST_HEADER || header + 8 > length {
            return Err(wrong(format!(
                "not a safetensors file, or truncated: its first bytes announce a header of {header} bytes, the file has {length}"
            )));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(io)?;
        let metadata: Metadata =
            serde_json::from_slice(&text).map_err(|e| wrong(format!("its safetensors header is wrong: {e}")))?;
        let data = length - 8 - header;
        let opened = Self { path: path.clone(), data_start: 8 + header, metadata };
        let beyond = opened.metadata.tensors().into_iter().filter(|(_, info)| info.data_offsets.1 as u64 > data);
        if let Some((name, info)) = beyond.min_by_key(|(_, info)| info.data_offsets) {
            return Err(wrong(format!(
                "truncated: tensor {name} ends at byte {} of the tensor data, the file has {data} of them",
                info.data_offsets.1
            )));
        }
        let used = opened.metadata.data_len() as u64;
        if used != data {
            return Err(wrong(format!("{} bytes follow the last tensor", data - used)));
        }
        Ok(opened)
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> EngineError {
        EngineError::model(format!("{}: {problem}", self.path.display()))
    }
}
