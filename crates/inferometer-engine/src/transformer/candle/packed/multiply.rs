//! Rows of inputs times one tile, for each set of instructions that has a fast product of bytes.

use std::cell::RefCell;

use candle_core::quantized::GgmlDType;

use super::inputs::Inputs;
use super::kinds::{Halves, Kind, Line, PerColumn, Quads, unpack};
use super::{BLOCK, QUAD, QUADS, TILE};

/// Blocks of 32 inputs that are unpacked at once. Unpacked they fit the first-level cache, and many
/// rows of inputs are multiplied with them.
const BLOCKS: usize = 24;

/// Instructions that multiply bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Instructions {
    /// Those of this processor, the fastest first.
    #[must_use]
    pub fn found() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            let sets = [
                (avx512 && is_x86_feature_detected!("avx512vnni"), Self::Avx512Vnni),
                (avx2 && is_x86_feature_detected!("avxvnni"), Self::AvxVnni),
                (avx2, Self::Avx2),
            ];
            sets.into_iter().filter(|(found, _)| *found).map(|(_, set)| set).collect()
        }
        #[cfg(target_arch = "aarch64")]
        return vec![Self::Neon];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Vec::new()
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
        }
    }

    /// Whether products of numbers of this many bits are exact. AVX2 adds two products in 16 bits,
    /// and NEON takes the numbers as signed.
    #[must_use]
    pub fn exact(self, bits: usize) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => bits < 8,
            #[cfg(target_arch = "x86_64")]
            _ => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => bits < 8,
        }
    }

    /// Whether the product is faster than candle's, which has none with vector instructions for
    /// some types.
    #[must_use]
    pub fn pays(self, kind: GgmlDType) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => true,
            #[cfg(target_arch = "x86_64")]
            _ => matches!(kind, GgmlDType::Q4_0 | GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => matches!(kind, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1),
        }
    }
}

/// A tile of a matrix and the rows to multiply it with.
pub struct Job<'a> {
    pub lines: &'a [Line],
    pub scales: &'a [u8],
    pub inputs: &'a Inputs,
    /// The first row.
    pub first: usize,
}

/// Some blocks of a tile, unpacked.
struct Scratch {
    quads: [Quads; BLOCKS],
    scales: [PerColumn; 2 * BLOCKS],
    minimums: [PerColumn; BLOCKS],
}

thread_local! {
    static SCRATCH: RefCell<Box<Scratch>> = RefCell::new(Box::new(Scratch {
        quads: [[Line([0; TILE * QUAD]); QUADS]; BLOCKS],
        scales: [[0.0; TILE]; 2 * BLOCKS],
        minimums: [[0.0; TILE]; BLOCKS],
    }));
}

/// Adds the products of the job's rows to `out`.
pub fn multiply<K: Kind>(with: Instructions, job: &Job<'_>, out: &mut [PerColumn]) {
    SCRATCH.with_borrow_mut(|scratch| {
        // SAFETY: a `Packed` has only instructions that were found on this processor.
        unsafe {
            match with {
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512Vnni => x86::avx512_vnni::<K>(job, scratch, out),
                #[cfg(target_arch = "x86_64")]
                Instructions::AvxVnni => x86::avx_vnni::<K>(job, scratch, out),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 => x86::avx2::<K>(job, scratch, out),
                #[cfg(target_arch = "aarch64")]
                Instructions::Neon => aarch64::neon::<K>(job, scratch, out),
            }
        }
    });
}

/// What a set of instructions does with 16 columns at once.
///
/// # Safety
/// Every function needs a processor that has the instructions.
trait Set {
    /// 16 sums of integers.
    type Whole: Copy;
    /// 16 sums of numbers.
    type Sums: Copy;
    unsafe fn start(from: i32) -> Self::Whole;
    /// Adds the products of four inputs (two's complement) with the numbers of each column.
    unsafe fn dot(whole: Self::Whole, line: &Line, quad: [u8; QUAD]) -> Self::Whole;
    unsafe fn load(sums: &PerColumn) -> Self::Sums;
    unsafe fn store(sums: Self::Sums, to: &mut PerColumn);
    /// sums + whole * scale * factor
    unsafe fn add_scaled(sums: Self::Sums, whole: Self::Whole, scale: &PerColumn, factor: f32) -> Self::Sums;
    /// The values of f16 numbers.
    unsafe fn widen(halves: &Halves) -> PerColumn;
    /// sums + values * factor
    unsafe fn add(sums: Self::Sums, values: &PerColumn, factor: f32) -> Self::Sums;
}

