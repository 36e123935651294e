//! Numbers of iterations by outcome.

use serde::{Deserialize, Serialize};

use super::metric::iterations;
use super::{Cause, RequestRow, Status};

/// Numbers of iterations of a cell or a run, by outcome. Warm-ups are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub planned: usize,
    pub ok: usize,
    pub failed: usize,
    pub invalid: usize,
    /// The invalid iterations that had an external cause.
    #[serde(default)]
    pub disturbed: usize,
}

impl Counts {
    #[must_use]
    pub fn of(planned: usize, rows: &[&RequestRow]) -> Self {
        // The turns of an iteration share its outcome.
        let count = |status| iterations(rows).filter(|turns| turns[0].status == status).count();
        let disturbed = iterations(rows)
            .filter(|turns| turns[0].status == Status::Invalid && turns[0].cause.is_some_and(Cause::is_external))
            .count();
        Self {
            planned,
            ok: count(Status::Ok),
            failed: count(Status::Failed),
            invalid: count(Status::Invalid),
            disturbed,
        }
    }

    /// Planned iterations that are not in the record.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.planned.saturating_sub(self.ok + self.failed + self.invalid)
    }

    /// The sums of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            planned: self.planned + other.planned,
            ok: self.ok + other.ok,
            failed: self.failed + other.failed,
            invalid: self.invalid + other.invalid,
            disturbed: self.disturbed + other.disturbed,
        }
    }
}
