//! Matrices for MLX's products: plain ones in their own dtype, quantized ones as stored.

use std::borrow::Cow;

use half::{bf16, f16};
use mlx_rs::ops::{concatenate, dequantize, quantized_matmul};
use mlx_rs::{Array, Dtype};
use safetensors::Dtype as Stored;

use super::calls::{mlx, size};
use crate::transformer::gguf::GgmlTensor;
use crate::transformer::quantized::{QuantizedTensor, Weight};
use crate::transformer::weights::HostTensor;
use inferometer_host::Result;

/// A matrix [out, in].
#[derive(Debug, Clone)]
pub enum Matrix {
    Plain {
        /// [out, in]
        rows: Array,
        /// The same memory as [in, out].
        transposed: Array,
    },
    Quantized(Quantized),
    /// Stacked parts that are stored differently; each [out_i, in].
    Parts(Vec<Matrix>),
}

#[derive(Debug, Clone)]
pub struct Quantized {
    pub packed: Array,
    pub scales: Array,
    pub biases: Array,
    pub group_size: i32,
    pub bits: i32,
}

/// A stored tensor as an array, in `dtype` if one is given.
pub fn array(tensor: &HostTensor, dtype: Option<Dtype>) -> Result<Array> {
    let stored = match tensor.dtype {
        Stored::F16 => Dtype::Float16,
        Stored::BF16 => Dtype::Bfloat16,
        _ => Dtype::Float32,
    };
    let array = raw(&tensor.bytes, &tensor.shape, stored)?;
    mlx(|| array.as_dtype(dtype.unwrap_or(stored)))
}

/// An array with a copy of these little-endian values.
fn raw(bytes: &[u8], shape: &[usize], dtype: Dtype) -> Result<Array> {
    let dims = shape.iter().map(|n| size(*n)).collect::<Result<Vec<_>>>()?;
    let width = if matches!(dtype, Dtype::Float16 | Dtype::Bfloat16) { 2 } else { 4 };
    assert_eq!(bytes.len(), shape.iter().product::<usize>() * width, "the folder was checked against its shapes");
    // SAFETY: the number of bytes fits shape and dtype, and MLX copies them before the call
    // returns.
    Ok(unsafe { Array::from_raw_data(bytes.as_ptr().cast(), &dims, dtype) })
}

impl Matrix {
    /// Loads stored parts [out_i, in] as one matrix.
    pub fn new(parts: Vec<Weight>, dtype: Option<Dtype>) -> Result<Self> {
        let affine = |part: Weight| match part.ggml().and_then(GgmlTensor::affine) {
            Some(converted) => Weight::Quantized(converted),
            None => part,
        };
        Self::of(&parts.into_iter().map(affine).collect::<Vec<_>>(), dtype)
    }

    fn of(parts: &[Weight], dtype: Option<Dtype>) -> Result<Self> {
        let alike = parts.windows(2).all(|pair| pair[0].quantization() == pair[1].quantization());
        if !alike {
            let each = parts.iter().map(|part| Self::of(std::slice::from_ref(part), dtype));
            return Ok(Matrix::Parts(each.collect::<Result<_>>()?));
        }
        let plain = parts.iter().map(plain).collect::<Option<Vec<_>>>();
        let Some(plain) = plain else {
            return Quantized::new(parts.iter().filter_map(Weight::quantized), dtype).map(Matrix::Quantized);
        };
        let rows = joined(plain.iter().map(|part| array(part, dtype)).collect::<Result<_>>()?)?;
        let transposed = mlx(|| rows.transpose())?;
        mlx(|| mlx_rs::transforms::eval([&rows, &transposed]))?;
        Ok(Matrix::Plain { rows, transposed })
    }

    /// x [T, in] times the matrix transposed: [T, out].
    pub fn apply(&self, x: &Array) -> Result<Array> {
        match self {
            Matrix::Plain { transposed, .. } => mlx(|| x.matmul(transposed)),
            Matrix::Quantized(q) => {
                mlx(|| quantized_matmul(x, &q.packed, &q.scales, &q.biases, true, q.group_size, q.bits))
            }
            Matrix::Parts(parts) => {
                let outs = parts.iter().map(|part| part.apply(x)).collect::<Result<Vec<_>>>()?;
                mlx(|| concatenate(&outs, -1))
            }
        }
    }

