//! The parent side of the engine protocol: starts a host, asks it, and never waits for ever.
//!
//! After any error but [`HostError::Engine`] the host's whole process group has been killed and reaped.

mod error;
mod process;
mod stamps;
mod wire;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde::Deserialize;

pub use error::{HostError, LogTail};
pub use stamps::check_stamps;

pub(crate) use process::{Process, spawn};
pub(crate) use wire::{Incoming, Line, NoLine, Outgoing, Sent, connect};

use super::lines::{clean, quote};
use crate::engine::{Engine, Hosting};
use crate::spec::protocol::{Envelope, FromHost, Generate, Generated, Open, Ready, ToHost, VERSION, Version};
use crate::spec::{EngineError, EngineMemory, EngineSpec};

/// Environment variable that tells a host the process id of its parent, for hosts that tie their life to it.
pub const PARENT_VARIABLE: &str = "INFEROMETER_PARENT";

/// Pings that one clock comparison takes; the one with the shortest round trip counts.
const PINGS: u32 = 8;
/// A host that closed its stdout has this long to end by itself, so that its own exit status is seen.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// Longest wait for a host to end after `close`.
const CLOSING: Duration = Duration::from_secs(30);
/// `progress` may come ten times a second; a host that sends more than this many, and more than thirty a second, is
/// cut off.
const PROGRESS_AT_LEAST: u64 = 100;

/// How to start a host.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Program and arguments; never a shell string.
    pub command: Vec<String>,
    /// Environment variables beside the inherited ones.
    pub env: Vec<(String, String)>,
    /// File that the host's stderr is appended to.
    pub log: PathBuf,
    /// Longest wait for any single answer.
    pub timeout: Duration,
}

/// The command line that hosts `engine`: its own program, or this one with `host`.
///
/// # Errors
/// When the engine's options do not name a program, or this program's own path is not known.
pub fn launch_command(engine: &dyn Engine, spec: &EngineSpec) -> Result<Vec<String>, EngineError> {
    match engine.hosting(spec)? {
        Hosting::Command(command) => Ok(command),
        Hosting::BuiltIn => {
            let own = std::env::current_exe()
                .map_err(|e| EngineError::internal(format!("cannot find this program's own file: {e}")))?;
            let own = own.into_os_string().into_string().map_err(|path| {
                EngineError::internal(format!("this program's path is not UTF-8: {}", path.to_string_lossy()))
            })?;
            Ok(vec![own, "host".to_owned()])
        }
    }
}

/// How the host's clock stands against the harness's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSync {
    /// The clock's name, as the host gives it.
    pub clock: String,
    /// Host clock minus harness clock; known to within half the round trip.
    pub offset_ns: i64,
    pub round_trip_ns: u64,
}

/// A generation with the harness's own stamps around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    pub generated: Generated,
    /// Just before the request's line was written, harness clock.
    pub sent_ns: u64,
    /// Just after the reply's line had been read, before it was parsed, harness clock.
    pub received_ns: u64,
    pub request_bytes: usize,
    pub reply_bytes: usize,
}

/// A running engine host. Dropping it kills it.
///
/// On Linux a built-in host dies with the thread that started it (the kernel's parent-death signal is tied to the
/// thread): start a host on a thread that outlives it.
#[derive(Debug)]
pub struct Host {
    outgoing: Outgoing,
    incoming: Incoming,
    process: Process,
    timeout: Duration,
    program: String,
    clock: ClockSync,
}

/// Cancels the generation in flight, from any thread.
#[derive(Debug, Clone)]
pub struct Canceller(Outgoing);

impl Canceller {
    /// Asks the host to stop; `generate` then returns with finish reason `cancelled` if the engine can do that. Gives
    /// `false` when no generation is in flight.
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }
}

/// An answer with its times and sizes.
struct Answer {
    body: FromHost,
    sent: Sent,
    received_ns: u64,
    bytes: usize,
}

impl Host {
    /// Starts the program, greets it, checks its protocol version and compares clocks.
    ///
    /// # Errors
    /// Any [`HostError`]; the host has then been killed.
    pub fn start(launch: &Launch) -> Result<Host, HostError> {
        let (process, stdin, stdout) = spawn(launch)?;
        let (outgoing, incoming) = connect(stdin, stdout)?;
        let clock = ClockSync { clock: String::new(), offset_ns: 0, round_trip_ns: u64::MAX };
        let timeout = launch.timeout;
        let mut host = Host { outgoing, incoming, process, timeout, program: String::new(), clock };
        host.greet()?;
        host.resync()?;
        Ok(host)
    }

    /// Process id of the host; its process group has the same number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Name and version of the host's program, as it greeted.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The latest clock comparison.
    #[must_use]
    pub fn clock(&self) -> &ClockSync {
        &self.clock
    }

