//! A loaded model that answers requests: checks the request, keeps the conversations' caches,
//! reports the effective settings.

use std::collections::HashMap;
use std::sync::Arc;

use super::backend::Backend;
use super::detokenizing::Detokenizing;
use super::finite;
use super::generation::{Wanted, generate};
use super::model::{KvCache, Model};
use super::sampler::{self, Order, SamplingPlan};
use super::speculation::{DraftModel, Drafter, check_vocabularies};
use crate::text::{ChatTemplate, Tokenizer};
use inferometer_host::heap;
use inferometer_host::{Detail, MemoryProbe, Result, Session, TokenSink};
use inferometer_protocol::effective::{EFFECTIVE_CHUNK, EFFECTIVE_PENALTY, EFFECTIVE_WINDOW, factor_in_force};
use inferometer_protocol::toggle::{
    CACHE_CLEAR_CHUNKS, CACHE_CLEAR_TOKENS, DEFAULT_PREFILL_CHUNK, DEFAULT_WINDOW_CAP, DRAFT_MODEL, KV_REUSE,
    LAZY_PIPELINE, LOOKUP_NGRAM, MOST_DRAFT_TOKENS, NUM_DRAFT_TOKENS, PREFILL_CHUNK_SIZE, REPETITION_CONTEXT_SIZE,
    REPETITION_PENALTY, REPETITION_WINDOW_CAP, SAMPLING_ORDER, Scope, find,
};
use inferometer_protocol::{
    Completion, EngineError, EngineMemory, FinishReason, Phase, Prompt, Receipt, Request, Settings, SpanTiming, Value,
};

/// Toggles that a request may have on every backend.
pub const REQUEST_TOGGLES: [&str; 8] = [
    REPETITION_PENALTY,
    REPETITION_CONTEXT_SIZE,
    REPETITION_WINDOW_CAP,
    PREFILL_CHUNK_SIZE,
    KV_REUSE,
    NUM_DRAFT_TOKENS,
    LOOKUP_NGRAM,
    SAMPLING_ORDER,
];
/// Further toggles on a lazy backend with its own allocator.
pub const LAZY_TOGGLES: [&str; 3] = [CACHE_CLEAR_CHUNKS, CACHE_CLEAR_TOKENS, LAZY_PIPELINE];
/// As in mlx-lm, the allocator's cache is cleared after each prefill chunk and every 256 tokens.
const DEFAULT_CLEAR_CHUNKS: u64 = 1;
const DEFAULT_CLEAR_TOKENS: u64 = 256;

/// The session of one model on one backend.
pub struct TransformerSession<B: Backend> {
    model: Model<B>,
    text: Text,
    receipt: Receipt,
    /// The default cache and one for each named conversation. A cache is absent while a generation
    /// uses it.
    caches: HashMap<Option<String>, KvCache<B>>,
    draft: Option<Draft<B>>,
}

/// The draft model with its caches, which belong to the same conversations as the model's.
struct Draft<B: Backend> {
    model: Model<B>,
    caches: HashMap<Option<String>, KvCache<B>>,
}

/// A model's tokenizer and chat template.
#[derive(Debug)]
pub struct Text {
    pub tokenizer: Option<Tokenizer>,
    /// The chat template, or why there is none. A model with a bad template can still be measured.
    pub template: std::result::Result<ChatTemplate, String>,
}

impl Text {
    fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing = "this model has no tokenizer.json; send the prompt as token ids";
        self.tokenizer.as_ref().ok_or_else(|| EngineError::unsupported(missing))
    }

    /// End-of-sequence tokens with the reason that each of them is for the generation's end.
    fn ends(&self, ids: &[u32]) -> Vec<(u32, FinishReason)> {
        let text = |id: u32| self.tokenizer.as_ref()?.decode(&[id]).ok();
        let reason = |id: u32| text(id).map_or(FinishReason::Stop, |text| FinishReason::of_end_token(&text));
        ids.iter().map(|id| (*id, reason(*id))).collect()
    }

    fn ids(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let bad = |e: crate::text::TextError| EngineError::bad_request(e.to_string());
        match prompt {
            Prompt::Tokens(ids) => Ok(ids.clone()),
            Prompt::Text(text) => self.tokenizer()?.encode(text, true).map_err(bad),
            Prompt::Messages(chat) => {
                let tokenizer = self.tokenizer()?;
                let template = self.template.as_ref().map_err(EngineError::unsupported)?;
                let text = template.render(chat, true).map_err(bad)?;
                // The template has already written the special tokens.
                tokenizer.encode(&text, false).map_err(bad)
            }
        }
    }
}

