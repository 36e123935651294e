//! In the profiled pass every token is detokenized as it comes, as in a streaming server. Timed
//! passes decode the text after the generation, outside every figure.

use crate::text::{TextStream, Tokenizer};
use inferometer_host::{Detail, SpanKey, TokenSink};
use inferometer_protocol::{Choice, Phase, TokenLogprob};

/// A sink that detokenizes each token after its stamp, in a separate span.
pub struct Detokenizing<'a> {
    sink: &'a mut dyn TokenSink,
    tokenizer: &'a Tokenizer,
    stream: TextStream<'a>,
}

impl<'a> Detokenizing<'a> {
    pub fn new(sink: &'a mut dyn TokenSink, tokenizer: &'a Tokenizer) -> Self {
        Self { sink, tokenizer, stream: tokenizer.stream() }
    }
}

impl TokenSink for Detokenizing<'_> {
    fn token(&mut self, id: u32) {
        self.tokens(&[id]);
    }

    fn tokens(&mut self, ids: &[u32]) {
        self.sink.tokens(ids);
        for id in ids {
            let span = self.sink.begin(Phase::Detokenize);
            let text = self.stream.push(*id);
            self.sink.end(span);
            // Tokens that do not form valid text do not fail the generation: decoding restarts at
            // the next token.
            if std::hint::black_box(text).is_err() {
                self.stream = self.tokenizer.stream();
            }
        }
    }

    fn wants_logprobs(&self) -> Option<u32> {
        self.sink.wants_logprobs()
    }

    fn logprob(&mut self, logprob: TokenLogprob) {
        self.sink.logprob(logprob);
    }

    fn wants_choices(&self) -> bool {
        self.sink.wants_choices()
    }

    fn choice(&mut self, choice: Choice) {
        self.sink.choice(choice);
    }

    fn detail(&self) -> Detail {
        self.sink.detail()
    }

    fn begin(&mut self, phase: Phase) -> SpanKey {
        self.sink.begin(phase)
    }

    fn end(&mut self, key: SpanKey) {
        self.sink.end(key);
    }

    fn cancelled(&self) -> bool {
        self.sink.cancelled()
    }
}
