//! An artificial slow-down: the `slow_down_percent` option of built-in engines, to test the harness
//! on a real engine.
//!
//! After each token and at the end of the prefill, the host is busy for a share of the time that
//! the engine took. The delay appears in the stamps and spans like the engine's own work.

use crate::{Detail, Result, SpanKey, TokenSink};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::{Choice, EngineError, EngineSpec, Kind, OptionSpec, Phase, TokenLogprob};

pub const SLOW_DOWN: &str = "slow_down_percent";
const MOST: f64 = 1000.0;

/// An option of every engine that this binary hosts.
pub const OPTION: OptionSpec = OptionSpec {
    name: SLOW_DOWN,
    kind: Kind::Float,
    choices: &[],
    paths: false,
    meaning: "artificial slow-down of prefill and decode by a busy loop, to test the harness (default 0)",
};

/// Removes `slow_down_percent` from the engine's options; `None` if absent or 0.
///
/// # Errors
/// When the value is not a number from 0 to 1000.
pub fn take(engine: &mut EngineSpec) -> Result<Option<f64>> {
    let Some(value) = engine.options.remove(SLOW_DOWN) else { return Ok(None) };
    match value.as_float().filter(|percent| (0.0..=MOST).contains(percent)) {
        Some(percent) => Ok((percent > 0.0).then_some(percent)),
        None => Err(EngineError::bad_request(format!("{SLOW_DOWN} = {value}: must be a number from 0 to {MOST}"))),
    }
}

/// A sink that delays the engine.
pub struct Slowed<'a> {
    sink: &'a mut dyn TokenSink,
    share: f64,
    /// When the last token was passed on.
    last_ns: Option<u64>,
    prefill: Option<(SpanKey, u64)>,
}

impl<'a> Slowed<'a> {
    pub fn new(sink: &'a mut dyn TokenSink, percent: f64) -> Self {
        Self { sink, share: percent / 100.0, last_ns: None, prefill: None }
    }

    /// Busy-waits for a share of the time since `since_ns`.
    fn lag(&self, since_ns: u64) {
        let now = now_ns();
        let until = now + (now.saturating_sub(since_ns) as f64 * self.share) as u64;
        while now_ns() < until {
            std::hint::spin_loop();
        }
    }
}

impl TokenSink for Slowed<'_> {
    fn token(&mut self, id: u32) {
        self.tokens(&[id]);
    }

    fn tokens(&mut self, ids: &[u32]) {
        // The first token's time is part of the prefill, which was delayed at its end.
        if let Some(last) = self.last_ns {
            self.lag(last);
        }
        self.sink.tokens(ids);
        self.last_ns = Some(now_ns());
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
        let key = self.sink.begin(phase);
        if phase == Phase::Prefill {
            self.prefill = Some((key, now_ns()));
        }
        key
    }

    fn end(&mut self, key: SpanKey) {
        if let Some((_, since)) = self.prefill.take_if(|(prefill, _)| prefill.0 == key.0) {
            self.lag(since);
        }
        self.sink.end(key);
    }

    fn cancelled(&self) -> bool {
        self.sink.cancelled()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Instrumentation;
    use crate::recorder::Recorder;
    use inferometer_protocol::{Settings, Value};

    fn work(ns: u64) {
        let until = now_ns() + ns;
        while now_ns() < until {}
    }

    /// Checks only a lower bound, so that a busy machine cannot make it fail.
    #[test]
    fn what_the_engine_took_is_taken_again() {
        const STEP: u64 = 200_000;
        let mut recorder = Recorder::new(3, Instrumentation::default(), Arc::default());
        let mut sink = Slowed::new(&mut recorder, 100.0);
        let prefill = sink.begin(Phase::Prefill);
        work(STEP);
        let chunk = sink.begin(Phase::PrefillChunk);
        sink.end(chunk);
        sink.end(prefill);
        for id in 0..3 {
            sink.token(id);
            work(STEP);
        }
        assert_eq!(recorder.tokens, [0, 1, 2]);
        assert!(recorder.spans[0].end_ns - recorder.spans[0].start_ns >= 2 * STEP);
        let gaps: Vec<u64> = recorder.token_ns.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= 2 * STEP), "{gaps:?}");
    }

    #[test]
    fn the_option_is_taken_out_and_checked() {
        let of = |value: Value| {
            let options = Settings::from([(SLOW_DOWN.to_owned(), value)]);
            let mut engine = EngineSpec { name: "x".into(), label: "x".into(), options };
            let taken = take(&mut engine);
            assert!(engine.options.is_empty());
            taken
        };
        assert_eq!(of(Value::Int(10)), Ok(Some(10.0)));
        assert_eq!(of(Value::Float(0.0)), Ok(None));
        for wrong in [Value::Int(-1), Value::Int(1001), "10 %".into()] {
            assert!(of(wrong).unwrap_err().message.contains(SLOW_DOWN));
        }
    }
}
