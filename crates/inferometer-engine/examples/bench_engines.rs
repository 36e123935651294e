//! Developer's tool: benchmarks of the transformer engine on candle and limits of this machine, for
//! `scripts/bench-engines`.
//!
//! `bench_engines MODEL THREADS KIND` reads one command per line from stdin and answers each with
//! one line on stdout. A GGUF file runs as it is stored; a folder is quantized to Q8_0. KIND
//! (`q8_0`, `q4_1`, ..) is the type of most weights.
//!
//! - `ids ID..` (no answer) sets the ids that the others use;
//! - `prefill C` runs the first C ids in one chunk and chooses the first token;
//! - `decode C N` decodes N tokens after the same ids, in a separate cache that is kept between
//!   commands;
//! - `bandwidth` reads 3 GiB from memory with all threads;
//! - `products M` runs only the quantized products of one forward pass over M positions: the
//!   engine's own if this processor supports them, else candle's;
//! - `candle M` runs candle's products.
//!
//! An answer is two numbers: elapsed nanoseconds, and nanoseconds of CPU time over all threads.

use std::hint::black_box;
use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Storage, Tensor};
use inferometer_engine::transformer::Transformer;
use inferometer_engine::transformer::candle::packed;
use inferometer_engine::transformer::candle::packed::Packed;
use inferometer_engine::transformer::checkpoint::Opened;
use inferometer_engine::transformer::config::Config;
use inferometer_host::{Detail, Engine as _, Load, Session, SpanKey, TokenSink};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::{EngineSpec, Phase, Prompt, Request, Sampling, Settings, Value};

/// Positions of a prefill chunk.
const CHUNK: u32 = 512;
/// Much larger than any CPU cache.
const BUFFER_BYTES: usize = 1 << 30;
const PASSES: usize = 3;

/// Elapsed time and CPU time.
#[derive(Clone, Copy)]
struct Times {
    clock_ns: u64,
    cpu_ns: u64,
}

impl Times {
    fn now() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self { clock_ns: now_ns(), cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64 }
    }

    fn since(self, begun: Self) -> Self {
        Self { clock_ns: self.clock_ns - begun.clock_ns, cpu_ns: self.cpu_ns - begun.cpu_ns }
    }
}

/// Stamps the tokens and the beginning of prefill.
#[derive(Default)]
struct Stamps {
    begun: Option<Times>,
    tokens: Vec<Times>,
}

impl TokenSink for Stamps {
    fn token(&mut self, _id: u32) {
        self.tokens.push(Times::now());
    }

    fn detail(&self) -> Detail {
        Detail::Timed
    }

    fn begin(&mut self, phase: Phase) -> SpanKey {
        if phase == Phase::Prefill {
            self.begun = Some(Times::now());
        }
        SpanKey::default()
    }

    fn end(&mut self, _key: SpanKey) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// The products of one forward pass, with separate matrices.
struct Products {
    /// The products of all layers, in order.
    layers: Vec<Product>,
    head: Product,
}

enum Product {
    Own(Packed),
    Candle(QMatMul),
}

impl Product {
    fn run(&self, x: &Tensor) -> Result<()> {
        match self {
            Product::Own(matrix) => {
                let (values, _) = x.storage_and_layout();
                let Storage::Cpu(values) = &*values else { bail!("not on the CPU") };
                drop(black_box(matrix.product(values.as_slice()?)));
            }
            Product::Candle(matrix) => drop(black_box(matrix.forward(x)?)),
        }
        Ok(())
    }
}

impl Products {
    fn new(config: &Config, kind: GgmlDType, own: bool) -> Result<Self> {
        let (queries, keys) =
            (config.shape.heads * config.shape.head_dim, config.shape.kv_heads * config.shape.head_dim);
        let (hidden, inside) = (config.shape.hidden, config.shape.intermediate);
        let shapes = [(queries + 2 * keys, hidden), (hidden, queries), (2 * inside, hidden), (hidden, inside)];
        let matrix = |shape| {
            let plain = Tensor::rand(-1f32, 1.0, shape, &Device::Cpu)?;
            let quantized = QTensor::quantize(&plain, kind)?;
            let (columns, inputs) = shape;
            Ok(if own && packed::fits(kind, columns, inputs) {
                Product::Own(Packed::new(&quantized).map_err(|e| anyhow!(e.message))?)
            } else {
                Product::Candle(QMatMul::from_qtensor(quantized)?)
            })
        };
        let layers = (0..config.shape.layers).flat_map(|_| shapes).map(matrix).collect::<Result<_>>()?;
        Ok(Self { layers, head: matrix((config.shape.vocabulary, hidden))? })
    }

