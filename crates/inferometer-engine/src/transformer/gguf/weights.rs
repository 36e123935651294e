//! The tensors of a GGUF file as weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use half::f16;
use safetensors::Dtype;

use super::names;
use crate::gguf::{GgmlType, Gguf, Stored};
use crate::transformer::checkpoint::{Checkpoint, Mostly};
use crate::transformer::config::Config;
use crate::transformer::expected::{Source, expected};
use crate::transformer::experts::{ExpertMatrix, ExpertWeights};
use crate::transformer::mxfp4::{self, Mxfp4Tensor};
use crate::transformer::plan::Experts;
use crate::transformer::quantized::{QuantizedTensor, Weight};
use crate::transformer::weights::{Expected, HostTensor};
use inferometer_host::Result;
use inferometer_protocol::{Architecture, EngineError};

/// A matrix in blocks of GGML.
#[derive(Debug, Clone)]
pub struct GgmlTensor {
    pub name: String,
    /// [out, in]
    pub shape: [usize; 2],
    pub kind: GgmlDType,
    /// Row by row.
    pub bytes: Bytes,
}

/// Bytes of a tensor.
#[derive(Clone)]
pub enum Bytes {
    Owned(Vec<u8>),
    /// Those of the file itself.
    Mapped(Arc<Mapped>),
}

/// A part of a tensor in a mapped file. Its pages are given back when it is dropped.
pub struct Mapped {
    gguf: Arc<Gguf>,
    name: String,
    range: std::ops::Range<usize>,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.gguf.forget(&self.name, self.range.clone());
    }
}

impl Bytes {
    /// Gives back the memory of these bytes if they are those of a mapped file. They can still be
    /// read.
    pub fn forget(&self, range: std::ops::Range<usize>) {
        if let (Bytes::Mapped(mapped), false) = (self, range.is_empty()) {
            let first = mapped.range.start;
            mapped.gguf.forget(&mapped.name, first + range.start..first + range.end);
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(mapped) => {
                let stored = mapped.gguf.tensor(&mapped.name);
                stored.ok().and_then(|stored| stored.bytes.get(mapped.range.clone())).unwrap_or_default()
            }
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl PartialEq for GgmlTensor {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.kind == other.kind && *self.bytes == *other.bytes
    }
}

impl GgmlTensor {
    /// The type in lower case, such as `q4_1` or `q4_k`.
    #[must_use]
    pub fn form(&self) -> &'static str {
        form(self.kind)
    }

    /// The same matrix in MLX's affine form, if there is one: Q4_0, Q4_1 and Q8_0, as MLX's own
    /// reader of GGUF files converts them. Nothing is rounded.
    #[must_use]
    pub fn affine(&self) -> Option<QuantizedTensor> {
        let (bits, width) = match self.kind {
            GgmlDType::Q4_0 => (4, 2),
            GgmlDType::Q4_1 => (4, 4),
            GgmlDType::Q8_0 => (8, 2),
            _ => return None,
        };
        let (mut packed, mut scales, mut biases) = (Vec::new(), Vec::new(), Vec::new());
        for block in self.bytes.chunks_exact(self.kind.type_size()) {
            let (head, numbers) = block.split_at(width);
            let half = |at: usize| f16::from_le_bytes([head[at], head[at + 1]]);
            let scale = half(0);
            let bias = match self.kind {
                GgmlDType::Q4_0 => f16::from_f32(-8.0 * scale.to_f32()),
                GgmlDType::Q4_1 => half(2),
                _ => f16::from_f32(-128.0 * scale.to_f32()),
            };
            scales.extend(scale.to_le_bytes());
            biases.extend(bias.to_le_bytes());
            match bits {
                // Two's complement plus 128.
                8 => packed.extend(numbers.iter().map(|number| number ^ 0x80)),
                _ => packed.extend(neighbours(numbers)),
            }
        }
        let [rows, columns] = self.shape;
        let floats = |bytes| HostTensor {
            name: self.name.clone(),
            shape: vec![rows, columns / GROUP],
            dtype: Dtype::F16,
            bytes,
        };
        Some(QuantizedTensor {
            name: self.name.clone(),
            shape: self.shape,
            bits,
            group_size: GROUP,
            packed,
            scales: floats(scales),
            biases: floats(biases),
        })
    }

    /// As a tensor of candle.
    ///
    /// # Errors
    /// When candle cannot hold it.
    pub fn tensor(&self) -> candle_core::Result<QTensor> {
        QTensor::new(QStorage::from_data((&*self.bytes).into(), &Device::Cpu, self.kind)?, self.shape.as_slice())
    }

    /// The values, dequantized.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let values = || self.tensor()?.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>();
        // Shape and length were checked when the file was opened.
        values().unwrap_or_else(|_| vec![f32::NAN; self.shape[0] * self.shape[1]])
    }
}

