//! Matrices in the formats of a model's folder, above all MLX's affine quantized one.
//!
//! Every `group_size` consecutive values of a row share a scale and a bias: `w = scale * q + bias`,
//! with q a whole number of `bits` bits. The numbers q lie in 32-bit words, the first of them in
//! the lowest bits. A matrix [out, in] named `NAME.weight` is stored as three tensors:
//! `NAME.weight`, u32 [out, in * bits / 32], and `NAME.scales` and `NAME.biases`, [out, in /
//! group_size] each. Source: the documentation of `mlx.core.quantize` and `dequantize`.

use safetensors::Dtype;

use super::gguf::GgmlTensor;
use super::mxfp4::Mxfp4Tensor;
use super::weights::{Format, HostTensor, form};
use inferometer_protocol::Quantization;

/// One matrix: the content of its three tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedTensor {
    pub name: String,
    /// [out, in], unpacked.
    pub shape: [usize; 2],
    pub bits: u32,
    pub group_size: usize,
    /// Little-endian 32-bit words [out, in * bits / 32], row-major.
    pub packed: Vec<u8>,
    /// [out, in / group_size]
    pub scales: HostTensor,
    /// Same shape and dtype as `scales`.
    pub biases: HostTensor,
}

impl QuantizedTensor {
    /// The dequantized values, computed in f32: one product and one sum, each rounded.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let (scales, biases) = (self.scales.to_f32(), self.biases.to_f32());
        let group_bytes = self.group_size * self.bits as usize / 8;
        let mut values = vec![0.0; self.shape[0] * self.shape[1]];
        let groups = self.packed.chunks_exact(group_bytes).zip(scales).zip(biases);
        for (out, ((group, scale), bias)) in values.chunks_exact_mut(self.group_size).zip(groups) {
            unpack(group, self.bits, |at, number| out[at] = scale * f32::from(number) + bias);
        }
        values
    }
}

/// Calls `f` with the index and the value of each number of `bits` bits (1 to 8); the first number
/// is in the lowest bits of the first byte.
pub fn unpack(packed: &[u8], bits: u32, mut f: impl FnMut(usize, u8)) {
    let (mut held, mut have, mut at) = (0u32, 0, 0);
    for byte in packed {
        held |= u32::from(*byte) << have;
        have += 8;
        while have >= bits {
            f(at, (held & ((1 << bits) - 1)) as u8);
            held >>= bits;
            have -= bits;
            at += 1;
        }
    }
}

/// Scale and bias of one group of quantized values.
///
/// The end of the group's range that is farther from zero is represented exactly, with a whole
/// number of steps from there to zero. Computed in f32, as in `mlx.core.quantize`;
/// `scripts/check-mlx-lm quantized` compares the two bit by bit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    pub scale: f32,
    pub bias: f32,
}

impl Affine {
    /// Scale and bias for a group of at least one finite value.
    #[must_use]
    pub fn of(group: &[f32], bits: u32) -> Self {
        /// Least step, for a group of equal values.
        const LEAST: f32 = 1e-7;
        let (low, high) = group.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
        let step = ((high - low) / top(bits)).max(LEAST);
        let (edge, step) = if low.abs() > high.abs() { (low, step) } else { (high, -step) };
        let steps = (edge / step).round_ties_even();
        if steps == 0.0 { Self { scale: step, bias: 0.0 } } else { Self { scale: edge / steps, bias: edge } }
    }

    /// Writes the numbers of the group's values, packed into `group.len() * bits / 8` bytes.
    pub fn pack(self, group: &[f32], bits: u32, packed: &mut [u8]) {
        let top = top(bits);
        let number = |x: &f32| ((x - self.bias) / self.scale).round_ties_even().clamp(0.0, top) as u8;
        let (mut held, mut have) = (0u32, 0);
        let mut bytes = packed.iter_mut();
        for value in group {
            held |= u32::from(number(value)) << have;
            have += bits;
            while have >= 8 {
                if let Some(byte) = bytes.next() {
                    *byte = held as u8;
                }
                held >>= 8;
                have -= 8;
            }
        }
    }
}

/// The largest number with this many bits.
fn top(bits: u32) -> f32 {
    ((1u32 << bits) - 1) as f32
}

