//! The serve loop: answers protocol messages for the engine of this host.
//!
//! A separate thread reads standard input, so that `cancel` takes effect during work and the end of
//! the input ends the host at once. All other work runs in order on the calling thread, where the
//! session lives.

mod generation;
mod lanes;
mod memory;
mod profiling;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use self::generation::{Progress, check, generated, run};
use self::lanes::Lanes;
use self::memory::MemoryWatch;
use self::profiling::{Phased, Profiling};
use crate::heap;
use crate::placement;
use crate::placement::AFFINITY;
use crate::recorder::{Recorder, Shared};
use crate::sampling;
use crate::slow_down;
use crate::slow_down::SLOW_DOWN;
use crate::{Engine, Load, Session};
use inferometer_protocol::bounded::{LineError, Lines, brief, quote};
use inferometer_protocol::clock::{CLOCK_ID, now_ns};
use inferometer_protocol::messages::{
    Envelope, FromHost, Generate, Generated, MAX_LINE_BYTES, Open, Ready, ToHost, VERSION, Version,
};
use inferometer_protocol::{EngineError, ErrorKind};

/// Name in scenarios of an engine that is given by its program.
const EXEC: &str = "exec";

/// Why a host stopped serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `close` was received.
    Closed,
    /// The input ended: the harness is gone.
    InputEnded,
    /// The input does not follow the protocol, or the output cannot be written.
    Broken,
    /// The engine panicked, so its state cannot be trusted.
    Panicked,
}

/// Answers messages from `input` on `output` until `close`, with `engines` to select from.
///
/// `input_ended` runs on the reading thread as soon as the input ends, possibly during a
/// generation; a real host ends its process there.
pub fn serve_on<R, W>(input: R, output: W, engines: &[&dyn Engine], input_ended: fn()) -> End
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let (host, listener, inbox) = parts(output, engines);
    let thread = std::thread::Builder::new().name("host-stdin".into());
    if thread.spawn(move || listener.listen(input, input_ended)).is_err() {
        return End::Broken;
    }
    host.serve(&inbox)
}

/// As [`serve_on`] for an input that is there at once: it is read to its end on this thread before
/// the first answer. The fuzz target uses it, because a thread for each input takes most of its
/// time.
pub fn serve_at_once<W>(input: &[u8], output: W, engines: &[&dyn Engine]) -> End
where
    W: Write + Send + 'static,
{
    let (host, listener, inbox) = parts(output, engines);
    listener.listen(input, || {});
    host.serve(&inbox)
}

type Inbox = Receiver<Result<Incoming, LineError>>;

/// What answers messages, what reads them, and what is between both.
fn parts<'a, W>(output: W, engines: &'a [&'a dyn Engine]) -> (Host<'a, W>, Listener<W>, Inbox)
where
    W: Write + Send + 'static,
{
    let output = Output(Arc::new(Mutex::new(output)));
    let running = Running::default();
    let (messages, inbox) = channel();
    let listener = Listener { output: output.clone(), running: running.clone(), messages };
    let lanes = Lanes::new(output.clone(), running.clone());
    let host = Host {
        output,
        running,
        engines,
        greeted: false,
        session: None,
        memory: None,
        slow_down: None,
        profiling: Profiling::default(),
        lanes,
    };
    (host, listener, inbox)
}

/// Writes answers, one line at a time, from any thread.
struct Output<W>(Arc<Mutex<W>>);

impl<W> Clone for Output<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write> Output<W> {
    fn send(&self, id: u64, body: FromHost) -> std::io::Result<()> {
        let line = to_line(id, body);
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&line)?;
        output.flush()
    }
}

/// Encodes a message as a line. A result that is too long loses its spans, which are then counted
/// as dropped.
fn to_line(id: u64, mut body: FromHost) -> Vec<u8> {
    let mut line = encode(id, &body);
    if line.len() > MAX_LINE_BYTES
        && let FromHost::Result(result) = &mut body
    {
        result.spans_dropped += result.spans.len() as u64;
        result.spans.clear();
        line = encode(id, &body);
    }
    if line.len() > MAX_LINE_BYTES {
        let told = format!("the answer has {} bytes; a line of the protocol may have {MAX_LINE_BYTES}", line.len());
        line = encode(id, &FromHost::Error(EngineError::internal(told)));
    }
    line
}