/// The name of a type in lower case.
#[must_use]
pub fn form(kind: GgmlDType) -> &'static str {
    match kind {
        GgmlDType::F32 => "f32",
        GgmlDType::F16 => "f16",
        GgmlDType::BF16 => "bf16",
        GgmlDType::Q4_0 => "q4_0",
        GgmlDType::Q4_1 => "q4_1",
        GgmlDType::Q5_0 => "q5_0",
        GgmlDType::Q5_1 => "q5_1",
        GgmlDType::Q8_0 => "q8_0",
        GgmlDType::Q8_1 => "q8_1",
        GgmlDType::Q2K => "q2_k",
        GgmlDType::Q3K => "q3_k",
        GgmlDType::Q4K => "q4_k",
        GgmlDType::Q5K => "q5_k",
        GgmlDType::Q6K => "q6_k",
        GgmlDType::Q8K => "q8_k",
    }
}

/// The tensors of a GGUF file, checked against a plan.
#[derive(Debug)]
pub struct GgufWeights {
    gguf: Arc<Gguf>,
    sandwich: bool,
    /// Matrices by module whose rows are in the order of interleaved rotation: their heads.
    interleaved: BTreeMap<String, usize>,
}

/// Tensors that are read as metadata, or made by every program itself.
const BESIDES: [&str; 3] = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

impl GgufWeights {
    /// Checks that every tensor of the plan is there with its shape, and no other.
    ///
    /// # Errors
    /// For the first that is not, naming file and tensor.
    pub fn new(gguf: Arc<Gguf>, config: &Config) -> Result<Self> {
        let plan = &config.plan;
        // `llama.cpp` rotates neighbouring components in these families, and its files have the
        // rows of queries and keys in that order.
        let reordered = matches!(config.architecture, Architecture::Llama | Architecture::SmolLm3);
        let parts = plan.layers.iter().filter(|_| reordered).flat_map(|layer| {
            let attention = &layer.attention;
            let heads = [attention.heads, attention.kv_heads];
            attention.qkv.parts.iter().zip(heads).map(|(part, heads)| (part.name.clone(), heads))
        });
        let opened = Self {
            sandwich: matches!(config.architecture, Architecture::Gemma3 | Architecture::GptOss),
            interleaved: parts.collect(),
            gguf,
        };
        opened.check(config)?;
        Ok(opened)
    }

    fn check(&self, config: &Config) -> Result<()> {
        let stacked = |name: &str| name.ends_with("gate_proj.weight").then_some(Dtype::F32);
        let mut known: BTreeSet<String> = BESIDES.into_iter().map(str::to_owned).collect();
        for Expected { name, shape, .. } in expected(config, &Source::Tensors(&stacked)) {
            let there = self.name(&name);
            let stored = self.gguf.tensor(&there)?;
            if stored.info.shape != shape {
                return Err(wrong(
                    &stored,
                    format!("has shape {:?}, but the metadata says {shape:?}", stored.info.shape),
                ));
            }
            if stored.info.kind != GgmlType::MXFP4 {
                stored.candle()?;
            }
            known.insert(there);
        }
        match self.gguf.tensors().find(|tensor| !known.contains(&tensor.name)) {
            None => Ok(()),
            Some(extra) => Err(wrong(&self.gguf.tensor(&extra.name)?, "is extra: the architecture has no use for it")),
        }
    }

