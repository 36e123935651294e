//! Matrices in MLX's affine quantized format.
//!
//! Every `group_size` consecutive values of a row share a scale and a bias: `w = scale * q + bias`,
//! with q a whole number of `bits` bits. The numbers q lie in 32-bit words, the first of them in
//! the lowest bits. A matrix [out, in] named `NAME.weight` is stored as three tensors:
//! `NAME.weight`, u32 [out, in * bits / 32], and `NAME.scales` and `NAME.biases`, [out, in /
//! group_size] each. Source: the documentation of `mlx.core.quantize` and `dequantize`.

use super::weights::{HostTensor, form};
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
            let value = |q: u8| scale * f32::from(q) + bias;
            if self.bits == 4 {
                let pairs = out.as_chunks_mut::<2>().0;
                pairs.iter_mut().zip(group).for_each(|(pair, byte)| *pair = [value(byte & 0xf), value(byte >> 4)]);
            } else {
                out.iter_mut().zip(group).for_each(|(x, byte)| *x = value(*byte));
            }
        }
        values
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
        let values = group.chunks_exact(8 / bits as usize);
        for (byte, values) in packed.iter_mut().zip(values) {
            *byte = match values {
                [low, high] => number(high) << 4 | number(low),
                only => only.first().map_or(0, number),
            };
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
}

impl Weight {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Weight::Plain(tensor) => &tensor.name,
            Weight::Quantized(tensor) => &tensor.name,
        }
    }

    /// [out, in], unpacked.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Weight::Plain(tensor) => &tensor.shape,
            Weight::Quantized(tensor) => &tensor.shape,
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

    /// `None`: stored as floating-point numbers.
    #[must_use]
    pub fn quantization(&self) -> Option<Quantization> {
        match self {
            Weight::Plain(_) => None,
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
        }
    }

    /// The values, dequantized and widened to f32.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Weight::Plain(tensor) => tensor.to_f32(),
            Weight::Quantized(tensor) => tensor.to_f32(),
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
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