    /// Rows by their numbers: [T, in].
    pub fn rows(&self, ids: &Array) -> Result<Array> {
        match self {
            Matrix::Plain { rows, .. } => mlx(|| rows.take_axis(ids, 0)),
            Matrix::Quantized(q) => mlx(|| {
                let (packed, scales) = (q.packed.take_axis(ids, 0)?, q.scales.take_axis(ids, 0)?);
                dequantize(packed, scales, &q.biases.take_axis(ids, 0)?, q.group_size, q.bits)
            }),
            Matrix::Parts(_) => unreachable!("a table has one part"),
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        match self {
            Matrix::Plain { rows, .. } => rows.nbytes() as u64,
            Matrix::Quantized(q) => (q.packed.nbytes() + q.scales.nbytes() + q.biases.nbytes()) as u64,
            Matrix::Parts(parts) => parts.iter().map(Matrix::bytes).sum(),
        }
    }

    /// Names of its formats in memory.
    pub fn formats(&self) -> Vec<&'static str> {
        match self {
            Matrix::Plain { rows, .. } => vec![name(rows.dtype())],
            Matrix::Quantized(quantized) => vec![quantized.name()],
            Matrix::Parts(parts) => parts.iter().flat_map(Matrix::formats).collect(),
        }
    }
}

impl Quantized {
    /// The name of its form.
    pub fn name(&self) -> &'static str {
        match self.bits {
            2 => "q2",
            3 => "q3",
            4 => "q4",
            5 => "q5",
            6 => "q6",
            _ => "q8",
        }
    }

    fn new<'a>(parts: impl Iterator<Item = &'a QuantizedTensor> + Clone, dtype: Option<Dtype>) -> Result<Self> {
        let first = parts.clone().next().expect("a matrix has at least one part");
        let (bits, group_size) = (size(first.bits as usize)?, size(first.group_size)?);
        let packed = parts.clone().map(|part| {
            let [out, columns] = part.shape;
            raw(&part.packed, &[out, columns * part.bits as usize / 32], Dtype::Uint32)
        });
        let packed = joined(packed.collect::<Result<_>>()?)?;
        let scales = joined(parts.clone().map(|part| array(&part.scales, dtype)).collect::<Result<_>>()?)?;
        let biases = joined(parts.map(|part| array(&part.biases, dtype)).collect::<Result<_>>()?)?;
        mlx(|| mlx_rs::transforms::eval([&packed, &scales, &biases]))?;
        Ok(Self { packed, scales, biases, group_size, bits })
    }
}

/// The form of a weight that is held in another one, though no dtype was asked for.
pub fn converted(weight: &Weight) -> Option<String> {
    matches!(weight, Weight::Mxfp4(_) | Weight::Ggml(_)).then(|| weight.form())
}

/// A weight as floating-point numbers: as it is stored, or dequantized if MLX's operations do not
/// take its form; `None` for one that stays quantized.
pub fn plain(weight: &Weight) -> Option<Cow<'_, HostTensor>> {
    match weight {
        Weight::Plain(tensor) => Some(Cow::Borrowed(tensor)),
        Weight::Quantized(_) => None,
        Weight::Mxfp4(tensor) => {
            // Each number has few bits, so that bf16 holds it exactly.
            let bytes = tensor.to_f32().into_iter().flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect();
            let (name, shape) = (tensor.name.clone(), tensor.shape.to_vec());
            Some(Cow::Owned(HostTensor { name, shape, dtype: Stored::BF16, bytes }))
        }
        // As MLX's own reader of GGUF files.
        Weight::Ggml(tensor) => {
            let bytes = tensor.to_f32().into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect();
            let (name, shape) = (tensor.name.clone(), tensor.shape.to_vec());
            Some(Cow::Owned(HostTensor { name, shape, dtype: Stored::F16, bytes }))
        }
    }
}

pub fn joined(mut parts: Vec<Array>) -> Result<Array> {
    if parts.len() == 1 { Ok(parts.remove(0)) } else { mlx(|| concatenate(&parts, 0)) }
}

/// The name of a dtype in settings.
pub fn name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float16 => "f16",
        Dtype::Bfloat16 => "bf16",
        _ => "f32",
    }
}