    fn name(&self, name: &str) -> String {
        names::of(name, self.sandwich)
    }

    /// One matrix of a tensor: the only one, or the one at `at` of a stack.
    fn one(&self, stored: &Stored<'_>, at: Option<usize>, interleaved: Option<usize>) -> Result<Weight> {
        let name = stored.info.name.clone();
        let [.., rows, columns] = *stored.info.shape.as_slice() else { return Err(wrong(stored, "is no matrix")) };
        let shape = [rows, columns];
        let each = if at.is_some() { stored.bytes.len() / stored.info.shape[0].max(1) } else { stored.bytes.len() };
        let range = at.unwrap_or(0) * each..(at.unwrap_or(0) + 1) * each;
        let bytes = &stored.bytes[range.clone()];
        if stored.info.kind == GgmlType::MXFP4 {
            return Ok(Weight::Mxfp4(blocks(name, shape, bytes)));
        }
        let kind = stored.candle()?;
        let owned = interleaved.map(|heads| halves(bytes, rows, heads));
        if owned.is_some() {
            self.gguf.forget(&name, range.clone());
        }
        if let Some(dtype) = float(kind) {
            let bytes = owned.unwrap_or_else(|| bytes.to_vec());
            self.gguf.forget(&name, range);
            return Ok(Weight::Plain(HostTensor { name, shape: shape.to_vec(), dtype, bytes }));
        }
        let mapped = || Bytes::Mapped(Arc::new(Mapped { gguf: self.gguf.clone(), name: name.clone(), range }));
        let bytes = owned.map_or_else(mapped, Bytes::Owned);
        Ok(Weight::Ggml(GgmlTensor { name, shape, kind, bytes }))
    }
}

fn float(kind: GgmlDType) -> Option<Dtype> {
    match kind {
        GgmlDType::F32 => Some(Dtype::F32),
        GgmlDType::F16 => Some(Dtype::F16),
        GgmlDType::BF16 => Some(Dtype::BF16),
        _ => None,
    }
}

/// Rows in the order of interleaved rotation (pairs are neighbours) in the order of halves (a pair
/// is (i, i + n)). A row stays as it is, so any format does.
fn halves(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let width = bytes.len() / rows.max(1);
    let head = rows / heads.max(1);
    let from = |row: usize| {
        let (head_at, at) = (row / head, row % head);
        head_at * head + if at < head / 2 { 2 * at } else { 2 * (at - head / 2) + 1 }
    };
    // Whole rows at a time: byte by byte, this takes a tenth of the time to load.
    let rows: Vec<&[u8]> = (0..rows).map(|row| &bytes[from(row) * width..][..width]).collect();
    rows.concat()
}

/// GGML's blocks of MXFP4: an exponent, then 16 bytes with number i in the low and i + 16 in the
/// high bits.
fn blocks(name: String, shape: [usize; 2], bytes: &[u8]) -> Mxfp4Tensor {
    let stored = bytes.chunks_exact(1 + mxfp4::BLOCK_BYTES);
    let scales = stored.clone().map(|block| block[0]).collect();
    let packed = stored.flat_map(|block| neighbours(&block[1..]));
    Mxfp4Tensor { name, shape, packed: packed.collect(), scales }
}

/// Values that share a scale in the types that become MLX's.
const GROUP: usize = 32;

