//! Numbers of iterations by outcome.

use serde::{Deserialize, Serialize};

use super::metric::iterations;
use super::{Cause, RequestRow, Status};

/// The row that says how an iteration ended. The turns of a conversation share their outcome; under
/// load single requests may fail, and the iteration is valid if one is.
pub fn outcome<'a>(mut rows: impl Iterator<Item = &'a RequestRow> + Clone) -> Option<&'a RequestRow> {
    let found = |status| rows.clone().find(move |row| row.status == status);
    found(Status::Ok).or_else(|| found(Status::Invalid)).or_else(|| rows.next())
}

/// The rows of the valid iterations, in their order. Under load single requests of them may have
/// failed.
#[must_use]
pub fn of_valid<'a>(rows: &[&'a RequestRow]) -> Vec<&'a RequestRow> {
    let valid = |rows: &&[&RequestRow]| outcome(rows.iter().copied()).is_some_and(|row| row.status == Status::Ok);
    iterations(rows).filter(valid).flatten().copied().collect()
}

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
        let outcomes: Vec<&RequestRow> = iterations(rows).filter_map(|turns| outcome(turns.iter().copied())).collect();
        let count = |status| outcomes.iter().filter(|row| row.status == status).count();
        let disturbed = outcomes
            .iter()
            .filter(|row| row.status == Status::Invalid && row.cause.is_some_and(Cause::is_external))
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
