//! The profiled pass of a run: `profile/` of its record. Its rows never stand among the timed ones.

pub(super) mod read;
mod store;

use serde::{Deserialize, Serialize};

pub(super) use read::read;
pub use store::ProfileStore;

use super::{RequestRow, SpanRow, Status, TokenRow};
use inferometer_protocol::{PhaseAllocations, Profile, SpanTiming};

/// What the profiled pass recorded; empty where there was none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profiled {
    pub iterations: Vec<ProfiledIteration>,
    /// Rows of these iterations, as `requests.csv` has them.
    pub requests: Vec<RequestRow>,
    pub spans: Vec<SpanRow>,
    pub tokens: Vec<TokenRow>,
}

impl Profiled {
    /// The rows of an iteration: one a turn that was tried.
    #[must_use]
    pub fn rows(&self, one: &ProfiledIteration) -> Vec<&RequestRow> {
        let of =
            |row: &&RequestRow| row.cell == one.cell && row.iteration == one.iteration && row.request >= one.request;
        self.requests.iter().filter(of).collect()
    }

    /// A cell's iterations that did not fail, with the number of their turns: each turn's first token comes with its prefill.
    /// What disturbed one from outside makes its times useless, but a profile only somewhat worse.
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