fn encode(id: u64, body: &FromHost) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Envelope { id, body }).expect("messages have no keys but texts");
    line.push(b'\n');
    line
}

/// Generations that were received and have not ended, by message id.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<HashMap<u64, Arc<Shared>>>>);

impl Running {
    /// What is known about a generation from both threads.
    fn of(&self, id: u64) -> Arc<Shared> {
        self.with(|running| running.get(&id).cloned()).unwrap_or_default()
    }

    fn ended(&self, id: u64) {
        self.with(|running| running.remove(&id));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<u64, Arc<Shared>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A received message.
struct Incoming {
    id: u64,
    /// When its line had been read.
    accepted_ns: u64,
    body: Result<ToHost, EngineError>,
}

/// The work of the reading thread.
struct Listener<W> {
    output: Output<W>,
    running: Running,
    messages: Sender<Result<Incoming, LineError>>,
}

impl<W: Write> Listener<W> {
    fn listen(self, input: impl Read, input_ended: fn()) {
        let mut lines = Lines::new(input, MAX_LINE_BYTES);
        loop {
            let line = lines.next_line();
            let accepted_ns = now_ns();
            let passed_on = match line {
                Ok(Some(line)) => self.take(&line, accepted_ns),
                Ok(None) => {
                    input_ended();
                    return;
                }
                Err(error) => {
                    let _ = self.messages.send(Err(error));
                    return;
                }
            };
            if !passed_on {
                return;
            }
        }
    }

    /// Answers `cancel` at once and forwards everything else; `false` when the receiver is gone.
    fn take(&self, line: &[u8], accepted_ns: u64) -> bool {
        let (id, body) = parse(line);
        match &body {
            Ok(ToHost::Cancel { request }) => {
                self.running.with(|running| running.get(request).map(|shared| shared.cancel()));
                return self.output.send(id, FromHost::Done).is_ok();
            }
            Ok(ToHost::Generate(_)) => {
                self.running.with(|running| running.insert(id, Arc::default()));
            }
            _ => {}
        }
        self.messages.send(Ok(Incoming { id, accepted_ns, body })).is_ok()
    }
}

/// Parses a line. The answer to a line without an id has id 0.
fn parse(line: &[u8]) -> (u64, Result<ToHost, EngineError>) {
    #[derive(Deserialize)]
    struct Head {
        id: u64,
        #[serde(rename = "type")]
        kind: String,
    }
    let error = match serde_json::from_slice::<Envelope<ToHost>>(line) {
        Ok(Envelope { id, body }) => return (id, Ok(body)),
        Err(error) => error,
    };
    let Ok(Head { id, kind }) = serde_json::from_slice(line) else {
        let told =
            format!("{} is not a message: it needs an `id` and a `type` ({})", quote(line), brief(&error.to_string()));
        return (0, Err(EngineError::new(ErrorKind::Protocol, told)));
    };
    if ToHost::TYPES.contains(&kind.as_str()) {
        return (id, Err(EngineError::bad_request(format!("invalid `{kind}` message: {}", brief(&error.to_string())))));
    }
    let told = format!("unknown message type {}; this host speaks version {VERSION}", quote(kind.as_bytes()));
    (id, Err(EngineError::new(ErrorKind::Protocol, told)))
}

/// State of the calling thread.
struct Host<'a, W> {
    output: Output<W>,
    running: Running,
    engines: &'a [&'a dyn Engine],
    greeted: bool,
    session: Option<Box<dyn Session>>,
    /// Samples the engine's memory, if requested and supported.
    memory: Option<MemoryWatch>,
    /// Artificial slow-down to test the harness, in percent.
    slow_down: Option<f64>,
    profiling: Profiling,
    /// Sessions that generate beside each other.
    lanes: Lanes<W>,
}

