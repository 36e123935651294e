//! How far token times can be trusted (docs/explanation/method.md#metrics).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The grade of an iteration's token times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// In warm-ups the tokens arrived when the host stamped them, and this iteration's stamps have
    /// the same shape.
    Verified,
    /// Nobody saw the tokens arrive: the stamps are the host's word.
    Claimed,
    /// Several tokens come at a time, so only the whole request has an exact duration.
    Inexact,
    /// Another program measured; the record is imported. Its figures are shown as what that program
    /// claims, and are compared with figures of the same program only.
    Imported,
}

impl Timing {
    pub const ALL: [Self; 4] = [Self::Verified, Self::Claimed, Self::Inexact, Self::Imported];

    /// Whether figures of single tokens are shown.
    #[must_use]
    pub fn is_shown(self) -> bool {
        matches!(self, Self::Verified | Self::Imported)
    }

    /// The name in the record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Claimed => "claimed",
            Self::Inexact => "inexact",
            Self::Imported => "imported",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|timing| timing.name() == name)
    }
}
