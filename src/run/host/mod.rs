//! The harness's side of the engine protocol: starts a host and sends requests, with a limit on
//! every wait.
//!
//! After every error except [`HostError::Engine`] the host and everything it started have been
//! killed.

mod border;
mod error;
mod process;
mod stamps;
mod talk;
mod traffic;
mod wire;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

pub use error::{HostError, LogTail};
pub use stamps::{allowance_ns, check_stamps, patience_ns};

pub use talk::{Arrival, message};
pub(crate) use talk::{Heard, Talk};
pub use traffic::{Due, Served};
use wire::Outgoing;

use super::interrupt::Interrupt;
use crate::engines::{Hosting, Known};
use inferometer_protocol::messages::{FromHost, Generate, Generated, Open, Ready, ToHost, VERSION};
use inferometer_protocol::{EngineError, EngineMemory, EngineSpec, Profile, Prompt};

/// Pings per clock comparison; the one with the shortest round trip is used.
const PINGS: u32 = 8;
/// Longest wait for a host to end after `close`.
const CLOSING: Duration = Duration::from_secs(30);

/// How to start a host.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Program and arguments; never a shell string.
    pub command: Vec<String>,
    /// Environment variables in addition to the inherited ones.
    pub env: Vec<(&'static str, String)>,
    /// The first and the last part of the host's stderr are appended to this file.
    pub log: PathBuf,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

/// The command line that hosts `engine`: its own program, or this program with `host`.
///
/// # Errors
/// When the engine's options do not name a program, or this program's path is unknown.
pub fn launch_command(engine: Known, spec: &EngineSpec) -> Result<Vec<String>, EngineError> {
    match engine.hosting(spec)? {
        Hosting::Command(command) => Ok(command),
        Hosting::BuiltIn => {
            let own = std::env::current_exe()
                .map_err(|e| EngineError::internal(format!("cannot find this program's executable: {e}")))?;
            let own = own.into_os_string().into_string().map_err(|path| {
                EngineError::internal(format!("this program's path is not UTF-8: {}", path.to_string_lossy()))
            })?;
            Ok(vec![own, "host".to_owned()])
        }
    }
}

/// The relation of the host's clock to the harness's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSync {
    /// The clock's name, as the host reports it.
    pub clock: String,
    /// Host clock minus harness clock, accurate to half the round trip.
    pub offset_ns: i64,
    pub round_trip_ns: u64,
}

/// A generation, with the harness's stamps around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    pub generated: Generated,
    /// The tokens as they came, if the request asked for that.
    pub arrivals: Vec<Arrival>,
    /// Just before the request's line was written, on the harness's clock.
    pub sent_ns: u64,
    /// Just after the reply's line was read, before it was parsed, on the harness's clock.
    pub received_ns: u64,
    pub request_bytes: usize,
    pub reply_bytes: usize,
    /// The prompt was text, so the host had to tokenize it.
    pub to_tokenize: bool,
    /// Other requests may have been running.
    pub beside_others: bool,
}

/// A running engine host. Dropping it kills it.
///
/// On Linux a host dies with the thread that started it (the kernel's parent-death signal is tied
/// to the thread): start a host on a thread that outlives it.
#[derive(Debug)]
pub struct Host {
    talk: Talk,
    program: String,
    clock: ClockSync,
}

/// Cancels the current generation, from any thread.
#[derive(Debug, Clone)]
pub struct Canceller(Outgoing);

impl Canceller {
    /// Asks the host to stop; `generate` then returns with finish reason `cancelled` if the engine
    /// supports that. Returns `false` if there is no generation.
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }
}

impl Host {
    /// Starts the program, greets it, checks its protocol version and compares clocks.
    ///
    /// # Errors
    /// Any [`HostError`]; the host has then been killed.
    pub fn start(launch: &Launch) -> Result<Host, HostError> {
        Self::start_with(launch, None)
    }

