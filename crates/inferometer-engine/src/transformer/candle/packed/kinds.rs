//! The GGML types that [`Packed`](super::Packed) multiplies, and their layout in a tile.
//!
//! A stored block holds whole numbers of a few bits and scales: a weight is `(number - offset) *
//! scale + minimum`. In a tile the numbers of 16 columns and 32 inputs are lines of 64 bytes: the
//! four bits of two quads of inputs in each of the first four lines, then for each further bit a
//! line with one bit of all eight quads. Numbers of 8 bits fill eight lines.
//!
//! Source of the stored formats: ggml's `ggml-common.h` and `ggml-quants.c`.

use half::f16;

use super::super::numbers::Number;
use super::{BLOCK, QUAD, QUADS, TILE};

/// A quad of inputs of each of 16 columns.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Line(pub [u8; TILE * QUAD]);

/// The numbers of 32 inputs and 16 columns in 8 bits each.
pub type Quads = [Line; QUADS];
/// A value for each column of a tile.
pub type PerColumn = [f32; TILE];
/// An f16 value for each column of a tile.
pub type Halves = [u8; HALVES];

pub trait Kind {
    /// Bits of a number, and lines of 32 inputs of a tile: 4, 5, 6 or 8.
    const BITS: usize;
    /// Values of a stored block.
    const VALUES: usize = BLOCK;
    /// Bytes of a stored block.
    const BYTES: usize;
    /// Bytes of the scales of `VALUES` inputs of a tile.
    const SCALES: usize;
    /// Subtracted from every number.
    const OFFSET: i32;
    /// Inputs that share a scale: 32 or 16.
    const GROUP: usize = BLOCK;
    /// Whether weights have a minimum.
    const MINIMUM: bool = false;

    /// The numbers of the block's inputs from 32 `part` on.
    fn numbers(stored: &[u8], part: usize) -> [u8; BLOCK];

    /// The floating-point scales in a stored block, which may be infinite or NaN in a damaged file.
    fn floats(stored: &[u8]) -> &[[u8; 2]];

    /// Puts the scales of one column's stored block among those of the tile.
    fn pack_scales(stored: &[u8], column: usize, scales: &mut [u8]);

    /// From the scales of `VALUES` inputs of a tile: one scale for each group, one minimum for each
    /// 32 inputs. `widen` reads 16 f16 values.
    fn scales(
        packed: &[u8],
        widen: impl Fn(&Halves) -> PerColumn,
        scales: &mut [PerColumn],
        minimums: &mut [PerColumn],
    );
}

/// Puts 32 numbers of one column into lines.
#[inline(always)]
pub fn pack<K: Kind>(numbers: &[u8; BLOCK], column: usize, lines: &mut [Line]) {
    let mut put = |line: usize, quad: &[u8; QUAD]| lines[line].0[column * QUAD..][..QUAD].copy_from_slice(quad);
    if K::BITS == 8 {
        return numbers.as_chunks().0.iter().enumerate().for_each(|(line, quad)| put(line, quad));
    }
    let (first, second) = numbers.split_at(BLOCK / 2);
    for line in 0..QUADS / 2 {
        put(line, &std::array::from_fn(|k| first[line * QUAD + k] & 15 | second[line * QUAD + k] << 4));
    }
    for bit in 4..K::BITS {
        let gather = |k| (0..QUADS).fold(0, |all, quad| all | (numbers[quad * QUAD + k] >> bit & 1) << quad);
        put(bit, &std::array::from_fn(gather));
    }
}

/// The inverse of [`pack`] for all columns.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "loops over numbers are unrolled and vectorized")]
pub fn unpack<K: Kind>(lines: &[Line], out: &mut Quads) {
    let lines = &lines[..K::BITS];
    if K::BITS == 8 {
        out.copy_from_slice(lines);
        return;
    }
    for line in 0..QUADS / 2 {
        for i in 0..TILE * QUAD {
            let (mut low, mut high) = (lines[line].0[i] & 15, lines[line].0[i] >> 4);
            for bit in 4..K::BITS {
                low |= (lines[bit].0[i] >> line & 1) << bit;
                high |= (lines[bit].0[i] >> (line + QUADS / 2) & 1) << bit;
            }
            out[line].0[i] = low;
            out[line + QUADS / 2].0[i] = high;
        }
    }
}

/// Bytes of 16 f16 values.
const HALVES: usize = 2 * TILE;

