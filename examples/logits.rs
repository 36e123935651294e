//! Developer's tool: greedy tokens and logits of the transformer engine, and token ids, as JSON.
//!
//! Reads one JSON object from stdin:
//! `{"model": "DIR", "dtype": "f32", "runs": [{"ids": [1, 2], "chunk": 16, "steps": 64}], "texts": ["..."]}` (f32 if no
//! dtype is given; a run may also have "forced", tokens to go on with instead of those chosen), and writes
//! `{"runs": [{"tokens": [..], "session_tokens": [..], "logits": [[..], ..]}], "texts": [[..], ..]}`: tokens and logits of a
//! bare loop over the model, tokens of the same request to a session, ids of each text. `scripts/check-mlx-lm` compares
//! them with an implementation of others.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use inferometer::engine::recorder::{Recorder, Shared};
use inferometer::engine::transformer::backend::Backend;
use inferometer::engine::transformer::candle::{CandleBackend, Format, threads};
use inferometer::engine::transformer::config::Config;
use inferometer::engine::transformer::model::{Model, expected, optional};
use inferometer::engine::transformer::weights::WeightFolder;
use inferometer::engine::{Load, Session, find};
use inferometer::spec::{EngineSpec, Prompt, Request, Sampling, Settings, Value};
use inferometer::text::Tokenizer;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    model: PathBuf,
    #[serde(default = "f32")]
    dtype: String,
    runs: Vec<Run>,
    #[serde(default)]
    texts: Vec<String>,
}

fn f32() -> String {
    Format::F32.name().to_owned()
}

#[derive(Deserialize)]
struct Run {
    ids: Vec<u32>,
    chunk: usize,
    steps: u32,
    /// Tokens to go on with instead of those chosen.
    forced: Option<Vec<u32>>,
}

#[derive(Serialize)]
struct Output {
    runs: Vec<Ran>,
    texts: Vec<Vec<u32>>,
}

#[derive(Serialize)]
struct Ran {
    tokens: Vec<u32>,
    session_tokens: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

fn main() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let input: Input = serde_json::from_str(&text).context("stdin is not the JSON this tool reads")?;
    let config = Config::from_folder(&input.model)?;
    let weights = WeightFolder::open(&input.model, &expected(&config), &optional(&config))?;
    let format = Format::ALL.into_iter().find(|format| format.name() == input.dtype);
    let format = format.with_context(|| format!("unknown dtype {}", input.dtype))?;
    let model = Model::load(CandleBackend::new(format, threads::set(None)?), config, &weights, None)?;
    let load = Load {
        engine: EngineSpec { name: "transformer".into(), label: "transformer".into(), options: Settings::new() },
        model: Some(input.model.clone()),
        toggles: Settings::from([("dtype".to_owned(), Value::from(input.dtype.as_str()))]),
    };
    let mut session = find("transformer").context("no transformer engine in this build")?.open(&load)?;
    let tokenizer = Tokenizer::from_folder(&input.model)?;
    let output = Output {
        runs: input.runs.iter().map(|run| both(&model, &mut *session, run)).collect::<anyhow::Result<_>>()?,
        texts: input.texts.iter().map(|text| Ok(tokenizer.encode(text, true)?)).collect::<anyhow::Result<_>>()?,
    };
    Ok(serde_json::to_writer(std::io::stdout().lock(), &output)?)
}

fn both(model: &Model<CandleBackend>, session: &mut dyn Session, run: &Run) -> anyhow::Result<Ran> {
    let (tokens, logits) = greedy(model, run)?;
    let request = Request {
        prompt: Prompt::Tokens(run.ids.clone()),
        sampling: Sampling::default(),
        toggles: Settings::from([("prefill_chunk_size".to_owned(), run.chunk.into())]),
        max_tokens: run.steps,
        ignore_eos: true,
        conversation: None,
        forced_tokens: run.forced.clone(),
    };
    session.reset()?;
    let mut recorder = Recorder::new(run.steps, false, Arc::<Shared>::default());
    session.generate(&request, &mut recorder)?;
    Ok(Ran { tokens, session_tokens: recorder.tokens, logits })
}

fn greedy(model: &Model<CandleBackend>, run: &Run) -> anyhow::Result<(Vec<u32>, Vec<Vec<f32>>)> {
    let mut cache = model.cache()?;
    let last = (run.ids.len() - 1) / run.chunk * run.chunk;
    for chunk in run.ids[..last].chunks(run.chunk) {
        model.fill(&model.backend.ids(chunk)?, chunk.len(), &mut cache)?;
    }
    let mut next = run.ids[last..].to_vec();
    let (mut tokens, mut logits) = (Vec::new(), Vec::new());
    for at in 0..run.steps as usize {
        let mut values = Vec::new();
        let last = model.forward(&model.backend.ids(&next)?, next.len(), &mut cache)?;
        model.backend.read(&last, &mut values)?;
        let best = (0..values.len()).rev().max_by(|a, b| values[*a].total_cmp(&values[*b])).context("no logits")?;
        tokens.push(best as u32);
        logits.push(values);
        let forced = run.forced.as_ref().and_then(|tokens| tokens.get(at));
        next = vec![forced.copied().unwrap_or(best as u32)];
    }
    Ok((tokens, logits))
}
