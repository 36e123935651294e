//! One generation: keep the common prefix, prefill in chunks, decode.

use inferometer_host::protocol::{Choice, FinishReason, Phase};
use inferometer_host::{Result, TokenSink};
use llama_cpp_2::token::LlamaToken;

use crate::loaded::Loaded;
use crate::logits::logprob;
use crate::request::Wanted;
use crate::sampler::Sampler;

/// The result of a generation.
#[derive(Debug)]
pub struct Progress {
    pub reused: usize,
    pub prefilled: usize,
    pub largest_chunk: usize,
    /// Tokens in the penalty's window for the last token.
    pub window: usize,
    pub finish: FinishReason,
}

/// A generation in progress.
pub struct Generation<'a> {
    loaded: &'a mut Loaded,
    /// The tokens in the KV cache.
    cached: &'a mut Vec<u32>,
    wanted: &'a Wanted,
    sampler: Sampler,
    generated: usize,
    progress: Progress,
}

impl<'a> Generation<'a> {
    pub fn new(loaded: &'a mut Loaded, cached: &'a mut Vec<u32>, wanted: &'a Wanted) -> Self {
        let sampler = Sampler::new(&wanted.chain, &wanted.prompt, wanted.limit, loaded.limits().vocabulary);
        let progress =
            Progress { reused: 0, prefilled: 0, largest_chunk: 0, window: 0, finish: FinishReason::Cancelled };
        Self { loaded, cached, wanted, sampler, generated: 0, progress }
    }

    /// Runs it. After an error the cache is undefined.
    ///
    /// # Errors
    /// When llama.cpp fails, or computes logits that are not finite.
    pub fn run(mut self, sink: &mut dyn TokenSink) -> Result<Progress> {
        let prefill = sink.begin(Phase::Prefill);
        let first = self.prefill(sink)?;
        sink.end(prefill);
        if let Some(first) = first {
            let decode = sink.begin(Phase::Decode);
            self.progress.finish = self.decode(first, sink)?;
            sink.end(decode);
        }
        Ok(self.progress)
    }

    /// Runs the prompt and generates the first token; `None` if it was cancelled.
    fn prefill(&mut self, sink: &mut dyn TokenSink) -> Result<Option<u32>> {
        let kept = self.loaded.keep(self.wanted.common(self.cached));
        self.cached.truncate(kept);
        self.progress.reused = kept;
        let wanted = self.wanted;
        let mut rest = &wanted.prompt[kept..];
        loop {
            if sink.cancelled() {
                return Ok(None);
            }
            let span = sink.begin(Phase::PrefillChunk);
            let (chunk, after) = rest.split_at(wanted.chunk.min(rest.len()));
            self.forward(chunk, after.is_empty(), sink)?;
            self.progress.prefilled += chunk.len();
            self.progress.largest_chunk = self.progress.largest_chunk.max(chunk.len());
            if after.is_empty() {
                let first = self.next(sink)?;
                sink.end(span);
                return Ok(Some(first));
            }
            sink.end(span);
            rest = after;
        }
    }

    fn decode(&mut self, first: u32, sink: &mut dyn TokenSink) -> Result<FinishReason> {
        let mut last = first;
        loop {
            if let Some(reason) = self.ended(last, sink) {
                return Ok(reason);
            }
            self.forward(&[last], true, sink)?;
            last = self.next(sink)?;
        }
    }

    fn forward(&mut self, tokens: &[u32], last: bool, sink: &mut dyn TokenSink) -> Result<()> {
        let span = sink.begin(Phase::Forward);
        self.loaded.run(tokens, self.cached.len(), last)?;
        sink.end(span);
        self.cached.extend(tokens);
        Ok(())
    }

    /// Generates a token from the logits of the last forward pass and reports it.
    fn next(&mut self, sink: &mut dyn TokenSink) -> Result<u32> {
        self.progress.window = self.wanted.chain.penalty.window(self.wanted.prompt.len() + self.generated);
        let logits = self.loaded.logits();
        let chosen = self.sampler.choose(logits, sink)?;
        let forced = self.wanted.forced.as_ref().map(|ids| ids[self.generated]);
        let token = forced.unwrap_or(chosen.token);
        sink.token(token);
        self.generated += 1;
        if let Some(gap) = chosen.gap {
            sink.choice(Choice { token: chosen.token, gap });
        }
        if let Some(top) = sink.wants_logprobs() {
            sink.logprob(logprob(logits, token, top as usize));
        }
        self.sampler.note(token);
        Ok(token)
    }

    /// Why `last` is the last token; `None` if generation goes on.
    fn ended(&self, last: u32, sink: &dyn TokenSink) -> Option<FinishReason> {
        let (vocabulary, token) = (self.loaded.model().vocab(), LlamaToken(last as i32));
        if self.wanted.ends && vocabulary.is_eog(token) {
            let text = vocabulary.token_to_piece(token, true, None);
            return Some(FinishReason::of_end_token(&String::from_utf8_lossy(&text)));
        }
        if self.generated == self.wanted.limit {
            return Some(FinishReason::Length);
        }
        sink.cancelled().then_some(FinishReason::Cancelled)
    }
}