    /// A handle that stops generations from another thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller(self.outgoing.clone())
    }

    fn greet(&mut self) -> Result<(), HostError> {
        let harness = concat!("inferometer ", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = ToHost::Hello { protocol: VERSION, harness };
        match self.ask(hello, "the greeting", &mut |_| {})?.body {
            FromHost::Hello { protocol, host } if protocol.major == VERSION.major => {
                self.program = clean(&host);
                Ok(())
            }
            FromHost::Hello { protocol, .. } => Err(self.wrong_version(protocol)),
            other => Err(self.unfit("the greeting", "hello", &other)),
        }
    }

    /// Compares the clocks anew.
    ///
    /// # Errors
    /// Any [`HostError`].
    pub fn resync(&mut self) -> Result<&ClockSync, HostError> {
        let during = "a ping";
        let mut best: Option<ClockSync> = None;
        for _ in 0..PINGS {
            let answer = self.ask(ToHost::Ping, during, &mut |_| {})?;
            let FromHost::Pong { clock, now_ns } = answer.body else {
                return Err(self.unfit(during, "pong", &answer.body));
            };
            let round_trip_ns = answer.received_ns.saturating_sub(answer.sent.ns());
            let middle = answer.sent.ns() + round_trip_ns / 2;
            let Ok(offset_ns) = i64::try_from(i128::from(now_ns) - i128::from(middle)) else {
                return Err(self.broken(during, format!("its clock reads {now_ns} ns, which no clock does")));
            };
            if best.as_ref().is_none_or(|best| round_trip_ns < best.round_trip_ns) {
                best = Some(ClockSync { clock: clean(&clock), offset_ns, round_trip_ns });
            }
        }
        self.clock = best.expect("there is at least one ping");
        Ok(&self.clock)
    }

    /// Loads a model.
    ///
    /// # Errors
    /// Any [`HostError`]; `Engine` when the engine cannot load it.
    pub fn open(&mut self, open: Open) -> Result<Ready, HostError> {
        let during = "loading";
        match self.ask(ToHost::Open(open), during, &mut |_| {})?.body {
            FromHost::Ready(ready) => Ok(*ready),
            other => Err(self.unfit(during, "ready", &other)),
        }
    }

    /// Runs one generation. `progress` hears the number of tokens so far, if the request asked for that.
    ///
    /// # Errors
    /// Any [`HostError`]. The stamps are not checked here: see [`check_stamps`].
    pub fn generate(&mut self, g: Generate, progress: &mut dyn FnMut(u32)) -> Result<Exchange, HostError> {
        let during = "a generation";
        let answer = self.ask(ToHost::Generate(Box::new(g)), during, progress)?;
        let (sent_ns, received_ns) = (answer.sent.ns(), answer.received_ns);
        match answer.body {
            FromHost::Result(generated) => Ok(Exchange {
                generated: *generated,
                sent_ns,
                received_ns,
                request_bytes: answer.sent.bytes,
                reply_bytes: answer.bytes,
            }),
            other => Err(self.unfit(during, "result", &other)),
        }
    }

    /// Drops the content of every KV cache.
    ///
    /// # Errors
    /// Any [`HostError`].
    pub fn reset(&mut self) -> Result<(), HostError> {
        self.ask_done(ToHost::Reset, "a reset")
    }

    /// Clears the allocator's cache.
    ///
    /// # Errors
    /// Any [`HostError`]; `Engine` where there is no such cache.
    pub fn clear_cache(&mut self) -> Result<(), HostError> {
        self.ask_done(ToHost::ClearCache, "clearing the cache")
    }

    /// What the engine says about its memory.
    ///
    /// # Errors
    /// Any [`HostError`].
    pub fn memory(&mut self) -> Result<EngineMemory, HostError> {
        let during = "a question for memory figures";
        match self.ask(ToHost::Memory, during, &mut |_| {})?.body {
            FromHost::Memory(memory) => Ok(memory),
            other => Err(self.unfit(during, "memory", &other)),
        }
    }

    /// Lets the host unload and end; kills it when it does not.
    ///
    /// # Errors
    /// Any [`HostError`]; whatever it is, the host is gone.
    pub fn close(mut self) -> Result<(), HostError> {
        self.timeout = self.timeout.min(CLOSING);
        self.ask_done(ToHost::Close, "closing")?;
        self.outgoing.close();
        if self.process.wait_end(self.timeout) { Ok(()) } else { Err(self.timed_out("closing")) }
    }

    /// Kills the host and everything it started.
    pub fn kill(mut self) -> Option<ExitStatus> {
        self.process.kill()
    }

    fn ask_done(&mut self, body: ToHost, during: &str) -> Result<(), HostError> {
        match self.ask(body, during, &mut |_| {})?.body {
            FromHost::Done => Ok(()),
            other => Err(self.unfit(during, "done", &other)),
        }
    }

    /// Sends a message and waits for its answer, which is no `error`.
    fn ask(&mut self, body: ToHost, during: &str, progress: &mut dyn FnMut(u32)) -> Result<Answer, HostError> {
        let started = Instant::now();
        let sent = self.outgoing.send(body)?;
        let mut heard = 0;
        let answer = loop {
            let line = self.read(during, started + self.timeout)?;
            let Envelope { id, body } = self.parse(during, &line)?;
            match body {
                FromHost::Progress { generated_tokens } if id == sent.id => {
                    heard += 1;
                    self.bound_progress(during, heard, started.elapsed())?;
                    progress(generated_tokens);
                }
                body if id == sent.id => {
                    break Answer { body, sent, received_ns: line.received_ns, bytes: line.bytes.len() + 1 };
                }
                FromHost::Done | FromHost::Error(_) if self.outgoing.answers_cancel(id) => {}
                _ => {
                    let told = format!("expected an answer to message {}, got {}", sent.id, quote(&line.bytes));
                    return Err(self.broken(during, told));
                }
            }
        };
        self.outgoing.finished();
        match answer.body {
            FromHost::Error(EngineError { kind, message }) => {
                Err(HostError::Engine(EngineError { kind, message: clean(&message) }))
            }
            _ => Ok(answer),
        }
    }

    fn bound_progress(&mut self, during: &str, heard: u64, elapsed: Duration) -> Result<(), HostError> {
        if heard <= PROGRESS_AT_LEAST.max(elapsed.as_secs() * 30) {
            return Ok(());
        }
        let limit =
            format!("{heard} `progress` messages within {:.1} s; ten a second are allowed", elapsed.as_secs_f64());
        self.process.kill();
        Err(HostError::Flood { during: during.to_owned(), limit, log_tail: self.process.log_tail() })
    }

    fn read(&mut self, during: &str, deadline: Instant) -> Result<Line, HostError> {
        use super::lines::LineError;
        let no_line = match self.incoming.next(deadline) {
            Ok(line) => return Ok(line),
            Err(no_line) => no_line,
        };
        match no_line {
            NoLine::Late => Err(self.timed_out(during)),
            NoLine::End => Err(self.died(during, "it closed its stdout but did not end".to_owned())),
            NoLine::Bad(error @ LineError::Half { .. }) => Err(self.died(during, error.to_string())),
            NoLine::Bad(error @ LineError::TooLong { .. }) => {
                self.process.kill();
                let (during, limit) = (during.to_owned(), error.to_string());
                Err(HostError::Flood { during, limit, log_tail: self.process.log_tail() })
            }
            NoLine::Bad(LineError::Io(error)) => Err(self.died(during, format!("its stdout cannot be read: {error}"))),
        }
    }

    fn parse(&mut self, during: &str, line: &Line) -> Result<Envelope<FromHost>, HostError> {
        let error = match serde_json::from_slice(&line.bytes) {
            Ok(envelope) => return Ok(envelope),
            Err(error) => error,
        };
        // Another major version may greet in words that this one does not know.
        if let Some(version) = foreign_version(&line.bytes) {
            return Err(self.wrong_version(version));
        }
        let told = format!("{} is no message of the protocol ({error})", quote(&line.bytes));
        Err(self.broken(during, told))
    }

    fn unfit(&mut self, during: &str, expected: &str, got: &FromHost) -> HostError {
        let got = serde_json::to_vec(got).unwrap_or_default();
        self.broken(during, format!("expected `{expected}`, got {}", quote(&got)))
    }

    fn broken(&mut self, during: &str, what: String) -> HostError {
        self.process.kill();
        HostError::Protocol { during: during.to_owned(), what, log_tail: self.process.log_tail() }
    }

    fn wrong_version(&mut self, theirs: Version) -> HostError {
        self.process.kill();
        HostError::Version { theirs, log_tail: self.process.log_tail() }
    }

    fn timed_out(&mut self, during: &str) -> HostError {
        self.process.kill();
        HostError::TimedOut { during: during.to_owned(), after: self.timeout, log_tail: self.process.log_tail() }
    }

    /// The host's stdout ended. If it ended well or not at all, `otherwise` is what is wrong.
    fn died(&mut self, during: &str, otherwise: String) -> HostError {
        let by_itself = self.process.wait_end(LAST_BREATH);
        let status = self.process.kill();
        let half_a_line = otherwise.contains("middle of a line");
        match status {
            Some(status) if by_itself && !(half_a_line && status.success()) => {
                let (during, status) = (during.to_owned(), status.to_string());
                HostError::Died { during, status, log_tail: self.process.log_tail() }
            }
            _ => self.broken(during, otherwise),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Cancellers may live on; the writing thread must not.
        self.outgoing.close();
    }
}

/// The version in a greeting of another major version, whatever else is in it.
fn foreign_version(line: &[u8]) -> Option<Version> {
    #[derive(Deserialize)]
    struct Greeting {
        protocol: Version,
    }
    let Greeting { protocol } = serde_json::from_slice(line).ok()?;
    (protocol.major != VERSION.major).then_some(protocol)
}