    fn run(&self, positions: usize, config: &Config) -> Result<Times> {
        let input = |rows: usize, width: usize| Tensor::rand(-1f32, 1.0, (rows, width), &Device::Cpu);
        let (x, attended) =
            (input(positions, config.shape.hidden)?, input(positions, config.shape.heads * config.shape.head_dim)?);
        let (inside, last) = (input(positions, config.shape.intermediate)?, input(1, config.shape.hidden)?);
        let start = Times::now();
        for (product, x) in self.layers.iter().zip([&x, &attended, &x, &inside].into_iter().cycle()) {
            product.run(x)?;
        }
        self.head.run(&last)?;
        Ok(Times::now().since(start))
    }
}

struct Bench {
    session: Box<dyn Session>,
    config: Config,
    kind: GgmlDType,
    threads: usize,
    ids: Vec<u32>,
    buffer: Vec<u64>,
    own: Option<Products>,
    candle: Option<Products>,
}

impl Bench {
    fn answer(&mut self, line: &str) -> Result<Option<Times>> {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let numbers = words.map(str::parse).collect::<Result<Vec<u32>, _>>().context("arguments are numbers")?;
        Ok(Some(match (command, numbers.as_slice()) {
            ("ids", _) => {
                self.ids = numbers;
                return Ok(None);
            }
            ("prefill", &[count]) => {
                let stamps = self.generate(count, 1, "none")?;
                stamps.tokens[0].since(stamps.begun.context("no prefill span")?)
            }
            ("decode", &[count, tokens]) => {
                let stamps = self.generate(count, tokens + 1, "prefix")?;
                stamps.tokens[tokens as usize].since(stamps.tokens[0])
            }
            ("bandwidth", []) => self.bandwidth(),
            ("products" | "candle", &[positions]) => {
                let own = command == "products";
                let products = if own { &mut self.own } else { &mut self.candle };
                if products.is_none() {
                    *products = Some(Products::new(&self.config, self.kind, own)?);
                }
                products.as_ref().expect("just made").run(positions as usize, &self.config)?
            }
            _ => bail!("unknown command: {line}"),
        }))
    }

    fn generate(&mut self, count: u32, max_tokens: u32, reuse: &str) -> Result<Stamps> {
        let ids = self.ids.get(..count as usize).context("not so many ids")?;
        let request = Request {
            prompt: Prompt::Tokens(ids.to_vec()),
            sampling: Sampling::default(),
            toggles: Settings::from([
                ("prefill_chunk_size".to_owned(), Value::from(CHUNK)),
                ("kv_reuse".to_owned(), Value::from(reuse)),
            ]),
            max_tokens,
            ignore_eos: true,
            conversation: Some(format!("{reuse} {count}")),
            forced_tokens: None,
        };
        let mut stamps = Stamps::default();
        self.session.generate(&request, &mut stamps)?;
        ensure!(stamps.tokens.len() == max_tokens as usize, "the engine stopped early");
        Ok(stamps)
    }

    /// Every thread sums a part of the buffer.
    fn bandwidth(&mut self) -> Times {
        let words = BUFFER_BYTES / size_of::<u64>();
        if self.buffer.is_empty() {
            self.buffer = (0..words as u64).collect();
        }
        let start = Times::now();
        std::thread::scope(|scope| {
            for part in self.buffer.chunks(words.div_ceil(self.threads)) {
                scope.spawn(move || {
                    for _ in 0..PASSES {
                        black_box(black_box(part).iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
                    }
                });
            }
        });
        Times::now().since(start)
    }
}

#[allow(clippy::print_stdout, reason = "its answers")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bench_engines MODEL THREADS KIND";
    let model = PathBuf::from(arguments.next().context(usage)?);
    let threads: u32 = arguments.next().context(usage)?.parse().context(usage)?;
    let kind = match arguments.next().context(usage)?.as_str() {
        "q8_0" => GgmlDType::Q8_0,
        "q4_0" => GgmlDType::Q4_0,
        "q4_1" => GgmlDType::Q4_1,
        "q4_k" => GgmlDType::Q4K,
        "q6_k" => GgmlDType::Q6K,
        other => bail!("KIND is {other}; it can be q8_0, q4_0, q4_1, q4_k or q6_k"),
    };
    let mut toggles = Settings::from([("threads".to_owned(), Value::from(threads))]);
    if model.is_dir() {
        toggles.insert("dtype".to_owned(), Value::from("q8_0"));
    }
    // As the engine host does.
    inferometer_host::heap::use_one_arena();
    let load = Load {
        engine: EngineSpec { name: "transformer".into(), label: "transformer".into(), options: Settings::new() },
        model: Some(model.clone()),
        toggles,
    };
    let session = Transformer.open(&load)?;
    let (config, _, _) = Opened::open(&model)?.parts(&model)?;
    println!("{}", serde_json::to_string(&session.receipt())?);
    let mut bench = Bench {
        session,
        config,
        kind,
        threads: threads as usize,
        ids: Vec::new(),
        buffer: Vec::new(),
        own: None,
        candle: None,
    };
    for line in std::io::stdin().lock().lines() {
        if let Some(answer) = bench.answer(&line?)? {
            println!("{} {}", answer.clock_ns, answer.cpu_ns);
        }
    }
    Ok(())
}