impl<B: Backend> TransformerSession<B> {
    /// Creates a session. The caller fills in the receipt's description of the model.
    pub fn new(model: Model<B>, text: Text, receipt: Receipt) -> Self {
        Self { model, text, receipt, caches: HashMap::new(), draft: None }
    }

    /// The same session with a model that drafts; `text`, `name` and `fingerprint` are that
    /// model's.
    ///
    /// # Errors
    /// When it has another vocabulary than the session's model, or the backend fails.
    pub fn with_draft_model(mut self, model: Model<B>, text: &Text, name: &str, fingerprint: String) -> Result<Self> {
        let shape = |model: &Model<B>| model.config.shape.vocabulary;
        check_vocabularies(
            (shape(&model), text.tokenizer.as_ref()),
            (shape(&self.model), self.text.tokenizer.as_ref()),
        )
        .map_err(|error| EngineError::new(error.kind, format!("{DRAFT_MODEL} = {name:?}: {}", error.message)))?;
        warm_up(&model)?;
        self.receipt.details.extend([
            ("draft_weight_bytes".to_owned(), model.held().bytes.to_string()),
            ("draft_fingerprint".to_owned(), fingerprint),
        ]);
        self.draft = Some(Draft { model, caches: HashMap::new() });
        Ok(self)
    }

    /// Runs one token through the model and discards it, so that the backend does its first-use
    /// preparation now.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn warm_up(&self) -> Result<()> {
        warm_up(&self.model)
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
        self.check_toggles(&request.toggles)?;
        let sampling = &request.sampling;
        let count = |name: &str, default: u64| request.toggles.get(name).and_then(Value::as_count).unwrap_or(default);
        let factor =
            request.toggles.get(REPETITION_PENALTY).and_then(Value::as_float).unwrap_or(sampling.repetition_penalty);
        let factor = factor_in_force(factor);
        sampler::check(sampling, factor)?;
        let order = request.toggles.get(SAMPLING_ORDER).and_then(Value::as_text);
        let choice = SamplingPlan {
            order: Order::ALL.into_iter().find(|known| order == Some(known.name())).unwrap_or_default(),
            sampling: sampling.clone(),
            factor: factor as f32,
            context_size: count(REPETITION_CONTEXT_SIZE, sampling.repetition_context_size),
            cap: count(REPETITION_WINDOW_CAP, DEFAULT_WINDOW_CAP),
        };
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
        let drafts = size(count(NUM_DRAFT_TOKENS, 0));
        self.check_drafts(drafts, count(LOOKUP_NGRAM, 0), request.toggles.get(LAZY_PIPELINE))?;
        Ok(Wanted {
            drafts,
            prompt,
            choice,
            factor,
            chunk: size(count(PREFILL_CHUNK_SIZE, DEFAULT_PREFILL_CHUNK)),
            pipeline: drafts == 0
                && request
                    .toggles
                    .get(LAZY_PIPELINE)
                    .map_or(self.model.backend.runs_ahead(), |v| *v == Value::Bool(true)),
            clear_chunks: size(count(CACHE_CLEAR_CHUNKS, DEFAULT_CLEAR_CHUNKS)),
            clear_tokens: size(count(CACHE_CLEAR_TOKENS, DEFAULT_CLEAR_TOKENS)),
            reuse: request.toggles.get(KV_REUSE).and_then(Value::as_text) != Some("none"),
            limit,
            forced: request.forced_tokens.clone(),
            stops: if steered { Vec::new() } else { self.text.ends(&self.model.config.eos) },
        })
    }

    /// Checks that something drafts, if drafts are asked for.
    fn check_drafts(&self, drafts: usize, ngram: u64, pipeline: Option<&Value>) -> Result<()> {
        let asked = format!("{NUM_DRAFT_TOKENS} = {drafts}");
        if drafts as u64 > MOST_DRAFT_TOKENS {
            return Err(EngineError::bad_request(format!("{asked}: must be at most {MOST_DRAFT_TOKENS}")));
        }
        if drafts > 0 && ngram == 0 && self.draft.is_none() {
            return Err(EngineError::bad_request(format!(
                "{asked}, but nothing drafts: set {LOOKUP_NGRAM} above 0 for prompt look-up, or load a {DRAFT_MODEL}"
            )));
        }
        if drafts > 0 && pipeline == Some(&Value::Bool(true)) {
            return Err(EngineError::bad_request(format!(
                "{asked} does not go with {LAZY_PIPELINE} = true: the next tokens are drafted when the last ones are \
                 read; leave one of the two out"
            )));
        }
        Ok(())
    }

    fn check_toggles(&self, toggles: &Settings) -> Result<()> {
        let honoured = |name: &str| self.receipt.toggles.iter().any(|honoured| honoured == name);
        let at_request = |name: &&str| honoured(name) && find(name).is_some_and(|t| t.scope == Scope::Request);
        for (name, value) in toggles {
            let Some(toggle) = Some(name.as_str()).filter(at_request).and_then(find) else {
                let offered: Vec<&str> = self.receipt.toggles.iter().map(String::as_str).filter(at_request).collect();
                return Err(EngineError::unsupported(format!(
                    "toggle {name} is not honoured with a request; these are: {}",
                    offered.join(", ")
                )));
            };
            toggle.check(value).map_err(|problem| EngineError::bad_request(format!("toggle {name} {problem}")))?;
        }
        Ok(())
    }

    fn check_ids(&self, what: &str, ids: &[u32]) -> Result<()> {
        let vocabulary = self.model.config.shape.vocabulary;
        match ids.iter().position(|id| *id as usize >= vocabulary) {
            None => Ok(()),
            Some(at) => Err(EngineError::bad_request(format!(
                "{what}: token id {} at index {at} is not below the vocabulary's size, {vocabulary}",
                ids[at]
            ))),
        }
    }

    /// Checks that a request fits the context. The last generated token is not run through the
    /// model, so it needs no position.
    fn check_context(&self, prompt: usize, limit: usize) -> Result<()> {
        let (needed, context) = (prompt + limit - 1, self.model.config.shape.context);
        if needed <= context {
            return Ok(());
        }
        Err(EngineError::bad_request(format!(
            "{prompt} prompt tokens and {limit} to generate need {needed} positions, but the model's context is {context} \
             (max_position_embeddings in config.json); shorten the prompt or lower max_tokens"
        )))
    }
}

