//! Exchanges messages with a host, one answer each, with limits on time and size. Any breach of the
//! protocol kills the host.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Launch;
use super::border;
use super::error::HostError;
use super::process::{Process, spawn};
use super::wire::{Incoming, Line, NoLine, Outgoing, Sent, connect};
use crate::run::interrupt::Interrupt;
use inferometer_protocol::bounded::{LineError, brief, quote};
use inferometer_protocol::messages::{Envelope, FromHost, MAX_TOKENS, ToHost, VERSION, Version};

/// Time for a host that closed its stdout to end by itself, so that its own exit status is seen.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// Time to read what a host wrote before it ended, if its stdout stays open.
const LAST_LINES: Duration = Duration::from_millis(300);
/// `progress` may come ten times a second; a host that sends more than this many in total and more
/// than thirty a second is cut off.
const PROGRESS_AT_LEAST: u64 = 100;

/// The message exchange with a running host. Dropping it kills the host.
#[derive(Debug)]
pub(crate) struct Talk {
    pub outgoing: Outgoing,
    pub process: Process,
    pub timeout: Duration,
    incoming: Incoming,
    /// Set when the host has ended: until then lines that it wrote before are read.
    last_lines: Option<Instant>,
}

/// What a host says before its answer.
pub(crate) enum Heard {
    /// Tokens so far.
    Progress(u32),
    Token(Arrival),
}

/// A token that the host sent as soon as it was readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub token: u32,
    /// When its line had been read, on the harness's clock.
    pub received_ns: u64,
}

/// An answer, with its times and sizes.
pub(crate) struct Answer {
    pub body: FromHost,
    pub sent: Sent,
    pub received_ns: u64,
    pub bytes: usize,
}

impl Talk {
    /// Starts the program without sending anything. The second Ctrl-C kills it if `interrupt` is
    /// given.
    pub(crate) fn start(launch: &Launch, interrupt: Option<&Interrupt>) -> Result<Self, HostError> {
        let (process, stdin, stdout) = spawn(launch, interrupt)?;
        let (outgoing, incoming, notice) = connect(stdin, stdout)?;
        process.watch(|| notice.send())?;
        Ok(Self { outgoing, process, timeout: launch.timeout, incoming, last_lines: None })
    }

    pub(crate) fn ask_done(&mut self, body: ToHost, during: &str) -> Result<(), HostError> {
        match self.ask(body, during, &mut |_| {})?.body {
            FromHost::Done => Ok(()),
            other => Err(self.unfit(during, "done", &other)),
        }
    }

    /// Sends a message and waits for its answer; an `error` is an `Err`.
    pub(crate) fn ask(
        &mut self,
        body: ToHost,
        during: &str,
        heard: &mut dyn FnMut(Heard),
    ) -> Result<Answer, HostError> {
        let sent = self.outgoing.send(body).inspect_err(|_| {
            self.process.kill();
        })?;
        self.await_answer(sent, during, heard)
    }

    /// [`Talk::ask`] for messages outside the protocol, such as unknown fields and types.
    pub(crate) fn ask_raw(&mut self, message: Map<String, Value>, during: &str) -> Result<Answer, HostError> {
        let sent = self.outgoing.send_raw(message);
        self.await_answer(sent, during, &mut |_| {})
    }

    fn await_answer(&mut self, sent: Sent, during: &str, heard: &mut dyn FnMut(Heard)) -> Result<Answer, HostError> {
        let started = Instant::now();
        let (mut reports, mut tokens) = (0, 0);
        let answer = loop {
            let line = self.read(during, started + self.timeout)?;
            let Envelope { id, body } = self.parse(during, &line)?;
            match body {
                FromHost::Progress { generated_tokens } if id == sent.id => {
                    reports += 1;
                    self.bound_progress(during, reports, started.elapsed())?;
                    heard(Heard::Progress(generated_tokens));
                }
                FromHost::Token { index, token } if id == sent.id => {
                    if index != tokens || tokens == MAX_TOKENS {
                        return Err(self.broken(during, format!("it sent token {index}; expected token {tokens}")));
                    }
                    tokens += 1;
                    heard(Heard::Token(Arrival { token, received_ns: line.received_ns }));
                }
                body if id == sent.id => {
                    if sent.ns() == 0 || line.received_ns < sent.ns() {
                        return Err(self.broken(during, "it answered before the request was sent".to_owned()));
                    }
                    break Answer { body, sent, received_ns: line.received_ns, bytes: line.bytes.len() + 1 };
                }
                FromHost::Done | FromHost::Error(_) if self.outgoing.answers_cancel(id) => {}
                _ => {
                    let told = format!("expected an answer to message {}, got {}", sent.id, quote(&line.bytes));
                    return Err(self.broken(during, told));
                }
            }
        };
        self.outgoing.finished(answer.sent.id);
        match answer.body {
            FromHost::Error(error) => Err(HostError::Engine(error)),
            _ => Ok(answer),
        }
    }

