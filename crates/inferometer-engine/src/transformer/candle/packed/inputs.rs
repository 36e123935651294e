//! Rows of inputs in 8 bits.

use rayon::prelude::*;

use super::super::{kernels, threads};
use super::kinds::Kind;
use super::{BLOCK, FEW, PARALLEL_FROM, QUAD};

/// Rows of inputs in 8 bits, with one scale for each block.
pub struct Inputs {
    /// Two's complement.
    pub quads: Vec<[u8; QUAD]>,
    pub scales: Vec<f32>,
    /// Initial value of each group's integer sum, which cancels the offset of the weights.
    pub starts: Vec<i32>,
    /// The sum of each block's rounded values, for weights with a minimum; else empty.
    pub sums: Vec<f32>,
    /// Blocks per row.
    pub blocks: usize,
}

impl Inputs {
    pub fn new<K: Kind>(x: &[f32], width: usize) -> Self {
        let count = x.len() / BLOCK;
        let mut quads = vec![[0; QUAD]; x.len() / QUAD];
        let (mut scales, mut halves) = (vec![0.0; count], vec![[0; 2]; count]);
        let blocks = width / BLOCK;
        if x.len() < PARALLEL_FROM {
            kernels::quantize(x, quads.as_flattened_mut(), &mut scales, &mut halves);
        } else {
            let each = FEW * blocks;
            let parts = quads.par_chunks_mut(each * (BLOCK / QUAD)).zip(scales.par_chunks_mut(each));
            let parts = parts.zip(halves.par_chunks_mut(each)).zip(x.par_chunks(each * BLOCK));
            threads::install(|| {
                parts.for_each(|(((quads, scales), halves), x)| {
                    kernels::quantize(x, quads.as_flattened_mut(), scales, halves);
                });
            });
        }
        let sums = if K::MINIMUM {
            scales.iter().zip(&halves).map(|(scale, [a, b])| scale * (a + b) as f32).collect()
        } else {
            Vec::new()
        };
        let starts = if K::GROUP == BLOCK {
            halves.iter().map(|[a, b]| -K::OFFSET * (a + b)).collect()
        } else {
            halves.iter().flatten().map(|half| -K::OFFSET * half).collect()
        };
        Self { quads, scales, starts, sums, blocks }
    }
}