/// The values of f16 numbers in plain arithmetic.
#[inline(always)]
pub fn widen(halves: &Halves) -> PerColumn {
    let halves = halves.as_chunks::<2>().0;
    f16::portable(&std::array::from_fn(|i| f16::from_le_bytes(halves[i])))
}

/// The halves `at` in packed scales.
#[inline(always)]
fn halves(packed: &[u8], at: usize) -> &Halves {
    &packed.as_chunks().0[at]
}

#[inline(always)]
fn nibbles(stored: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|i| if i < BLOCK / 2 { stored[i] & 15 } else { stored[i - BLOCK / 2] >> 4 })
}

/// With a fifth bit of all in a word of 32 bits.
#[inline(always)]
fn nibbles_and_bits(stored: &[u8]) -> [u8; BLOCK] {
    let (bits, low) = stored.split_at(4);
    let (bits, low) = (u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]), nibbles(low));
    std::array::from_fn(|i| low[i] | ((bits >> i & 1) as u8) << 4)
}

/// The types of blocks of 32 with an f16 scale and perhaps a minimum in front.
macro_rules! simple {
    ($name:ident, bits $bits:literal, offset $offset:literal, floats $floats:literal, $numbers:expr) => {
        pub struct $name;

        impl Kind for $name {
            const BITS: usize = $bits;
            const BYTES: usize = 2 * $floats + $bits * BLOCK / 8;
            const SCALES: usize = HALVES * $floats;
            const OFFSET: i32 = $offset;
            const MINIMUM: bool = $floats == 2;

            #[inline(always)]
            fn numbers(stored: &[u8], _: usize) -> [u8; BLOCK] {
                let read: fn(&[u8]) -> [u8; BLOCK] = $numbers;
                read(&stored[2 * $floats..Self::BYTES])
            }

            #[inline(always)]
            fn floats(stored: &[u8]) -> &[[u8; 2]] {
                &stored.as_chunks().0[..$floats]
            }

            #[inline(always)]
            fn pack_scales(stored: &[u8], column: usize, scales: &mut [u8]) {
                for (float, scales) in Self::floats(stored).iter().zip(scales.chunks_exact_mut(HALVES)) {
                    scales[2 * column..][..2].copy_from_slice(float);
                }
            }

            #[inline(always)]
            fn scales(
                packed: &[u8],
                widen: impl Fn(&Halves) -> PerColumn,
                scales: &mut [PerColumn],
                minimums: &mut [PerColumn],
            ) {
                scales[0] = widen(halves(packed, 0));
                if Self::MINIMUM {
                    minimums[0] = widen(halves(packed, 1));
                }
            }
        }
    };
}

simple!(Q4_0, bits 4, offset 8, floats 1, nibbles);
simple!(Q4_1, bits 4, offset 0, floats 2, nibbles);
simple!(Q5_0, bits 5, offset 16, floats 1, nibbles_and_bits);
simple!(Q5_1, bits 5, offset 0, floats 2, nibbles_and_bits);
// Two's complement: adding 128 flips the highest bit.
simple!(Q8_0, bits 8, offset 128, floats 1, |stored| std::array::from_fn(|i| stored[i] ^ 0x80));

/// Values of a block of the K types.
const MANY: usize = 256;
/// Bytes of the eight scales and eight minimums of 6 bits of Q4_K and Q5_K.
const SIXES: usize = 12;

/// Scale and minimum of the 32 values from 32 `part` on.
#[inline(always)]
fn six_bits(stored: &[u8], part: usize) -> [u8; 2] {
    if part < 4 {
        return [stored[part] & 63, stored[part + 4] & 63];
    }
    let (low, scale, minimum) = (stored[part + 4], stored[part - 4], stored[part]);
    [low & 15 | scale >> 6 << 4, low >> 4 | minimum >> 6 << 4]
}

