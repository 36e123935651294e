//! The transformer on MLX: lazy, with MLX's fused normalization, rotation, attention and quantized
//! product.
//!
//! An operation only adds a node to MLX's graph. The library computes it on its own thread or on
//! the GPU from [`Backend::submit`] on. Weights keep the dtype they are stored in, quantized ones
//! their format.

mod cache;
pub mod calls;
pub mod device;
mod experts;
mod sampling;
mod weights;

use std::cell::RefCell;
use std::sync::Arc;

use mlx_rs::error::Exception;
use mlx_rs::fast::{ScaledDotProductAttentionMask, rms_norm, rope, scaled_dot_product_attention};
use mlx_rs::ops::{maximum, minimum, sigmoid, tanh};
use mlx_rs::transforms::compile::compile;
use mlx_rs::transforms::{async_eval, eval};
use mlx_rs::{Array, Device, DeviceType, Dtype, memory};

use super::backend::{Backend, HeadShape, Held, Routing};
use super::experts::ExpertWeights;
use super::plan::Activation;
use super::quantized::Weight;
use super::rope::Rotation as Frequencies;
use super::sampler::{SamplingPlan, unsound};
use super::weights::HostTensor;
use cache::Cache;
use calls::{failed, mlx, size, slice, submitted, waited};
use inferometer_host::{MemoryProbe, Result};
use inferometer_protocol::EngineMemory;
use sampling::{DeviceSampler, Ids, UNSOUND};
use weights::Matrix;

/// The library and the version that mlx-sys in Cargo.lock is made for; a test compares it with the
/// library's answer.
pub const NAME: &str = "mlx 0.32.2";

/// A compiled function of two arrays.
type Compiled = Box<dyn for<'a> FnMut((&'a Array, &'a Array)) -> std::result::Result<Array, Exception>>;

/// The backend.
pub struct MlxBackend {
    /// The dtype that floating-point weights are converted to; `None` = as stored.
    dtype: Option<Dtype>,
    held: Held,
    /// silu(gate) * up as one operation, if it is compiled.
    swiglu: Option<RefCell<Compiled>>,
    /// The last mask, which is the same for every layer.
    mask: RefCell<Option<(WindowMask, Array)>>,
}

/// Which of `keys` positions each of the last `count` sees: itself and `window - 1` before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WindowMask {
    count: usize,
    keys: usize,
    window: usize,
}

/// Scale [n], and the number added under the root.
#[derive(Debug)]
pub struct Norm {
    scale: Array,
    eps: f32,
}

/// MLX makes the angles itself.
#[derive(Debug)]
pub struct Rotation {
    /// Components of a head that are rotated.
    dims: i32,
    /// They are multiplied by this.
    magnitude: f32,
    theta: Option<f32>,
    /// Positions per radian of each pair, if these are not plain powers of theta.
    per_radian: Option<Array>,
}

impl MlxBackend {
    /// A backend on the default device. Floating-point weights are converted to `dtype` (f32, f16,
    /// bf16); `None` leaves them as stored. With `compiled`, successive element-wise operations
    /// become one.
    #[must_use]
    pub fn new(dtype: Option<Dtype>, compiled: bool) -> Self {
        let swiglu = compiled.then(|| RefCell::new(Box::new(compile(gated, true)) as Compiled));
        Self { dtype, held: Held::default(), swiglu, mask: RefCell::default() }
    }

    /// Whether MLX computes on a GPU here.
    #[must_use]
    pub fn on_gpu() -> bool {
        Device::try_default().and_then(|device| device.get_type()).is_ok_and(|kind| matches!(kind, DeviceType::Gpu))
    }

    fn take(&mut self, matrix: Matrix) -> Matrix {
        self.held.bytes += matrix.bytes();
        self.held.formats.extend(matrix.formats());
        matrix
    }

    fn activated(&self, gate: &Array, up: &Array, activation: Activation) -> Result<Array> {
        match (activation, &self.swiglu) {
            (Activation::Silu, Some(swiglu)) => mlx(|| (swiglu.borrow_mut())((gate, up))),
            (Activation::Silu, None) => mlx(|| gated((gate, up))),
            (Activation::GeluTanh, _) => mlx(|| gelu((gate, up))),
            (Activation::ClampedSwiglu, _) => mlx(|| clamped((gate, up))),
        }
    }

