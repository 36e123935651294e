//! A backend under test and its input.

use std::path::{Path, PathBuf};

use inferometer_engine::cache;
use inferometer_engine::synthetic::Recipe;
use inferometer_engine::transformer::backend::Backend;
use inferometer_engine::transformer::candle::{CandleBackend, Format, threads};
use inferometer_engine::transformer::quantized::{QuantizedTensor, Weight};
use inferometer_engine::transformer::weights::HostTensor;
use inferometer_host::rng::seeded;
use inferometer_protocol::{Architecture, Quantization, Settings};
use rand::Rng;
use safetensors::Dtype;

/// A backend with one format of weights.
pub struct Subject<B: Backend> {
    pub name: &'static str,
    pub backend: fn() -> B,
    /// Computes a tensor, if that has not happened yet, and waits for it.
    pub compute: fn(&B::Tensor),
    /// How a model's folder stores the matrices for this backend.
    pub stored: Stored,
    /// Bytes of 64 weights in memory.
    pub bytes_of_64: u64,
    /// Bytes of an activation, and of an entry of the KV cache.
    pub activation_bytes: u64,
    /// Largest n for a product of n rows with a matrix [n, n], and longest prompt, that do not take
    /// minutes. On a CPU, MLX has a fast product of many rows for f32 only.
    pub rows: usize,
    pub prompt: usize,
    /// Option `backend` of the transformer engine. The toggles select this format of weights.
    pub engine: &'static str,
    pub toggles: Settings,
}

/// How a model's folder stores matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// F32 or BF16; for a quantized matrix, the dtype of its scales and biases.
    pub dtype: Dtype,
    /// MLX's affine format; `None`: as floating-point numbers.
    pub quantization: Option<Quantization>,
}

fn on_candle(name: &'static str, backend: fn() -> CandleBackend, format: Format) -> Subject<CandleBackend> {
    Subject {
        name,
        backend,
        compute: |_| (),
        stored: Stored { dtype: Dtype::F32, quantization: None },
        bytes_of_64: if format == Format::F32 { 256 } else { 68 },
        activation_bytes: 4,
        rows: 4096,
        prompt: 2048,
        engine: "candle",
        toggles: Settings::from([("dtype".to_owned(), format.name().into())]),
    }
}

fn candle(format: Format) -> CandleBackend {
    CandleBackend::new(format, threads::set(None).expect("nothing else has set the number of threads"))
}

pub fn candle_f32() -> Subject<CandleBackend> {
    on_candle("candle f32", || candle(Format::F32), Format::F32)
}

pub fn candle_q8_0() -> Subject<CandleBackend> {
    on_candle("candle q8_0", || candle(Format::Q8_0), Format::Q8_0)
}

impl<B: Backend> Subject<B> {
    /// Bytes in memory of a matrix with this many values.
    pub fn matrix_bytes(&self, values: usize) -> u64 {
        values as u64 / 64 * self.bytes_of_64
    }

    /// A random matrix [rows, columns]; `columns` is a multiple of 64.
    pub fn matrix(&self, rows: usize, columns: usize) -> Weight {
        self.stored.matrix(rows, columns)
    }

    /// A random scale [width].
    pub fn scale(&self, width: usize) -> HostTensor {
        self.stored.floats(&[width])
    }

    /// Random activations [rows, width], already computed: rows of a table, as in a model.
    pub fn activations(&self, backend: &mut B, rows: usize, width: usize) -> B::Tensor {
        let table = backend.embedding(self.matrix(rows, width)).expect("a table");
        let ids: Vec<u32> = (0..rows as u32).collect();
        let x = backend.ids(&ids).and_then(|ids| backend.embed(&table, &ids)).expect("rows of the table");
        (self.compute)(&x);
        x
    }

    /// The folder of a synthetic model, made on first use.
    pub fn folder(&self) -> PathBuf {
        let recipe = Recipe::find(Architecture::Qwen3, "small", 1).expect("a preset of that name");
        let recipe = recipe.stored(None, self.stored.quantization);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        cache::made(&recipe, folder, &mut |_| ()).expect("the target folder can be written")
    }
}

impl Stored {
    /// Uniform values from -1 to 1. One block is repeated, which is quick to make.
    fn floats(self, shape: &[usize]) -> HostTensor {
        const BLOCK: usize = 4096;
        let mut rng = seeded(1, "benchmark");
        let uniform = (0..BLOCK).map(|_| rng.next_u32() as f32 / (1u32 << 31) as f32 - 1.0);
        let block: Vec<u8> = match self.dtype {
            Dtype::BF16 => uniform.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
            _ => uniform.flat_map(f32::to_le_bytes).collect(),
        };
        let count: usize = shape.iter().product();
        let mut bytes = block.repeat(count.div_ceil(BLOCK));
        bytes.truncate(count * block.len() / BLOCK);
        HostTensor { name: "random".to_owned(), shape: shape.to_vec(), dtype: self.dtype, bytes }
    }

    fn matrix(self, rows: usize, columns: usize) -> Weight {
        let Some(quantization) = self.quantization else { return Weight::Plain(self.floats(&[rows, columns])) };
        let mut packed = vec![0; rows * quantization.words(columns) * 4];
        seeded(1, "benchmark").fill_bytes(&mut packed);
        let groups = [rows, quantization.groups(columns)];
        Weight::Quantized(QuantizedTensor {
            name: "random".to_owned(),
            shape: [rows, columns],
            bits: quantization.bits(),
            group_size: quantization.group_size(),
            packed,
            scales: self.floats(&groups),
            biases: self.floats(&groups),
        })
    }
}
