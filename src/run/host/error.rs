//! Errors of an engine host, as sentences.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::record::Cause;
use inferometer_protocol::bounded::clean;
use inferometer_protocol::messages::{VERSION, Version};
use inferometer_protocol::{EngineError, ErrorKind};

/// The last lines of a host's log, shown below an error; empty if the host wrote nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogTail {
    pub path: PathBuf,
    pub lines: Vec<String>,
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return Ok(());
        }
        write!(f, "\nits log {} ends with:", self.path.display())?;
        self.lines.iter().try_for_each(|line| write!(f, "\n  | {}", clean(line)))
    }
}

/// Why a host did not fulfil a request. The first line of the message is complete by itself; the
/// log's tail follows.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot start the engine host `{command}`: {source}; check that the program exists and is executable")]
    Spawn { command: String, source: io::Error },
    /// The host works, but reports that it cannot do this.
    #[error(transparent)]
    Engine(EngineError),
    #[error("the engine host ended during {during} ({status}){}{log_tail}", hint(status))]
    Died { during: String, status: String, log_tail: LogTail },
    #[error(
        "the engine host gave no answer to {during} within {} s and was killed; increase the time-out if it is too short{log_tail}",
        after.as_secs_f64()
    )]
    TimedOut { during: String, after: Duration, log_tail: LogTail },
    #[error("the engine host broke the protocol during {during}: {what}{log_tail}")]
    Protocol { during: String, what: String, log_tail: LogTail },
    #[error(
        "the engine host speaks version {theirs} of the engine protocol, but this program speaks {VERSION}; use a host of the same major version{log_tail}"
    )]
    Version { theirs: Version, log_tail: LogTail },
    #[error("the engine host was cut off during {during}: {limit}{log_tail}")]
    Flood { during: String, limit: String, log_tail: LogTail },
    /// The harness failed: for example, it cannot write the log file or start a thread.
    #[error("cannot drive the engine host: {0}")]
    Io(#[from] io::Error),
}

fn hint(status: &str) -> &'static str {
    if status.contains("SIGKILL") { "; it was killed, often because the system ran out of memory" } else { "" }
}

impl HostError {
    /// Whether the host can still be used. After every other error it has been killed.
    #[must_use]
    pub fn host_is_usable(&self) -> bool {
        matches!(self, HostError::Engine(_))
    }

    /// The cause of an iteration that failed with this error.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            HostError::Spawn { .. } | HostError::Version { .. } => Cause::NoHost,
            HostError::Engine(error) if error.kind == ErrorKind::NotFinite => Cause::NotFinite,
            HostError::Engine(error) if error.kind == ErrorKind::Server => Cause::Server,
            HostError::Engine(_) => Cause::EngineError,
            HostError::Died { .. } => Cause::Died,
            HostError::TimedOut { .. } => Cause::TimedOut,
            HostError::Protocol { .. } | HostError::Flood { .. } => Cause::Protocol,
            HostError::Io(_) => Cause::Harness,
        }
    }

    /// The first line of the message, without the log.
    #[must_use]
    pub fn summary(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_owned()
    }
}