    fn window_mask(&self, of: WindowMask) -> Result<Array> {
        if let Some((known, mask)) = &*self.mask.borrow()
            && *known == of
        {
            return Ok(mask.clone());
        }
        let WindowMask { count, keys, window } = of;
        let allowed: Vec<bool> = (keys - count..keys)
            .flat_map(|query| (0..keys).map(move |key| key <= query && query - key < window))
            .collect();
        let mask = Array::from_slice(&allowed, &[size(count)?, size(keys)?]);
        *self.mask.borrow_mut() = Some((of, mask.clone()));
        Ok(mask)
    }
}

/// silu(gate) * up.
fn gated((gate, up): (&Array, &Array)) -> std::result::Result<Array, Exception> {
    gate.multiply(sigmoid(gate)?)?.multiply(up)
}

/// A number in the dtype of `like`.
fn number(x: f32, like: &Array) -> std::result::Result<Array, Exception> {
    Array::from_f32(x).as_dtype(like.dtype())
}

/// gelu(gate) * up, with the approximation by tanh.
fn gelu((gate, up): (&Array, &Array)) -> std::result::Result<Array, Exception> {
    const ROOT: f32 = 0.797_884_6; // sqrt(2 / pi)
    let cube = gate.multiply(gate)?.multiply(gate)?;
    let inner = gate.add(cube.multiply(number(0.044_715, gate)?)?)?.multiply(number(ROOT, gate)?)?;
    let factor = tanh(inner)?.add(number(1.0, gate)?)?;
    number(0.5, gate)?.multiply(gate)?.multiply(factor)?.multiply(up)
}

/// gate * sigmoid(1.702 gate) * (up + 1), gate at most 7, up from -7 to 7.
fn clamped((gate, up): (&Array, &Array)) -> std::result::Result<Array, Exception> {
    let limit = number(7.0, gate)?;
    let gate = minimum(gate, &limit)?;
    let up = maximum(minimum(up, &limit)?, number(-7.0, up)?)?;
    let gate = gate.multiply(sigmoid(gate.multiply(number(1.702, &gate)?)?)?)?;
    gate.multiply(up.add(number(1.0, &up)?)?)
}

/// The first `dims` components of each head [.., head_dim] times `magnitude`.
fn magnified(x: &Array, dims: i32, magnitude: f32) -> Result<Array> {
    let whole = x.shape()[3];
    mlx(|| {
        if whole == dims {
            return x.multiply(number(magnitude, x)?);
        }
        let factors: Vec<f32> = (0..whole).map(|at| if at < dims { magnitude } else { 1.0 }).collect();
        x.multiply(Array::from_slice(&factors, &[whole]).as_dtype(x.dtype())?)
    })
}

/// Waits for values and copies them to the host.
fn read(x: &Array, into: &mut Vec<f32>) -> Result<()> {
    waited();
    let x = mlx(|| x.as_dtype(Dtype::Float32))?;
    mlx(|| x.eval())?;
    let values = x.try_as_slice::<f32>().map_err(failed)?;
    into.clear();
    into.extend_from_slice(values);
    Ok(())
}

impl Backend for MlxBackend {
    type Tensor = Array;
    type Linear = Matrix;
    type Embedding = Matrix;
    type Norm = Norm;
    type Vector = Array;
    type Experts = experts::Experts;
    type Rotation = Rotation;
    /// The first position.
    type Positions = i32;
    type Cache = Cache;
    type Ids = Ids;
    type Sampler = DeviceSampler;

    const LAZY: bool = true;
    const MEMORY_OF_PROCESS: bool = true;

    /// On the CPU, MLX queues at most about ten operations. Submitting a step therefore takes
    /// nearly as long as the step, and a token that is read after that is read late.
    fn runs_ahead(&self) -> bool {
        Self::on_gpu()
    }

    fn linear(&mut self, parts: Vec<Weight>) -> Result<Matrix> {
        self.held.converted.extend(parts.iter().filter_map(weights::converted));
        let matrix = Matrix::new(parts, self.dtype)?;
        Ok(self.take(matrix))
    }

    fn embedding(&mut self, table: Weight) -> Result<Matrix> {
        self.linear(vec![table])
    }

