//! Matrices in MXFP4: blocks of 32 numbers of 4 bits with a common power of two.
//!
//! Source: "OCP Microscaling Formats (MX) Specification", version 1.0 (2023): E2M1 elements, E8M0
//! scales.

use super::quantized::unpack;

/// Values that share a scale.
pub const BLOCK: usize = 32;
/// Bytes of a block's numbers.
pub const BLOCK_BYTES: usize = BLOCK / 2;
/// Values in a 32-bit word.
pub const PER_WORD: usize = 8;

/// Values of the numbers: sign, two bits of exponent, one of mantissa.
const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
/// The exponent that stands for 1.
const BIAS: i32 = 127;

/// One matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Mxfp4Tensor {
    pub name: String,
    /// [out, in]; `in` is a multiple of 32.
    pub shape: [usize; 2],
    /// [out, in / 2], the first of two numbers in the low bits.
    pub packed: Vec<u8>,
    /// Exponents [out, in / 32]; 255 is NaN.
    pub scales: Vec<u8>,
}

impl Mxfp4Tensor {
    /// The values, exact.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape[0] * self.shape[1]];
        let blocks = values.chunks_exact_mut(BLOCK).zip(self.packed.chunks_exact(BLOCK_BYTES)).zip(&self.scales);
        for ((out, block), scale) in blocks {
            let scale = if *scale == u8::MAX { f32::NAN } else { 2f32.powi(i32::from(*scale) - BIAS) };
            unpack(block, 4, |at, number| out[at] = VALUES[number as usize] * scale);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_value_times_the_power_of_two() {
        let mut packed = vec![0; 2 * BLOCK_BYTES];
        packed[0] = 0x7_1;
        packed[BLOCK_BYTES] = 0xf_2;
        let tensor = Mxfp4Tensor { name: String::new(), shape: [2, 32], packed, scales: vec![128, 126] };
        let values = tensor.to_f32();
        assert_eq!((values.len(), &values[..3], &values[32..35]), (64, &[1.0, 12.0, 0.0][..], &[0.5, -3.0, 0.0][..]));
        assert!(Mxfp4Tensor { scales: vec![255, 0], ..tensor }.to_f32()[0].is_nan());
    }
}
