//! Numbers as they are stored, in f32, f16 or bf16: widening, and sums of products with f32.

use half::{bf16, f16};

/// Values that are widened and multiplied together.
const LANES: usize = 16;
/// Rows of a matrix that are multiplied together with one input, and blocks of columns that are
/// summed together.
const TOGETHER: usize = 4;

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
pub fn finite_f16(bits: u16) -> f32 {
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

/// Defines a function over numbers `N`, compiled for the baseline and for AVX2 with FMA and F16C.
/// `$read` is the fastest way to read numbers.
macro_rules! for_numbers {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),*), $read:ident => $body:block) => {
        $(#[$doc])*
        $vis fn $name<N: Number>($($arg: $ty),*) {
            #[inline(always)]
            fn body<N: Number>($($arg: $ty,)* $read: impl Fn(&[N; LANES]) -> [f32; LANES] + Copy) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2<N: Number>($($arg: $ty),*) {
                    // SAFETY: this function is called only where the processor has the instructions.
                    body($($arg,)* |x: &[N; LANES]| unsafe { N::avx2(x) })
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                    // SAFETY: the processor has the features, as checked above.
                    return unsafe { avx2::<N>($($arg),*) };
                }
            }
            body($($arg,)* N::portable)
        }
    };
}

/// The last values of a row, fewer than `LANES`, followed by zeros.
#[inline(always)]
fn rest<N: Number>(x: &[N], read: impl Fn(&[N; LANES]) -> [f32; LANES]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    if let Some(first) = x.first() {
        let mut padded = [*first; LANES];
        padded[..x.len()].copy_from_slice(x);
        out[..x.len()].copy_from_slice(&read(&padded)[..x.len()]);
    }
    out
}

for_numbers! {
    /// Values of numbers.
    pub fn widen(x: &[N], out: &mut [f32]), read => {
        let (blocks, end) = x.as_chunks::<LANES>();
        let (out, out_end) = out.as_chunks_mut::<LANES>();
        for (x, out) in blocks.iter().zip(out) {
            *out = read(x);
        }
        out_end.copy_from_slice(&rest(end, read)[..end.len()]);
    }
}

for_numbers! {
    /// The products of `x` with each row of a matrix [out, x].
    pub fn products(matrix: &[N], x: &[f32], out: &mut [f32]), read => {
        let width = x.len();
        let (blocks, end) = x.as_chunks::<LANES>();
        let end = rest(end, |x: &[f32; LANES]| *x);
        let (many, few) = out.as_chunks_mut::<TOGETHER>();
        let done = many.len() * TOGETHER;
        for (out, rows) in many.iter_mut().zip(matrix.chunks_exact(TOGETHER * width)) {
            let rows: [&[N]; TOGETHER] = std::array::from_fn(|at| &rows[at * width..][..width]);
            *out = together(rows, blocks, &end, read);
        }
        for (out, row) in few.iter_mut().zip(matrix[done * width..].chunks_exact(width)) {
            *out = together([row], blocks, &end, read)[0];
        }
    }
}

for_numbers! {
    /// Adds the rows of a matrix [weights, out], each times its weight, to `out`.
    pub fn add_weighted(matrix: &[N], weights: &[f32], out: &mut [f32]), read => {
        let width = out.len();
        let mut first = 0;
        while first + TOGETHER * LANES <= width {
            weighted::<N, TOGETHER>(&matrix[first..], weights, width, &mut out[first..][..TOGETHER * LANES], read);
            first += TOGETHER * LANES;
        }
        while first + LANES <= width {
            weighted::<N, 1>(&matrix[first..], weights, width, &mut out[first..][..LANES], read);
            first += LANES;
        }
        if first < width {
            for (row, weight) in matrix.chunks_exact(width).zip(weights) {
                let values = rest(&row[first..], read);
                for (out, value) in out[first..].iter_mut().zip(values) {
                    *out += weight * value;
                }
            }
        }
    }
}

/// [`add_weighted`] for `B` blocks of columns of rows that are `width` apart.
#[inline(always)]
fn weighted<N: Number, const B: usize>(
    matrix: &[N],
    weights: &[f32],
    width: usize,
    out: &mut [f32],
    read: impl Fn(&[N; LANES]) -> [f32; LANES],
) {
    let out: &mut [[f32; LANES]; B] = (&mut out.as_chunks_mut().0[..B]).try_into().expect("B blocks");
    let mut sums = *out;
    for (row, weight) in matrix.chunks(width).zip(weights) {
        let row = &row.as_chunks::<LANES>().0[..B];
        for block in 0..B {
            let values = read(&row[block]);
            for i in 0..LANES {
                sums[block][i] += weight * values[i];
            }
        }
    }
    *out = sums;
}

/// The products of rows with an input, given as blocks and what follows them.
#[inline(always)]
fn together<N: Number, const R: usize>(
    rows: [&[N]; R],
    blocks: &[[f32; LANES]],
    end: &[f32; LANES],
    read: impl Fn(&[N; LANES]) -> [f32; LANES],
) -> [f32; R] {
    let mut sums = [[0f32; LANES]; R];
    let parts: [&[[N; LANES]]; R] = std::array::from_fn(|row| &rows[row].as_chunks().0[..blocks.len()]);
    for (at, x) in blocks.iter().enumerate() {
        for row in 0..R {
            let values = read(&parts[row][at]);
            for i in 0..LANES {
                sums[row][i] += values[i] * x[i];
            }
        }
    }
    let mut out = [0.0; R];
    for row in 0..R {
        let values = rest(rows[row].as_chunks::<LANES>().1, &read);
        for i in 0..LANES {
            sums[row][i] += values[i] * end[i];
        }
        // In halves, so that the additions are of vectors.
        let mut lanes = std::hint::black_box(sums[row]);
        let mut count = LANES / 2;
        while count > 0 {
            for i in 0..count {
                lanes[i] += lanes[i + count];
            }
            count /= 2;
        }
        out[row] = lanes[0];
    }
    out
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
