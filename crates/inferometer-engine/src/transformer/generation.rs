//! One generation: reuse the common prefix, prefill in chunks, decode.
//!
//! If the backend is lazy and the request asks for it, decode is a pipeline: step n+1 is submitted
//! before token n is read, so that the device never waits for the host. A step beyond the end is
//! then discarded. Speculative decoding reads the choices of a pass before it drafts the next one.

use super::backend::{Backend, TokenSampler};
use super::finite;
use super::model::{KvCache, Model};
use super::sampler;
use super::sampler::SamplingPlan;
use super::speculation::{Drafter, Speculating};
use inferometer_host::{Detail, Result, TokenSink};
use inferometer_protocol as spec;
use inferometer_protocol::{EngineError, FinishReason, Phase, Speculation};

/// The checked parameters of a request.
#[derive(Debug)]
pub struct Wanted {
    pub prompt: Vec<u32>,
    pub choice: SamplingPlan,
    /// The penalty's factor for the report.
    pub factor: f64,
    /// Tokens in one prefill forward pass.
    pub chunk: usize,
    pub reuse: bool,
    /// Submit step n+1 before token n is read.
    pub pipeline: bool,
    /// Clear the allocator's cache after this many chunks and tokens; 0 = never.
    pub clear_chunks: usize,
    pub clear_tokens: usize,
    /// Most tokens to generate.
    pub limit: usize,
    pub forced: Option<Vec<u32>>,
    /// Most tokens that are drafted for a pass; 0 = plain decoding.
    pub drafts: usize,
    pub stops: Vec<(u32, FinishReason)>,
}

/// The result of a generation.
#[derive(Debug)]
pub struct Progress {
    /// Whether a common prefix was searched for.
    pub looked: bool,
    pub reused: usize,
    pub prefilled: usize,
    pub largest_chunk: usize,
    /// Tokens in the penalty's window for the last token.
    pub window: usize,
    pub finish: FinishReason,
    pub speculation: Option<Speculation>,
}

/// Runs a request on a model and a cache. After an error the cache is undefined.
///
/// # Errors
/// When the backend fails.
pub fn generate<B: Backend>(
    model: &Model<B>,
    cache: &mut KvCache<B>,
    drafter: Option<Drafter<'_, B>>,
    wanted: Wanted,
    sink: &mut dyn TokenSink,
) -> Result<Progress> {
    let sampler = model.backend.sampler(&wanted.choice, &wanted.prompt, wanted.limit)?;
    let progress = Progress {
        looked: wanted.reuse,
        reused: 0,
        prefilled: 0,
        largest_chunk: 0,
        window: 0,
        finish: FinishReason::Length,
        speculation: None,
    };
    let speculating = |by| Speculating::new(by, wanted.drafts, &wanted.choice, &wanted.prompt, wanted.limit);
    let speculating = drafter.filter(|_| wanted.drafts > 0).map(speculating);
    let sync = B::LAZY && sink.detail() == Detail::ForcedSync;
    Generation {
        model,
        cache,
        sampler,
        sync,
        speculating,
        drafting: false,
        generated: 0,
        cleared: 0,
        last: 0,
        submitted: 0,
        wanted,
        progress,
    }
    .run(sink)
}

/// Waits for the device, in a separate span if the backend is lazy.
fn waiting<B: Backend, T>(sink: &mut dyn TokenSink, wait: impl FnOnce() -> Result<T>) -> Result<T> {
    if !B::LAZY {
        return wait();
    }
    let span = sink.begin(Phase::Wait);
    let waited = wait();
    sink.end(span);
    waited
}

/// A generation in progress.
struct Generation<'a, B: Backend> {
    model: &'a Model<B>,
    cache: &'a mut KvCache<B>,
    sampler: B::Sampler,
    /// Every operation is finished within its span.
    sync: bool,
    speculating: Option<Speculating<'a, B>>,
    /// The draft model is at work.
    drafting: bool,
    /// Number of tokens read.
    generated: usize,
    /// The number when it was last asked whether to clear the allocator's cache.
    cleared: usize,
    /// The last of them.
    last: u32,
    /// Tokens chosen, read or not.
    submitted: usize,
    wanted: Wanted,
    progress: Progress,
}

