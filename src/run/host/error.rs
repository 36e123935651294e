//! What can go wrong with an engine host, in plain sentences.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::record::Cause;
use inferometer_protocol::EngineError;
use inferometer_protocol::bounded::clean;
use inferometer_protocol::messages::{VERSION, Version};

/// The last lines of a host's log, shown below an error; nothing when the host wrote nothing.
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

/// Why a host did not do what it was asked. The first line of the message stands alone; the log's tail follows.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot start the engine host `{command}`: {source}; check that the program exists and may be run")]
    Spawn { command: String, source: io::Error },
    /// The host is well and says that it cannot do this.
    #[error(transparent)]
    Engine(EngineError),
    #[error("the engine host ended during {during} ({status}){}{log_tail}", hint(status))]
    Died { during: String, status: String, log_tail: LogTail },
    #[error(
        "the engine host gave no answer to {during} within {} s and was killed; raise the time-out if that is too short{log_tail}",
        after.as_secs_f64()
    )]
    TimedOut { during: String, after: Duration, log_tail: LogTail },
    #[error("the engine host broke the protocol during {during}: {what}{log_tail}")]
    Protocol { during: String, what: String, log_tail: LogTail },
    #[error(
        "the engine host speaks version {theirs} of the engine protocol and this program {VERSION}; use a host of the same major version{log_tail}"
    )]
    Version { theirs: Version, log_tail: LogTail },
    #[error("the engine host was cut off during {during}: {limit}{log_tail}")]
    Flood { during: String, limit: String, log_tail: LogTail },
    /// The harness's own side failed: the log file cannot be written, a thread cannot start.
    #[error("cannot drive the engine host: {0}")]
    Io(#[from] io::Error),
}

fn hint(status: &str) -> &'static str {
    if status.contains("SIGKILL") { "; somebody killed it, often the system for want of memory" } else { "" }
}

impl HostError {
    /// Whether the host can still be used. After every other error it has been killed.
    #[must_use]
    pub fn host_is_usable(&self) -> bool {
        matches!(self, HostError::Engine(_))
    }

    /// Why an iteration failed by it.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            HostError::Spawn { .. } | HostError::Version { .. } => Cause::NoHost,
            HostError::Engine(_) => Cause::EngineError,
            HostError::Died { .. } => Cause::Died,
            HostError::TimedOut { .. } => Cause::TimedOut,
            HostError::Protocol { .. } | HostError::Flood { .. } => Cause::Protocol,
            HostError::Io(_) => Cause::Harness,
        }
    }

    /// The message's first line, without the log.
    #[must_use]
    pub fn summary(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_owned()
    }
}