    /// As [`Host::start`]; the second Ctrl-C kills the host.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub fn start_under(launch: &Launch, interrupt: &Interrupt) -> Result<Host, HostError> {
        Self::start_with(launch, Some(interrupt))
    }

    fn start_with(launch: &Launch, interrupt: Option<&Interrupt>) -> Result<Host, HostError> {
        let clock = ClockSync { clock: String::new(), offset_ns: 0, round_trip_ns: u64::MAX };
        let mut host = Host { talk: Talk::start(launch, interrupt)?, program: String::new(), clock };
        host.greet()?;
        host.resync()?;
        Ok(host)
    }

    /// Process id of the host; its process group has the same number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.talk.process.pid()
    }

    /// Changes the longest wait for one answer.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.talk.timeout = timeout;
    }

    /// Name and version of the host's program, from its greeting.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The latest clock comparison.
    #[must_use]
    pub fn clock(&self) -> &ClockSync {
        &self.clock
    }

    /// A handle that cancels generations from another thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller(self.talk.outgoing.clone())
    }

    /// The message exchange below this interface, for conformance checks.
    pub(crate) fn talk(&mut self) -> &mut Talk {
        &mut self.talk
    }

    fn greet(&mut self) -> Result<(), HostError> {
        let harness = concat!("inferometer ", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = ToHost::Hello { protocol: VERSION, harness };
        match self.talk.ask(hello, "the greeting", &mut |_| {})?.body {
            FromHost::Hello { protocol, host } if protocol.major == VERSION.major => {
                self.program = host;
                Ok(())
            }
            FromHost::Hello { protocol, .. } => Err(self.talk.wrong_version(protocol)),
            other => Err(self.talk.unfit("the greeting", "hello", &other)),
        }
    }

    /// Compares the clocks again.
    ///
    /// # Errors
    /// Any [`HostError`].
    pub fn resync(&mut self) -> Result<&ClockSync, HostError> {
        let during = "a ping";
        let mut best: Option<ClockSync> = None;
        for _ in 0..PINGS {
            let answer = self.talk.ask(ToHost::Ping, during, &mut |_| {})?;
            let FromHost::Pong { clock, now_ns } = answer.body else {
                return Err(self.talk.unfit(during, "pong", &answer.body));
            };
            let round_trip_ns = answer.received_ns.saturating_sub(answer.sent.ns());
            let middle = answer.sent.ns() + round_trip_ns / 2;
            let Ok(offset_ns) = i64::try_from(i128::from(now_ns) - i128::from(middle)) else {
                return Err(self.talk.broken(during, format!("its clock reads {now_ns} ns, which is impossible")));
            };
            if best.as_ref().is_none_or(|best| round_trip_ns < best.round_trip_ns) {
                best = Some(ClockSync { clock, offset_ns, round_trip_ns });
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
        match self.talk.ask(ToHost::Open(open), during, &mut |_| {})?.body {
            FromHost::Ready(ready) => Ok(*ready),
            other => Err(self.talk.unfit(during, "ready", &other)),
        }
    }

    /// Runs one generation. `progress` is called with the number of tokens so far, if the request
    /// asks for progress.
    ///
    /// # Errors
    /// Any [`HostError`]. The stamps are not checked here: see [`check_stamps`].
    pub fn generate(&mut self, g: Generate, progress: &mut dyn FnMut(u32)) -> Result<Exchange, HostError> {
        let during = "a generation";
        let to_tokenize = !matches!(g.request.prompt, Prompt::Tokens(_));
        let asked = g.instrumentation.stream;
        let mut arrivals = Vec::new();
        let answer = self.talk.ask(ToHost::Generate(Box::new(g)), during, &mut |heard| match heard {
            Heard::Progress(tokens) => progress(tokens),
            Heard::Token(arrival) => arrivals.push(arrival),
        })?;
        if !asked && !arrivals.is_empty() {
            let told = format!("it sent {} `token` messages, but `stream` was not set", arrivals.len());
            return Err(self.talk.broken(during, told));
        }
        let (sent_ns, received_ns) = (answer.sent.ns(), answer.received_ns);
        match answer.body {
            FromHost::Result(generated) => Ok(Exchange {
                generated: *generated,
                arrivals,
                sent_ns,
                received_ns,
                request_bytes: answer.sent.bytes,
                reply_bytes: answer.bytes,
                to_tokenize,
                beside_others: false,
            }),
            other => Err(self.talk.unfit(during, "result", &other)),
        }
    }

    /// A text of exactly `tokens` tokens, cut from `text` or its repetition.
    ///
    /// # Errors
    /// Any [`HostError`]; `Engine` if there is no such text.
    pub fn fit(&mut self, text: String, tokens: u32) -> Result<String, HostError> {
        let during = "fitting a prompt";
        match self.talk.ask(ToHost::Fit { text, tokens }, during, &mut |_| {})?.body {
            FromHost::Fitted { text } => Ok(text),
            other => Err(self.talk.unfit(during, "fitted", &other)),
        }
    }

    /// Drops the content of every KV cache.
    ///
    /// # Errors
    /// Any [`HostError`].
    pub fn reset(&mut self) -> Result<(), HostError> {
        self.talk.ask_done(ToHost::Reset, "a reset")
    }

    /// Unloads the model; [`Host::open`] may follow.
    ///
    /// # Errors
    /// Any [`HostError`].
    pub fn unload(&mut self) -> Result<(), HostError> {
        self.talk.ask_done(ToHost::Unload, "unloading")
    }

    /// Clears the allocator's cache.
    ///
    /// # Errors
    /// Any [`HostError`]; `Engine` if there is no such cache.
    pub fn clear_cache(&mut self) -> Result<(), HostError> {
        self.talk.ask_done(ToHost::ClearCache, "clearing the cache")
    }

    /// The engine's report of its memory.
    ///
    /// # Errors
    /// Any [`HostError`].
    pub fn memory(&mut self) -> Result<EngineMemory, HostError> {
        let during = "a question for memory figures";
        match self.talk.ask(ToHost::Memory, during, &mut |_| {})?.body {
            FromHost::Memory(memory) => Ok(memory),
            other => Err(self.talk.unfit(during, "memory", &other)),
        }
    }

    /// Starts the host's own profiler.
    ///
    /// # Errors
    /// Any [`HostError`]; `Engine` if it has none, or cannot use it now.
    pub fn profile_start(&mut self, frequency_hz: u32) -> Result<(), HostError> {
        self.talk.ask_done(ToHost::ProfileStart { frequency_hz }, "starting its profiler")
    }

    /// Stops the profiler and returns its checked profile.
    ///
    /// # Errors
    /// Any [`HostError`]; `Engine` if it was not started, or has no result.
    pub fn profile_stop(&mut self) -> Result<Profile, HostError> {
        let during = "stopping its profiler";
        match self.talk.ask(ToHost::ProfileStop, during, &mut |_| {})?.body {
            FromHost::Profile(profile) => match profile.check() {
                Ok(()) => Ok(*profile),
                Err(why) => Err(self.talk.broken(during, format!("its profile is inconsistent: {why}"))),
            },
            other => Err(self.talk.unfit(during, "profile", &other)),
        }
    }

    /// Asks the host to unload and end; kills it if it does not.
    ///
    /// # Errors
    /// Any [`HostError`]; the host has ended in any case.
    pub fn close(mut self) -> Result<(), HostError> {
        self.talk.timeout = self.talk.timeout.min(CLOSING);
        let during = "closing";
        self.talk.ask_done(ToHost::Close, during)?;
        self.talk.outgoing.close();
        if !self.talk.process.wait_end(self.talk.timeout) {
            return Err(self.talk.timed_out(during));
        }
        match self.talk.process.kill() {
            Some(status) if !status.success() => {
                let (during, status) = (during.to_owned(), status.to_string());
                Err(HostError::Died { during, status, log_tail: self.talk.process.log_tail() })
            }
            _ => Ok(()),
        }
    }

    /// Kills the host and everything it started.
    pub fn kill(mut self) -> Option<ExitStatus> {
        self.talk.process.kill()
    }
}
