//! The transformer on candle: pure Rust, CPU, f32 activations, weights in f32 or Q8_0.

mod attention;
pub mod cache;
mod experts;
mod kernels;
mod matrix;
mod numbers;
pub mod packed;
pub mod pages;
pub mod plain;
mod sampling;
mod share;
pub mod threads;

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Module, Storage, Tensor, WithDType};

use super::backend::{Backend, HeadShape, Held, Routing};
use super::checkpoint::Mostly;
use super::experts::ExpertWeights;
use super::finite::all_finite;
use super::plan::Activation;
use super::quantized::Weight;
use super::rope::Rotation;
use super::sampler::SamplingPlan;
use super::weights::HostTensor;
use cache::Element;
use inferometer_host::{MemoryProbe, Result};
use inferometer_protocol::{EngineError, EngineMemory};
pub use matrix::Matrix;
pub use sampling::Ids;
use threads::Threads;

/// Public only for its benchmark.
#[doc(hidden)]
pub use kernels::softmax_row;

/// The library and the version that Cargo.toml pins; a test compares it with Cargo.lock.
pub const NAME: &str = "candle 0.11.1";

/// Format of the matrices in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    F32,
    F16,
    Bf16,
    /// Blocks of 32 weights, 8 bits each, with an f16 scale (GGML's Q8_0).
    Q8_0,
    /// As they are stored: in blocks of GGML, or in f32, f16 or bf16.
    Stored,
}

impl Format {
    /// Those that a scenario can name.
    pub const ALL: [Format; 4] = [Format::F32, Format::F16, Format::Bf16, Format::Q8_0];

    /// The one that loses nothing of what the files store, or for matrices that are mostly
    /// quantized in another way the one that stays near in memory: there are no products with MLX's
    /// quantized form.
    #[must_use]
    pub fn nearest(mostly: Mostly) -> Self {
        match mostly {
            Mostly::Floats => Format::F32,
            Mostly::Quantized => Format::Q8_0,
            Mostly::Ggml => Format::Stored,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Bf16 => "bf16",
            Format::Q8_0 => "q8_0",
            Format::Stored => "stored",
        }
    }
}

/// The backend. Its only state is facts about weights and caches.
#[derive(Debug)]
pub struct CandleBackend {
    format: Format,
    /// Type of keys and values.
    element: Element,
    threads: Threads,
    held: Held,
    caches: cache::Total,
}

#[derive(Debug)]
pub struct Norm {
    scale: Vec<f32>,
    eps: f32,
}

/// Cosine and sine of every angle: [T, head_dim / 2] each.
#[derive(Debug)]
pub struct Positions {
    cos: Vec<f32>,
    sin: Vec<f32>,
    pairs: usize,
}

/// An error of the library that should not occur on checked input.
fn failed(error: candle_core::Error) -> EngineError {
    EngineError::internal(format!("candle: {error}"))
}

/// Calls `f` with the values of a contiguous f32 tensor.
fn with_values<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    with_numbers(x, f)
}

/// Calls `f` with the numbers of a contiguous tensor of that type.
fn with_numbers<N: WithDType, R>(x: &Tensor, f: impl FnOnce(&[N]) -> R) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(EngineError::internal("a tensor that should lie in one piece on the CPU does not"));
    };
    Ok(f(&storage.as_slice().map_err(failed)?[start..end]))
}

fn tensor(values: Vec<f32>, shape: impl candle_core::shape::ShapeWithOneHole) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(failed)
}

impl CandleBackend {
    #[must_use]
    pub fn new(format: Format, threads: Threads) -> Self {
        Self { format, element: Element::F32, threads, held: Held::default(), caches: cache::Total::default() }
    }

    /// With keys and values of another type.
    #[must_use]
    pub fn with_cache(self, element: Element) -> Self {
        Self { element, ..self }
    }

    /// Number of threads that compute.
    #[must_use]
    pub fn threads(&self) -> Threads {
        self.threads
    }

