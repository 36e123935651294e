//! Developer's tool: greedy tokens and logits of the transformer engine, and token ids, as JSON.
//!
//! Reads one JSON object from stdin. All fields but the first are optional. The default `dtype` is
//! f32 on candle and the stored one on MLX.
//!
//! ```json
//! {"model": "DIR", "backend": "candle", "dtype": "f32", "window": 32, "compile": false,
//!  "draft": "DIR",
//!  "runs": [{"ids": [1, 2], "chunk": 16, "steps": 64, "forced": [3, 4], "continues": false,
//!            "reuse": true, "losses": false, "drafts": 4}],
//!  "texts": ["..."]}
//! ```
//!
//! Writes
//!
//! ```json
//! {"runs": [{"tokens": [..], "logits": [[..], ..], "losses": [..], "session_tokens": [..],
//!            "reused": 0, "cached": 9, "speculation": null}],
//!  "texts": [[..]]}
//! ```
//!
//! - `losses`: instead of logits, of each forced id minus the logarithm of its probability, in
//!   nats;
//! - `tokens` and `logits`: the best token and the logits of each step of a plain loop over the
//!   model, which continues with the forced ids if there are any;
//! - `session_tokens`: the tokens of the same request to a session, without a reset before it if
//!   `continues` is set;
//! - `reused` and `cached`: how many positions the session reused, and how many its cache held at
//!   the end;
//! - `speculation`: counts of the session if it speculates with `drafts` tokens of the `draft`
//!   model;
//! - `texts`: the ids of each text.
//!
//! `scripts/check-mlx-lm` compares them with an independent implementation.

#[cfg(all(feature = "metal", not(feature = "mlx"), target_os = "macos", target_arch = "aarch64"))]
extern crate inferometer_metal as mlx_rs;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use inferometer_engine::text::Tokenizer;
use inferometer_engine::transformer::Transformer;
use inferometer_engine::transformer::backend::Backend;
use inferometer_engine::transformer::candle::{CandleBackend, Format, threads};
use inferometer_engine::transformer::checkpoint::Opened;
use inferometer_engine::transformer::model::Model;
use inferometer_host::Instrumentation;
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::{Engine as _, Load, Session};
use inferometer_protocol::{EngineSpec, Prompt, Request, Sampling, Settings, Speculation, Value};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    model: PathBuf,
    #[serde(default)]
    backend: Library,
    dtype: Option<String>,
    /// The window of a rotating cache.
    window: Option<usize>,
    #[serde(default)]
    compile: bool,
    /// A model that drafts.
    draft: Option<PathBuf>,
    #[serde(default)]
    runs: Vec<Run>,
    #[serde(default)]
    texts: Vec<String>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Library {
    #[default]
    Candle,
    Mlx,
}

#[derive(Deserialize)]
struct Run {
    ids: Vec<u32>,
    chunk: usize,
    steps: u32,
    /// Tokens that the plain loop continues with instead of the chosen ones.
    forced: Option<Vec<u32>>,
    #[serde(default)]
    continues: bool,
    #[serde(default = "yes")]
    reuse: bool,
    #[serde(default)]
    losses: bool,
    /// Most drafted tokens a pass, for the session.
    #[serde(default)]
    drafts: u32,
}

fn yes() -> bool {
    true
}

#[derive(Serialize)]
struct Output {
    runs: Vec<Ran>,
    texts: Vec<Vec<u32>>,
}

#[derive(Serialize)]
struct Ran {
    tokens: Vec<u32>,
    logits: Vec<Vec<f32>>,
    losses: Vec<f64>,
    session_tokens: Vec<u32>,
    reused: u32,
    cached: Option<u32>,
    speculation: Option<Speculation>,
}

fn main() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut input: Input = serde_json::from_str(&text).context("stdin is not the JSON this tool reads")?;
    // A GGUF file stays as it is stored.
    if input.backend == Library::Candle && input.model.is_dir() {
        input.dtype.get_or_insert_with(|| "f32".to_owned());
    }
    let mut session = session(&input)?;
    let runs = match input.backend {
        Library::Candle => on_candle(&input, &mut *session)?,
        Library::Mlx => on_mlx(&input, &mut *session)?,
    };
    let tokenizer = Tokenizer::from_model(&input.model)?;
    let texts = input.texts.iter().map(|text| Ok(tokenizer.encode(text, true)?)).collect::<anyhow::Result<_>>()?;
    Ok(serde_json::to_writer(std::io::stdout().lock(), &Output { runs, texts })?)
}

fn session(input: &Input) -> anyhow::Result<Box<dyn Session>> {
    let mut toggles = Settings::new();
    if let Some(dtype) = &input.dtype {
        toggles.insert("dtype".to_owned(), Value::from(dtype.as_str()));
    }
    if let Some(window) = input.window {
        toggles.insert("kv_cache".to_owned(), format!("rotating:{window}").into());
    }
    if let Some(draft) = &input.draft {
        toggles.insert("draft_model".to_owned(), draft.display().to_string().into());
    }
    let mut options = Settings::new();
    if input.backend == Library::Mlx {
        options.insert("backend".to_owned(), "mlx".into());
        toggles.insert("compile".to_owned(), input.compile.into());
    }
    let engine = EngineSpec { name: "transformer".into(), label: "transformer".into(), options };
    let load = Load { engine, model: Some(input.model.clone()), toggles };
    Ok(Transformer.open(&load)?)
}