/// 32 numbers of 4 bits in GGML's order (i in the low and i + 16 in the high bits of a byte) in
/// that of neighbours (2 i in the low and 2 i + 1 in the high bits).
fn neighbours(numbers: &[u8]) -> impl Iterator<Item = u8> {
    let half = numbers.len();
    let number = move |at: usize| if at < half { numbers[at] & 0xf } else { numbers[at - half] >> 4 };
    (0..half).map(move |at| number(2 * at) | number(2 * at + 1) << 4)
}

fn wrong(stored: &Stored<'_>, problem: impl fmt::Display) -> EngineError {
    EngineError::model(format!("{}: tensor {} {problem}", stored.path.display(), stored.info.name))
}

impl Checkpoint for GgufWeights {
    fn has_matrix(&self, module: &str) -> bool {
        self.gguf.has(&self.name(&format!("{module}.weight")))
    }

    fn matrix(&self, module: &str) -> Result<Weight> {
        let stored = self.gguf.tensor(&self.name(&format!("{module}.weight")))?;
        self.one(&stored, None, self.interleaved.get(module).copied())
    }

    fn read(&self, name: &str) -> Result<HostTensor> {
        let stored = self.gguf.tensor(&self.name(name))?;
        let shape = stored.info.shape.clone();
        let Some(dtype) = stored.info.kind.candle().and_then(float) else {
            return Err(wrong(&stored, format!("is {}; it must be F32, F16 or BF16", stored.info.kind)));
        };
        let heads = name.strip_suffix(".bias").and_then(|module| self.interleaved.get(module));
        let bytes = match (heads, shape.first()) {
            (Some(heads), Some(rows)) => halves(stored.bytes, *rows, *heads),
            _ => stored.bytes.to_vec(),
        };
        Ok(HostTensor { name: stored.info.name.clone(), shape, dtype, bytes })
    }

    fn experts(&self, experts: &Experts) -> Result<ExpertWeights> {
        let all = |part: &str| {
            let module = format!("{}.{part}", experts.stacks.stacked);
            let stored = self.gguf.tensor(&self.name(&format!("{module}.weight")))?;
            let weights = (0..experts.count).map(|at| self.one(&stored, Some(at), None)).collect::<Result<_>>()?;
            let bias = experts.bias.then(|| self.read(&format!("{module}.bias"))).transpose()?;
            Ok(ExpertMatrix { weights, bias })
        };
        Ok(ExpertWeights { gate: all("gate_proj")?, up: all("up_proj")?, down: all("down_proj")? })
    }

    fn paths(&self) -> Vec<&Path> {
        self.gguf.paths().collect()
    }

    fn formats(&self) -> BTreeSet<String> {
        let matrices = self.gguf.tensors().filter(|tensor| tensor.shape.len() > 1);
        matrices.map(|tensor| tensor.kind.to_string()).collect()
    }

    fn tensors(&self) -> usize {
        self.gguf.tensors().len()
    }

    fn mostly(&self) -> Mostly {
        Mostly::Ggml
    }

    fn values(&self, look: &mut dyn FnMut(&str, Vec<f32>) -> Result<()>) -> Result<()> {
        for info in self.gguf.tensors() {
            let stored = self.gguf.tensor(&info.name)?;
            let values = match stored.floats() {
                Some(values) => values,
                None => {
                    let columns = info.shape.last().copied().unwrap_or(1).max(1);
                    let shape = [info.shape.iter().product::<usize>() / columns, columns];
                    match stored.info.kind {
                        GgmlType::MXFP4 => blocks(info.name.clone(), shape, stored.bytes).to_f32(),
                        _ => GgmlTensor {
                            name: info.name.clone(),
                            shape,
                            kind: stored.candle()?,
                            bytes: Bytes::Owned(stored.bytes.to_vec()),
                        }
                        .to_f32(),
                    }
                }
            };
            self.gguf.forget(&info.name, 0..info.length);
            look(&info.name, values)?;
        }
        Ok(())
    }
}
