//! The profiled pass of a run: `profile/` of its record. Its rows never stand among the timed ones.

pub(super) mod read;
mod store;

use serde::{Deserialize, Serialize};

pub(super) use read::read;
pub use store::ProfileStore;

use super::{RequestRow, SpanRow, TokenRow};
use crate::spec::{PhaseAllocations, Profile, SpanTiming};

/// What the profiled pass recorded; empty where there was none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profiled {
    pub iterations: Vec<ProfiledIteration>,
    /// Rows of these iterations, as `requests.csv` has them.
    pub requests: Vec<RequestRow>,
    pub spans: Vec<SpanRow>,
    pub tokens: Vec<TokenRow>,
}

/// One committed iteration of the profiled pass: a line of `profile/iterations.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfiledIteration {
    pub cell: u32,
    /// From 1.
    pub iteration: u32,
    /// First of its requests in `profile/requests.csv`.
    pub request: u64,
    pub host: u32,
    /// Tokens that all its turns computed of prompts and generated.
    pub prefill_tokens: u64,
    pub generated_tokens: u64,
    /// How the spans of single operations were timed; absent where the engine has none.
    pub span_timing: Option<SpanTiming>,
    /// Summed over turns; empty where the host does not count.
    #[serde(default)]
    pub allocations: Vec<PhaseAllocations>,
    pub profile: Option<Profile>,
    /// Why there is no profile, where one was asked for.
    pub missing: Option<String>,
}

/// Its folder in that of the record.
pub const FOLDER: &str = "profile";
/// Its iterations, each committed by its line.
pub const ITERATIONS: &str = "iterations.jsonl";