    /// Applies `f` to every row of `width_in` values; each result is a row of `width_out`.
    fn map_rows(
        x: &Tensor,
        width_in: usize,
        width_out: usize,
        shape: impl Into<candle_core::Shape>,
        f: impl Fn(usize, &[f32], &mut [f32]) + Sync + Send,
    ) -> Result<Tensor> {
        let out = with_values(x, |values| {
            let mut out = vec![0.0; values.len() / width_in * width_out];
            kernels::rows(&mut out, width_out, |at, row| f(at, &values[at * width_in..][..width_in], row));
            out
        })?;
        tensor(out, shape.into())
    }
}

/// Which implementation of Q8_0 products is used on this machine.
#[must_use]
pub fn quantized_products() -> String {
    packed::instructions(GgmlDType::Q8_0).map_or_else(
        || "candle's".to_owned(),
        |with| format!("own, {}; candle's for matrices that it does not fit", with.name()),
    )
}

/// Features of this processor that the library's or our own arithmetic uses.
#[must_use]
pub fn cpu_features() -> Vec<&'static str> {
    macro_rules! found {
        ($test:ident: $($name:tt),*) => {
            [$(($name, std::arch::$test!($name))),*].into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
        };
    }
    #[cfg(target_arch = "x86_64")]
    return found!(is_x86_feature_detected: "avx", "avx2", "fma", "f16c", "avx512f", "avx512vnni", "avxvnni");
    #[cfg(target_arch = "aarch64")]
    return found!(is_aarch64_feature_detected: "neon", "dotprod", "i8mm", "fp16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

impl Backend for CandleBackend {
    type Tensor = Tensor;
    type Linear = Matrix;
    type Embedding = Matrix;
    type Norm = Norm;
    type Vector = Vec<f32>;
    type Experts = experts::Experts;
    type Rotation = Rotation;
    type Positions = Positions;
    type Cache = cache::Cache;
    type Ids = Ids;
    type Sampler = sampling::HostSampler;

    const LAZY: bool = false;

    fn linear(&mut self, parts: Vec<Weight>) -> Result<Matrix> {
        self.matrix(parts)
    }

    fn embedding(&mut self, table: Weight) -> Result<Matrix> {
        self.matrix(vec![table])
    }

    fn tied(&self, table: &Matrix) -> Result<Matrix> {
        Ok(match table {
            Matrix::Plain(table) => Matrix::Plain(table.clone()),
            Matrix::Quantized(table, product) => Matrix::Quantized(table.clone(), product.clone()),
            Matrix::Packed(table) => Matrix::Packed(table.clone()),
            Matrix::Half(table) => Matrix::Half(table.clone()),
            Matrix::Parts(_) => return Err(EngineError::internal("an embedding is one matrix")),
        })
    }

    fn norm(&mut self, scale: HostTensor, eps: f64, plus_one: bool) -> Result<Norm> {
        let mut scale = scale.to_f32();
        if plus_one {
            scale.iter_mut().for_each(|x| *x += 1.0);
        }
        self.held.bytes += size_of_val(scale.as_slice()) as u64;
        Ok(Norm { scale, eps: eps as f32 })
    }

    fn vector(&mut self, parts: Vec<HostTensor>) -> Result<Vec<f32>> {
        let values: Vec<f32> = parts.iter().flat_map(HostTensor::to_f32).collect();
        self.held.bytes += size_of_val(values.as_slice()) as u64;
        Ok(values)
    }

    fn experts(&mut self, weights: ExpertWeights) -> Result<experts::Experts> {
        experts::Experts::load(self, weights)
    }

    fn rotation(&self, rotation: &Rotation) -> Result<Rotation> {
        Ok(rotation.clone())
    }

    fn cache(&self, kv_heads: usize, head_dim: usize, window: Option<usize>) -> Result<cache::Cache> {
        Ok(cache::Cache::new(kv_heads, head_dim, window, self.element).counted_in(&self.caches))
    }

    fn held(&self) -> &Held {
        &self.held
    }

    fn ids(&self, ids: &[u32]) -> Result<Ids> {
        Ok(Ids { input: ids.to_vec(), chosen: None })
    }

    fn embed(&self, table: &Matrix, Ids { input: ids, .. }: &Ids) -> Result<Tensor> {
        if let Matrix::Packed(table) = table {
            return tensor(table.rows_at(ids), (ids.len(), table.inputs()));
        }
        let rows = Tensor::new(ids.as_slice(), &Device::Cpu).map_err(failed)?;
        match table {
            Matrix::Plain(table) => table.index_select(&rows, 0),
            Matrix::Quantized(table, _) => table.embedding(&rows),
            Matrix::Half(table) => return tensor(table.rows_at(ids), (ids.len(), table.inputs())),
            Matrix::Packed(_) | Matrix::Parts(_) => unreachable!("read above, or never made"),
        }
        .map_err(failed)
    }

    fn rms_norm(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        let width = norm.scale.len();
        Self::map_rows(x, width, width, x.shape(), |_, x, out| kernels::rms_norm_row(x, &norm.scale, norm.eps, out))
    }

    fn apply(&self, x: &Tensor, matrix: &Matrix) -> Result<Tensor> {
        // Rounded to 8 bits, NaN becomes a number like any other: nothing behind this product could
        // tell.
        if !matches!(matrix, Matrix::Plain(_) | Matrix::Half(_) | Matrix::Parts(_)) && !with_values(x, all_finite)? {
            return Err(EngineError::not_finite(
                "the values that a product is given are not all finite (NaN or infinity)",
            ));
        }
        match matrix {
            Matrix::Plain(matrix) if x.dims()[0] == 1 => return plain::one_row(x, matrix),
            Matrix::Plain(matrix) => threads::install(|| x.matmul(&matrix.t()?)),
            Matrix::Quantized(_, product) => product.forward(x),
            Matrix::Half(matrix) => return matrix.product(x),
            Matrix::Packed(matrix) => {
                let out = with_values(x, |x| matrix.product(x))?;
                return tensor(out, ((), matrix.columns()));
            }
            Matrix::Parts(parts) => {
                let parts = parts.iter().map(|part| self.apply(x, part)).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&parts, 1)
            }
        }
        .map_err(failed)
    }

    fn split_heads(&self, x: &Tensor, shape: HeadShape) -> Result<[Tensor; 3]> {
        let HeadShape { heads, kv_heads, head_dim } = shape;
        // One position is contiguous, so a view suffices; several are copied.
        let part = |first: usize, heads: usize| {
            x.narrow(1, first * head_dim, heads * head_dim)
                .and_then(|x| x.reshape(((), heads, head_dim)))
                .map_err(failed)
        };
        Ok([part(0, heads)?, part(heads, kv_heads)?, part(heads + kv_heads, kv_heads)?])
    }

    fn positions(&self, rotation: &Rotation, start: usize, count: usize) -> Result<Positions> {
        let Rotation { frequencies, magnitude, .. } = rotation;
        let angles = (start..start + count).flat_map(|at| frequencies.iter().map(move |f| at as f64 * f));
        // The angle in f64: at position 100,000 an f32 would be off by a hundredth of a radian.
        let scaled = |x: f64| (magnitude * x) as f32;
        let (sin, cos) = angles.map(|angle| (scaled(angle.sin()), scaled(angle.cos()))).unzip();
        Ok(Positions { cos, sin, pairs: frequencies.len() })
    }

    fn rotate(&self, x: &Tensor, _: &Rotation, positions: &Positions) -> Result<Tensor> {
        let (_, heads, head_dim) = x.dims3().map_err(failed)?;
        let pairs = positions.pairs;
        Self::map_rows(x, head_dim, head_dim, x.shape(), |at, x, out| {
            let angles = at / heads * pairs..(at / heads + 1) * pairs;
            let (out, rest) = out.split_at_mut(2 * pairs);
            kernels::rotate_head(&x[..2 * pairs], &positions.cos[angles.clone()], &positions.sin[angles], out);
            rest.copy_from_slice(&x[2 * pairs..]);
        })
    }

    fn append(&self, cache: &mut cache::Cache, keys: &Tensor, values: &Tensor) -> Result<()> {
        let by_head = |x: &Tensor| x.transpose(0, 1).and_then(|x| x.contiguous()).map_err(failed);
        cache.append(&by_head(keys)?, &by_head(values)?)
    }

    fn attend(&self, queries: &Tensor, cache: &cache::Cache, scale: f64, sinks: Option<&Vec<f32>>) -> Result<Tensor> {
        attention::attend(queries, cache, &attention::Scores { scale: scale as f32, sinks: sinks.map(Vec::as_slice) })
    }

    fn gate(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let (rows, width) = x.dims2().map_err(failed)?;
        let row = match activation {
            Activation::Silu => kernels::silu_row,
            Activation::GeluTanh => kernels::gelu_row,
            Activation::ClampedSwiglu => kernels::clamped_row,
        };
        Self::map_rows(x, width, width / 2, (rows, width / 2), |_, x, out| row(x, out))
    }

    fn mix(&self, x: &Tensor, logits: &Tensor, experts: &experts::Experts, routing: Routing) -> Result<Tensor> {
        experts.mix(self, x, logits, routing)
    }

    fn add(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.add(b).map_err(failed)
    }

    fn add_vector(&self, x: &Tensor, vector: &Vec<f32>) -> Result<Tensor> {
        let width = vector.len();
        Self::map_rows(x, width, width, x.shape(), |_, x, out| {
            out.iter_mut().zip(x).zip(vector).for_each(|((out, x), y)| *out = x + y);
        })
    }

    fn scale(&self, x: &Tensor, factor: f64) -> Result<Tensor> {
        x.affine(factor, 0.0).map_err(failed)
    }

    fn last(&self, x: &Tensor) -> Result<Tensor> {
        let count = x.dim(0).map_err(failed)?;
        self.row(x, count - 1)
    }

    fn row(&self, x: &Tensor, at: usize) -> Result<Tensor> {
        x.narrow(0, at, 1).map_err(failed)
    }

    fn sampler(&self, choice: &SamplingPlan, history: &[u32], generated: usize) -> Result<sampling::HostSampler> {
        Ok(sampling::HostSampler::new(choice, history, generated))
    }

    fn submit(&self, _: &Ids) -> Result<()> {
        Ok(())
    }

    fn wait(&self, ids: &Ids) -> Result<u32> {
        ids.chosen.ok_or_else(|| EngineError::internal("these ids were not chosen"))
    }

    fn settle<'a>(&self, _: impl Iterator<Item = &'a cache::Cache>) -> Result<()> {
        Ok(())
    }

    fn read(&self, x: &Tensor, into: &mut Vec<f32>) -> Result<()> {
        read(x, into)
    }

    fn memory(&self) -> EngineMemory {
        memory(&self.held, &self.caches)
    }

    fn memory_probe(&self) -> Option<MemoryProbe> {
        let (held, caches) = (self.held.clone(), self.caches.clone());
        Some(Arc::new(move || memory(&held, &caches)))
    }
}

/// candle has no allocator of its own: weights and caches are known to the byte, activations are
/// not. Without them there is no peak.
fn memory(held: &Held, caches: &cache::Total) -> EngineMemory {
    let kv_cache = caches.bytes();
    EngineMemory {
        active_bytes: Some(held.bytes + held.copies + kv_cache),
        kv_cache_bytes: Some(kv_cache),
        ..EngineMemory::default()
    }
}

fn read(x: &Tensor, into: &mut Vec<f32>) -> Result<()> {
    debug_assert_eq!(x.dtype(), DType::F32);
    with_values(x, |values| {
        into.clear();
        into.extend_from_slice(values);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_version_in_the_lock_file() {
        let lock = include_str!("../../../../../Cargo.lock");
        let at = lock.find("name = \"candle-core\"\n").unwrap();
        let version = lock[at..].lines().nth(1).unwrap();
        assert_eq!(format!("version = \"{}\"", NAME.split_once(' ').unwrap().1), version);
    }
}
