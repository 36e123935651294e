//! The profiled pass of a run: `profile/` in its record. Its rows are never among the timed ones.

pub(super) mod read;
mod store;

use serde::{Deserialize, Serialize};

pub(super) use read::{lines, read};
pub use store::ProfileStore;

use super::{RequestRow, SpanRow, Status, TokenRow};
use inferometer_protocol::{PhaseAllocations, Profile, SpanTiming};

/// The record of the profiled pass; empty if there was none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profiled {
    pub iterations: Vec<ProfiledIteration>,
    /// Rows of these iterations, as in `requests.csv`.
    pub requests: Vec<RequestRow>,
    pub spans: Vec<SpanRow>,
    pub tokens: Vec<TokenRow>,
}

impl Profiled {
    /// The rows of an iteration: one per attempted turn.
    #[must_use]
    pub fn rows(&self, one: &ProfiledIteration) -> Vec<&RequestRow> {
        let of =
            |row: &&RequestRow| row.cell == one.cell && row.iteration == one.iteration && row.request >= one.request;
        self.requests.iter().filter(of).collect()
    }

    /// A cell's iterations that did not fail, with their number of turns: each turn's first token
    /// comes with its prefill. Disturbed iterations are included: their times are useless, but
    /// their profiles are still usable.
    pub fn done(&self, cell: u32) -> impl Iterator<Item = (&ProfiledIteration, u64)> {
        let of_cell = self.iterations.iter().filter(move |one| one.cell == cell);
        let with_rows = of_cell.map(|one| (one, self.rows(one)));
        let done =
            with_rows.filter(|(_, rows)| !rows.is_empty() && rows.iter().all(|row| row.status != Status::Failed));
        done.map(|(one, rows)| (one, rows.len() as u64))
    }
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
    /// Prompt tokens computed in all its turns.
    pub prefill_tokens: u64,
    pub generated_tokens: u64,
    /// How the spans of single operations were timed; absent if the engine records none.
    pub span_timing: Option<SpanTiming>,
    /// Summed over turns; empty if the host does not count allocations.
    #[serde(default)]
    pub allocations: Vec<PhaseAllocations>,
    pub profile: Option<Profile>,
    /// Why a requested profile is missing.
    pub missing: Option<String>,
}

/// The folder in the record.
pub const FOLDER: &str = "profile";
/// The iterations; a line commits an iteration.
pub const ITERATIONS: &str = "iterations.jsonl";
