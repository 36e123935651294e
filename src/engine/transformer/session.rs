//! A loaded model that answers requests: prompt to ids, prefix reuse, chunked prefill, decode loop.

use std::collections::HashMap;

use super::backend::Backend;
use super::model::{KvCache, Model};
use super::sampler::{self, Penalty, Sampler};
use crate::engine::{Result, Session, TokenSink};
use crate::spec::effective::{EFFECTIVE_CHUNK, EFFECTIVE_PENALTY, EFFECTIVE_WINDOW, factor_in_force};
use crate::spec::toggle::{
    DEFAULT_PREFILL_CHUNK, DEFAULT_WINDOW_CAP, KV_REUSE, PREFILL_CHUNK_SIZE, REPETITION_CONTEXT_SIZE,
    REPETITION_PENALTY, REPETITION_WINDOW_CAP, find,
};
use crate::spec::{
    Completion, EngineError, EngineMemory, FinishReason, Phase, Prompt, Receipt, Request, Settings, Value,
};
use crate::telemetry::peak;
use crate::text::{ChatTemplate, Tokenizer};

/// Toggles that a request may carry.
pub const REQUEST_TOGGLES: [&str; 5] =
    [REPETITION_PENALTY, REPETITION_CONTEXT_SIZE, REPETITION_WINDOW_CAP, PREFILL_CHUNK_SIZE, KV_REUSE];

/// The session of one model on one backend.
pub struct TransformerSession<B: Backend> {
    model: Model<B>,
    text: Text,
    receipt: Receipt,
    /// The default cache and one for each named conversation; absent while a generation uses it.
    caches: HashMap<Option<String>, KvCache<B>>,
    /// Logits of the last position, on the host.
    logits: Vec<f32>,
}

/// How a model turns text into tokens.
#[derive(Debug)]
pub struct Text {
    pub tokenizer: Option<Tokenizer>,
    /// The chat template, or why there is none. A bad one is no reason not to measure the model.
    pub template: std::result::Result<ChatTemplate, String>,
}

impl Text {
    fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing = "this model has no tokenizer.json; send the prompt as token ids";
        self.tokenizer.as_ref().ok_or_else(|| EngineError::unsupported(missing))
    }

    fn ids(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let bad = |e: crate::text::TextError| EngineError::bad_request(e.to_string());
        match prompt {
            Prompt::Tokens(ids) => Ok(ids.clone()),
            Prompt::Text(text) => self.tokenizer()?.encode(text, true).map_err(bad),
            Prompt::Messages(messages) => {
                let tokenizer = self.tokenizer()?;
                let template = self.template.as_ref().map_err(EngineError::unsupported)?;
                let text = template.render(messages, true).map_err(bad)?;
                // The template has written the special tokens itself.
                tokenizer.encode(&text, false).map_err(bad)
            }
        }
    }
}

/// What a request asks for, checked.
struct Wanted {
    prompt: Vec<u32>,
    penalty: Penalty,
    factor: f64,
    chunk: usize,
    reuse: bool,
    /// Tokens to generate at most.
    limit: usize,
    forced: Option<Vec<u32>>,
    stops: Vec<u32>,
}

/// How far a generation came.
struct Progress {
    /// A common prefix was looked for.
    looked: bool,
    reused: usize,
    prefilled: usize,
    largest_chunk: usize,
    window: usize,
    finish: FinishReason,
}

impl<B: Backend> TransformerSession<B> {
    /// Puts the parts together. The receipt's description of the model is the caller's part.
    pub fn new(model: Model<B>, text: Text, receipt: Receipt) -> Self {
        Self { model, text, receipt, caches: HashMap::new(), logits: Vec::new() }
    }

