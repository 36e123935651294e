//! Verdicts, their names and their exit codes.

use serde::{Deserialize, Serialize};

/// The verdict on a gate, a pair of sides or a session. An earlier variant outweighs a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The measurement cannot be trusted, or side A failed.
    Invalid,
    /// The sides give different tokens where they must agree, whatever their speed.
    OutputChanged,
    /// Only side B failed.
    Failed,
    /// Worse by at least the bound, statistically certain.
    Regressed,
    /// All pairs were measured and nothing is proven.
    Inconclusive,
    /// The session ended before the gate's last look.
    NotDecided,
    /// Better by at least the bound, statistically certain.
    Improved,
    /// Proven to be within the bound.
    Unchanged,
}

impl Verdict {
    /// As written in records and on pages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::OutputChanged => "output-changed",
            Self::Failed => "failed",
            Self::Regressed => "regressed",
            Self::Inconclusive => "inconclusive",
            Self::NotDecided => "not-decided",
            Self::Improved => "improved",
            Self::Unchanged => "unchanged",
        }
    }

    /// 4 for invalid or output-changed, 1 for failed or regressed, 3 if nothing is proven,
    /// otherwise 0. (2 is reserved for usage, configuration and build errors.)
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid | Self::OutputChanged => 4,
            Self::Failed | Self::Regressed => 1,
            Self::Inconclusive | Self::NotDecided => 3,
            Self::Improved | Self::Unchanged => 0,
        }
    }

    /// A session's verdict from its gates': the one that outweighs the rest. Gates left undecided
    /// because another one regressed change nothing; a session is improved if one gate is and the
    /// rest are unchanged. Without gates nothing is decided. The session's exit code is this
    /// verdict's [`exit_code`](Self::exit_code).
    #[must_use]
    pub fn of_session(gates: impl IntoIterator<Item = Self>) -> Self {
        gates.into_iter().min().unwrap_or(Self::NotDecided)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{self, *};

    const ALL: [Verdict; 8] =
        [Invalid, OutputChanged, Failed, Regressed, Inconclusive, NotDecided, Improved, Unchanged];

    #[test]
    fn names_are_those_of_the_record() {
        for verdict in ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
    }

    #[test]
    fn exit_codes_are_the_methods() {
        assert_eq!(ALL.map(Verdict::exit_code), [4, 4, 1, 1, 3, 3, 0, 0]);
    }

    #[test]
    fn the_weightiest_gate_speaks_for_the_session() {
        for (gates, session, code) in [
            (vec![Regressed, NotDecided, NotDecided], Regressed, 1),
            (vec![Unchanged, Failed, Regressed], Failed, 1),
            (vec![Regressed, OutputChanged], OutputChanged, 4),
            (vec![Unchanged, Invalid, Failed], Invalid, 4),
            (vec![Improved, Inconclusive], Inconclusive, 3),
            (vec![Improved, NotDecided], NotDecided, 3),
            (vec![Unchanged, Improved], Improved, 0),
            (vec![Unchanged, Unchanged], Unchanged, 0),
            (vec![], NotDecided, 3),
        ] {
            let verdict = Verdict::of_session(gates.iter().copied());
            assert_eq!((verdict, verdict.exit_code()), (session, code), "{gates:?}");
        }
    }
}