/// A token that was chosen but not read yet.
struct Pending<B: Backend> {
    ids: B::Ids,
    /// The token to use instead of the chosen one.
    forced: Option<u32>,
    /// Difference of the two best logits, if the request asks for it.
    gap: Option<f32>,
    /// The logits before the penalty, if the request asks for log-probabilities.
    logits: Option<Vec<f32>>,
    /// Tokens in the window of its penalty.
    window: usize,
}

/// What a request may want to know of a token.
struct Told {
    choice: Option<spec::Choice>,
    logprob: Option<spec::TokenLogprob>,
}

impl Told {
    fn report(self, sink: &mut dyn TokenSink) {
        if let Some(choice) = self.choice {
            sink.choice(choice);
        }
        if let Some(logprob) = self.logprob {
            sink.logprob(logprob);
        }
    }
}

impl<B: Backend> Generation<'_, B> {
    fn run(mut self, sink: &mut dyn TokenSink) -> Result<Progress> {
        match self.all(sink) {
            Ok(()) => {
                self.progress.speculation = self.speculating.map(|speculating| speculating.counts);
                Ok(self.progress)
            }
            Err(error) => Err(self.located(error)),
        }
    }

    /// The error with its place, if values are not finite.
    fn located(&self, error: EngineError) -> EngineError {
        match &self.speculating {
            Some(Speculating { drafter: Drafter::Model(of), .. }) if self.drafting => {
                let error = finite::located(error, of.model, self.speculating.as_ref().map_or(&[], Speculating::text));
                EngineError::new(error.kind, format!("draft model: {}", error.message))
            }
            _ => finite::located(error, self.model, &self.tokens_in()),
        }
    }

    /// The tokens that the next one to be read follows.
    fn tokens_in(&self) -> Vec<u32> {
        if self.generated == 0 {
            return self.wanted.prompt.clone();
        }
        let mut tokens = self.cache.tokens().to_vec();
        // Noted once its forward pass is submitted, which has just failed.
        if tokens.len() < self.wanted.prompt.len() + self.generated {
            tokens.push(self.last);
        }
        tokens
    }

    fn all(&mut self, sink: &mut dyn TokenSink) -> Result<()> {
        let prefill = sink.begin(Phase::Prefill);
        self.keep_prefix();
        self.cache.reserve(self.wanted.prompt.len() + self.wanted.limit - 1)?;
        self.fill_draft_model(sink)?;
        let first = self.prefill(sink)?;
        let Some((_, next)) = first else {
            sink.end(prefill);
            self.progress.finish = FinishReason::Cancelled;
            return Ok(());
        };
        sink.end(prefill);
        let decode = sink.begin(Phase::Decode);
        let finish = self.decode(next, sink);
        sink.end(decode);
        self.progress.finish = finish?;
        self.cache.forget_unknown();
        Ok(())
    }

    /// Keeps the part of the cache that matches the start of the prompt. The last prompt token is
    /// always computed, because its logits are needed.
    fn keep_prefix(&mut self) {
        let most = if self.wanted.reuse { self.wanted.prompt.len() - 1 } else { 0 };
        self.cache.keep_common(&self.wanted.prompt, most);
        self.progress.reused = self.cache.seen();
    }

    /// Runs the prompt on the draft model too, as part of the prefill: else the first draft would
    /// take long.
    fn fill_draft_model(&mut self, sink: &dyn TokenSink) -> Result<()> {
        let Some(Speculating { drafter: Drafter::Model(of), .. }) = &mut self.speculating else { return Ok(()) };
        self.drafting = true;
        if !self.wanted.reuse {
            of.cache.keep(0);
        }
        of.cache.allow_removing(self.wanted.drafts);
        let positions = self.wanted.prompt.len() + self.wanted.limit - 1;
        of.cache.reserve(positions.min(of.model.config.shape.context))?;
        of.fill(&self.wanted.prompt, self.wanted.chunk, &|| sink.cancelled())?;
        self.drafting = false;
        Ok(())
    }

    /// Runs the prompt and reads the first token; the second may already be submitted. `None` if it
    /// was cancelled.
    fn prefill(&mut self, sink: &mut dyn TokenSink) -> Result<Option<(u32, Option<Pending<B>>)>> {
        let rest = self.wanted.prompt[self.progress.reused..].to_vec();
        let chunks = rest.len().div_ceil(self.wanted.chunk);
        for (at, chunk) in rest.chunks(self.wanted.chunk).enumerate() {
            if sink.cancelled() {
                return Ok(None);
            }
            let span = sink.begin(Phase::PrefillChunk);
            self.progress.largest_chunk = self.progress.largest_chunk.max(chunk.len());
            let ids = self.model.backend.ids(chunk)?;
            if at + 1 == chunks {
                let first = self.step(&ids, chunk.len(), sink)?;
                self.cache.note(chunk);
                self.progress.prefilled += chunk.len();
                let first = self.read(first, sink);
                sink.end(span);
                return first.map(Some);
            }
            let forward = sink.begin(Phase::Forward);
            self.model.fill(&ids, chunk.len(), self.cache)?;
            if self.sync {
                self.model.settle(self.cache)?;
            }
            sink.end(forward);
            if !self.sync {
                waiting::<B, _>(sink, || self.model.settle(self.cache))?;
            }
            self.cache.note(chunk);
            self.progress.prefilled += chunk.len();
            sink.end(span);
            let every = self.wanted.clear_chunks;
            if every > 0 && (at + 1).is_multiple_of(every) {
                self.clear(sink)?;
            }
        }
        unreachable!("at least the last prompt token is run")
    }

    /// Submits the forward pass of `count` ids and the choice of the token after them.
    fn step(&mut self, ids: &B::Ids, count: usize, sink: &mut dyn TokenSink) -> Result<Pending<B>> {
        let span = sink.begin(Phase::Forward);
        let logits = self.model.forward(ids, count, self.cache)?;
        if self.sync {
            self.model.backend.finish(&logits)?;
        }
        sink.end(span);
        self.choose(logits, sink)
    }

    /// Submits the choice of a token from logits [1, vocabulary].
    fn choose(&mut self, logits: B::Tensor, sink: &mut dyn TokenSink) -> Result<Pending<B>> {
        let raw = match sink.wants_logprobs() {
            Some(_) => Some(self.read_all(&logits)?),
            None => None,
        };
        let span = sink.begin(Phase::Penalty);
        self.sampler.penalize(logits)?;
        if self.sync {
            self.sampler.finish()?;
        }
        sink.end(span);
        let gap = if sink.wants_choices() { Some(self.sampler.gap()?) } else { None };
        let span = sink.begin(Phase::Sample);
        let forced = self.wanted.forced.as_ref().map(|ids| ids[self.submitted]);
        let ids = self.sampler.choose(forced)?;
        self.model.backend.submit(&ids)?;
        if self.sync {
            self.model.backend.wait(&ids)?;
        }
        sink.end(span);
        self.submitted += 1;
        Ok(Pending { ids, forced, gap, logits: raw, window: self.sampler.window() })
    }

    fn read_all(&self, logits: &B::Tensor) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.model.backend.read(logits, &mut values)?;
        Ok(values)
    }

    /// Reads a token and reports it. In a pipeline the next one is submitted first.
    fn read(&mut self, pending: Pending<B>, sink: &mut dyn TokenSink) -> Result<(u32, Option<Pending<B>>)> {
        let ahead = B::LAZY && self.wanted.pipeline && self.submitted < self.wanted.limit;
        let next = if ahead { Some(self.step(&pending.ids, 1, sink)?) } else { None };
        let (token, told) = self.take(pending, sink)?;
        sink.token(token);
        told.report(sink);
        Ok((token, next))
    }

    /// Waits for a token and what the request wants to know of it, without reporting it.
    fn take(&mut self, pending: Pending<B>, sink: &mut dyn TokenSink) -> Result<(u32, Told)> {
        let chosen = waiting::<B, _>(sink, || self.model.backend.wait(&pending.ids))?;
        let token = pending.forced.unwrap_or(chosen);
        self.generated += 1;
        self.last = token;
        self.progress.window = pending.window;
        if let Some(speculating) = &mut self.speculating {
            speculating.push(token);
        }
        let choice = pending.gap.map(|gap| spec::Choice { token: chosen, gap });
        let logprob = match (sink.wants_logprobs(), &pending.logits) {
            (Some(top), Some(logits)) => Some(sampler::logprob(logits, token, top as usize)?),
            _ => None,
        };
        Ok((token, Told { choice, logprob }))
    }

    /// Why the last token read is the last one; `None` if generation goes on.
    fn ended(&self, sink: &dyn TokenSink) -> Option<FinishReason> {
        if let Some((_, reason)) = self.wanted.stops.iter().find(|(id, _)| *id == self.last) {
            return Some(*reason);
        }
        if self.generated == self.wanted.limit {
            return Some(FinishReason::Length);
        }
        sink.cancelled().then_some(FinishReason::Cancelled)
    }

    fn decode(&mut self, first: Option<Pending<B>>, sink: &mut dyn TokenSink) -> Result<FinishReason> {
        let (mut next, mut ended) = (first, self.ended(sink));
        loop {
            if let Some(reason) = ended {
                return Ok(reason);
            }
            self.clear_in_decode(sink)?;
            self.draft(sink)?;
            if self.speculating.as_ref().is_some_and(|speculating| !speculating.draft.is_empty()) {
                ended = self.verify(sink)?;
                continue;
            }
            let token = self.last;
            let pending = match next {
                Some(pending) => pending,
                None => {
                    let ids = self.model.backend.ids(&[token])?;
                    self.step(&ids, 1, sink)?
                }
            };
            self.cache.note(&[token]);
            (_, next) = self.read(pending, sink)?;
            ended = self.ended(sink);
        }
    }

    /// Drafts what may follow the last token, if this request speculates.
    fn draft(&mut self, sink: &mut dyn TokenSink) -> Result<()> {
        let Some(speculating) = &mut self.speculating else { return Ok(()) };
        speculating.counts.passes += 1;
        // A pass gives one token more than it accepts.
        let limit = self.wanted.limit - self.generated - 1;
        self.drafting = true;
        let span = sink.begin(Phase::Draft);
        speculating.draft(limit, self.model.config.shape.vocabulary)?;
        sink.end(span);
        self.drafting = false;
        Ok(())
    }

    /// Runs the last token and the draft in one pass, and generates tokens as long as the draft
    /// equals what is chosen, and the one after. Says why generation ended, if it did.
    fn verify(&mut self, sink: &mut dyn TokenSink) -> Result<Option<FinishReason>> {
        let draft = self.speculating.as_mut().map(|speculating| std::mem::take(&mut speculating.draft));
        let draft = draft.unwrap_or_default();
        let mut input = vec![self.last];
        input.extend(&draft);
        let span = sink.begin(Phase::Forward);
        let ids = self.model.backend.ids(&input)?;
        let logits = self.model.forward_all(&ids, input.len(), self.cache)?;
        if self.sync {
            self.model.backend.finish(&logits)?;
        }
        sink.end(span);
        let (mut tokens, mut told, mut accepted) = (Vec::with_capacity(input.len()), Vec::new(), 0);
        let ended = loop {
            let at = tokens.len();
            // What is noted stays in the cache: only tokens that are followed by another one.
            self.cache.note(&input[at..=at]);
            let logits = self.model.backend.row(&logits, at)?;
            let pending = self.choose(logits, sink)?;
            let (token, of_token) = self.take(pending, sink)?;
            tokens.push(token);
            told.push(of_token);
            let fits = draft.get(at) == Some(&token);
            accepted += u32::from(fits);
            let ended = self.ended(sink);
            if !fits || ended.is_some() {
                break ended;
            }
        };
        self.cache.forget_unknown();
        sink.tokens(&tokens);
        told.into_iter().for_each(|told| told.report(sink));
        if let Some(Speculating { counts, draft: reused, .. }) = &mut self.speculating {
            counts.verify_passes += 1;
            counts.drafted_tokens += draft.len() as u32;
            counts.accepted_tokens += accepted;
            *reused = draft;
        }
        Ok(ended)
    }

    /// Clears the allocator's cache each time that the number of generated tokens has passed a
    /// multiple of the request's.
    fn clear_in_decode(&mut self, sink: &mut dyn TokenSink) -> Result<()> {
        let (every, before) = (self.wanted.clear_tokens, std::mem::replace(&mut self.cleared, self.generated));
        if every > 0 && self.generated / every > before / every { self.clear(sink) } else { Ok(()) }
    }

    fn clear(&mut self, sink: &mut dyn TokenSink) -> Result<()> {
        let span = sink.begin(Phase::CacheClear);
        let cleared = self.model.backend.clear_allocator();
        sink.end(span);
        cleared.map(drop)
    }
}
