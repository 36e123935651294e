//! Weights of a model's folder: safetensors, one file or shards with an index.
//!
//! Everything is checked before a tensor is read: each tensor that the model needs exists once,
//! with its shape and a dtype that can be converted; there are no other tensors; every file has the
//! length that its header gives. Files are read one tensor at a time, so loading needs memory for
//! the loaded model plus one layer's part. Source: the safetensors format page (8 bytes header
//! length, JSON header, tensor bytes).

mod tensor;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::checkpoint::{Checkpoint, Mostly};
use super::config::{Config, read_json};
use super::expected::{Source, expected};
use super::experts::ExpertWeights;
use super::mxfp4::Mxfp4Tensor;
use super::plan::Experts;
use super::quantized::{QuantizedTensor, Weight};
use inferometer_host::Result;
use inferometer_host::guard::catch;
use inferometer_protocol::EngineError;
use tensor::{BIASES, SCALES, WEIGHT};
pub use tensor::{Content, Expected, Format, HostTensor, Part, form};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Longest index that is read. An index has a line for each tensor.
const LONGEST_INDEX: u64 = 16 << 20;
/// Longest header that the format allows.
const LONGEST_HEADER: u64 = 100_000_000;

/// The weight files of a folder, all checked.
#[derive(Debug)]
pub struct WeightFolder {
    files: Vec<WeightFile>,
    /// Tensor name to index into `files`.
    places: BTreeMap<String, usize>,
    /// What the model needs, as it is stored here; by name.
    weights: BTreeMap<String, Expected>,
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
    /// The head of a model with a tied one may be there, but must have the given shape. Rotary
    /// frequency buffers are always allowed.
    ///
    /// # Errors
    /// For the first missing, extra, wrong-shape, wrong-dtype or truncated tensor, by name and
    /// file.
    pub fn open(folder: &Path, config: &Config) -> Result<Self> {
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
        let mut opened = Self { files, places, weights: BTreeMap::new() };
        if let Some(index) = index {
            opened.check_index(&folder.join(INDEX), &index, &names)?;
        }
        let dtype = |name: &str| opened.info(name).map(|(_, info)| info.dtype);
        let wanted = expected(config, &Source::Tensors(&dtype));
        opened.check(folder, &wanted)?;
        opened.weights = wanted.into_iter().map(|weight| (weight.name.clone(), weight)).collect();
        Ok(opened)
    }

    /// The index, if there is one, and the names of the weight files in order.
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
        // An index must not name files outside of its folder.
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

    fn check(&self, folder: &Path, wanted: &[Expected]) -> Result<()> {
        let mut known = BTreeMap::new();
        for tensor in wanted {
            tensor.check_groups(folder)?;
            for part in tensor.parts() {
                if !self.has(&part.name) {
                    return Err(self.missing(folder, tensor, &part));
                }
                known.insert(part.name.clone(), (tensor, part));
            }
        }
        for (name, at) in &self.places {
            let file = &self.files[*at];
            match known.get(name) {
                Some((tensor, part)) => file.check(name, tensor, part)?,
                None if name.ends_with("rotary_emb.inv_freq") => {}
                None => return Err(file.extra(name, wanted)),
            }
        }
        // Single tensors were checked above; now compare the dtypes of the parts.
        for tensor in wanted.iter().filter(|tensor| matches!(tensor.format, Format::Affine(_))) {
            let dtype = |suffix: &str| self.info(&format!("{}{suffix}", tensor.module())).map(|(_, info)| info.dtype);
            let (scales, biases) = (dtype(SCALES), dtype(BIASES));
            if scales != biases {
                let module = tensor.module();
                return Err(EngineError::model(format!(
                    "{}: {module}{SCALES} is {scales:?} and {module}{BIASES} is {biases:?}; both must be of one dtype",
                    folder.display()
                )));
            }
        }
        Ok(())
    }

    fn missing(&self, folder: &Path, tensor: &Expected, part: &Part) -> EngineError {
        let file = match self.files.as_slice() {
            [one] => one.path.display().to_string(),
            _ => format!("the {} weight files of {}", self.files.len(), folder.display()),
        };
        let missing = format!("tensor {} is missing in {file}", part.name);
        // If the weight exists but not its scales or biases, the matrix may not be quantized at
        // all.
        match tensor.format {
            Format::Affine(_) if self.has(&tensor.name) => EngineError::model(format!(
                "{missing}: {}; if it is not, `quantization` there should have {:?}: false",
                tensor.said(),
                tensor.module()
            )),
            _ => EngineError::model(missing),
        }
    }

    /// File and header entry of a tensor.
    fn info(&self, name: &str) -> Option<(&WeightFile, &TensorInfo)> {
        let file = &self.files[*self.places.get(name)?];
        Some((file, file.metadata.info(name)?))
    }

    /// The weight of that name.
    #[must_use]
    pub fn weight(&self, name: &str) -> Option<&Expected> {
        self.weights.get(name)
    }

    /// The weights of the model, as they are stored.
    pub fn weights(&self) -> impl Iterator<Item = &Expected> {
        self.weights.values()
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Reads one tensor unchanged from its file.
    fn tensor(&self, name: &str) -> Result<HostTensor> {
        let (file, info) = self.info(name).ok_or_else(|| unchecked(name))?;
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut source = fs_err::File::open(&file.path).map_err(|e| EngineError::model(e.to_string()))?;
        source
            .seek(SeekFrom::Start(file.data_start + start as u64))
            .and_then(|_| source.read_exact(&mut bytes))
            .map_err(|e| file.wrong(format!("tensor {name} cannot be read: {e}")))?;
        Ok(HostTensor { name: name.to_owned(), shape: info.shape.clone(), dtype: info.dtype, bytes })
    }
}

impl Checkpoint for WeightFolder {
    fn has_matrix(&self, module: &str) -> bool {
        self.weights.contains_key(&format!("{module}{WEIGHT}"))
    }