impl<W: Write + Send + 'static> Host<'_, W> {
    fn serve(mut self, inbox: &Inbox) -> End {
        while let Ok(incoming) = inbox.recv() {
            let message = match incoming {
                Ok(message) => message,
                Err(error) => {
                    let _ =
                        self.output.send(0, FromHost::Error(EngineError::new(ErrorKind::Protocol, error.to_string())));
                    return End::Broken;
                }
            };
            let id = message.id;
            let closes = matches!(message.body, Ok(ToHost::Close));
            if self.lanes.panicked() {
                std::mem::forget(self.session.take());
                return End::Panicked;
            }
            let answer = catch_unwind(AssertUnwindSafe(|| self.answer(message)));
            if let Ok(Ok(None)) = answer {
                // Its lane answers.
                continue;
            }
            self.running.ended(id);
            let panicked = answer.is_err();
            let answer = match answer {
                Ok(Ok(answer)) => answer.unwrap_or(FromHost::Done),
                Ok(Err(error)) => FromHost::Error(error),
                Err(panic) => FromHost::Error(EngineError::internal(panic_text(&*panic))),
            };
            let written = self.output.send(id, answer).is_ok();
            if panicked {
                // A destructor may rely on state that the panic left inconsistent; the process ends
                // anyway.
                std::mem::forget(self.session.take());
                return End::Panicked;
            }
            match (written, closes) {
                (false, _) => return End::Broken,
                (true, true) => return End::Closed,
                (true, false) => {}
            }
        }
        End::InputEnded
    }

    /// The answer; `None` if it comes later, from a lane.
    fn answer(&mut self, Incoming { id, accepted_ns, body }: Incoming) -> Result<Option<FromHost>, EngineError> {
        let body = body?;
        if !self.greeted && !matches!(body, ToHost::Hello { .. }) {
            return Err(EngineError::new(ErrorKind::Protocol, "the first message must be `hello`"));
        }
        let answer = match body {
            ToHost::Hello { protocol, harness } => self.greet(protocol, &harness)?,
            ToHost::Ping => FromHost::Pong { clock: CLOCK_ID.to_owned(), now_ns: now_ns() },
            ToHost::Open(open) => self.open(open, accepted_ns)?,
            ToHost::Generate(generate) if generate.concurrent => {
                let session = self.session.as_deref().ok_or_else(no_model)?;
                self.lanes.start(session, (id, generate), accepted_ns, self.slow_down)?;
                return Ok(None);
            }
            ToHost::Generate(generate) => self.generate(id, *generate, accepted_ns)?,
            ToHost::Fit { text, tokens } => {
                let text = self.session()?.fit(&text, tokens)?;
                FromHost::Fitted { text }
            }
            ToHost::Reset => {
                self.session()?.reset()?;
                self.lanes.reset()?;
                FromHost::Done
            }
            ToHost::ClearCache => {
                self.session()?.clear_cache()?;
                FromHost::Done
            }
            ToHost::Memory => FromHost::Memory(self.session()?.memory()),
            ToHost::ProfileStart { frequency_hz } => self.profiling.start(frequency_hz)?,
            ToHost::ProfileStop => self.profiling.stop()?,
            // The reading thread has already answered `cancel`.
            ToHost::Cancel { .. } => FromHost::Done,
            ToHost::Unload => {
                self.session()?;
                self.unload();
                // What the allocator keeps is no leak.
                heap::give_back_freed();
                FromHost::Done
            }
            ToHost::Close => {
                self.unload();
                FromHost::Done
            }
        };
        Ok(Some(answer))
    }

