//! The weights that a model needs, the tensors that store them, and the content of one tensor.

use std::fmt;
use std::path::Path;

use safetensors::Dtype;

use crate::transformer::mxfp4;
use inferometer_host::Result;
use inferometer_protocol::{EngineError, Quantization};

pub(super) const WEIGHT: &str = ".weight";
pub(super) const SCALES: &str = ".scales";
pub(super) const BIASES: &str = ".biases";

/// A weight that the model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The tensor's name if it is stored in one, with `.weight` for a matrix.
    pub name: String,
    /// The shape that the model computes with; stacked matrices [count, rows, columns].
    pub shape: Vec<usize>,
    pub format: Format,
}

/// The tensors that store a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One tensor of floating-point numbers.
    Plain,
    /// MLX's affine format: `NAME.weight`, `NAME.scales` and `NAME.biases`.
    Affine(Quantization),
    /// MLX's MXFP4: `NAME.weight` and `NAME.scales`.
    Mxfp4,
    /// MXFP4 as gpt-oss publishes it: `NAME_blocks` and `NAME_scales`.
    Mxfp4Blocks,
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub shape: Vec<usize>,
    pub content: Content,
}

/// The part of a weight that a tensor stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The weight itself: F32, F16 or BF16.
    Values,
    /// 32-bit words with packed numbers.
    Packed,
    /// F32, F16 or BF16.
    Scales,
    /// F32, F16 or BF16.
    Biases,
    /// U8: packed numbers of 4 bits, or exponents.
    Bytes,
}

impl Expected {
    #[must_use]
    pub fn plain(name: String, shape: Vec<usize>) -> Self {
        Self { name, shape, format: Format::Plain }
    }

    /// The name without `.weight`, used by the tensors of a quantized matrix and by `config.json`.
    #[must_use]
    pub fn module(&self) -> &str {
        self.name.strip_suffix(WEIGHT).unwrap_or(&self.name)
    }

    /// Whether it is a matrix or a stack of them.
    #[must_use]
    pub fn is_matrix(&self) -> bool {
        self.shape.len() > 1
    }

    /// The tensors that store it.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let (columns, rows) = self.shape.split_last().map_or((0, &[][..]), |(columns, rows)| (*columns, rows));
        let part = |suffix: &str, inner: &[usize], content| Part {
            name: format!("{}{suffix}", self.module()),
            shape: [rows, inner].concat(),
            content,
        };
        match self.format {
            Format::Plain => {
                vec![Part { name: self.name.clone(), shape: self.shape.clone(), content: Content::Values }]
            }
            Format::Affine(quantization) => {
                let groups = quantization.groups(columns);
                vec![
                    part(WEIGHT, &[quantization.words(columns)], Content::Packed),
                    part(SCALES, &[groups], Content::Scales),
                    part(BIASES, &[groups], Content::Biases),
                ]
            }
            Format::Mxfp4 => vec![
                part(WEIGHT, &[columns / mxfp4::PER_WORD], Content::Packed),
                part(SCALES, &[columns / mxfp4::BLOCK], Content::Bytes),
            ],
            Format::Mxfp4Blocks => vec![
                part("_blocks", &[columns / mxfp4::BLOCK, mxfp4::BLOCK_BYTES], Content::Bytes),
                part("_scales", &[columns / mxfp4::BLOCK], Content::Bytes),
            ],
        }
    }

    /// Checks that groups fill the rows, which can fail only for a matrix that `config.json` names
    /// itself.
    pub(super) fn check_groups(&self, folder: &Path) -> Result<()> {
        let group = match self.format {
            Format::Plain => 1,
            Format::Affine(quantization) => quantization.group_size(),
            Format::Mxfp4 | Format::Mxfp4Blocks => mxfp4::BLOCK,
        };
        match self.shape.last() {
            Some(columns) if !columns.is_multiple_of(group) => Err(EngineError::model(format!(
                "{}: {}, but its rows of {columns} values are no multiple of that",
                folder.join("config.json").display(),
                self.said()
            ))),
            _ => Ok(()),
        }
    }

    /// Its format according to `config.json`, in words.
    pub(super) fn said(&self) -> String {
        match self.format {
            Format::Plain => format!("config.json does not say that {} is quantized", self.module()),
            format => format!("config.json says that {} is quantized ({format})", self.module()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Plain => f.write_str("floating-point numbers"),
            Format::Affine(quantization) => quantization.fmt(f),
            Format::Mxfp4 | Format::Mxfp4Blocks => f.write_str("MXFP4, groups of 32"),
        }
    }
}

/// The content of one tensor.
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
    /// One of the tensors stacked along the first dimension.
    #[must_use]
    pub fn slice(&self, at: usize) -> Self {
        let size = self.bytes.len() / self.shape[0].max(1);
        Self {
            name: self.name.clone(),
            shape: self.shape[1..].to_vec(),
            dtype: self.dtype,
            bytes: self.bytes[at * size..][..size].to_vec(),
        }
    }

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

/// Name of a dtype, such as `bf16`.
#[must_use]
pub fn form(dtype: Dtype) -> String {
    format!("{dtype:?}").to_lowercase()
}
