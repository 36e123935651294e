//! The order of the measured iterations, and the remaining ones of an interrupted run.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{RequestRow, Status, outcome};
use crate::spec::{Isolation, Plan};

/// Number of consecutive failures after which the rest of a cell is given up.
pub const GIVE_UP_AFTER: u32 = 3;

/// One measured iteration of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub cell: u32,
    /// From 1.
    pub iteration: u32,
}

/// Every step of the plan in execution order: cells alternate, but under isolation `cell` and
/// `load` all iterations of a cell run before the next cell.
#[must_use]
pub fn steps(plan: &Plan, isolation: Isolation) -> Vec<Step> {
    let rows = || (1u32..).zip(&plan.order);
    match isolation {
        Isolation::Run | Isolation::Iteration => {
            rows().flat_map(|(iteration, row)| row.iter().map(move |&cell| Step { cell, iteration })).collect()
        }
        Isolation::Cell | Isolation::Load => plan
            .order
            .first()
            .into_iter()
            .flatten()
            .flat_map(|&cell| {
                rows().filter(move |(_, row)| row.contains(&cell)).map(move |(iteration, _)| Step { cell, iteration })
            })
            .collect(),
    }
}

/// Every step of the profiled pass: cells alternate in the plan's order if they share hosts;
/// otherwise all iterations of a cell run before the next cell.
#[must_use]
pub fn profiled(plan: &Plan, isolation: Isolation, iterations: u32) -> Vec<Step> {
    let Some(first) = plan.order.first() else { return Vec::new() };
    if isolation == Isolation::Run {
        let rows = (1..=iterations).zip(plan.order.iter().cycle());
        rows.flat_map(|(iteration, row)| row.iter().map(move |&cell| Step { cell, iteration })).collect()
    } else {
        first.iter().flat_map(|&cell| (1..=iterations).map(move |iteration| Step { cell, iteration })).collect()
    }
}

/// The steps that are done, and the cells that are given up. A function of the rows only, so that a
/// resumed run has the same state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    steps: BTreeSet<Step>,
    failures_in_a_row: BTreeMap<u32, u32>,
}

impl Done {
    /// The state after the rows of a record, in file order.
    #[must_use]
    pub fn of(rows: &[RequestRow]) -> Self {
        let mut done = Self::default();
        let measured: Vec<&RequestRow> = rows.iter().filter(|row| !row.warmup).collect();
        let step = |row: &RequestRow| Step { cell: row.cell, iteration: row.iteration };
        for rows in measured.chunk_by(|a, b| step(a) == step(b)) {
            if let Some(row) = outcome(rows.iter().copied()) {
                done.note(step(row), row.status);
            }
        }
        done
    }

    /// Records a finished step, once.
    pub fn note(&mut self, step: Step, status: Status) {
        if !self.steps.insert(step) {
            return;
        }
        let failures = self.failures_in_a_row.entry(step.cell).or_default();
        *failures = if status == Status::Failed { *failures + 1 } else { 0 };
    }

    #[must_use]
    pub fn contains(&self, step: Step) -> bool {
        self.steps.contains(&step)
    }

    /// Whether the rest of the cell is given up after consecutive failures.
    #[must_use]
    pub fn given_up(&self, cell: u32) -> bool {
        self.failures_in_a_row.get(&cell).is_some_and(|n| *n >= GIVE_UP_AFTER)
    }

    /// Number of steps done so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::tests::empty_row;
    use super::*;

    fn plan() -> Plan {
        Plan { cells: Vec::new(), order: vec![vec![1, 0], vec![0, 1], vec![1, 0]] }
    }

    fn row(cell: u32, iteration: u32, status: Status) -> RequestRow {
        RequestRow { cell, iteration, status, ..empty_row() }
    }

    #[test]
    fn cells_take_turns_or_follow_one_another() {
        let pairs = |isolation| -> Vec<(u32, u32)> {
            steps(&plan(), isolation).into_iter().map(|s| (s.cell, s.iteration)).collect()
        };
        let turns = vec![(1, 1), (0, 1), (0, 2), (1, 2), (1, 3), (0, 3)];
        assert_eq!(pairs(Isolation::Run), turns);
        assert_eq!(pairs(Isolation::Iteration), turns);
        assert_eq!(pairs(Isolation::Cell), vec![(1, 1), (1, 2), (1, 3), (0, 1), (0, 2), (0, 3)]);
        let profiled = |isolation| -> Vec<(u32, u32)> {
            profiled(&plan(), isolation, 4).into_iter().map(|s| (s.cell, s.iteration)).collect()
        };
        assert_eq!(profiled(Isolation::Run), [turns, vec![(1, 4), (0, 4)]].concat());
        let following = vec![(1, 1), (1, 2), (1, 3), (1, 4), (0, 1), (0, 2), (0, 3), (0, 4)];
        assert_eq!(profiled(Isolation::Cell), following);
        assert!(steps(&Plan { cells: Vec::new(), order: Vec::new() }, Isolation::Cell).is_empty());
    }

    #[test]
    fn what_is_recorded_is_not_run_again() {
        let warmup = RequestRow { warmup: true, ..row(0, 0, Status::Ok) };
        let done = Done::of(&[warmup, row(1, 1, Status::Ok), row(0, 1, Status::Invalid)]);
        assert_eq!(done.len(), 2);
        assert!(done.contains(Step { cell: 0, iteration: 1 }), "an invalid iteration stays in the record");
        assert!(!done.contains(Step { cell: 0, iteration: 2 }));
    }

    #[test]
    fn three_failures_in_a_row_give_a_cell_up() {
        let mut done = Done::of(&[row(0, 1, Status::Failed), row(0, 2, Status::Failed)]);
        assert!(!done.given_up(0));
        done.note(Step { cell: 0, iteration: 3 }, Status::Ok);
        for iteration in 4..6 {
            done.note(Step { cell: 0, iteration }, Status::Failed);
        }
        assert!(!done.given_up(0), "a successful iteration resets the count");
        done.note(Step { cell: 0, iteration: 6 }, Status::Failed);
        assert!(done.given_up(0));
        assert!(!done.given_up(1));
        let turns = Done::of(&[row(0, 1, Status::Failed), row(0, 1, Status::Failed), row(0, 1, Status::Failed)]);
        assert!(!turns.given_up(0), "three turns of one iteration count as one failure");
    }
}