/// All rows of a job, `N` at a time. The result of a row does not depend on its place among them.
#[inline(always)]
unsafe fn tile<K: Kind, S: Set, const N: usize>(job: &Job<'_>, scratch: &mut Scratch, out: &mut [PerColumn]) {
    let blocks = job.inputs.blocks;
    for first in (0..blocks).step_by(BLOCKS) {
        let count = BLOCKS.min(blocks - first);
        // SAFETY: the caller guarantees that the processor has the instructions of `S`.
        let some = unsafe { fill::<K, S>(job, first, count, scratch) };
        let (many, few) = out.as_chunks_mut::<N>();
        for (at, out) in many.iter_mut().enumerate() {
            // SAFETY: as above.
            unsafe { rows::<K, S, N>(&some, job.inputs, job.first + at * N, first, out) };
        }
        let done = many.len() * N;
        for (at, out) in few.iter_mut().enumerate() {
            // SAFETY: as above.
            unsafe { rows::<K, S, 1>(&some, job.inputs, job.first + done + at, first, std::array::from_mut(out)) };
        }
    }
}

/// Unpacked blocks.
struct Some<'a> {
    quads: &'a [Quads],
    scales: &'a [PerColumn],
    minimums: &'a [PerColumn],
}

/// Unpacks `count` blocks from `first` on.
#[inline(always)]
unsafe fn fill<'a, K: Kind, S: Set>(job: &Job<'a>, first: usize, count: usize, scratch: &'a mut Scratch) -> Some<'a> {
    let lines = &job.lines[first * K::BITS..][..count * K::BITS];
    let quads = if K::BITS == 8 {
        lines.as_chunks().0
    } else {
        let quads = &mut scratch.quads[..count];
        // Not `for_each`: its closure may become a function without the caller's instructions.
        for (quads, lines) in quads.iter_mut().zip(lines.chunks_exact(K::BITS)) {
            unpack::<K>(lines, quads);
        }
        quads
    };
    let scales = &mut scratch.scales[..count * BLOCK / K::GROUP];
    let minimums = &mut scratch.minimums[..if K::MINIMUM { count } else { 0 }];
    let (stored, groups) = (K::VALUES / BLOCK, K::VALUES / K::GROUP);
    let packed = job.scales[first / stored * K::SCALES..].chunks_exact(K::SCALES);
    for (at, (packed, scales)) in packed.zip(scales.chunks_exact_mut(groups)).enumerate() {
        let minimums = if K::MINIMUM { &mut minimums[at * stored..][..stored] } else { &mut [] };
        // SAFETY: the caller guarantees that the processor has the instructions of `S`.
        K::scales(packed, |halves| unsafe { S::widen(halves) }, scales, minimums);
    }
    Some { quads, scales, minimums }
}

