//! The recorder: stamps tokens and spans into buffers sized before the generation begins.
//!
//! Nothing on its token path allocates, locks or does I/O; `tests` hold that with a counting allocator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{SpanKey, TokenSink};
use crate::clock::now_ns;
use crate::spec::{Choice, Phase, Span};

/// Spans of a timed pass fit by far; the profiled pass has a handful a token.
const SPANS_PER_TOKEN: usize = 8;
const SPANS_AT_LEAST: usize = 4096;
const DROPPED: usize = usize::MAX;

/// What other threads of the host may see and say during a generation.
#[derive(Debug, Default)]
pub struct Shared {
    cancel: AtomicBool,
    generated: AtomicU32,
}

impl Shared {
    /// Asks the generation to stop.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// Tokens generated so far.
    #[must_use]
    pub fn generated(&self) -> u32 {
        self.generated.load(Ordering::Relaxed)
    }
}

/// Collects one generation.
#[derive(Debug)]
pub struct Recorder {
    pub tokens: Vec<u32>,
    pub token_ns: Vec<u64>,
    pub spans: Vec<Span>,
    pub spans_dropped: u64,
    /// `None` where they are not asked for.
    pub choices: Option<Vec<Choice>>,
    counts: [u32; Phase::ALL.len()],
    operation_spans: bool,
    shared: Arc<Shared>,
}

impl Recorder {
    /// Buffers for at most `max_tokens` tokens. With `operation_spans` spans of single operations are kept too.
    #[must_use]
    pub fn new(max_tokens: u32, operation_spans: bool, shared: Arc<Shared>) -> Self {
        let tokens = max_tokens as usize;
        let spans = if operation_spans { SPANS_AT_LEAST + tokens * SPANS_PER_TOKEN } else { SPANS_AT_LEAST };
        Self {
            tokens: Vec::with_capacity(tokens),
            token_ns: Vec::with_capacity(tokens),
            spans: Vec::with_capacity(spans),
            spans_dropped: 0,
            choices: None,
            counts: [0; Phase::ALL.len()],
            operation_spans,
            shared,
        }
    }

    /// Asks the engine for its own choices, with room for as many as tokens.
    #[must_use]
    pub fn with_choices(mut self) -> Self {
        self.choices = Some(Vec::with_capacity(self.tokens.capacity()));
        self
    }
}

impl TokenSink for Recorder {
    #[inline]
    fn token(&mut self, id: u32) {
        let now = now_ns();
        self.tokens.push(id);
        self.token_ns.push(now);
        self.shared.generated.store(self.tokens.len() as u32, Ordering::Relaxed);
    }

    #[inline]
    fn wants_choices(&self) -> bool {
        self.choices.is_some()
    }

    #[inline]
    fn choice(&mut self, choice: Choice) {
        if let Some(choices) = &mut self.choices {
            choices.push(choice);
        }
    }

    #[inline]
    fn begin(&mut self, phase: Phase) -> SpanKey {
        if !self.operation_spans && !phase.in_timed_pass() {
            return SpanKey(DROPPED);
        }
        if self.spans.len() == self.spans.capacity() {
            self.spans_dropped += 1;
            return SpanKey(DROPPED);
        }
        let count = &mut self.counts[phase as usize];
        let index = *count;
        *count += 1;
        let key = self.spans.len();
        let now = now_ns();
        self.spans.push(Span { phase, index, start_ns: now, end_ns: now });
        SpanKey(key)
    }

    #[inline]
    fn end(&mut self, key: SpanKey) {
        if let Some(span) = self.spans.get_mut(key.0) {
            span.end_ns = now_ns();
        }
    }

    #[inline]
    fn cancelled(&self) -> bool {
        self.shared.cancel.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_spans_are_kept_only_when_asked_for() {
        for (operations, kept) in [(false, 1), (true, 2)] {
            let mut recorder = Recorder::new(4, operations, Arc::default());
            let decode = recorder.begin(Phase::Decode);
            let sample = recorder.begin(Phase::Sample);
            recorder.token(7);
            recorder.end(sample);
            recorder.end(decode);
            assert_eq!(recorder.spans.len(), kept);
            assert!(recorder.spans[0].end_ns >= recorder.token_ns[0]);
            assert!(recorder.spans[0].start_ns <= recorder.token_ns[0]);
        }
    }

    #[test]
    fn a_full_span_buffer_drops_and_counts() {
        let mut recorder = Recorder::new(1, false, Arc::default());
        for _ in 0..SPANS_AT_LEAST + 3 {
            let key = recorder.begin(Phase::PrefillChunk);
            recorder.end(key);
        }
        assert_eq!(recorder.spans.len(), SPANS_AT_LEAST);
        assert_eq!(recorder.spans_dropped, 3);
    }
}