impl<B: Backend> Session for TransformerSession<B> {
    fn receipt(&self) -> Receipt {
        self.receipt.clone()
    }

    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        let wanted = self.wanted(request, sink)?;
        let (prompt_tokens, factor, drafts) = (wanted.prompt.len() as u32, wanted.factor, wanted.drafts);
        let order = wanted.choice.order;
        let asked = request.toggles.get(LOOKUP_NGRAM).and_then(Value::as_count).map_or(0, size);
        let ngram = if drafts > 0 { asked } else { 0 };
        let mut effective = self.receipt.settings.clone();
        if B::LAZY {
            effective.extend([
                (CACHE_CLEAR_CHUNKS.to_owned(), wanted.clear_chunks.into()),
                (CACHE_CLEAR_TOKENS.to_owned(), wanted.clear_tokens.into()),
                (LAZY_PIPELINE.to_owned(), wanted.pipeline.into()),
            ]);
        }
        self.model.backend.reset_peak()?;
        let mut cache = match self.caches.remove(&request.conversation) {
            Some(cache) => cache,
            None => self.model.cache()?,
        };
        let mut draft_cache = match &mut self.draft {
            Some(draft) if drafts > 0 && ngram == 0 => Some(match draft.caches.remove(&request.conversation) {
                Some(cache) => cache,
                None => draft.model.cache()?,
            }),
            _ => None,
        };
        let drafter = match (&self.draft, &mut draft_cache) {
            (Some(Draft { model, .. }), Some(cache)) => Some(Drafter::Model(DraftModel { model, cache })),
            _ if ngram > 0 => Some(Drafter::Lookup { ngram }),
            _ => None,
        };
        // After an error the caches are undefined, so they are dropped here.
        let progress = match (sink.detail(), &self.text.tokenizer) {
            (Detail::Operations | Detail::ForcedSync, Some(tokenizer)) => {
                generate(&self.model, &mut cache, drafter, wanted, &mut Detokenizing::new(sink, tokenizer))?
            }
            _ => generate(&self.model, &mut cache, drafter, wanted, sink)?,
        };
        let cache_tokens = cache.len() as u32;
        self.caches.insert(request.conversation.clone(), cache);
        if let (Some(draft), Some(cache)) = (&mut self.draft, draft_cache) {
            draft.caches.insert(request.conversation.clone(), cache);
        }
        effective.extend([
            (EFFECTIVE_PENALTY.to_owned(), Value::Float(factor)),
            (EFFECTIVE_WINDOW.to_owned(), progress.window.into()),
            (EFFECTIVE_CHUNK.to_owned(), progress.largest_chunk.into()),
            (KV_REUSE.to_owned(), if progress.looked { "prefix" } else { "none" }.into()),
            (SAMPLING_ORDER.to_owned(), order.name().into()),
            (NUM_DRAFT_TOKENS.to_owned(), drafts.into()),
            (LOOKUP_NGRAM.to_owned(), ngram.into()),
        ]);
        Ok(Completion {
            finish_reason: progress.finish,
            prompt_tokens,
            reused_tokens: progress.reused as u32,
            prefill_tokens: progress.prefilled as u32,
            cache_tokens: Some(cache_tokens),
            effective,
            speculation: progress.speculation,
            served: None,
        })
    }

    fn reset(&mut self) -> Result<()> {
        // A new map, because a map of many conversations uses memory itself.
        self.caches = HashMap::new();
        if let Some(draft) = &mut self.draft {
            draft.caches = HashMap::new();
        }
        self.model.backend.clear_allocator()?;
        heap::give_back_freed();
        Ok(())
    }

    fn clear_cache(&mut self) -> Result<()> {
        if self.model.backend.clear_allocator()? {
            return Ok(());
        }
        Err(EngineError::unsupported("this engine has no allocator cache to clear"))
    }

    fn memory(&self) -> EngineMemory {
        let drafts = self.draft.iter().flat_map(|draft| draft.caches.values());
        let kv_cache_bytes = Some(self.caches.values().chain(drafts).map(KvCache::bytes).sum());
        let own = self.model.backend.memory();
        let memory = match &self.draft {
            Some(draft) if !B::MEMORY_OF_PROCESS => both(own, draft.model.backend.memory()),
            _ => own,
        };
        EngineMemory { kv_cache_bytes, ..memory }
    }

    fn span_timing(&self, forced_sync: bool) -> Option<SpanTiming> {
        Some(match (B::LAZY, forced_sync) {
            (false, _) => SpanTiming::Done,
            (true, false) => SpanTiming::Submit,
            (true, true) => SpanTiming::ForcedSync,
        })
    }

    fn memory_probe(&self) -> Option<MemoryProbe> {
        let own = self.model.backend.memory_probe()?;
        match &self.draft {
            Some(draft) if !B::MEMORY_OF_PROCESS => {
                let drafts = draft.model.backend.memory_probe()?;
                Some(Arc::new(move || both(own(), drafts())))
            }
            _ => Some(own),
        }
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        self.text.tokenizer.as_ref()?.decode(tokens).ok()
    }
}

/// The memory of two models on backends that count their own. Peaks of different moments have no
/// sum.
fn both(a: EngineMemory, b: EngineMemory) -> EngineMemory {
    let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
    EngineMemory {
        active_bytes: sum(a.active_bytes, b.active_bytes),
        cache_bytes: sum(a.cache_bytes, b.cache_bytes),
        peak_bytes: None,
        kv_cache_bytes: sum(a.kv_cache_bytes, b.kv_cache_bytes),
    }
}

fn warm_up<B: Backend>(model: &Model<B>) -> Result<()> {
    let backend = &model.backend;
    let logits = model.forward(&backend.ids(&[0])?, 1, &mut model.cache()?);
    let logits = logits.map_err(|error| finite::located(error, model, &[0]))?;
    backend.read(&logits, &mut Vec::new())
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