/// `N` rows from `row` on times blocks from `first` on.
#[inline(always)]
unsafe fn rows<K: Kind, S: Set, const N: usize>(
    some: &Some<'_>,
    inputs: &Inputs,
    row: usize,
    first: usize,
    out: &mut [PerColumn; N],
) {
    let (count, groups) = (some.quads.len(), BLOCK / K::GROUP);
    // Cut to length once, so that the loop needs no bounds checks.
    let mut quads = [[].as_slice(); N];
    let mut factors = [[].as_slice(); N];
    let mut starts = [[].as_slice(); N];
    for at in 0..N {
        let begin = (row + at) * inputs.blocks + first;
        quads[at] = &inputs.quads[begin * QUADS..].as_chunks::<QUADS>().0[..count];
        factors[at] = &inputs.scales[begin..][..count];
        starts[at] = &inputs.starts[begin * groups..][..count * groups];
    }
    // SAFETY: the caller guarantees that the processor has the instructions of `S`.
    unsafe {
        let mut sums = [S::load(&out[0]); N];
        for at in 1..N {
            sums[at] = S::load(&out[at]);
        }
        for (block, lines) in some.quads.iter().enumerate() {
            for (group, lines) in lines.chunks_exact(QUADS / groups).enumerate() {
                let mut whole = [S::start(0); N];
                for at in 0..N {
                    whole[at] = S::start(starts[at][block * groups + group]);
                }
                for (quad, line) in lines.iter().enumerate() {
                    for at in 0..N {
                        whole[at] = S::dot(whole[at], line, quads[at][block][group * (QUADS / groups) + quad]);
                    }
                }
                for at in 0..N {
                    let scale = &some.scales[block * groups + group];
                    sums[at] = S::add_scaled(sums[at], whole[at], scale, factors[at][block]);
                }
            }
        }
        if K::MINIMUM {
            for (at, total) in sums.iter_mut().enumerate() {
                let begin = (row + at) * inputs.blocks + first;
                for (minimum, sum) in some.minimums.iter().zip(&inputs.sums[begin..]) {
                    *total = S::add(*total, minimum, *sum);
                }
            }
        }
        for at in 0..N {
            S::store(sums[at], &mut out[at]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub unsafe fn avx512_vnni<K: Kind>(job: &Job<'_>, scratch: &mut Scratch, out: &mut [PerColumn]) {
        // SAFETY: this function is called only where the processor has these instructions.
        unsafe { tile::<K, Avx512Vnni, 8>(job, scratch, out) }
    }

    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    pub unsafe fn avx_vnni<K: Kind>(job: &Job<'_>, scratch: &mut Scratch, out: &mut [PerColumn]) {
        // SAFETY: as above.
        unsafe { tile::<K, Avx2<true>, 4>(job, scratch, out) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn avx2<K: Kind>(job: &Job<'_>, scratch: &mut Scratch, out: &mut [PerColumn]) {
        // SAFETY: as above.
        unsafe { tile::<K, Avx2<false>, 4>(job, scratch, out) }
    }

    struct Avx512Vnni;

    // Loads and stores are of 64 bytes, the size of `Line` and `PerColumn`.
    impl Set for Avx512Vnni {
        type Whole = __m512i;
        type Sums = __m512;

        #[inline(always)]
        unsafe fn start(from: i32) -> __m512i {
            unsafe { _mm512_set1_epi32(from) }
        }

        #[inline(always)]
        unsafe fn dot(whole: __m512i, line: &Line, quad: [u8; QUAD]) -> __m512i {
            unsafe {
                let line = _mm512_loadu_si512(line.0.as_ptr().cast());
                _mm512_dpbusd_epi32(whole, line, _mm512_set1_epi32(i32::from_ne_bytes(quad)))
            }
        }

        #[inline(always)]
        unsafe fn load(sums: &PerColumn) -> __m512 {
            unsafe { _mm512_loadu_ps(sums.as_ptr()) }
        }

        #[inline(always)]
        unsafe fn store(sums: __m512, to: &mut PerColumn) {
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), sums) }
        }

        #[inline(always)]
        unsafe fn add_scaled(sums: __m512, whole: __m512i, scale: &PerColumn, factor: f32) -> __m512 {
            unsafe {
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), Self::load(scale));
                _mm512_fmadd_ps(scaled, _mm512_set1_ps(factor), sums)
            }
        }

        #[inline(always)]
        unsafe fn widen(halves: &Halves) -> PerColumn {
            let mut out = [0.0; TILE];
            unsafe { Self::store(_mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())), &mut out) };
            out
        }

        #[inline(always)]
        unsafe fn add(sums: __m512, values: &PerColumn, factor: f32) -> __m512 {
            unsafe { _mm512_fmadd_ps(Self::load(values), _mm512_set1_ps(factor), sums) }
        }
    }

    /// With AVX-VNNI or without.
    struct Avx2<const VNNI: bool>;

    // Loads and stores are of twice 32 bytes.
    impl<const VNNI: bool> Set for Avx2<VNNI> {
        type Whole = [__m256i; 2];
        type Sums = [__m256; 2];

        #[inline(always)]
        unsafe fn start(from: i32) -> [__m256i; 2] {
            unsafe { [_mm256_set1_epi32(from); 2] }
        }

        #[inline(always)]
        unsafe fn dot(whole: [__m256i; 2], line: &Line, quad: [u8; QUAD]) -> [__m256i; 2] {
            let mut whole = whole;
            for (at, whole) in whole.iter_mut().enumerate() {
                unsafe {
                    let line = _mm256_loadu_si256(line.0.as_ptr().cast::<__m256i>().add(at));
                    let quad = _mm256_set1_epi32(i32::from_ne_bytes(quad));
                    *whole = if VNNI {
                        _mm256_dpbusd_avx_epi32(*whole, line, quad)
                    } else {
                        let pairs = _mm256_maddubs_epi16(line, quad);
                        _mm256_add_epi32(*whole, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
                    };
                }
            }
            whole
        }

        #[inline(always)]
        unsafe fn load(sums: &PerColumn) -> [__m256; 2] {
            unsafe { [_mm256_loadu_ps(sums.as_ptr()), _mm256_loadu_ps(sums.as_ptr().add(TILE / 2))] }
        }

        #[inline(always)]
        unsafe fn store(sums: [__m256; 2], to: &mut PerColumn) {
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(to.as_mut_ptr().add(TILE / 2), sums[1]);
            }
        }

        #[inline(always)]
        unsafe fn add_scaled(sums: [__m256; 2], whole: [__m256i; 2], scale: &PerColumn, factor: f32) -> [__m256; 2] {
            let mut sums = sums;
            unsafe {
                let scale = Self::load(scale);
                for at in 0..2 {
                    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(whole[at]), scale[at]);
                    sums[at] = _mm256_fmadd_ps(scaled, _mm256_set1_ps(factor), sums[at]);
                }
            }
            sums
        }

        #[inline(always)]
        unsafe fn widen(halves: &Halves) -> PerColumn {
            let mut out = [0.0; TILE];
            unsafe {
                let half = |at: usize| _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast::<__m128i>().add(at)));
                Self::store([half(0), half(1)], &mut out);
            }
            out
        }

        #[inline(always)]
        unsafe fn add(sums: [__m256; 2], values: &PerColumn, factor: f32) -> [__m256; 2] {
            let mut sums = sums;
            unsafe {
                let values = Self::load(values);
                for at in 0..2 {
                    sums[at] = _mm256_fmadd_ps(values[at], _mm256_set1_ps(factor), sums[at]);
                }
            }
            sums
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::*;
    use std::arch::aarch64::*;

    #[target_feature(enable = "neon")]
    pub unsafe fn neon<K: Kind>(job: &Job<'_>, scratch: &mut Scratch, out: &mut [PerColumn]) {
        // SAFETY: this function is called only where the processor has these instructions.
        unsafe { tile::<K, Neon, 2>(job, scratch, out) }
    }

    // Not the instruction for dot products, whose intrinsics are not stable.
    struct Neon;
    const PARTS: usize = 4;
    const LANES: usize = TILE / PARTS;

    impl Set for Neon {
        /// Two sums for each column.
        type Whole = [int32x4_t; 2 * PARTS];
        type Sums = [float32x4_t; PARTS];

        #[inline(always)]
        unsafe fn start(from: i32) -> Self::Whole {
            unsafe { [vsetq_lane_s32::<2>(from, vsetq_lane_s32::<0>(from, vdupq_n_s32(0))); 2 * PARTS] }
        }

        #[inline(always)]
        unsafe fn dot(whole: Self::Whole, line: &Line, quad: [u8; QUAD]) -> Self::Whole {
            let mut whole = whole;
            unsafe {
                let quad = vreinterpret_s8_s32(vdup_n_s32(i32::from_ne_bytes(quad)));
                for (at, whole) in whole.iter_mut().enumerate() {
                    let numbers = vld1_s8(line.0.as_ptr().cast::<i8>().add(at * 2 * QUAD));
                    *whole = vpadalq_s16(*whole, vmull_s8(numbers, quad));
                }
            }
            whole
        }

        #[inline(always)]
        unsafe fn load(sums: &PerColumn) -> Self::Sums {
            unsafe { std::array::from_fn(|at| vld1q_f32(sums.as_ptr().add(at * LANES))) }
        }

        #[inline(always)]
        unsafe fn store(sums: Self::Sums, to: &mut PerColumn) {
            for (at, sums) in sums.into_iter().enumerate() {
                unsafe { vst1q_f32(to.as_mut_ptr().add(at * LANES), sums) };
            }
        }

        #[inline(always)]
        unsafe fn add_scaled(sums: Self::Sums, whole: Self::Whole, scale: &PerColumn, factor: f32) -> Self::Sums {
            unsafe {
                let scale = Self::load(scale);
                std::array::from_fn(|at| {
                    vfmaq_n_f32(
                        sums[at],
                        vmulq_f32(vcvtq_f32_s32(vpaddq_s32(whole[2 * at], whole[2 * at + 1])), scale[at]),
                        factor,
                    )
                })
            }
        }

        #[inline(always)]
        unsafe fn widen(halves: &Halves) -> PerColumn {
            super::super::kinds::widen(halves)
        }

        #[inline(always)]
        unsafe fn add(sums: Self::Sums, values: &PerColumn, factor: f32) -> Self::Sums {
            unsafe {
                let values = Self::load(values);
                std::array::from_fn(|at| vfmaq_n_f32(sums[at], values[at], factor))
            }
        }
    }
}
