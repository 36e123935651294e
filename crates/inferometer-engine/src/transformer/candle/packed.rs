//! Products with Q8_0 matrices on processors with AVX-512 VNNI, in place of candle's.
//!
//! In candle's pool each product spins until all threads have run. On a busy machine each of the
//! hundred products of a token may then wait for a time slice of the scheduler. candle also keeps
//! each matrix twice. Here no product waits for a thread that is not scheduled, and the matrix is
//! stored once, in the order in which it is read.
//!
//! Layout: columns of the product in tiles of 16, each tile in blocks of 32 inputs, so that one
//! instruction multiplies four inputs with the weights of 16 columns. That instruction (`vpdpbusd`)
//! multiplies unsigned by signed bytes: weights are stored plus 128, and 128 times the sum of the
//! inputs is subtracted from the result.

use candle_core::quantized::{GgmlDType, QTensor};
use half::f16;
use rayon::prelude::*;

use super::{failed, kernels, threads};
use inferometer_host::Result;

/// Columns of the product in a tile.
const TILE: usize = 16;
/// Values that share a scale, in weights and inputs.
const BLOCK: usize = 32;
/// Bytes of a block of GGML's Q8_0: an f16 scale and the values.
const STORED: usize = 2 + BLOCK;
/// Inputs multiplied by one instruction.
const QUAD: usize = 4;
/// Rows of inputs that are multiplied in one pass over the weights.
const ROWS: usize = 8;
/// With up to this many rows of inputs, threads share the columns; with more, the rows.
const FEW: usize = ROWS;
/// Products with fewer weights stay on the calling thread.
const PARALLEL_FROM: usize = 1 << 16;

/// The weights of a block of 16 columns: quads of each column, plus 128.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Weights([[u8; TILE * QUAD]; BLOCK / QUAD]);

/// A matrix [columns, inputs] laid out for products.
pub struct Packed {
    columns: usize,
    inputs: usize,
    /// [columns / 16, inputs / 32]
    weights: Vec<Weights>,
    scales: Vec<[f16; TILE]>,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({}, {})", self.columns, self.inputs)
    }
}

/// Rows of inputs in 8 bits, with one scale for each block.
struct Inputs {
    /// Two's complement.
    quads: Vec<[u8; QUAD]>,
    scales: Vec<f32>,
    /// Initial value of a block's integer sum, which cancels the 128 added to the weights.
    starts: Vec<i32>,
    /// Blocks per row.
    blocks: usize,
}

/// Whether this processor has the required features.
#[must_use]
pub fn found() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this matrix can be packed on this machine.
#[must_use]
pub fn fits(columns: usize, inputs: usize) -> bool {
    found() && columns.is_multiple_of(TILE) && inputs.is_multiple_of(BLOCK) && columns * inputs > 0
}

impl Packed {
    /// Packs a matrix that [`fits`].
    ///
    /// # Errors
    /// When its bytes cannot be read.
    pub fn new(matrix: &QTensor) -> Result<Self> {
        let (columns, inputs) = matrix.shape().dims2().map_err(failed)?;
        assert!(matrix.dtype() == GgmlDType::Q8_0 && fits(columns, inputs), "asked before");
        let bytes = matrix.data().map_err(failed)?;
        let blocks = inputs / BLOCK;
        let stored = |column: usize, block: usize| &bytes[(column * blocks + block) * STORED..][..STORED];
        let tiles = |at: usize| (at / blocks * TILE, at % blocks);
        let count = columns / TILE * blocks;
        let weights = (0..count).into_par_iter().map(|at| {
            let (first, block) = tiles(at);
            let mut made = Weights([[0; TILE * QUAD]; BLOCK / QUAD]);
            for column in 0..TILE {
                let values = stored(first + column, block)[2..].chunks_exact(QUAD);
                for (line, quad) in made.0.iter_mut().zip(values) {
                    let to = &mut line[column * QUAD..][..QUAD];
                    // Two's complement: adding 128 flips the highest bit.
                    to.iter_mut().zip(quad).for_each(|(to, value)| *to = value ^ 0x80);
                }
            }
            made
        });
        let scales = (0..count).into_par_iter().map(|at| {
            let (first, block) = tiles(at);
            std::array::from_fn(|column| {
                let stored = stored(first + column, block);
                f16::from_le_bytes([stored[0], stored[1]])
            })
        });
        let (weights, scales) = threads::install(|| (weights.collect(), scales.collect()));
        Ok(Self { columns, inputs, weights, scales })
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (size_of_val(self.weights.as_slice()) + size_of_val(self.scales.as_slice())) as u64
    }