/// Q4_K and Q5_K: blocks of 256 with an f16 scale for their eight scales and one for their eight
/// minimums. In a tile: both f16 of 16 columns, then for each 32 inputs 16 scales and 16 minimums
/// in a byte each.
macro_rules! with_six_bit_scales {
    ($name:ident, bits $bits:literal) => {
        pub struct $name;

        impl Kind for $name {
            const BITS: usize = $bits;
            const VALUES: usize = MANY;
            const BYTES: usize = 4 + SIXES + $bits * MANY / 8;
            const SCALES: usize = 2 * HALVES + MANY / BLOCK * 2 * TILE;
            const OFFSET: i32 = 0;
            const MINIMUM: bool = true;

            #[inline(always)]
            fn numbers(stored: &[u8], part: usize) -> [u8; BLOCK] {
                let (bits, low) = stored[4 + SIXES..Self::BYTES].split_at(($bits - 4) * BLOCK);
                let low = &low[part / 2 * BLOCK..][..BLOCK];
                std::array::from_fn(|i| {
                    let fifth = if $bits == 5 { bits[i] >> part & 1 } else { 0 };
                    low[i] >> (part % 2 * 4) & 15 | fifth << 4
                })
            }

            #[inline(always)]
            fn floats(stored: &[u8]) -> &[[u8; 2]] {
                &stored.as_chunks().0[..2]
            }

            #[inline(always)]
            fn pack_scales(stored: &[u8], column: usize, scales: &mut [u8]) {
                let (floats, parts) = scales.split_at_mut(2 * HALVES);
                for (float, scales) in Self::floats(stored).iter().zip(floats.chunks_exact_mut(HALVES)) {
                    scales[2 * column..][..2].copy_from_slice(float);
                }
                for (part, scales) in parts.chunks_exact_mut(2 * TILE).enumerate() {
                    [scales[column], scales[TILE + column]] = six_bits(&stored[4..][..SIXES], part);
                }
            }

            #[inline(always)]
            fn scales(
                packed: &[u8],
                widen: impl Fn(&Halves) -> PerColumn,
                scales: &mut [PerColumn],
                minimums: &mut [PerColumn],
            ) {
                let (floats, parts) = packed[..Self::SCALES].split_at(2 * HALVES);
                let (scale, minimum) = (widen(halves(floats, 0)), widen(halves(floats, 1)));
                let parts = parts.as_chunks::<{ 2 * TILE }>().0;
                for ((part, scales), minimums) in parts.iter().zip(scales).zip(minimums) {
                    *scales = std::array::from_fn(|i| scale[i] * f32::from(part[i]));
                    *minimums = std::array::from_fn(|i| -minimum[i] * f32::from(part[TILE + i]));
                }
            }
        }
    };
}

with_six_bit_scales!(Q4K, bits 4);
with_six_bit_scales!(Q5K, bits 5);

/// Blocks of 256 with an f16 scale for their sixteen scales of 8 bits with sign. In a tile: the f16
/// of 16 columns, then for each 16 inputs 16 scales.
pub struct Q6K;

impl Kind for Q6K {
    const BITS: usize = 6;
    const VALUES: usize = MANY;
    const BYTES: usize = 6 * MANY / 8 + MANY / 16 + 2;
    const SCALES: usize = HALVES + MANY / 16 * TILE;
    const OFFSET: i32 = 32;
    const GROUP: usize = 16;

    /// Halves of 128: the low four bits of the first and second 32 share bytes with those of the
    /// third and fourth; two high bits of all four are in one byte.
    #[inline(always)]
    fn numbers(stored: &[u8], part: usize) -> [u8; BLOCK] {
        let (half, quarter) = (part / 4, part % 4);
        let low = &stored[half * 64 + quarter % 2 * BLOCK..][..BLOCK];
        let high = &stored[MANY / 2 + half * BLOCK..][..BLOCK];
        std::array::from_fn(|i| low[i] >> (quarter / 2 * 4) & 15 | (high[i] >> (quarter * 2) & 3) << 4)
    }

    #[inline(always)]
    fn floats(stored: &[u8]) -> &[[u8; 2]] {
        stored[Self::BYTES - 2..Self::BYTES].as_chunks().0
    }

    #[inline(always)]
    fn pack_scales(stored: &[u8], column: usize, scales: &mut [u8]) {
        let (floats, parts) = scales.split_at_mut(HALVES);
        floats[2 * column..][..2].copy_from_slice(&Self::floats(stored)[0]);
        let stored = &stored[6 * MANY / 8..][..MANY / 16];
        for (scale, scales) in stored.iter().zip(parts.chunks_exact_mut(TILE)) {
            scales[column] = *scale;
        }
    }

    #[inline(always)]
    fn scales(packed: &[u8], widen: impl Fn(&Halves) -> PerColumn, scales: &mut [PerColumn], _: &mut [PerColumn]) {
        let (floats, parts) = packed[..Self::SCALES].split_at(HALVES);
        let scale = widen(halves(floats, 0));
        for (part, scales) in parts.as_chunks::<TILE>().0.iter().zip(scales) {
            *scales = std::array::from_fn(|i| scale[i] * f32::from(part[i] as i8));
        }
    }
}
