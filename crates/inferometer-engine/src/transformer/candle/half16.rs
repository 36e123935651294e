//! Floating-point numbers of 16 bits in plain arithmetic.

/// An f16's value. Infinity and NaN come out as numbers from 65,536 on. Branch-free, so that loops
/// over it are vectorized: the exponent is corrected by a multiplication, which is right for
/// subnormal numbers too.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    const CORRECTION: f32 = f32::from_bits((127 + 112) << 23); // 2^112: 127 - 15 is the difference of the biases
    let bits = u32::from(bits);
    let size = f32::from_bits((bits & 0x7fff) << 13) * CORRECTION;
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}
