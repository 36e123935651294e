//! Numbers as they are stored, in f32, f16 or bf16: widening, and sums of products with f32.

use half::{bf16, f16};

/// Values that are widened and multiplied together.
const LANES: usize = 16;
/// Rows of a matrix that are multiplied or added together.
const TOGETHER: usize = 4;

/// Groups of rows between one that is computed with and one that is prefetched.
const AHEAD: usize = 6;

/// Longer rows, in bytes, are prefetched by the processor itself.
const SHORT: usize = 1024;

/// A number as it is stored in a matrix or a cache.
pub trait Number: Copy + Send + Sync {
    /// The values in plain arithmetic, written so that the compiler vectorizes it.
    fn portable(x: &[Self; LANES]) -> [f32; LANES];

    /// The values with AVX2 and F16C.
    ///
    /// # Safety
    /// The processor must have them.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx2(x: &[Self; LANES]) -> [f32; LANES];
}

/// A finite f16's value. Infinity and NaN come out as numbers from 65,536 on. Branch-free. The
/// exponent is corrected by a multiplication, which is right for subnormal numbers too.
#[inline(always)]
fn finite_f16(bits: u16) -> f32 {
    const CORRECTION: f32 = f32::from_bits((127 + 112) << 23); // 2^112: the biases are 127 and 15
    let bits = u32::from(bits);
    let size = f32::from_bits((bits & 0x7fff) << 13) * CORRECTION;
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

impl Number for f16 {
    #[inline(always)]
    fn portable(x: &[f16; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| {
            let size = finite_f16(x[i].to_bits());
            // The exponent of infinity and NaN.
            let more = if size.abs() >= 65536.0 { 0x7f80_0000 } else { 0 };
            f32::from_bits(size.to_bits() | more)
        })
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn avx2(x: &[f16; LANES]) -> [f32; LANES] {
        use std::arch::x86_64::*;
        let mut out = [0.0; LANES];
        // SAFETY: the caller guarantees the instructions; loads and stores are of 8 values each.
        unsafe {
            for at in [0, LANES / 2] {
                let half = _mm_loadu_si128(x.as_ptr().add(at).cast());
                _mm256_storeu_ps(out.as_mut_ptr().add(at), _mm256_cvtph_ps(half));
            }
        }
        out
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn portable(x: &[bf16; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| f32::from_bits(u32::from(x[i].to_bits()) << 16))
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn avx2(x: &[bf16; LANES]) -> [f32; LANES] {
        Self::portable(x)
    }
}

impl Number for f32 {
    #[inline(always)]
    fn portable(x: &[f32; LANES]) -> [f32; LANES] {
        *x
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn avx2(x: &[f32; LANES]) -> [f32; LANES] {
        *x
    }
}

/// How a processor computes.
///
/// # Safety
/// Every function needs a processor that has the instructions.
trait Set: Copy {
    unsafe fn read<N: Number>(x: &[N; LANES]) -> [f32; LANES];
    /// a * b + c
    unsafe fn multiply_add(a: f32, b: f32, c: f32) -> f32;
    /// Asks for the next `count` numbers from `first` on, if there are so many, to be read into the
    /// cache: several rows that are read in turn are not prefetched well by the processor itself.
    unsafe fn prefetch<N: Number>(x: &[N], first: usize, count: usize);
    /// The sum of each.
    unsafe fn totals(sums: &[[f32; LANES]; TOGETHER]) -> [f32; TOGETHER];
}

#[derive(Clone, Copy)]
struct Portable;

impl Set for Portable {
    #[inline(always)]
    unsafe fn read<N: Number>(x: &[N; LANES]) -> [f32; LANES] {
        N::portable(x)
    }

    #[inline(always)]
    unsafe fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        // Elsewhere it may be a call of a function.
        if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
    }

    #[inline(always)]
    unsafe fn prefetch<N: Number>(_: &[N], _: usize, _: usize) {}

    #[inline(always)]
    unsafe fn totals(sums: &[[f32; LANES]; TOGETHER]) -> [f32; TOGETHER] {
        sums.map(|mut lanes| {
            let mut count = LANES / 2;
            while count > 0 {
                for i in 0..count {
                    lanes[i] += lanes[i + count];
                }
                count /= 2;
            }
            lanes[0]
        })
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Set for Avx2 {
    #[inline(always)]
    unsafe fn read<N: Number>(x: &[N; LANES]) -> [f32; LANES] {
        // SAFETY: the caller guarantees the instructions.
        unsafe { N::avx2(x) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    unsafe fn prefetch<N: Number>(x: &[N], first: usize, count: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE: usize = 64;
        for at in (first..x.len().min(first + count)).step_by(LINE / size_of::<N>()) {
            // SAFETY: `at` is in the slice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().add(at).cast()) };
        }
    }

    #[inline(always)]
    unsafe fn totals(sums: &[[f32; LANES]; TOGETHER]) -> [f32; TOGETHER] {
        use std::arch::x86_64::*;
        let mut out = [0.0; TOGETHER];
        // SAFETY: the caller guarantees the instructions; loads are of 8 values, the store is of 4.
        unsafe {
            let [a, b, c, d] = std::array::from_fn(|row| {
                let from = sums[row].as_ptr();
                _mm256_add_ps(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(LANES / 2)))
            });
            let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let both = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
            _mm_storeu_ps(out.as_mut_ptr(), both);
        }
        out
    }
}

/// Defines a function over numbers `N`, compiled for the baseline and for AVX2 with FMA and F16C;
/// `$S` is the set of instructions.
macro_rules! for_numbers {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),*), $S:ident => $body:block) => {
        $(#[$doc])*
        $vis fn $name<N: Number>($($arg: $ty),*) {
            #[inline(always)]
            unsafe fn body<N: Number, $S: Set>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2<N: Number>($($arg: $ty),*) {
                    // SAFETY: this function has the instructions.
                    unsafe { body::<N, Avx2>($($arg),*) }
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                    // SAFETY: the processor has the features, as checked above.
                    return unsafe { avx2::<N>($($arg),*) };
                }
            }
            // SAFETY: it needs no instructions.
            unsafe { body::<N, Portable>($($arg),*) }
        }
    };
}

/// The last values of a row, fewer than `LANES`, followed by zeros.
#[inline(always)]
unsafe fn rest<N: Number, S: Set>(x: &[N]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    if let Some(first) = x.first() {
        let mut padded = [*first; LANES];
        padded[..x.len()].copy_from_slice(x);
        // SAFETY: the caller guarantees the instructions.
        out[..x.len()].copy_from_slice(&unsafe { S::read(&padded) }[..x.len()]);
    }
    out
}

for_numbers! {
    /// Values of numbers.
    pub fn widen(x: &[N], out: &mut [f32]), S => {
        let (blocks, end) = x.as_chunks::<LANES>();
        let (out, out_end) = out.as_chunks_mut::<LANES>();
        // SAFETY: the caller guarantees the instructions.
        unsafe {
            for (x, out) in blocks.iter().zip(out) {
                *out = S::read(x);
            }
            out_end.copy_from_slice(&rest::<N, S>(end)[..end.len()]);
        }
    }
}

for_numbers! {
    /// The products of each row of `x` [m, width] with each row of a matrix [n, width]: `out` is
    /// [m, n]. The matrix is read once.
    pub fn products(matrix: &[N], x: &[f32], width: usize, out: &mut [f32]), S => {
        let n = matrix.len() / width;
        for (at, rows) in matrix.chunks(TOGETHER * width).enumerate() {
            if width * size_of::<N>() <= SHORT {
                // SAFETY: the caller guarantees the instructions.
                unsafe { S::prefetch(matrix, (at + AHEAD) * TOGETHER * width, TOGETHER * width) };
            }
            let count = rows.len() / width;
            // Of fewer rows than are multiplied together, the last stands for those that lack.
            let rows: [&[N]; TOGETHER] = std::array::from_fn(|row| &rows[row.min(count - 1) * width..][..width]);
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(n)) {
                // SAFETY: as above.
                let products = unsafe { together::<N, S>(rows, x) };
                out[at * TOGETHER..][..count].copy_from_slice(&products[..count]);
            }
        }
    }
}

/// The products of rows with an input.
#[inline(always)]
unsafe fn together<N: Number, S: Set>(rows: [&[N]; TOGETHER], x: &[f32]) -> [f32; TOGETHER] {
    let (blocks, end) = x.as_chunks::<LANES>();
    let mut sums = [[0f32; LANES]; TOGETHER];
    let parts: [&[[N; LANES]]; TOGETHER] = std::array::from_fn(|row| &rows[row].as_chunks().0[..blocks.len()]);
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        for (at, x) in blocks.iter().enumerate() {
            for row in 0..TOGETHER {
                let values = S::read(&parts[row][at]);
                for i in 0..LANES {
                    sums[row][i] = S::multiply_add(values[i], x[i], sums[row][i]);
                }
            }
        }
        if !end.is_empty() {
            let end = rest::<f32, S>(end);
            for row in 0..TOGETHER {
                let values = rest::<N, S>(&rows[row][blocks.len() * LANES..]);
                for i in 0..LANES {
                    sums[row][i] = S::multiply_add(values[i], end[i], sums[row][i]);
                }
            }
        }
        S::totals(&sums)
    }
}

for_numbers! {
    /// Adds the rows of a matrix [n, width], each times its weight in a row of `weights` [m, n], to
    /// a row of `out` [m, width]. The matrix is read once.
    pub fn add_weighted(matrix: &[N], weights: &[f32], width: usize, out: &mut [f32]), S => {
        let n = matrix.len() / width;
        for (at, rows) in matrix.chunks(TOGETHER * width).enumerate() {
            if width * size_of::<N>() <= SHORT {
                // SAFETY: the caller guarantees the instructions.
                unsafe { S::prefetch(matrix, (at + AHEAD) * TOGETHER * width, TOGETHER * width) };
            }
            for (weights, out) in weights.chunks_exact(n).zip(out.chunks_exact_mut(width)) {
                let weights = &weights[at * TOGETHER..];
                // SAFETY: as above.
                unsafe {
                    if let Some(weights) = weights.first_chunk() {
                        weighted::<N, S, TOGETHER>(rows, weights, out);
                    } else {
                        for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
                            weighted::<N, S, 1>(row, &[*weight], out);
                        }
                    }
                }
            }
        }
    }
}

/// `R` rows of [`add_weighted`].
#[inline(always)]
unsafe fn weighted<N: Number, S: Set, const R: usize>(matrix: &[N], weights: &[f32; R], out: &mut [f32]) {
    let width = out.len();
    let rows: [&[N]; R] = std::array::from_fn(|row| &matrix[row * width..][..width]);
    let (blocks, end) = out.as_chunks_mut::<LANES>();
    let parts: [&[[N; LANES]]; R] = std::array::from_fn(|row| &rows[row].as_chunks().0[..blocks.len()]);
    let done = blocks.len() * LANES;
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        for (block, out) in blocks.iter_mut().enumerate() {
            let mut sums = *out;
            for row in 0..R {
                let values = S::read(&parts[row][block]);
                for i in 0..LANES {
                    sums[i] = S::multiply_add(weights[row], values[i], sums[i]);
                }
            }
            *out = sums;
        }
        if !end.is_empty() {
            for row in 0..R {
                let values = rest::<N, S>(&rows[row][done..]);
                for (out, value) in end.iter_mut().zip(values) {
                    *out = S::multiply_add(weights[row], value, *out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_16_bits_is_widened_as_the_library_does() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let halves: Vec<f16> = all.iter().map(|bits| f16::from_bits(*bits)).collect();
        let brains: Vec<bf16> = all.iter().map(|bits| bf16::from_bits(*bits)).collect();
        let mut out = vec![0.0; all.len()];
        widen(&halves, &mut out);
        assert!(out.iter().zip(&halves).all(|(out, half)| same(*out, half.to_f32())));
        for half in halves.as_chunks().0 {
            assert!(f16::portable(half).into_iter().zip(half).all(|(out, half)| same(out, half.to_f32())));
        }
        widen(&brains[..65531], &mut out[..65531]);
        assert!(out[..65531].iter().zip(&brains).all(|(out, brain)| same(*out, brain.to_f32())));
    }
}