    /// Columns of a result's row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Length of an input row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Rows of the matrix itself: [ids, inputs].
    #[must_use]
    pub fn rows_at(&self, ids: &[u32]) -> Vec<f32> {
        let blocks = self.inputs / BLOCK;
        let mut out = Vec::with_capacity(ids.len() * self.inputs);
        for id in ids {
            let (tile, column) = (*id as usize / TILE, *id as usize % TILE);
            for block in tile * blocks..(tile + 1) * blocks {
                let scale = self.scales[block][column].to_f32();
                let quads = self.weights[block].0.iter().flat_map(|line| &line[column * QUAD..][..QUAD]);
                out.extend(quads.map(|value| f32::from((value ^ 0x80) as i8) * scale));
            }
        }
        out
    }

    /// Rows `x` [n, inputs] times the matrix: [n, columns]. The result of a row does not depend on
    /// other rows.
    #[must_use]
    pub fn product(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        assert_eq!(x.len(), rows * self.inputs, "shapes were checked before");
        let mut out = vec![0.0; rows * self.columns];
        self.product_into(x, rows, &mut out);
        out
    }

    fn product_into(&self, x: &[f32], rows: usize, out: &mut [f32]) {
        let inputs = Inputs::new(x, self.inputs);
        if rows > FEW {
            let each = rows.div_ceil(4 * threads::count()).next_multiple_of(ROWS).min(64);
            let parts = out.par_chunks_mut(each * self.columns).enumerate();
            threads::install(|| parts.for_each(|(at, out)| self.rows(&inputs, at * each, out)));
            return;
        }
        let at_once = if self.columns * self.inputs < PARALLEL_FROM {
            self.columns / TILE
        } else {
            (self.columns / TILE).div_ceil(8 * threads::count())
        };
        if rows == 1 {
            return threads::share(out, at_once * TILE, |at, out| self.tiles(&inputs, at * at_once, out));
        }
        // First tile by tile, each with all rows; then put in row order.
        let mut tiled = vec![0.0; out.len()];
        threads::share(&mut tiled, at_once * TILE * rows, |at, out| self.tiles(&inputs, at * at_once, out));
        for (tile, values) in tiled.chunks_exact(TILE * rows).enumerate() {
            for (row, values) in values.chunks_exact(TILE).enumerate() {
                out[row * self.columns + tile * TILE..][..TILE].copy_from_slice(values);
            }
        }
    }

    /// All rows of the tiles from `first` on: `out` [tiles, rows, 16].
    fn tiles(&self, inputs: &Inputs, first: usize, out: &mut [f32]) {
        let rows = inputs.scales.len() / inputs.blocks;
        for (at, out) in out.chunks_exact_mut(rows * TILE).enumerate() {
            self.tile(first + at, inputs, 0, out.as_chunks_mut().0);
        }
    }

    /// The rows from `first` on: `out` [rows, columns].
    fn rows(&self, inputs: &Inputs, first: usize, out: &mut [f32]) {
        let count = out.len() / self.columns;
        let mut values = [[0.0; TILE]; 64];
        let values = &mut values[..count];
        for tile in 0..self.columns / TILE {
            self.tile(tile, inputs, first, values);
            for (row, values) in values.iter().enumerate() {
                out[row * self.columns + tile * TILE..][..TILE].copy_from_slice(values);
            }
        }
    }

    /// Some rows of one tile, from `first` on.
    fn tile(&self, tile: usize, inputs: &Inputs, first: usize, out: &mut [[f32; TILE]]) {
        let blocks = tile * inputs.blocks..(tile + 1) * inputs.blocks;
        let (weights, scales) = (&self.weights[blocks.clone()], &self.scales[blocks]);
        let (many, few) = out.as_chunks_mut::<ROWS>();
        for (at, out) in many.iter_mut().enumerate() {
            some_rows(weights, scales, inputs, first + at * ROWS, out);
        }
        let first = first + many.len() * ROWS;
        for (at, out) in few.iter_mut().enumerate() {
            some_rows::<1>(weights, scales, inputs, first + at, std::array::from_mut(out));
        }
    }
}