/// A matrix in the format of a model's folder.
#[derive(Debug, Clone, PartialEq)]
pub enum Weight {
    Plain(HostTensor),
    Quantized(QuantizedTensor),
    Mxfp4(Mxfp4Tensor),
    Ggml(GgmlTensor),
}

impl Weight {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Weight::Plain(tensor) => &tensor.name,
            Weight::Quantized(tensor) => &tensor.name,
            Weight::Mxfp4(tensor) => &tensor.name,
            Weight::Ggml(tensor) => &tensor.name,
        }
    }

    /// [out, in], unpacked.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Weight::Plain(tensor) => &tensor.shape,
            Weight::Quantized(tensor) => &tensor.shape,
            Weight::Mxfp4(tensor) => &tensor.shape,
            Weight::Ggml(tensor) => &tensor.shape,
        }
    }

    /// The tensor, if it is stored as floating-point numbers.
    #[must_use]
    pub fn plain(&self) -> Option<&HostTensor> {
        if let Weight::Plain(tensor) = self { Some(tensor) } else { None }
    }

    /// The tensor, if it is stored quantized.
    #[must_use]
    pub fn quantized(&self) -> Option<&QuantizedTensor> {
        if let Weight::Quantized(tensor) = self { Some(tensor) } else { None }
    }

    /// The tensor, if it is stored in blocks of GGML.
    #[must_use]
    pub fn ggml(&self) -> Option<&GgmlTensor> {
        if let Weight::Ggml(tensor) = self { Some(tensor) } else { None }
    }

    /// `None`: stored as floating-point numbers.
    #[must_use]
    pub fn quantization(&self) -> Option<Quantization> {
        match self {
            Weight::Plain(_) | Weight::Mxfp4(_) | Weight::Ggml(_) => None,
            Weight::Quantized(tensor) => Quantization::new(tensor.bits, tensor.group_size),
        }
    }

    /// Name of the form: a dtype, such as `bf16`, or how it is quantized.
    #[must_use]
    pub fn form(&self) -> String {
        match (self, self.quantization()) {
            (_, Some(quantization)) => quantization.to_string(),
            (Weight::Plain(tensor), None) => form(tensor.dtype),
            (Weight::Quantized(_), None) => "quantized".to_owned(),
            (Weight::Mxfp4(_), None) => Format::Mxfp4.to_string(),
            (Weight::Ggml(tensor), None) => tensor.form().to_owned(),
        }
    }

    /// The values, dequantized and widened to f32.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Weight::Plain(tensor) => tensor.to_f32(),
            Weight::Quantized(tensor) => tensor.to_f32(),
            Weight::Mxfp4(tensor) => tensor.to_f32(),
            Weight::Ggml(tensor) => tensor.to_f32(),
        }
    }

    /// A factor of these values, rounded as `transformers` does: to the values' own format if that
    /// is f16 or bf16.
    #[must_use]
    pub fn rounded(&self, factor: f64) -> f64 {
        match self.plain().map(|tensor| tensor.dtype) {
            Some(Dtype::BF16) => half::bf16::from_f64(factor).to_f64(),
            Some(Dtype::F16) => half::f16::from_f64(factor).to_f64(),
            _ => factor,
        }
    }

    /// Whether both hold the same values in the same format, whatever their names.
    #[must_use]
    pub fn same_values(&self, other: &Weight) -> bool {
        let same = |a: &HostTensor, b: &HostTensor| a.dtype == b.dtype && a.shape == b.shape && a.bytes == b.bytes;
        match (self, other) {
            (Weight::Plain(a), Weight::Plain(b)) => same(a, b),
            (Weight::Quantized(a), Weight::Quantized(b)) => {
                self.quantization() == other.quantization()
                    && a.packed == b.packed
                    && same(&a.scales, &b.scales)
                    && same(&a.biases, &b.biases)
            }
            (Weight::Ggml(a), Weight::Ggml(b)) => a == b,
            (Weight::Mxfp4(a), Weight::Mxfp4(b)) => (a.shape, &a.packed, &a.scales) == (b.shape, &b.packed, &b.scales),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
