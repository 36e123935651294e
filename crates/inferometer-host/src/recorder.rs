//! The recorder: stamps tokens and spans into buffers that are allocated before the generation
//! begins.
//!
//! The token path never allocates, locks or does I/O; tests check this with a counting allocator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::alloc::{Count, Counts};
use crate::{Detail, Instrumentation, SpanKey, TokenSink};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::{Choice, Phase, PhaseAllocations, Span, TokenLogprob};

/// Ample for a timed pass; a profiling pass has a handful of spans per token.
const SPANS_PER_TOKEN: usize = 8;
const SPANS_AT_LEAST: usize = 4096;
const DROPPED: usize = usize::MAX;

/// What other threads of the host can read and request during a generation.
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

    /// Number of tokens generated so far.
    #[must_use]
    pub fn generated(&self) -> u32 {
        self.generated.load(Ordering::Relaxed)
    }
}

/// Sends a token with its position; see [`Recorder::with_stream`].
pub type Stream = Box<dyn FnMut(u32, u32)>;

/// Records one generation.
pub struct Recorder {
    pub tokens: Vec<u32>,
    pub token_ns: Vec<u64>,
    pub spans: Vec<Span>,
    pub spans_dropped: u64,
    /// `None` if not requested.
    pub choices: Option<Vec<Choice>>,
    /// `None` if not requested.
    pub logprobs: Option<Vec<TokenLogprob>>,
    top_logprobs: Option<u32>,
    counts: [u32; Phase::ALL.len()],
    detail: Detail,
    allocations: Option<Allocations>,
    stream: Option<Stream>,
    shared: Arc<Shared>,
}

impl Recorder {
    /// Buffers for at most `max_tokens` tokens, and for what the instrumentation requests.
    #[must_use]
    pub fn new(max_tokens: u32, instrumentation: Instrumentation, shared: Arc<Shared>) -> Self {
        let tokens = max_tokens as usize;
        let spans = match instrumentation.detail {
            Detail::Timed => SPANS_AT_LEAST,
            Detail::Operations | Detail::ForcedSync => SPANS_AT_LEAST + tokens * SPANS_PER_TOKEN,
        };
        Self {
            tokens: Vec::with_capacity(tokens),
            token_ns: Vec::with_capacity(tokens),
            spans: Vec::with_capacity(spans),
            spans_dropped: 0,
            choices: instrumentation.choices.then(|| Vec::with_capacity(tokens)),
            logprobs: instrumentation.logprobs.map(|_| Vec::with_capacity(tokens)),
            top_logprobs: instrumentation.logprobs,
            counts: [0; Phase::ALL.len()],
            detail: instrumentation.detail,
            allocations: None,
            stream: None,
            shared,
        }
    }

    /// Counts the allocations of prefill and decode.
    #[must_use]
    pub fn with_allocations(mut self, count: Count) -> Self {
        self.allocations = Some(Allocations::new(count));
        self
    }

    /// Sends each token after it is stamped. This does I/O on the token path: in warm-ups only.
    #[must_use]
    pub fn with_stream(mut self, stream: Stream) -> Self {
        self.stream = Some(stream);
        self
    }

    /// Allocations of each finished phase, if they were counted.
    #[must_use]
    pub fn phase_allocations(&self) -> Vec<PhaseAllocations> {
        self.allocations.as_ref().map(Allocations::of_phases).unwrap_or_default()
    }
}

impl TokenSink for Recorder {
    #[inline]
    fn token(&mut self, id: u32) {
        self.tokens(&[id]);
    }

    #[inline]
    fn tokens(&mut self, ids: &[u32]) {
        let now = now_ns();
        for id in ids {
            self.tokens.push(*id);
            self.token_ns.push(now);
        }
        let generated = self.tokens.len();
        self.shared.generated.store(generated as u32, Ordering::Relaxed);
        if let Some(send) = &mut self.stream {
            for (at, id) in (generated - ids.len()..).zip(ids) {
                send(at as u32, *id);
            }
        }
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

    fn wants_logprobs(&self) -> Option<u32> {
        self.top_logprobs
    }

    fn logprob(&mut self, logprob: TokenLogprob) {
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.push(logprob);
        }
    }

    #[inline]
    fn detail(&self) -> Detail {
        self.detail
    }

    #[inline]
    fn begin(&mut self, phase: Phase) -> SpanKey {
        if self.detail == Detail::Timed && !phase.in_timed_pass() {
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
        if let Some(allocations) = &mut self.allocations {
            allocations.begin(phase);
        }
        let now = now_ns();
        self.spans.push(Span { phase, index, start_ns: now, end_ns: now });
        SpanKey(key)
    }

    #[inline]
    fn end(&mut self, key: SpanKey) {
        if let Some(span) = self.spans.get_mut(key.0) {
            span.end_ns = now_ns();
            if let Some(allocations) = &mut self.allocations {
                allocations.end(span.phase);
            }
        }
    }

    #[inline]
    fn cancelled(&self) -> bool {
        self.shared.cancel.load(Ordering::Relaxed)
    }
}

/// Counts allocations per phase. Decoding tokens to text is excluded: timed passes do not do it,
/// and it would dominate the counts.
#[derive(Debug)]
struct Allocations {
    count: Count,
    /// The counts when each of [`COUNTED`] began, and the counts excluded since.
    open: [Option<(Counts, Counts)>; COUNTED.len()],
    total: [Option<Counts>; COUNTED.len()],
    left_out_from: Counts,
}

const COUNTED: [Phase; 2] = [Phase::Prefill, Phase::Decode];

impl Allocations {
    fn new(count: Count) -> Self {
        Self { count, open: Default::default(), total: Default::default(), left_out_from: Counts::default() }
    }

    fn begin(&mut self, phase: Phase) {
        let now = self.count.now();
        if phase == Phase::Detokenize {
            self.left_out_from = now;
        } else if let Some(at) = COUNTED.iter().position(|counted| *counted == phase) {
            self.open[at] = Some((now, Counts::default()));
        }
    }

    fn end(&mut self, phase: Phase) {
        let now = self.count.now();
        if phase == Phase::Detokenize {
            for (_, left_out) in self.open.iter_mut().flatten() {
                *left_out += now - self.left_out_from;
            }
        } else if let Some(at) = COUNTED.iter().position(|counted| *counted == phase)
            && let Some((from, left_out)) = self.open[at].take()
        {
            *self.total[at].get_or_insert_default() += now - from - left_out;
        }
    }

    fn of_phases(&self) -> Vec<PhaseAllocations> {
        let counted = COUNTED.iter().zip(self.total).filter_map(|(phase, total)| Some((*phase, total?)));
        counted.map(|(phase, Counts { allocations, bytes })| PhaseAllocations { phase, allocations, bytes }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_spans_are_kept_only_when_asked_for() {
        for (detail, kept) in [(Detail::Timed, 1), (Detail::Operations, 2)] {
            let instrumentation = Instrumentation { detail, ..Instrumentation::default() };
            let mut recorder = Recorder::new(4, instrumentation, Arc::default());
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
        let mut recorder = Recorder::new(1, Instrumentation::default(), Arc::default());
        for _ in 0..SPANS_AT_LEAST + 3 {
            let key = recorder.begin(Phase::PrefillChunk);
            recorder.end(key);
        }
        assert_eq!(recorder.spans.len(), SPANS_AT_LEAST);
        assert_eq!(recorder.spans_dropped, 3);
    }
}