    fn greet(&mut self, protocol: Version, harness: &str) -> Result<FromHost, EngineError> {
        if protocol.major != VERSION.major {
            let told = format!(
                "this host speaks version {VERSION} of the engine protocol, {} speaks {protocol}; \
                 use the same major version on both sides",
                quote(harness.as_bytes())
            );
            return Err(EngineError::new(ErrorKind::Protocol, told));
        }
        self.greeted = true;
        let host = concat!("inferometer ", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(FromHost::Hello { protocol: VERSION, host })
    }

    fn unload(&mut self) {
        self.lanes.end();
        self.memory = None;
        self.session = None;
    }

    fn session(&mut self) -> Result<&mut Box<dyn Session>, EngineError> {
        self.session.as_mut().ok_or_else(no_model)
    }

    fn open(&mut self, mut open: Open, accepted_ns: u64) -> Result<FromHost, EngineError> {
        if self.session.is_some() {
            return Err(EngineError::bad_request(
                "a model is already open; unload it, or start another host for another model",
            ));
        }
        let name = &open.engine.name;
        // A scenario with `exec` selects a host with one engine by its command line, not by name.
        let only = self.engines.first().filter(|_| self.engines.len() == 1 && name == EXEC);
        let engine = self.engines.iter().find(|engine| engine.name() == name).or(only).ok_or_else(|| {
            let known: Vec<&str> = self.engines.iter().map(|engine| engine.name()).collect();
            EngineError::unsupported(format!("unknown engine {name:?}; this host has {}", known.join(", ")))
        })?;
        // Before the engine starts threads, which inherit the placement.
        let placement = placement::place(&mut open.engine)?;
        let slow_down = slow_down::take(&mut open.engine)?;
        let load = Load { engine: open.engine, model: open.model.map(Into::into), toggles: open.toggles };
        let session = engine.open(&load)?;
        let mut receipt = session.receipt();
        receipt.capabilities.profile = sampling::AVAILABLE;
        receipt.capabilities.stream = true;
        receipt.capabilities.unload = true;
        receipt.details.extend(engine.notes().into_iter().chain(placement.details));
        receipt.settings.extend(placement.affinity.map(|cpus| (AFFINITY.to_owned(), cpus.into())));
        receipt.settings.extend(slow_down.map(|percent| (SLOW_DOWN.to_owned(), percent.into())));
        let interval = open.memory_interval_ms.filter(|ms| *ms > 0).map(|ms| Duration::from_millis(ms.into()));
        let watched = interval.zip(session.memory_probe());
        self.memory = watched.and_then(|(interval, probe)| MemoryWatch::start(probe, interval));
        self.session = Some(session);
        self.slow_down = slow_down;
        Ok(FromHost::Ready(Box::new(Ready { receipt, load_ns: now_ns().saturating_sub(accepted_ns) })))
    }

    /// Runs a generation on this thread, with everything that the request asks for.
    fn generate(&mut self, id: u64, g: Generate, accepted_ns: u64) -> Result<FromHost, EngineError> {
        let shared = self.running.of(id);
        let (output, slow_down) = (self.output.clone(), self.slow_down);
        let session = self.session.as_deref_mut().ok_or_else(no_model)?;
        check(&g, &session.receipt().capabilities)?;
        let progress = g.instrumentation.progress.then(|| Progress::start(output.clone(), id, Arc::clone(&shared)));
        if let Some(memory) = &self.memory {
            memory.begin();
        }
        let profiler = self.profiling.running();
        let run = |session: &mut dyn Session, recorder: &mut Recorder| match profiler {
            None => run(session, &g, recorder, slow_down),
            Some(profiler) => run(session, &g, &mut Phased::new(recorder, profiler), slow_down),
        };
        let (generated, finished_ns) = generated(session, (id, &g), accepted_ns, shared, &output, run);
        let mut memory_samples = self.memory.as_ref().map(MemoryWatch::end).unwrap_or_default();
        memory_samples.retain(|sample| sample.t_ns <= finished_ns);
        // Stop before the answer is written: no message may follow a `result`.
        drop(progress);
        generated.map(|generated| FromHost::Result(Box::new(Generated { memory_samples, ..generated })))
    }
}

fn no_model() -> EngineError {
    EngineError::bad_request("no model is open; send `open` first")
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(|t| (*t).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".to_owned());
    format!("the engine panicked and its host ends: {text}; please report this with the host's log")
}

#[cfg(test)]
mod tests;