    fn bound_progress(&mut self, during: &str, heard: u64, elapsed: Duration) -> Result<(), HostError> {
        if heard <= PROGRESS_AT_LEAST.max(elapsed.as_secs() * 30) {
            return Ok(());
        }
        let limit =
            format!("{heard} `progress` messages within {:.1} s; the limit is ten per second", elapsed.as_secs_f64());
        self.process.kill();
        Err(HostError::Flood { during: during.to_owned(), limit, log_tail: self.process.log_tail() })
    }

    /// The next line, if one comes until `until`; an error as in [`Talk::read`], with `deadline`.
    pub(super) fn read_until(
        &mut self,
        during: &str,
        until: Instant,
        deadline: Instant,
    ) -> Result<Option<Line>, HostError> {
        if self.last_lines.is_some() || until >= deadline {
            return self.read(during, deadline).map(Some);
        }
        match self.incoming.next(until) {
            Ok(line) => Ok(Some(line)),
            Err(NoLine::Late) => Ok(None),
            Err(no_line) => self.without_line(no_line, during, deadline).map(Some),
        }
    }

    fn read(&mut self, during: &str, deadline: Instant) -> Result<Line, HostError> {
        match self.incoming.next(self.last_lines.map_or(deadline, |until| until.min(deadline))) {
            Ok(line) => Ok(line),
            Err(no_line) => self.without_line(no_line, during, deadline),
        }
    }

    fn without_line(&mut self, no_line: NoLine, during: &str, deadline: Instant) -> Result<Line, HostError> {
        match no_line {
            NoLine::HostEnded => {
                // Whatever holds its stdout open must not keep the harness waiting.
                self.process.end_helpers();
                self.last_lines = Some(Instant::now() + LAST_LINES);
                self.read(during, deadline)
            }
            NoLine::Late if self.last_lines.is_some() => {
                Err(self.died(during, "it ended without an answer".to_owned(), false))
            }
            NoLine::Late => Err(self.timed_out(during)),
            NoLine::End => Err(self.died(during, "it closed its stdout but did not end".to_owned(), false)),
            NoLine::Bad(error @ LineError::Half { .. }) => Err(self.died(during, error.to_string(), true)),
            NoLine::Bad(error @ LineError::TooLong { .. }) => {
                self.process.kill();
                let (during, limit) = (during.to_owned(), error.to_string());
                Err(HostError::Flood { during, limit, log_tail: self.process.log_tail() })
            }
            NoLine::Bad(LineError::Io(error)) => {
                Err(self.died(during, format!("its stdout cannot be read: {error}"), false))
            }
        }
    }

    pub(super) fn parse(&mut self, during: &str, line: &Line) -> Result<Envelope<FromHost>, HostError> {
        let error = match message(&line.bytes) {
            Ok(envelope) => return Ok(envelope),
            Err(error) => error,
        };
        // Another major version may have a different greeting.
        if let Some(version) = foreign_version(&line.bytes) {
            return Err(self.wrong_version(version));
        }
        let told = format!("{} is not a message of the protocol ({})", quote(&line.bytes), brief(&error.to_string()));
        Err(self.broken(during, told))
    }

    pub(crate) fn unfit(&mut self, during: &str, expected: &str, got: &FromHost) -> HostError {
        let got = serde_json::to_vec(got).unwrap_or_default();
        self.broken(during, format!("expected `{expected}`, got {}", quote(&got)))
    }

    pub(crate) fn broken(&mut self, during: &str, what: String) -> HostError {
        self.process.kill();
        HostError::Protocol { during: during.to_owned(), what, log_tail: self.process.log_tail() }
    }

    pub(crate) fn wrong_version(&mut self, theirs: Version) -> HostError {
        self.process.kill();
        HostError::Version { theirs, log_tail: self.process.log_tail() }
    }

    pub(crate) fn timed_out(&mut self, during: &str) -> HostError {
        self.process.kill();
        HostError::TimedOut { during: during.to_owned(), after: self.timeout, log_tail: self.process.log_tail() }
    }

    /// The host's stdout ended, perhaps within a line. If the host ended successfully or still
    /// runs, `otherwise` is the error.
    fn died(&mut self, during: &str, otherwise: String, half_a_line: bool) -> HostError {
        let by_itself = self.process.wait_end(LAST_BREATH);
        let status = self.process.kill();
        match status {
            Some(status) if by_itself && !(half_a_line && status.success()) => {
                let (during, status) = (during.to_owned(), status.to_string());
                HostError::Died { during, status, log_tail: self.process.log_tail() }
            }
            _ => self.broken(during, otherwise),
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Cancellers may still exist; the writer thread must end.
        self.outgoing.close();
    }
}

/// A line of a host as a message, with its texts cleaned and bounded.
///
/// # Errors
/// When it is not a message of the protocol.
pub fn message(line: &[u8]) -> serde_json::Result<Envelope<FromHost>> {
    let mut envelope: Envelope<FromHost> = serde_json::from_slice(line)?;
    border::tidy(&mut envelope.body);
    Ok(envelope)
}

/// The version in a greeting of another major version; other fields are ignored.
fn foreign_version(line: &[u8]) -> Option<Version> {
    #[derive(Deserialize)]
    struct Greeting {
        protocol: Version,
    }
    let Greeting { protocol } = serde_json::from_slice(line).ok()?;
    (protocol.major != VERSION.major).then_some(protocol)
}