    /// Runs one token through the model and forgets it, so that what the backend prepares on first use is done.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn warm_up(&mut self) -> Result<()> {
        let mut cache = self.model.cache()?;
        let logits = self.model.forward(&[0], &mut cache)?;
        self.model.backend.read(&logits, &mut self.logits)
    }

    fn ids(&self, prompt: &Prompt, sink: &mut dyn TokenSink) -> Result<Vec<u32>> {
        if matches!(prompt, Prompt::Tokens(_)) {
            return self.text.ids(prompt);
        }
        let span = sink.begin(Phase::Tokenize);
        let ids = self.text.ids(prompt);
        sink.end(span);
        ids
    }

    fn wanted(&self, request: &Request, sink: &mut dyn TokenSink) -> Result<Wanted> {
        check_toggles(&request.toggles)?;
        let sampling = &request.sampling;
        let count = |name: &str, default: u64| request.toggles.get(name).and_then(Value::as_count).unwrap_or(default);
        let factor =
            request.toggles.get(REPETITION_PENALTY).and_then(Value::as_float).unwrap_or(sampling.repetition_penalty);
        let factor = factor_in_force(factor);
        sampler::check(sampling, factor)?;
        let penalty = Penalty::new(
            factor as f32,
            count(REPETITION_CONTEXT_SIZE, sampling.repetition_context_size),
            count(REPETITION_WINDOW_CAP, DEFAULT_WINDOW_CAP),
        );
        let prompt = self.ids(&request.prompt, sink)?;
        if prompt.is_empty() {
            return Err(EngineError::bad_request("the prompt is empty; it needs at least one token"));
        }
        self.check_ids("prompt", &prompt)?;
        let mut limit = request.max_tokens as usize;
        if let Some(forced) = &request.forced_tokens {
            self.check_ids("forced_tokens", forced)?;
            limit = limit.min(forced.len());
        }
        if limit == 0 {
            return Err(EngineError::bad_request(
                "max_tokens is 0 or forced_tokens is empty; at least one token is generated",
            ));
        }
        self.check_context(prompt.len(), limit)?;
        let steered = request.ignore_eos || request.forced_tokens.is_some();
        Ok(Wanted {
            prompt,
            penalty,
            factor,
            chunk: usize::try_from(count(PREFILL_CHUNK_SIZE, DEFAULT_PREFILL_CHUNK)).unwrap_or(usize::MAX),
            reuse: request.toggles.get(KV_REUSE).and_then(Value::as_text) != Some("none"),
            limit,
            forced: request.forced_tokens.clone(),
            stops: if steered { Vec::new() } else { self.model.config.eos.clone() },
        })
    }

    fn check_ids(&self, what: &str, ids: &[u32]) -> Result<()> {
        let vocabulary = self.model.config.vocabulary;
        match ids.iter().position(|id| *id as usize >= vocabulary) {
            None => Ok(()),
            Some(at) => Err(EngineError::bad_request(format!(
                "{what}: token id {} at index {at} is not below the vocabulary's size, {vocabulary}",
                ids[at]
            ))),
        }
    }

    /// The last generated token is not run through the model, so it needs no position.
    fn check_context(&self, prompt: usize, limit: usize) -> Result<()> {
        let (needed, context) = (prompt + limit - 1, self.model.config.context);
        if needed <= context {
            return Ok(());
        }
        Err(EngineError::bad_request(format!(
            "{prompt} prompt tokens and {limit} to generate need {needed} positions, but the model's context is {context} \
             (max_position_embeddings in config.json); shorten the prompt or lower max_tokens"
        )))
    }
}

/// One generation in work.
struct Generation<'a, B: Backend> {
    model: &'a Model<B>,
    cache: &'a mut KvCache<B>,
    logits: &'a mut Vec<f32>,
    wanted: Wanted,
    sampler: Sampler,
    /// Prompt and generated tokens.
    history: Vec<u32>,
    progress: Progress,
}