    fn tied(&self, table: &Matrix) -> Result<Matrix> {
        Ok(table.clone())
    }

    fn norm(&mut self, scale: HostTensor, eps: f64, plus_one: bool) -> Result<Norm> {
        let mut scale = weights::array(&scale, self.dtype)?;
        if plus_one {
            let one = mlx(|| Array::from_f32(1.0).as_dtype(scale.dtype()))?;
            scale = mlx(|| scale.add(&one))?;
        }
        mlx(|| scale.eval())?;
        self.held.bytes += scale.nbytes() as u64;
        Ok(Norm { scale, eps: eps as f32 })
    }

    fn vector(&mut self, parts: Vec<HostTensor>) -> Result<Array> {
        let parts = parts.iter().map(|part| weights::array(part, self.dtype)).collect::<Result<Vec<_>>>()?;
        let vector = weights::joined(parts)?;
        mlx(|| vector.eval())?;
        self.held.bytes += vector.nbytes() as u64;
        Ok(vector)
    }

    fn experts(&mut self, weights: ExpertWeights) -> Result<experts::Experts> {
        let experts = experts::Experts::load(weights, self.dtype, &mut self.held)?;
        Ok(experts)
    }

    fn rotation(&self, rotation: &Frequencies) -> Result<Rotation> {
        let per_radian: Vec<f32> = rotation.frequencies.iter().map(|f| (1.0 / f) as f32).collect();
        let count = size(per_radian.len())?;
        Ok(Rotation {
            dims: 2 * count,
            magnitude: rotation.magnitude as f32,
            theta: rotation.theta.map(|theta| theta as f32),
            per_radian: rotation.theta.is_none().then(|| Array::from_slice(&per_radian, &[count])),
        })
    }

    fn cache(&self, kv_heads: usize, head_dim: usize, window: Option<usize>) -> Result<Cache> {
        Cache::new(kv_heads, head_dim, window)
    }

    fn held(&self) -> &Held {
        &self.held
    }

    fn ids(&self, ids: &[u32]) -> Result<Ids> {
        let count = size(ids.len())?;
        Ok(Ids { input: Array::from_slice(ids, &[count]), chosen: None })
    }

    fn embed(&self, table: &Matrix, ids: &Ids) -> Result<Array> {
        table.rows(&ids.input)
    }

    fn rms_norm(&self, x: &Array, norm: &Norm) -> Result<Array> {
        mlx(|| rms_norm(x, Some(&norm.scale), norm.eps))
    }

    fn apply(&self, x: &Array, matrix: &Matrix) -> Result<Array> {
        matrix.apply(x)
    }

    /// Each [1, heads, T, head_dim], the layout of the fused operations.
    fn split_heads(&self, x: &Array, shape: HeadShape) -> Result<[Array; 3]> {
        let (heads, kv_heads, head_dim) = (size(shape.heads)?, size(shape.kv_heads)?, size(shape.head_dim)?);
        let parts = mlx(|| {
            x.reshape(&[1, -1, heads + 2 * kv_heads, head_dim])?
                .transpose_axes(&[0, 2, 1, 3])?
                .split_at_indices(&[heads, heads + kv_heads], 1)
        })?;
        parts.try_into().map_err(|_| failed("a split in three gave another number of parts"))
    }

    fn positions(&self, _: &Rotation, start: usize, _: usize) -> Result<i32> {
        size(start)
    }

    fn rotate(&self, x: &Array, rotation: &Rotation, start: &i32) -> Result<Array> {
        let &Rotation { dims, magnitude, theta, .. } = rotation;
        let x = if magnitude == 1.0 { x.clone() } else { magnified(x, dims, magnitude)? };
        mlx(|| rope(&x, dims, false, theta, 1.0, *start, rotation.per_radian.as_ref()))
    }

    fn append(&self, cache: &mut Cache, keys: &Array, values: &Array) -> Result<()> {
        cache.append(keys, values)
    }