fn on_candle(input: &Input, session: &mut dyn Session) -> anyhow::Result<Vec<Ran>> {
    let named = |format: &Format| input.dtype.as_deref() == Some(format.name());
    let format = Format::ALL.into_iter().find(named).unwrap_or(Format::Stored);
    all(CandleBackend::new(format, threads::set(None)?), input, session)
}

#[cfg(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64")))]
fn on_mlx(input: &Input, session: &mut dyn Session) -> anyhow::Result<Vec<Ran>> {
    use inferometer_engine::transformer::mlx::MlxBackend;
    use mlx_rs::Dtype;
    let dtype = match input.dtype.as_deref() {
        None => None,
        Some("f32") => Some(Dtype::Float32),
        Some("f16") => Some(Dtype::Float16),
        Some("bf16") => Some(Dtype::Bfloat16),
        Some(other) => anyhow::bail!("dtype = {other:?} is none of f32, f16 and bf16"),
    };
    all(MlxBackend::new(dtype, input.compile), input, session)
}

#[cfg(not(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64"))))]
fn on_mlx(_: &Input, _: &mut dyn Session) -> anyhow::Result<Vec<Ran>> {
    anyhow::bail!("this build has no MLX")
}

fn all<B: Backend>(backend: B, input: &Input, session: &mut dyn Session) -> anyhow::Result<Vec<Ran>> {
    let Opened { config, weights, .. } = Opened::open(&input.model)?;
    let model = Model::load(backend, config, &*weights, input.window)?;
    input.runs.iter().map(|run| both(&model, session, run)).collect()
}

fn both<B: Backend>(model: &Model<B>, session: &mut dyn Session, run: &Run) -> anyhow::Result<Ran> {
    let Greedy { tokens, logits, losses } = greedy(model, run)?;
    if run.losses {
        let session_tokens = Vec::new();
        return Ok(Ran { tokens, logits, losses, session_tokens, reused: 0, cached: None, speculation: None });
    }
    let mut toggles = Settings::from([
        ("prefill_chunk_size".to_owned(), run.chunk.into()),
        ("kv_reuse".to_owned(), if run.reuse { "prefix" } else { "none" }.into()),
    ]);
    if run.drafts > 0 {
        toggles.insert("num_draft_tokens".to_owned(), run.drafts.into());
    } else if B::LAZY {
        // Tests the pipeline, which is harder than reading each token before the next step.
        toggles.insert("lazy_pipeline".to_owned(), true.into());
    }
    let request = Request {
        prompt: Prompt::Tokens(run.ids.clone()),
        sampling: Sampling::default(),
        toggles,
        max_tokens: run.steps,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    };
    if !run.continues {
        session.reset()?;
    }
    let mut recorder = Recorder::new(run.steps, Instrumentation::default(), Arc::<Shared>::default());
    let done = session.generate(&request, &mut recorder)?;
    Ok(Ran {
        tokens,
        logits,
        losses,
        session_tokens: recorder.tokens,
        reused: done.reused_tokens,
        cached: done.cache_tokens,
        speculation: done.speculation,
    })
}

#[derive(Default)]
struct Greedy {
    tokens: Vec<u32>,
    logits: Vec<Vec<f32>>,
    losses: Vec<f64>,
}

fn greedy<B: Backend>(model: &Model<B>, run: &Run) -> anyhow::Result<Greedy> {
    let mut cache = model.cache()?;
    let last = (run.ids.len() - 1) / run.chunk * run.chunk;
    for chunk in run.ids[..last].chunks(run.chunk) {
        model.fill(&model.backend.ids(chunk)?, chunk.len(), &mut cache)?;
    }
    let mut next = run.ids[last..].to_vec();
    let mut made = Greedy::default();
    for step in 0..run.steps as usize {
        let mut values = Vec::new();
        let last = model.forward(&model.backend.ids(&next)?, next.len(), &mut cache)?;
        model.backend.read(&last, &mut values)?;
        let best =
            (0..values.len()).rev().max_by(|a, b| values[*a].total_cmp(&values[*b])).context("no logits")? as u32;
        made.tokens.push(best);
        let forced = run.forced.as_ref().and_then(|ids| ids.get(step)).copied();
        next = vec![forced.unwrap_or(best)];
        if run.losses {
            made.losses.push(loss(&values, next[0]));
        } else {
            made.logits.push(values);
        }
    }
    Ok(made)
}

/// Minus the logarithm of a token's probability, in nats.
fn loss(logits: &[f32], token: u32) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - highest).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - highest)
}
