//! What a run says while it runs, and how long it will still take.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::record::RequestRow;
use crate::spec::Side;

/// Something worth showing. Between [`Event::Measuring`] and [`Event::Measured`] nothing is said, so that a display
/// does not disturb a measured section.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// What takes a while before anything is measured.
    Note(&'a str),
    /// A finding that the user should know; also kept in the record.
    Warning(&'a str),
    /// The run begins, or goes on.
    Began {
        run: &'a str,
        done: u64,
        total: u64,
    },
    /// An engine host is starting and loading its model.
    Opening {
        engine: &'a str,
    },
    /// A cell is being warmed up in a fresh host.
    WarmingUp {
        cell: &'a str,
    },
    /// Tokens generated so far in a warm-up.
    Tokens(u32),
    /// A cell is run once, unmeasured, to see what it generates.
    Comparing {
        cell: &'a str,
    },
    Measuring {
        cell: &'a str,
        iteration: u32,
    },
    /// An iteration of the profiled pass begins.
    Profiling {
        cell: &'a str,
        done: u64,
        of: u64,
    },
    Measured {
        cell: &'a str,
        /// One, or one a turn; all have the iteration's status and reason.
        rows: &'a [RequestRow],
        done: u64,
        total: u64,
        left: Option<Duration>,
    },
    /// A side of an A/B session takes its turn.
    Side(Side),
    /// A pair of an A/B session is over: how far it is to the next look, and what the gates say so far.
    Pairs {
        /// `pair`, or `pilot`.
        what: &'a str,
        done: u32,
        of: u32,
        text: &'a str,
        left: Option<Duration>,
    },
    /// Every cell has had this iteration (under isolation `cell`: a cell has had its last).
    Round {
        name: &'a str,
        done: u64,
        total: u64,
        left: Option<Duration>,
    },
}

/// Listens to a run.
pub trait Observer {
    fn event(&mut self, event: Event<'_>);

    /// Whether it wants [`Event::Tokens`].
    fn wants_tokens(&self) -> bool {
        false
    }
}

/// Estimates the time left from how long each cell's iterations took so far (overheads between them included).
#[derive(Debug, Clone, Default)]
pub struct Pace {
    spent: BTreeMap<u32, (Duration, u32)>,
}

impl Pace {
    /// Takes note of one iteration of a cell.
    pub fn note(&mut self, cell: u32, took: Duration) {
        let (sum, count) = self.spent.entry(cell).or_default();
        *sum += took;
        *count += 1;
    }

    /// Time for the given steps still to come, by cell; cells not yet seen count as the mean of those that were.
    /// `None` before anything was measured.
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
