//! The outcome of an iteration, and its cause. Code decides by [`Status`] and [`Cause`]; the reason
//! is for people and is never parsed, because it may contain an engine's text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outcome of an iteration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Ok,
    /// An outcome of the engine: crash, time-out, out of memory, zero tokens, wrong finish reason.
    Failed,
    /// An external cause, or a measurement that cannot be trusted (stamps, effective settings).
    Invalid,
}

impl Status {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Invalid => "invalid",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Status::Ok, Status::Failed, Status::Invalid].into_iter().find(|status| status.name() == name)
    }
}

/// Lists the causes: variant, name in the record, status that follows.
macro_rules! causes {
    ($($(#[$meta:meta])* $variant:ident $name:literal $status:ident;)*) => {
        /// Why an iteration is failed or invalid.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Cause {
            $($(#[$meta])* $variant,)*
        }

        impl Cause {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in the record.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The status of an iteration with this cause.
            #[must_use]
            pub fn status(self) -> Status {
                match self {
                    $(Self::$variant => Status::$status,)*
                }
            }
        }
    };
}

causes! {
    /// No engine host could be started, or it could not open the model.
    NoHost "no_host" Failed;
    /// The engine host ended.
    Died "died" Failed;
    TimedOut "timed_out" Failed;
    /// The engine host broke the protocol.
    Protocol "protocol" Failed;
    /// The engine answered with an error.
    EngineError "engine_error" Failed;
    /// The model computed values that are not finite: NaN or infinity.
    NotFinite "not_finite" Failed;
    /// The server that the engine drives failed: connection, status, time-out or stream.
    Server "server" Failed;
    /// The harness's side failed, such as its log file.
    Harness "harness" Failed;
    /// No tokens, or a wrong finish reason.
    Outcome "outcome" Failed;
    /// The cell's warm-up failed.
    WarmUp "warm_up" Failed;
    /// A conversation needs the generated text, and the engine returns none.
    NoText "no_text" Failed;
    /// The engine's own memory was swapped.
    OwnSwap "own_swap" Failed;
    /// Impossible time stamps.
    Stamps "stamps" Invalid;
    /// Time stamps that contradict the harness's: wrong, or late on a busy machine.
    LateStamps "late_stamps" Invalid;
    /// Token counts that contradict each other or the request.
    Counts "counts" Invalid;
    /// Figures that do not follow from the record's tokens and spans; found when it is opened.
    Contradiction "contradiction" Invalid;
    /// A count or rate that no tokenizer, memory or processor can reach.
    Impossible "impossible" Invalid;
    /// The engine's own choices are missing, not permitted or impossible.
    Choices "choices" Invalid;
    /// Tokens were reused from a cache that had been reset, or although the toggle forbids it.
    Reuse "reuse" Invalid;
    /// The reported length of the KV cache is impossible.
    CacheLength "cache_length" Invalid;
    /// Effective settings differ from the requested ones.
    Settings "settings" Invalid;
    /// The machine swapped memory of other programs.
    Swap "swap" Invalid;
    Throttling "throttling" Invalid;
    /// The power source or the power mode changed.
    Power "power" Invalid;
    /// Other guests of the host machine took CPU time.
    Steal "steal" Invalid;
    ForeignLoad "foreign_load" Invalid;
    /// An external cause in a record of a version that did not name causes.
    External "external" Invalid;
    /// Failed for a cause that this version does not know.
    UnknownFailure "unknown_failure" Failed;
    /// Invalid for a cause that this version does not know.
    Unknown "unknown" Invalid;
}

impl Cause {
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.name() == name)
    }

    /// This cause where it gives that status, else the unknown one that does.
    #[must_use]
    pub fn with_status(self, status: Status) -> Self {
        match status {
            _ if self.status() == status => self,
            Status::Failed => Self::UnknownFailure,
            Status::Ok | Status::Invalid => Self::Unknown,
        }
    }

    /// Whether something outside the engine disturbed the iteration, which is not a fault of the
    /// engine.
    #[must_use]
    pub fn is_external(self) -> bool {
        matches!(self, Self::Swap | Self::Throttling | Self::Power | Self::Steal | Self::ForeignLoad | Self::External)
    }

    /// Whether the machine may have caused it instead of the engine. In every other invalid
    /// iteration the engine contradicts itself.
    #[must_use]
    pub fn may_be_the_machine(self) -> bool {
        self.is_external() || self == Self::LateStamps
    }
}

/// A cause, and the reason shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub cause: Cause,
    pub reason: String,
}

impl Fault {
    #[must_use]
    pub fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }
}

/// The cause of a row in a file without the column `cause`. Versions that wrote such files marked
/// two causes by the end of the reason; nothing else parses a reason.
pub(super) fn of_older_row(status: Status, reason: &str) -> Option<Cause> {
    match status {
        Status::Ok => None,
        Status::Failed => Some(Cause::UnknownFailure),
        Status::Invalid if reason.ends_with("(external cause)") => Some(Cause::External),
        Status::Invalid if reason.ends_with("(a busy machine, or wrong stamps)") => Some(Cause::LateStamps),
        Status::Invalid => Some(Cause::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_those_of_the_json() {
        for cause in Cause::ALL {
            assert_eq!(Cause::from_name(cause.name()), Some(*cause));
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
    }

    #[test]
    fn older_rows_are_read_by_the_end_of_their_reason_alone() {
        let of = |reason: &str| of_older_row(Status::Invalid, reason);
        assert_eq!(of("throttled (external cause)"), Some(Cause::External));
        assert_eq!(of("the harness saw less (a busy machine, or wrong stamps)"), Some(Cause::LateStamps));
        assert_eq!(of("dtype is (external cause), expected f32"), Some(Cause::Unknown));
        assert_eq!(of_older_row(Status::Failed, "(external cause)"), Some(Cause::UnknownFailure));
        assert_eq!(of_older_row(Status::Ok, ""), None);
    }

    #[test]
    fn only_invalid_iterations_can_be_the_machine_s() {
        for cause in Cause::ALL.iter().filter(|cause| cause.may_be_the_machine()) {
            assert_eq!(cause.status(), Status::Invalid, "{cause:?}");
        }
    }
}