impl<B: Backend> Generation<'_, B> {
    fn run(mut self, sink: &mut dyn TokenSink) -> Result<Progress> {
        let positions = self.wanted.prompt.len() + self.wanted.limit - 1;
        self.history.reserve(self.wanted.prompt.len() + self.wanted.limit);
        self.history.extend_from_slice(&self.wanted.prompt);
        let span = sink.begin(Phase::Prefill);
        self.keep_prefix();
        self.cache.reserve(positions)?;
        let filled = self.prefill(sink)?;
        let first = if filled { Some(self.next(sink)?) } else { None };
        sink.end(span);
        let Some(first) = first else {
            self.progress.finish = FinishReason::Cancelled;
            return Ok(self.progress);
        };
        let span = sink.begin(Phase::Decode);
        let finish = self.decode(first, sink);
        sink.end(span);
        self.progress.finish = finish?;
        Ok(self.progress)
    }

    /// Keeps of the cache what the prompt begins with. The last prompt token is always computed: its logits are needed.
    fn keep_prefix(&mut self) {
        let common = |cache: &KvCache<B>, prompt: &[u32]| {
            cache.tokens().iter().zip(prompt).take_while(|(held, wanted)| held == wanted).count()
        };
        let keep = if self.wanted.reuse {
            self.progress.looked = true;
            common(self.cache, &self.wanted.prompt).min(self.wanted.prompt.len() - 1)
        } else {
            0
        };
        self.cache.truncate(keep);
        self.progress.reused = self.cache.len();
    }

    /// Whether the whole prompt was run; not if it was cancelled.
    fn prefill(&mut self, sink: &mut dyn TokenSink) -> Result<bool> {
        let rest = &self.wanted.prompt[self.progress.reused..];
        let last = rest.len().div_ceil(self.wanted.chunk) - 1;
        for (at, chunk) in rest.chunks(self.wanted.chunk).enumerate() {
            if sink.cancelled() {
                return Ok(false);
            }
            let span = sink.begin(Phase::PrefillChunk);
            let forward = sink.begin(Phase::Forward);
            if at < last {
                self.model.fill(chunk, self.cache)?;
            } else {
                let logits = self.model.forward(chunk, self.cache)?;
                self.model.backend.read(&logits, self.logits)?;
            }
            sink.end(forward);
            sink.end(span);
            self.progress.prefilled += chunk.len();
            self.progress.largest_chunk = self.progress.largest_chunk.max(chunk.len());
        }
        Ok(true)
    }

    /// Chooses a token from the logits that were read and reports it.
    fn next(&mut self, sink: &mut dyn TokenSink) -> Result<u32> {
        let span = sink.begin(Phase::Penalty);
        self.progress.window = self.wanted.penalty.apply(self.logits, &self.history);
        sink.end(span);
        let span = sink.begin(Phase::Sample);
        let chosen = self.sampler.choose(self.logits);
        sink.end(span);
        let mut chosen = chosen?;
        if let Some(forced) = &self.wanted.forced {
            chosen = forced[self.history.len() - self.wanted.prompt.len()];
        }
        self.history.push(chosen);
        sink.token(chosen);
        Ok(chosen)
    }

    fn decode(&mut self, first: u32, sink: &mut dyn TokenSink) -> Result<FinishReason> {
        let mut token = first;
        loop {
            if self.wanted.stops.contains(&token) {
                return Ok(FinishReason::Stop);
            }
            if self.history.len() - self.wanted.prompt.len() == self.wanted.limit {
                return Ok(FinishReason::Length);
            }
            if sink.cancelled() {
                return Ok(FinishReason::Cancelled);
            }
            let span = sink.begin(Phase::Forward);
            let logits = self.model.forward(&[token], self.cache)?;
            self.model.backend.read(&logits, self.logits)?;
            sink.end(span);
            token = self.next(sink)?;
        }
    }
}

impl<B: Backend> Session for TransformerSession<B> {
    fn receipt(&self) -> Receipt {
        self.receipt.clone()
    }

    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        let wanted = self.wanted(request, sink)?;
        let (prompt_tokens, factor) = (wanted.prompt.len() as u32, wanted.factor);
        let mut cache = match self.caches.remove(&request.conversation) {
            Some(cache) => cache,
            None => self.model.cache()?,
        };
        let generation = Generation {
            model: &self.model,
            cache: &mut cache,
            logits: &mut self.logits,
            wanted,
            sampler: Sampler::new(&request.sampling),
            history: Vec::new(),
            progress: Progress {
                looked: false,
                reused: 0,
                prefilled: 0,
                largest_chunk: 0,
                window: 0,
                finish: FinishReason::Error,
            },
        };
        // After an error the cache is undefined: it is dropped here.
        let progress = generation.run(sink)?;
        let cache_tokens = cache.len() as u32;
        self.caches.insert(request.conversation.clone(), cache);
        let mut effective = self.receipt.settings.clone();
        effective.extend([
            (EFFECTIVE_PENALTY.to_owned(), Value::Float(factor)),
            (EFFECTIVE_WINDOW.to_owned(), progress.window.into()),
            (EFFECTIVE_CHUNK.to_owned(), progress.largest_chunk.into()),
            (KV_REUSE.to_owned(), if progress.looked { "prefix" } else { "none" }.into()),
        ]);
        Ok(Completion {
            finish_reason: progress.finish,
            prompt_tokens,
            reused_tokens: progress.reused as u32,
            prefill_tokens: progress.prefilled as u32,
            cache_tokens: Some(cache_tokens),
            effective,
        })
    }

    fn reset(&mut self) -> Result<()> {
        // A map of many conversations is itself memory, so a new one takes its place.
        self.caches = HashMap::new();
        peak::give_back_freed();
        Ok(())
    }

    fn memory(&self) -> EngineMemory {
        EngineMemory { kv_cache_bytes: Some(self.caches.values().map(KvCache::bytes).sum()), ..EngineMemory::default() }
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        self.text.tokenizer.as_ref()?.decode(tokens).ok()
    }
}

fn check_toggles(toggles: &Settings) -> Result<()> {
    for (name, value) in toggles {
        let known = REQUEST_TOGGLES.contains(&name.as_str()).then(|| find(name)).flatten();
        let Some(toggle) = known else {
            let offered = REQUEST_TOGGLES.join(", ");
            return Err(EngineError::unsupported(format!(
                "toggle {name} is not honoured with a request; these are: {offered}"
            )));
        };
        toggle.check(value).map_err(|problem| EngineError::bad_request(format!("toggle {name} {problem}")))?;
    }
    Ok(())
}
