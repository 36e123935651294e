//! Progress events of a run, and its estimated time left.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::record::RequestRow;
use crate::spec::Side;

/// A progress event. There are none between [`Event::Measuring`] and [`Event::Measured`], so that
/// the display does not disturb a measurement.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A slow step before the measurement.
    Note(&'a str),
    /// A finding for the user; also kept in the record.
    Warning(&'a str),
    /// The run starts or continues.
    Began {
        run: &'a str,
        done: u64,
        total: u64,
    },
    /// An engine host is starting and loading its model.
    Opening {
        engine: &'a str,
    },
    /// A cell is warmed up in a fresh host.
    WarmingUp {
        cell: &'a str,
    },
    /// Tokens generated so far in a warm-up.
    Tokens(u32),
    /// A cell runs once, unmeasured, to compare its outputs.
    Comparing {
        cell: &'a str,
    },
    Measuring {
        cell: &'a str,
        iteration: u32,
    },
    /// The text of the quality pass is scored under a cell's settings.
    Scoring {
        cell: &'a str,
    },
    /// An iteration of the profiled pass starts.
    Profiling {
        cell: &'a str,
        done: u64,
        of: u64,
    },
    Measured {
        cell: &'a str,
        /// One row, or one per turn; all have the iteration's status and reason.
        rows: &'a [RequestRow],
        done: u64,
        total: u64,
        left: Option<Duration>,
    },
    /// The side of an A/B session that runs next.
    Side(Side),
    /// A pair of an A/B session is done: progress to the next look, and the gates' results so far.
    Pairs {
        /// `pair`, or `pilot`.
        what: &'a str,
        done: u32,
        of: u32,
        text: &'a str,
        left: Option<Duration>,
    },
    /// An iteration is done for every cell (under isolation `cell`: the last iteration of one
    /// cell).
    Round {
        name: &'a str,
        done: u64,
        total: u64,
        left: Option<Duration>,
    },
}

/// Receives the events of a run.
pub trait Observer {
    fn event(&mut self, event: Event<'_>);

    /// Whether it needs [`Event::Tokens`].
    fn wants_tokens(&self) -> bool {
        false
    }
}

/// Estimates the time left from the duration of each cell's iterations so far, including the
/// overhead between them.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    spent: BTreeMap<u32, (Duration, u32)>,
}

impl Pace {
    /// Records the duration of one iteration of a cell.
    pub fn note(&mut self, cell: u32, took: Duration) {
        let (sum, count) = self.spent.entry(cell).or_default();
        *sum += took;
        *count += 1;
    }

    /// Time for the remaining steps, given as cells; a cell without iterations counts as the mean
    /// of the others. `None` before the first measurement.
    #[must_use]
    pub fn left(&self, cells: impl Iterator<Item = u32>) -> Option<Duration> {
        let (all, count) = self.spent.values().fold((Duration::ZERO, 0), |(d, n), (sum, k)| (d + *sum, n + k));
        let mean = all.checked_div(count)?;
        Some(cells.map(|cell| self.spent.get(&cell).map_or(mean, |(sum, count)| *sum / *count)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_each_cell_s_own_pace() {
        let mut pace = Pace::default();
        assert_eq!(pace.left([0].into_iter()), None);
        pace.note(0, Duration::from_secs(1));
        pace.note(0, Duration::from_secs(3));
        pace.note(1, Duration::from_secs(11));
        assert_eq!(pace.left([0, 0, 1].into_iter()), Some(Duration::from_secs(2 + 2 + 11)));
        assert_eq!(pace.left([2].into_iter()), Some(Duration::from_secs(5)), "unseen: the mean of all");
        assert_eq!(pace.left(std::iter::empty()), Some(Duration::ZERO));
    }
}
