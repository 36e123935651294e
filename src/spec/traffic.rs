//! Load on an engine: how many requests come, and when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[load]`: an iteration is many requests instead of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficSettings {
    /// Each is a cell.
    pub levels: Vec<Level>,
    /// Gaps between the arrivals of an open loop; of no effect on a closed one.
    pub arrivals: Arrivals,
    /// Requests of an iteration.
    pub requests: u32,
    /// Seed of random gaps.
    pub seed: u64,
    /// A request that meets all of them is good.
    pub limits: Limits,
}

/// How hard the load is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A closed loop: this many sessions, each of which sends its next request when it has the
    /// answer to the last one.
    Sessions(u32),
    /// An open loop: so many requests arrive a second, whether earlier ones are answered or not.
    PerSecond(f64),
}

/// Gaps between arrivals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Independent of each other: exponential gaps.
    #[default]
    Poisson,
    /// All the same.
    Constant,
}

/// Longest times of a good request, in milliseconds; `None`: any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Mean gap between its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ms: Option<f64>,
}

impl Limits {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Level {
    /// Sessions, or requests a second.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Level::Sessions(sessions) => f64::from(sessions),
            Level::PerSecond(rate) => rate,
        }
    }
}

impl std::fmt::Display for Level {
    /// `sessions=8` or `rate=2.5/s`, as in labels of cells.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Level::Sessions(sessions) => write!(f, "sessions={sessions}"),
            Level::PerSecond(rate) => write!(f, "rate={rate}/s"),
        }
    }
}
