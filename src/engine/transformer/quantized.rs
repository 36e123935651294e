//! Matrices in MLX's affine quantized format.
//!
//! Every `group_size` consecutive values of a row share a scale and a bias: `w = scale * q + bias`, with q a whole number
//! of `bits` bits. The numbers q lie in 32-bit words, the first of them in the lowest bits. A matrix [out, in] named
//! `NAME.weight` is stored as three tensors: `NAME.weight`, u32 [out, in * bits / 32], and `NAME.scales` and `NAME.biases`,
//! [out, in / group_size] each. Source: the documentation of `mlx.core.quantize` and `dequantize`.

use std::fmt;

use super::weights::HostTensor;

/// How finely a matrix is quantized. Only sizes that this engine knows can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantization {
    bits: u32,
    group_size: usize,
}

impl Quantization {
    pub const BITS: [u32; 2] = [4, 8];
    pub const GROUP_SIZES: [usize; 3] = [32, 64, 128];

    /// `None` for sizes that are not among [`Quantization::BITS`] and [`Quantization::GROUP_SIZES`].
    #[must_use]
    pub fn new(bits: u32, group_size: usize) -> Option<Self> {
        (Self::BITS.contains(&bits) && Self::GROUP_SIZES.contains(&group_size)).then_some(Self { bits, group_size })
    }

    /// Bits of one value: 4 or 8.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Values that share a scale and a bias: 32, 64 or 128.
    #[must_use]
    pub fn group_size(self) -> usize {
        self.group_size
    }

    /// 32-bit words that hold `columns` values, a multiple of the group size.
    #[must_use]
    pub fn words(self, columns: usize) -> usize {
        columns * self.bits as usize / 32
    }

    /// Groups of `columns` values, a multiple of the group size.
    #[must_use]
    pub fn groups(self, columns: usize) -> usize {
        columns / self.group_size
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MLX affine, {} bits, groups of {}", self.bits, self.group_size)
    }
}

/// One matrix as its three tensors, read.
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
    /// As `scales`, of the same dtype.
    pub biases: HostTensor,
}

impl QuantizedTensor {
    /// The values that the numbers stand for, computed in f32: one product and one sum, each rounded.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let (scales, biases) = (self.scales.to_f32(), self.biases.to_f32());
        let group_bytes = self.group_size * self.bits as usize / 8;
        let mut values = Vec::with_capacity(self.shape[0] * self.shape[1]);
        for ((group, scale), bias) in self.packed.chunks_exact(group_bytes).zip(scales).zip(biases) {
            let value = |q: u8| scale * f32::from(q) + bias;
            match self.bits {
                4 => values.extend(group.iter().flat_map(|byte| [value(byte & 0xf), value(byte >> 4)])),
                _ => values.extend(group.iter().map(|byte| value(*byte))),
            }
        }
        values
    }
}

/// A matrix as a model's folder stores it.
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

    /// The values, dequantized and widened to f32.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Weight::Plain(tensor) => tensor.to_f32(),
            Weight::Quantized(tensor) => tensor.to_f32(),
        }
    }

    /// Whether both hold the same values in the same form, whatever their names.
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
mod tests {
    use safetensors::Dtype;

    use super::*;

    fn floats(name: &str, shape: [usize; 2], values: &[f32]) -> HostTensor {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        HostTensor { name: name.to_owned(), shape: shape.to_vec(), dtype: Dtype::F32, bytes }
    }

    #[test]
    fn numbers_are_taken_from_the_low_bits_first_and_each_group_has_its_scale() {
        // Two rows of one group of 32. The first word of the first row has the numbers 8, 7, .. 1.
        let mut packed = 0x1234_5678u32.to_le_bytes().to_vec();
        packed.resize(16, 0);
        packed.extend([0xff; 16]);
        let four = QuantizedTensor {
            name: "m.weight".to_owned(),
            shape: [2, 32],
            bits: 4,
            group_size: 32,
            packed: packed.clone(),
            scales: floats("m.scales", [2, 1], &[0.5, -2.0]),
            biases: floats("m.biases", [2, 1], &[1.0, 3.0]),
        };
        let values = Weight::Quantized(four.clone()).to_f32();
        assert_eq!(values[..9], [5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0]);
        assert_eq!((values.len(), &values[32..]), (64, &[-27.0; 32][..]));

        let eight = QuantizedTensor { shape: [1, 32], bits: 8, ..four };
        let values = eight.to_f32();
        assert_eq!(values[..5], [61.0, 44.0, 27.0, 10.0, 1.0]);
        assert_eq!((values.len(), values[16]), (32, 128.5));
    }
}
