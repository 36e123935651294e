//! The host's sampling profiler, and a sink that reports the current phase to it. Neither is used
//! in a timed pass.

use crate::sampling;
use crate::sampling::{Running, SamplingError};
use crate::{Detail, SpanKey, TokenSink};
use inferometer_protocol::messages::FromHost;
use inferometer_protocol::{Choice, EngineError, ErrorKind, Phase, TokenLogprob};

/// The profiler between `profile_start` and `profile_stop`.
#[derive(Default)]
pub(super) struct Profiling(Option<Running>);

impl Profiling {
    pub fn start(&mut self, frequency_hz: u32) -> Result<FromHost, EngineError> {
        if self.0.is_some() {
            return Err(told(&SamplingError::Running));
        }
        self.0 = Some(sampling::start(frequency_hz).map_err(|error| told(&error))?);
        Ok(FromHost::Done)
    }

    pub fn stop(&mut self) -> Result<FromHost, EngineError> {
        let nothing = "the profiler is not running; send `profile_start` first";
        let running = self.0.take().ok_or_else(|| EngineError::bad_request(nothing))?;
        Ok(FromHost::Profile(Box::new(running.stop().map_err(|error| told(&error))?)))
    }

    /// The profiler, if it is running.
    pub fn running(&mut self) -> Option<&mut Running> {
        self.0.as_mut()
    }
}

fn told(error: &SamplingError) -> EngineError {
    let kind = match error {
        SamplingError::Frequency(_) | SamplingError::Running => ErrorKind::BadRequest,
        SamplingError::Unavailable => ErrorKind::Unsupported,
        SamplingError::Failed(_) => ErrorKind::Internal,
    };
    EngineError::new(kind, error.to_string())
}

/// A sink that reports the begin and end of prefill and decode to the profiler.
pub(super) struct Phased<'a> {
    sink: &'a mut dyn TokenSink,
    running: &'a mut Running,
    /// Number of open spans, counted from the phase's span. A depth, because dropped spans share
    /// one key.
    depth: usize,
}

impl<'a> Phased<'a> {
    pub fn new(sink: &'a mut dyn TokenSink, running: &'a mut Running) -> Self {
        Self { sink, running, depth: 0 }
    }
}

impl TokenSink for Phased<'_> {
    fn token(&mut self, id: u32) {
        self.sink.token(id);
    }

    fn wants_logprobs(&self) -> Option<u32> {
        self.sink.wants_logprobs()
    }

    fn logprob(&mut self, logprob: TokenLogprob) {
        self.sink.logprob(logprob);
    }

    fn tokens(&mut self, ids: &[u32]) {
        self.sink.tokens(ids);
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
        if self.depth > 0 {
            self.depth += 1;
        } else if matches!(phase, Phase::Prefill | Phase::Decode) {
            self.depth = 1;
            self.running.phase(Some(phase));
        }
        self.sink.begin(phase)
    }

    fn end(&mut self, key: SpanKey) {
        self.sink.end(key);
        if self.depth == 1 {
            self.running.phase(None);
        }
        self.depth = self.depth.saturating_sub(1);
    }

    fn cancelled(&self) -> bool {
        self.sink.cancelled()
    }
}

impl Drop for Phased<'_> {
    /// A failed engine leaves its spans open.
    fn drop(&mut self) {
        if self.depth > 0 {
            self.running.phase(None);
        }
    }
}
