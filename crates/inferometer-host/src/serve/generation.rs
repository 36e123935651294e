//! One generation in one session, from its request to its result.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Output;
use crate::alloc::Count;
use crate::recorder::{Recorder, Shared};
use crate::slow_down::Slowed;
use crate::{Detail, Session, TokenSink};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::messages::{FromHost, Generate, Generated, MAX_TOKENS};
use inferometer_protocol::{Capabilities, Completion, EngineError, Prompt};

/// Minimum interval between `progress` messages.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Checks that apply to every engine.
pub fn check(g: &Generate, can: &Capabilities) -> Result<(), EngineError> {
    if !(1..=MAX_TOKENS).contains(&g.request.max_tokens) {
        let told = format!("`max_tokens` must be from 1 to {MAX_TOKENS}, not {}", g.request.max_tokens);
        return Err(EngineError::bad_request(told));
    }
    if matches!(&g.request.prompt, Prompt::Tokens(tokens) if tokens.is_empty()) {
        return Err(EngineError::bad_request("the prompt has no tokens; give at least one"));
    }
    if g.instrumentation.choices && !can.choices {
        return Err(EngineError::unsupported("this engine cannot report its own choices of tokens"));
    }
    if g.instrumentation.logprobs.is_some() && !can.logprobs {
        return Err(EngineError::unsupported("this engine cannot report log-probabilities of tokens"));
    }
    Ok(())
}

/// Runs a request in a session; `slow_down` in percent.
pub fn run(
    session: &mut dyn Session,
    g: &Generate,
    sink: &mut dyn TokenSink,
    slow_down: Option<f64>,
) -> Result<Completion, EngineError> {
    match slow_down {
        None => session.generate(&g.request, sink),
        Some(percent) => session.generate(&g.request, &mut Slowed::new(sink, percent)),
    }
}

/// The result of a request, without samples of memory, and when it was finished.
pub fn generated<W: Write + Send + 'static>(
    session: &mut dyn Session,
    (id, g): (u64, &Generate),
    accepted_ns: u64,
    shared: Arc<Shared>,
    output: &Output<W>,
    run: impl FnOnce(&mut dyn Session, &mut Recorder) -> Result<Completion, EngineError>,
) -> (Result<Generated, EngineError>, u64) {
    let wanted = g.instrumentation;
    let operations = wanted.detail != Detail::Timed;
    let mut recorder = Recorder::new(g.request.max_tokens, wanted, shared);
    if let Some(count) = operations.then(Count::begin).flatten() {
        recorder = recorder.with_allocations(count);
    }
    if wanted.stream {
        let output = output.clone();
        // A harness that is gone ends this process from the reading thread.
        recorder = recorder.with_stream(Box::new(move |index, token| {
            let _ = output.send(id, FromHost::Token { index, token });
        }));
    }
    let completion = run(session, &mut recorder);
    // Before the text is decoded, which is not part of the generation: the harness compares the
    // last token's stamp with this.
    let finished_ns = now_ns();
    let completion = match completion {
        Ok(completion) => completion,
        Err(error) => return (Err(error), finished_ns),
    };
    // The end-of-sequence token is not part of the text: a conversation's history would contain it
    // twice.
    let ended = usize::from(completion.finish_reason.is_stop());
    let text = session.decode(&recorder.tokens[..recorder.tokens.len().saturating_sub(ended)]);
    let memory = session.memory();
    let forced_sync = wanted.detail == Detail::ForcedSync;
    let span_timing = operations.then(|| session.span_timing(forced_sync)).flatten();
    let allocations = recorder.phase_allocations();
    let Recorder { tokens, token_ns, spans, spans_dropped, choices, logprobs, .. } = recorder;
    let generated = Generated {
        tokens,
        token_ns,
        accepted_ns,
        finished_ns,
        spans,
        spans_dropped,
        span_timing,
        allocations,
        memory_samples: Vec::new(),
        choices,
        logprobs,
        text,
        completion,
        memory,
    };
    (Ok(generated), finished_ns)
}

/// Sends `progress` from its own thread until dropped.
pub struct Progress {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    pub fn start<W: Write + Send + 'static>(output: Output<W>, id: u64, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = channel::<()>();
        let report = move || {
            while stopped.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
                if output.send(id, FromHost::Progress { generated_tokens: shared.generated() }).is_err() {
                    return;
                }
            }
        };
        // Without this thread only the progress display is lost.
        let thread = std::thread::Builder::new().name("host-progress".into()).spawn(report).ok();
        Self { stop: Some(stop), thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