/// `N` rows of inputs, from `first` on, times one tile.
fn some_rows<const N: usize>(
    weights: &[Weights],
    scales: &[[f16; TILE]],
    inputs: &Inputs,
    first: usize,
    out: &mut [[f32; TILE]; N],
) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a `Packed` exists only if `fits` found these features.
    return unsafe { vnni(weights, scales, inputs, first, out) };
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (weights, scales, inputs, first, out);
        unreachable!("no matrix is packed on this processor");
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni<const N: usize>(
    weights: &[Weights],
    scales: &[[f16; TILE]],
    inputs: &Inputs,
    first: usize,
    out: &mut [[f32; TILE]; N],
) {
    use std::arch::x86_64::*;
    let n = weights.len();
    // Cut to length once, so that the loop needs no bounds checks.
    let mut quads = [[].as_slice(); N];
    let mut factors = [[].as_slice(); N];
    let mut starts = [[].as_slice(); N];
    for row in 0..N {
        let blocks = (first + row) * n..(first + row + 1) * n;
        quads[row] = inputs.quads[blocks.start * (BLOCK / QUAD)..].as_chunks::<{ BLOCK / QUAD }>().0;
        factors[row] = &inputs.scales[blocks.clone()];
        starts[row] = &inputs.starts[blocks];
    }
    let mut sums = [_mm512_setzero_ps(); N];
    for (block, (weights, scales)) in weights.iter().zip(scales).enumerate() {
        let mut whole = [_mm512_setzero_si512(); N];
        for row in 0..N {
            whole[row] = _mm512_set1_epi32(starts[row][block]);
        }
        for (at, line) in weights.0.iter().enumerate() {
            // SAFETY: a line is 64 bytes.
            let line = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
            for row in 0..N {
                let quad = _mm512_set1_epi32(i32::from_ne_bytes(quads[row][block][at]));
                whole[row] = _mm512_dpbusd_epi32(whole[row], line, quad);
            }
        }
        // SAFETY: 16 values of 16 bits.
        let scale = _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(scales.as_ptr().cast()) });
        for row in 0..N {
            let factor = _mm512_mul_ps(scale, _mm512_set1_ps(factors[row][block]));
            sums[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[row]), factor, sums[row]);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: 16 values of 32 bits.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
}

impl Inputs {
    fn new(x: &[f32], width: usize) -> Self {
        let count = x.len() / BLOCK;
        let mut made = Self {
            quads: vec![[0; QUAD]; x.len() / QUAD],
            scales: vec![0.0; count],
            starts: vec![0; count],
            blocks: width / BLOCK,
        };
        if x.len() < PARALLEL_FROM {
            kernels::quantize(x, made.quads.as_flattened_mut(), &mut made.scales, &mut made.starts);
            return made;
        }
        let each = FEW * made.blocks;
        let parts = made.quads.par_chunks_mut(each * (BLOCK / QUAD)).zip(made.scales.par_chunks_mut(each));
        let parts = parts.zip(made.starts.par_chunks_mut(each)).zip(x.par_chunks(each * BLOCK));
        threads::install(|| {
            parts.for_each(|(((quads, scales), starts), x)| {
                kernels::quantize(x, quads.as_flattened_mut(), scales, starts);
            });
        });
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    fn wave(count: usize, f: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * f).sin() * (1.0 + (i % 7) as f32)).collect()
    }

    /// Compared with the same 8-bit weights and inputs multiplied in f64.
    #[test]
    fn a_product_is_that_of_the_rounded_values() {
        // Few and many rows, whole and partial groups of rows, one and several threads.
        for (columns, inputs, rows) in
            [(16, 32, 1), (48, 96, 3), (64, 1024, 1), (128, 512, 8), (32, 64, 21), (16, 64, 150)]
        {
            if !fits(columns, inputs) {
                return;
            }
            let plain = Tensor::from_vec(wave(columns * inputs, 0.37), (columns, inputs), &Device::Cpu).unwrap();
            let stored = QTensor::quantize(&plain, GgmlDType::Q8_0).unwrap();
            let weights = stored.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            let packed = Packed::new(&stored).unwrap();
            assert_eq!(packed.bytes(), stored.storage_size_in_bytes() as u64);
            let x = wave(rows * inputs, 0.73);
            let out = packed.product(&x);
            assert_eq!(packed.rows_at(&[3, 0]), [weights[3].as_slice(), &weights[0]].concat());
            for (row, (x, out)) in x.chunks(inputs).zip(out.chunks(columns)).enumerate() {
                let x: Vec<f64> = x.chunks(BLOCK).flat_map(rounded).collect();
                for (column, (weights, got)) in weights.iter().zip(out).enumerate() {
                    let want: f64 = x.iter().zip(weights).map(|(x, w)| x * f64::from(*w)).sum();
                    let size: f64 = x.iter().zip(weights).map(|(x, w)| (x * f64::from(*w)).abs()).sum();
                    assert!(
                        (f64::from(*got) - want).abs() < 1e-5 * size,
                        "{rows} rows: {row}, {column}: {got} for {want}"
                    );
                }
                // A row alone gives the same as among others.
                assert_eq!(packed.product(&wave(rows * inputs, 0.73)[row * inputs..][..inputs]), out);
            }
        }
    }

    fn rounded(block: &[f32]) -> Vec<f64> {
        let scale = block.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
        block.iter().map(|x| f64::from((x / scale).round() * scale)).collect()
    }

    #[test]
    fn inputs_of_zero_give_zero() {
        if !fits(16, 32) {
            return;
        }
        let plain = Tensor::ones((16, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
        let packed = Packed::new(&QTensor::quantize(&plain, GgmlDType::Q8_0).unwrap()).unwrap();
        assert_eq!(packed.product(&[0.0; 32]), [0.0; 16]);
    }
}