    fn matrix(&self, module: &str) -> Result<Weight> {
        let name = format!("{module}{WEIGHT}");
        let weight = self.weights.get(&name).ok_or_else(|| unchecked(&name))?;
        let values = self.read(&name)?;
        let shape = weight.shape.as_slice().try_into().map_err(|_| unchecked(&name))?;
        let part = |suffix: &str| self.read(&format!("{module}{suffix}"));
        Ok(match weight.format {
            Format::Plain => Weight::Plain(values),
            Format::Affine(quantization) => Weight::Quantized(QuantizedTensor {
                name,
                shape,
                bits: quantization.bits(),
                group_size: quantization.group_size(),
                packed: values.bytes,
                scales: part(SCALES)?,
                biases: part(BIASES)?,
            }),
            Format::Mxfp4 | Format::Mxfp4Blocks => {
                Weight::Mxfp4(Mxfp4Tensor { name, shape, packed: values.bytes, scales: part(SCALES)?.bytes })
            }
        })
    }

    fn read(&self, name: &str) -> Result<HostTensor> {
        self.tensor(name)
    }

    fn experts(&self, experts: &Experts) -> Result<ExpertWeights> {
        self.experts_of(experts)
    }

    fn paths(&self) -> Vec<&Path> {
        self.files.iter().map(|file| file.path.as_path()).collect()
    }

    fn formats(&self) -> BTreeSet<String> {
        let format = |matrix: &Expected| match matrix.format {
            Format::Plain => self.info(&matrix.name).map(|(_, info)| form(info.dtype)),
            format => Some(format.to_string()),
        };
        self.weights().filter(|weight| weight.is_matrix()).filter_map(format).collect()
    }

    fn tensors(&self) -> usize {
        self.weights().map(|weight| weight.parts().len()).sum()
    }

    fn mostly(&self) -> Mostly {
        let (floats, others): (Vec<_>, Vec<_>) =
            self.weights().filter(|weight| weight.is_matrix()).partition(|weight| weight.format == Format::Plain);
        let count = |weights: Vec<&Expected>| weights.iter().map(|w| w.shape.iter().product::<usize>()).sum::<usize>();
        if count(others) > count(floats) { Mostly::Quantized } else { Mostly::Floats }
    }

    fn values(&self, look: &mut dyn FnMut(&str, Vec<f32>) -> Result<()>) -> Result<()> {
        // Of quantized matrices scales and biases decide.
        let floats = |part: &Part| !matches!(part.content, Content::Packed | Content::Bytes);
        for part in self.weights().flat_map(Expected::parts).filter(floats) {
            look(&part.name, self.read(&part.name)?.to_f32())?;
        }
        Ok(())
    }
}

pub(super) fn unchecked(name: &str) -> EngineError {
    EngineError::internal(format!("tensor {name} was not among those checked at opening"))
}

impl WeightFile {
    fn open(path: PathBuf) -> Result<Self> {
        let wrong = |problem: String| EngineError::model(format!("{}: {problem}", path.display()));
        // fs_err's errors already name the path.
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
        let header_wrong = |e: &dyn fmt::Display| wrong(format!("its safetensors header is wrong: {e}"));
        let metadata: Metadata = catch(|| serde_json::from_slice(&text))
            .map_err(|stopped| header_wrong(&stopped))?
            .map_err(|e| header_wrong(&e))?;
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

    fn check(&self, name: &str, tensor: &Expected, part: &Part) -> Result<()> {
        let info = self.metadata.info(name).expect("the name came from this file's header");
        let float = matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        match (part.content, info.dtype) {
            (Content::Packed, Dtype::U32) | (Content::Bytes, Dtype::U8) => {}
            (Content::Packed, found) => {
                return Err(self.wrong(format!("tensor {name} is {found:?}, but {}, so it must be U32", tensor.said())));
            }
            (Content::Bytes, found) => {
                return Err(self.wrong(format!("tensor {name} is {found:?}, but {}, so it must be U8", tensor.said())));
            }
            (_, Dtype::U32) if tensor.is_matrix() && tensor.format == Format::Plain => {
                return Err(self.wrong(format!(
                    "tensor {name} is U32, as in a quantized model, but {}: group_size and bits must stand under `quantization`",
                    tensor.said()
                )));
            }
            (_, found) if !float => {
                return Err(self.wrong(format!("tensor {name} is {found:?}; this engine reads F32, F16 and BF16")));
            }
            _ => {}
        }
        if info.shape != part.shape {
            let form = if tensor.format == Format::Plain { String::new() } else { format!(" ({})", tensor.format) };
            return Err(self.wrong(format!(
                "tensor {name} has shape {:?}, but the configuration says {:?}{form}",
                info.shape, part.shape
            )));
        }
        Ok(())
    }

    /// The error for a tensor that should not exist.
    fn extra(&self, name: &str, wanted: &[Expected]) -> EngineError {
        let module = name.strip_suffix(SCALES).or_else(|| name.strip_suffix(BIASES));
        let matrix = module.and_then(|module| wanted.iter().find(|t| t.module() == module && t.is_matrix()));
        match matrix {
            Some(matrix) => self.wrong(format!(
                "tensor {name} is extra: it belongs to a quantized matrix, but {}: group_size and bits must stand under \
                 `quantization`",
                matrix.said()
            )),
            None => self.wrong(format!("tensor {name} is extra: the configuration has no use for it")),
        }
    }

    fn wrong(&self, problem: impl fmt::Display) -> EngineError {
        EngineError::model(format!("{}: {problem}", self.path.display()))
    }
}