    fn attend(&self, queries: &Array, cache: &Cache, scale: f64, sinks: Option<&Array>) -> Result<Array> {
        let [_, heads, count, head_dim] = *queries.shape() else {
            return Err(failed("queries should be [1, heads, T, head_dim]"));
        };
        let queried = count as usize;
        let seen = cache.view(queried)?;
        let hidden = seen.len > cache.window();
        let window = WindowMask { count: queried, keys: seen.len, window: cache.window() };
        let window = if hidden { Some(self.window_mask(window)?) } else { None };
        let mask = match &window {
            Some(mask) => Some(ScaledDotProductAttentionMask::Array(mask)),
            None => (count > 1).then_some(ScaledDotProductAttentionMask::Causal),
        };
        mlx(|| {
            scaled_dot_product_attention(queries, &seen.keys, &seen.values, scale as f32, mask, sinks)?
                .transpose_axes(&[0, 2, 1, 3])?
                .reshape(&[count, heads * head_dim])
        })
    }

    fn gate(&self, x: &Array, activation: Activation) -> Result<Array> {
        let halves = mlx(|| x.split_equal(2, -1))?;
        let [gate, up] = halves.as_slice() else {
            return Err(failed("a split in two gave another number of parts"));
        };
        self.activated(gate, up, activation)
    }

    fn mix(&self, x: &Array, logits: &Array, experts: &experts::Experts, routing: Routing) -> Result<Array> {
        experts.mix(self, x, logits, routing)
    }

    fn add(&self, a: &Array, b: &Array) -> Result<Array> {
        mlx(|| a.add(b))
    }

    fn add_vector(&self, x: &Array, vector: &Array) -> Result<Array> {
        mlx(|| x.add(vector))
    }

    fn scale(&self, x: &Array, factor: f64) -> Result<Array> {
        mlx(|| x.multiply(Array::from_f32(factor as f32).as_dtype(x.dtype())?))
    }

    fn last(&self, x: &Array) -> Result<Array> {
        let [count, width] = *x.shape() else { return Err(failed("positions should be [T, n]")) };
        if count == 1 { Ok(x.clone()) } else { mlx(|| slice(x, &[count - 1, 0], &[count, width])) }
    }

    fn row(&self, x: &Array, at: usize) -> Result<Array> {
        let [_, width] = *x.shape() else { return Err(failed("positions should be [T, n]")) };
        let at = size(at)?;
        mlx(|| slice(x, &[at, 0], &[at + 1, width]))
    }

    fn sampler(&self, choice: &SamplingPlan, history: &[u32], generated: usize) -> Result<DeviceSampler> {
        DeviceSampler::new(choice, history, generated)
    }

    fn submit(&self, ids: &Ids) -> Result<()> {
        submitted();
        mlx(|| async_eval(&ids.chosen))
    }

    fn wait(&self, ids: &Ids) -> Result<u32> {
        let chosen = ids.chosen.as_ref().ok_or_else(|| failed("these ids were not chosen"))?;
        waited();
        let token = mlx(|| chosen.try_item_exact::<u32>())?;
        if token == UNSOUND { Err(unsound()) } else { Ok(token) }
    }

    fn finish(&self, x: &Array) -> Result<()> {
        waited();
        mlx(|| x.eval())
    }

    fn settle<'a>(&self, caches: impl Iterator<Item = &'a Cache>) -> Result<()> {
        waited();
        mlx(|| eval(caches.flat_map(Cache::arrays)))
    }

    fn read(&self, x: &Array, into: &mut Vec<f32>) -> Result<()> {
        read(x, into)
    }

    fn memory(&self) -> EngineMemory {
        allocator()
    }

    /// The allocator's counters are words of the process, which MLX itself reads without its lock.
    /// A reader on another thread gets the value before or after a concurrent change, and delays
    /// nothing.
    fn memory_probe(&self) -> Option<MemoryProbe> {
        Some(Arc::new(allocator))
    }

    fn reset_peak(&self) -> Result<()> {
        *self.mask.borrow_mut() = None;
        mlx(memory::reset_peak_memory)
    }

    fn clear_allocator(&self) -> Result<bool> {
        *self.mask.borrow_mut() = None;
        mlx(memory::clear_cache).map(|()| true)
    }
}

/// The current figures of MLX's allocator, which belongs to the process.
fn allocator() -> EngineMemory {
    let bytes = |asked: std::result::Result<usize, Exception>| asked.ok().map(|n| n as u64);
    EngineMemory {
        active_bytes: bytes(memory::active_memory()),
        cache_bytes: bytes(memory::cache_memory()),
        peak_bytes: bytes(memory::peak_memory()),
        ..EngineMemory::default()
    }
}
