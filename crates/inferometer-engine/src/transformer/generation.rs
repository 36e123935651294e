//! One generation: reuse the common prefix, prefill in chunks, decode.
//!
//! If the backend is lazy and the request asks for it, decode is a pipeline: step n+1 is submitted
//! before token n is read, so that the device never waits for the host. A step beyond the end is
//! then discarded.

use super::backend::{Backend, TokenSampler};
use super::finite;
use super::model::{KvCache, Model};
use super::sampler;
use super::sampler::SamplingPlan;
use inferometer_host::{Detail, Result, TokenSink};
use inferometer_protocol as spec;
use inferometer_protocol::{FinishReason, Phase};

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
}

/// Runs a request on a model and a cache. After an error the cache is undefined.
///
/// # Errors
/// When the backend fails.
pub fn generate<B: Backend>(
    model: &Model<B>,
    cache: &mut KvCache<B>,
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
    };
    let sync = B::LAZY && sink.detail() == Detail::ForcedSync;
    Generation { model, cache, sampler, sync, generated: 0, last: 0, submitted: 0, wanted, progress }.run(sink)
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
    /// Number of tokens read.
    generated: usize,
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

impl<B: Backend> Generation<'_, B> {
    fn run(mut self, sink: &mut dyn TokenSink) -> Result<Progress> {
        match self.all(sink) {
            Ok(()) => Ok(self.progress),
            Err(error) => Err(finite::located(error, self.model, &self.tokens_in())),
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
        let first = self.prefill(sink)?;
        let Some((first, next)) = first else {
            sink.end(prefill);
            self.progress.finish = FinishReason::Cancelled;
            return Ok(());
        };
        sink.end(prefill);
        let decode = sink.begin(Phase::Decode);
        let finish = self.decode(first, next, sink);
        sink.end(decode);
        self.progress.finish = finish?;
        self.cache.forget_unknown();
        Ok(())
    }

    /// Keeps the part of the cache that matches the start of the prompt. The last prompt token is
    /// always computed, because its logits are needed.
    fn keep_prefix(&mut self) {
        let common = |cache: &KvCache<B>, prompt: &[u32]| {
            cache.tokens().iter().zip(prompt).take_while(|(held, wanted)| held == wanted).count()
        };
        let keep = if self.wanted.reuse {
            common(self.cache, &self.wanted.prompt).min(self.wanted.prompt.len() - 1)
        } else {
            0
        };
        self.cache.keep(keep);
        self.progress.reused = self.cache.seen();
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
            self.clear_every(self.wanted.clear_chunks, at + 1, sink)?;
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
        let chosen = waiting::<B, _>(sink, || self.model.backend.wait(&pending.ids))?;
        let token = pending.forced.unwrap_or(chosen);
        sink.token(token);
        if let Some(gap) = pending.gap {
            sink.choice(spec::Choice { token: chosen, gap });
        }
        if let (Some(top), Some(logits)) = (sink.wants_logprobs(), &pending.logits) {
            sink.logprob(sampler::logprob(logits, token, top as usize)?);
        }
        self.generated += 1;
        self.last = token;
        self.progress.window = pending.window;
        Ok((token, next))
    }

    fn decode(&mut self, first: u32, next: Option<Pending<B>>, sink: &mut dyn TokenSink) -> Result<FinishReason> {
        let (mut token, mut next) = (first, next);
        loop {
            if let Some((_, reason)) = self.wanted.stops.iter().find(|(id, _)| *id == token) {
                return Ok(*reason);
            }
            if self.generated == self.wanted.limit {
                return Ok(FinishReason::Length);
            }
            if sink.cancelled() {
                return Ok(FinishReason::Cancelled);
            }
            self.clear_every(self.wanted.clear_tokens, self.generated, sink)?;
            let pending = match next {
                Some(pending) => pending,
                None => {
                    let ids = self.model.backend.ids(&[token])?;
                    self.step(&ids, 1, sink)?
                }
            };
            self.cache.note(&[token]);
            (token, next) = self.read(pending, sink)?;
        }
    }

    /// Clears the allocator's cache if `done` is a multiple of `every`.
    fn clear_every(&mut self, every: usize, done: usize, sink: &mut dyn TokenSink) -> Result<()> {
        if every > 0 && done.is_multiple_of(every) {
            let span = sink.begin(Phase::CacheClear);
            let cleared = self.model.backend.clear_allocator();
            sink.end(span);
            cleared?;
        }
        Ok(())
    }
}
