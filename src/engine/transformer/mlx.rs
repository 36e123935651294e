//! The tensor backend trait on MLX: lazy, fused normalization, rotation and attention, f32.
//!
//! A trial of the trait on a second library; no engine offers it yet. Nothing is computed until
//! [`Backend::read`]: each operation only adds to MLX's graph.

use mlx_rs::fast::{ScaledDotProductAttentionMask, rms_norm, rope, scaled_dot_product_attention};
use mlx_rs::ops::indexing::{IndexOp, take_axis};
use mlx_rs::ops::{concatenate, sigmoid};
use mlx_rs::{Array, error::Exception};

use super::backend::{Backend, Held, LayerCache};
use super::quantized::Weight;
use super::weights::HostTensor;
use crate::engine::Result;
use crate::spec::EngineError;

/// The backend. Holds no state but what it knows of the weights.
#[derive(Debug, Default)]
pub struct MlxBackend {
    held: Held,
}

/// Scale [n] and what is added under the root.
#[derive(Debug)]
pub struct Norm {
    scale: Array,
    eps: f32,
}

/// MLX makes the angles itself; it wants positions per radian and where to start.
#[derive(Debug)]
pub struct Positions {
    per_radian: Array,
    start: i32,
}

/// Keys and values [1, kv_heads, len, head_dim] of one layer, joined at each append. Good enough for a trial.
#[derive(Debug, Default)]
pub struct Cache {
    held: Option<(Array, Array)>,
}

fn failed(error: Exception) -> EngineError {
    EngineError::internal(format!("mlx: {error}"))
}

fn size(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| EngineError::internal(format!("mlx: {n} does not fit its 32-bit shapes")))
}

impl MlxBackend {
    fn array(&mut self, shape: &[usize], values: &[f32]) -> Result<Array> {
        let shape = shape.iter().map(|n| size(*n)).collect::<Result<Vec<_>>>()?;
        let array = Array::from_slice(values, &shape);
        self.held.bytes += array.nbytes() as u64;
        self.held.formats.insert("f32");
        Ok(array)
    }
}

/// [T, heads, d] to [1, heads, T, d], as MLX's fused operations want it.
fn heads_first(x: &Array) -> Result<Array> {
    x.transpose_axes(&[1, 0, 2]).and_then(|x| x.expand_dims(0)).map_err(failed)
}

impl Backend for MlxBackend {
    type Tensor = Array;
    type Linear = Array;
    type Embedding = Array;
    type Norm = Norm;
    type Positions = Positions;
    type Cache = Cache;

    fn linear(&mut self, parts: Vec<Weight>) -> Result<Array> {
        let arrays = parts.iter().map(|part| self.array(part.shape(), &part.to_f32())).collect::<Result<Vec<_>>>()?;
        concatenate(&arrays, 0).map_err(failed)
    }

    fn embedding(&mut self, table: Weight) -> Result<Array> {
        self.array(table.shape(), &table.to_f32())
    }

    fn tied(&self, table: &Array) -> Result<Array> {
        Ok(table.clone())
    }

    fn norm(&mut self, scale: HostTensor, eps: f64) -> Result<Norm> {
        Ok(Norm { scale: self.array(&scale.shape, &scale.to_f32())?, eps: eps as f32 })
    }

    fn cache(&self, _kv_heads: usize, _head_dim: usize) -> Result<Cache> {
        Ok(Cache::default())
    }

    fn held(&self) -> &Held {
        &self.held
    }

    fn embed(&self, table: &Array, ids: &[u32]) -> Result<Array> {
        let count = size(ids.len())?;
        take_axis(table, Array::from_slice(ids, &[count]), 0).map_err(failed)
    }

    fn rms_norm(&self, x: &Array, norm: &Norm) -> Result<Array> {
        rms_norm(x, Some(&norm.scale), norm.eps).map_err(failed)
    }

    fn apply(&self, x: &Array, matrix: &Array) -> Result<Array> {
        matrix.transpose_axes(&[1, 0]).and_then(|transposed| x.matmul(transposed)).map_err(failed)
    }

    fn heads(&self, x: &Array, first: usize, heads: usize, head_dim: usize) -> Result<Array> {
        let (from, to) = (size(first)?, size(first + heads * head_dim)?);
        x.index((.., from..to)).reshape(&[-1, size(heads)?, size(head_dim)?]).map_err(failed)
    }

    fn positions(&self, frequencies: &[f64], start: usize, _count: usize) -> Result<Positions> {
        let per_radian: Vec<f32> = frequencies.iter().map(|f| (1.0 / f) as f32).collect();
        let count = size(per_radian.len())?;
        Ok(Positions { per_radian: Array::from_slice(&per_radian, &[count]), start: size(start)? })
    }

    fn rotate(&self, x: &Array, positions: &Positions) -> Result<Array> {
        let head_dim = *x.shape().last().expect("heads have three dimensions");
        rope(heads_first(x)?, head_dim, false, None, 1.0, positions.start, &positions.per_radian)
            .and_then(|x| x.index(0).transpose_axes(&[1, 0, 2]))
            .map_err(failed)
    }

    fn append(&self, cache: &mut Cache, keys: &Array, values: &Array) -> Result<()> {
        let (keys, values) = (heads_first(keys)?, heads_first(values)?);
        cache.held = Some(match cache.held.take() {
            None => (keys, values),
            Some((old_keys, old_values)) => (
                concatenate(&[old_keys, keys], 2).map_err(failed)?,
                concatenate(&[old_values, values], 2).map_err(failed)?,
            ),
        });
        Ok(())
    }

    fn attend(&self, queries: &Array, cache: &Cache) -> Result<Array> {
        let Some((keys, values)) = &cache.held else {
            return Err(EngineError::internal("attention needs the queries' own positions in the cache"));
        };
        let [count, heads, head_dim] = *queries.shape() else {
            return Err(EngineError::internal("queries should be [T, heads, head_dim]"));
        };
        let scale = 1.0 / (head_dim as f32).sqrt();
        let mask = (count > 1).then_some(ScaledDotProductAttentionMask::Causal);
        scaled_dot_product_attention(heads_first(queries)?, keys, values, scale, mask, None)
            .and_then(|out| out.index(0).transpose_axes(&[1, 0, 2])?.reshape(&[count, heads * head_dim]))
            .map_err(failed)
    }

    fn gate(&self, x: &Array) -> Result<Array> {
        let halves = x.split_equal(2, -1).map_err(failed)?;
        let [gate, up] = halves.as_slice() else {
            return Err(EngineError::internal("mlx: a split in two gave another number of parts"));
        };
        sigmoid(gate).and_then(|s| gate.multiply(s)?.multiply(up)).map_err(failed)
    }

    fn add(&self, a: &Array, b: &Array) -> Result<Array> {
        a.add(b).map_err(failed)
    }

    fn last(&self, x: &Array) -> Result<Array> {
        Ok(x.index((-1.., ..)))
    }

    fn finish(&self, x: &Array) -> Result<()> {
        x.eval().map_err(failed)
    }

    fn read(&self, x: &Array, into: &mut Vec<f32>) -> Result<()> {
        x.eval().map_err(failed)?;
        let values = x.try_as_slice::<f32>().map_err(|e| EngineError::internal(format!("mlx: {e}")))?;
        into.clear();
        into.extend_from_slice(values);
        Ok(())
    }
}

impl LayerCache for Cache {
    fn len(&self) -> usize {
        self.held.as_ref().map_or(0, |(keys, _)| keys.shape()[2] as usize)
    }

    fn truncate(&mut self, len: usize) {
        if let Some((keys, values)) = &self.held
            && len < self.len()
        {
            let len = len as i32;
            self.held = (len > 0).then(|| (keys.index((.., .., ..len, ..)), values.index((.., .., ..len, ..))));
        }
    }

    fn reserve(&mut self, _len: usize) -> Result<()> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.held.as_ref().map_or(0, |(keys, values)| (keys.nbytes() + values.nbytes()) as u64)
    }
}
