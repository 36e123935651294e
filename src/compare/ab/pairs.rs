//! Which pairs are valid, which are dropped, and which show that a side fails.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Evidence, Sides};
use crate::compare::cost::Iterations;
use crate::record::ab::{PairKind, PairRow};
use crate::record::{Cause, RequestRow, Status};
use crate::spec::{Cell, Side};
use inferometer_stats::robust;
use inferometer_stats::sequential::Verdict;

/// The session is given up after this many dropped pairs, unless more pairs are valid.
const DROPPED_BEFORE_GIVING_UP: u32 = 5;
/// Two-sided probability below which a difference in the sides' invalid pairs is suspect.
const SUSPECT: f64 = 0.05;
/// Number of dropped iterations of a side, none longer than its good ones, that rules out a busy
/// machine as the cause.
const UNEXPLAINED: u32 = 3;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairOutcome {
    Ok,
    /// An iteration of these sides is invalid; the pair is replaced.
    Dropped {
        sides: Vec<Side>,
        reason: String,
    },
    /// An engine's answers contradict each other or the request, which no busy machine can cause.
    Contradicted {
        sides: Vec<Side>,
        reason: String,
    },
    /// An engine failed.
    Failed {
        sides: Vec<Side>,
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairJudgement {
    #[serde(flatten)]
    pub row: PairRow,
    pub outcome: PairOutcome,
}

impl PairJudgement {
    /// Whether it is a valid pair of A and B.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.row.kind == PairKind::Pair && self.outcome == PairOutcome::Ok
    }
}

/// Outcomes of the pairs of A and B, and of the pilot.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    pub ok: u32,
    /// Pairs dropped because of this side alone.
    pub dropped_a: u32,
    pub dropped_b: u32,
    pub dropped_both: u32,
    /// Pairs in which this side failed.
    pub failed_a: u32,
    pub failed_b: u32,
    pub pilot_ok: u32,
    pub pilot_dropped: u32,
    /// Of these, pairs in which the side's iteration took no longer on the harness's clock than its
    /// good ones: nothing stalled.
    pub unexplained_a: u32,
    pub unexplained_b: u32,
    /// Reason for the first contradiction.
    pub contradiction: Option<String>,
    /// Reason for the first failure, and for the last dropped pair.
    pub failure: Option<String>,
    pub last_dropped: Option<String>,
}

impl Counts {
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped_a + self.dropped_b + self.dropped_both
    }

    /// The verdict that follows from failures and lost pairs alone.
    pub(super) fn verdict(&self) -> Option<(Verdict, String)> {
        let why = self.failure.as_deref().unwrap_or_default();
        if self.failed_a > 0 {
            let who = if self.failed_b > 0 { "both sides fail" } else { "side A fails" };
            return Some((Verdict::Invalid, format!("{who}, so B cannot be judged: {why}")));
        }
        if self.failed_b > 0 {
            return Some((
                Verdict::Failed,
                format!("side B fails in {} of {} pairs: {why}", self.failed_b, self.all()),
            ));
        }
        if let Some(why) = &self.contradiction {
            return Some((
                Verdict::Invalid,
                format!("an engine contradicts itself, so its figures are meaningless: {why}"),
            ));
        }
        let why = self.last_dropped.as_deref().unwrap_or_default();
        for (side, unexplained) in [(Side::A, self.unexplained_a), (Side::B, self.unexplained_b)] {
            if unexplained >= UNEXPLAINED {
                let told =
                    format!("side {}'s stamps do not fit their request in {unexplained} iterations", side.name());
                let no_stall =
                    "which took no longer than its good ones: the stamps are wrong, the machine was not busy";
                return Some((Verdict::Invalid, format!("{told}, {no_stall}; last: {why}")));
            }
        }
        if self.dropped() >= DROPPED_BEFORE_GIVING_UP && self.dropped() > self.ok {
            return Some((Verdict::Invalid, format!("{} of {} pairs are invalid: {why}", self.dropped(), self.all())));
        }
        let pilot = self.pilot_ok + self.pilot_dropped;
        (self.pilot_dropped >= DROPPED_BEFORE_GIVING_UP && self.pilot_dropped > self.pilot_ok)
            .then(|| (Verdict::Invalid, format!("{} of {pilot} A/A pairs are invalid: {why}", self.pilot_dropped)))
    }

    /// Why the session cannot favour B: one side was invalid more often than chance explains
    /// (docs/explanation/method.md#a-sessions-verdict).
    pub(super) fn one_sided(&self) -> Option<String> {
        let (a, b) = (self.dropped_a, self.dropped_b);
        (2.0 * at_least(a.max(b), a + b) < SUSPECT).then(|| {
            let (more, less) = if a > b { ((Side::A, a), (Side::B, b)) } else { ((Side::B, b), (Side::A, a)) };
            format!(
                "side {} was invalid in {} pairs and side {} in {}, more than chance explains: {}",
                more.0.name(),
                more.1,
                less.0.name(),
                less.1,
                self.last_dropped.as_deref().unwrap_or_default()
            )
        })
    }

    fn all(&self) -> u32 {
        self.ok + self.dropped() + self.failed_a.max(self.failed_b)
    }
}

/// P(Bin(n, 1/2) >= k).
fn at_least(k: u32, n: u32) -> f64 {
    let mut term = 0.5_f64.powi(n.cast_signed());
    let mut sum = 0.0;
    for i in 0..=n {
        if i >= k {
            sum += term;
        }
        term *= f64::from(n - i) / f64::from(i + 1);
    }
    sum
}

pub(super) fn judge(evidence: &Evidence<'_>, sides: &Sides<'_>) -> (Vec<PairJudgement>, Counts) {
    let mut counts = Counts::default();
    let judged: Vec<PairJudgement> =
        evidence.pairs.iter().map(|row| PairJudgement { row: *row, outcome: outcome(evidence, sides, row) }).collect();
    let usual = Usual::of(evidence, sides, &judged);
    for pair in &judged {
        counts.note(pair);
        counts.note_unexplained(evidence, sides, &usual, pair);
    }
    (judged, counts)
}

impl Counts {
    fn note(&mut self, pair: &PairJudgement) {
        let pilot = pair.row.kind == PairKind::Pilot;
        match &pair.outcome {
            PairOutcome::Ok if pilot => self.pilot_ok += 1,
            PairOutcome::Ok => self.ok += 1,
            PairOutcome::Failed { sides, reason } => {
                self.failed_a += u32::from(sides.contains(&Side::A));
                self.failed_b += u32::from(sides.contains(&Side::B));
                self.failure.get_or_insert_with(|| format!("{reason} (pair {})", pair.row.pair));
            }
            PairOutcome::Contradicted { reason, .. } => {
                self.contradiction.get_or_insert_with(|| format!("{reason} (pair {})", pair.row.pair));
            }
            PairOutcome::Dropped { sides, reason } => {
                self.last_dropped = Some(format!("{reason} (pair {})", pair.row.pair));
                match sides.as_slice() {
                    _ if pilot => self.pilot_dropped += 1,
                    [Side::A] => self.dropped_a += 1,
                    [Side::B] => self.dropped_b += 1,
                    _ => self.dropped_both += 1,
                }
            }
        }
    }
}

impl Counts {
    fn note_unexplained(&mut self, evidence: &Evidence<'_>, sides: &Sides<'_>, usual: &Usual, pair: &PairJudgement) {
        if !matches!(pair.outcome, PairOutcome::Dropped { .. }) {
            return;
        }
        for (side, iteration) in pair.row.iterations() {
            // An external cause was seen by itself: it need not have cost any time.
            let invalid = |cell: &&Cell| {
                let row = sides.of(side).first(cell.id, iteration);
                row.is_some_and(|row| row.status == Status::Invalid && !row.cause.is_some_and(Cause::is_external))
            };
            let no_longer = |cell: &Cell| {
                let took = took_ns(sides.of(side), cell.id, iteration);
                usual.0.get(&(side, cell.id)).is_some_and(|usual| took as f64 <= *usual)
            };
            if evidence.cells.iter().filter(invalid).any(no_longer) {
                match side {
                    Side::A => self.unexplained_a += 1,
                    Side::B => self.unexplained_b += 1,
                }
            }
        }
    }
}

/// Usual duration of a side's good iterations of a cell on the harness's clock: the median, in ns.
struct Usual(BTreeMap<(Side, u32), f64>);

impl Usual {
    fn of(evidence: &Evidence<'_>, sides: &Sides<'_>, pairs: &[PairJudgement]) -> Self {
        let mut times: BTreeMap<(Side, u32), Vec<f64>> = BTreeMap::new();
        for (side, iteration) in pairs.iter().flat_map(|pair| pair.row.iterations()) {
            for cell in evidence.cells {
                if sides.of(side).first(cell.id, iteration).is_some_and(|row| row.status == Status::Ok) {
                    let took = took_ns(sides.of(side), cell.id, iteration);
                    times.entry((side, cell.id)).or_default().push(took as f64);
                }
            }
        }
        let median = |times: &Vec<f64>| robust::summarize(times).map(|summary| summary.median);
        Self(times.iter().filter_map(|(place, times)| Some((*place, median(times)?))).collect())
    }
}

/// Duration of all requests of an iteration, from written to read, on the harness's clock.
fn took_ns(side: &Iterations<'_>, cell: u32, iteration: u32) -> u64 {
    side.rows(cell, iteration).iter().map(|row| row.end_ns.saturating_sub(row.start_ns)).sum()
}

/// An iteration of a pair that is not ok.
struct Found {
    side: Side,
    status: Status,
    contradicts: bool,
    reason: String,
}

/// Whether an iteration is invalid in a way that no machine causes.
fn contradicts(row: &RequestRow) -> bool {
    row.status == Status::Invalid && !row.cause.is_some_and(Cause::may_be_the_machine)
}

/// A side's failure outweighs a contradiction, and that outweighs what a busy machine may cause.
fn outcome(evidence: &Evidence<'_>, sides: &Sides<'_>, row: &PairRow) -> PairOutcome {
    let mut found: Vec<Found> = Vec::new();
    for (side, iteration) in row.iterations() {
        for cell in evidence.cells {
            let place = || if cell.label.is_empty() { String::new() } else { format!(" in cell `{}`", cell.label) };
            let row = sides.of(side).first(cell.id, iteration);
            if row.is_some_and(|row| row.status == Status::Ok) {
                continue;
            }
            let reason = row.map_or("not recorded", |row| row.reason.as_str());
            found.push(Found {
                side,
                status: row.map_or(Status::Invalid, |row| row.status),
                contradicts: row.is_some_and(contradicts),
                reason: format!("side {}{}: {reason}", side.name(), place()),
            });
        }
    }
    let of = |status: Status| -> Option<(Vec<Side>, String)> {
        let reason = found.iter().find(|one| one.status == status)?.reason.clone();
        let has = |side: &Side| found.iter().any(|one| one.status == status && one.side == *side);
        Some((Side::BOTH.into_iter().filter(has).collect(), reason))
    };
    let contradicted = found.iter().find(|one| one.contradicts);
    match (of(Status::Failed), contradicted, of(Status::Invalid)) {
        (Some((sides, reason)), ..) => PairOutcome::Failed { sides, reason },
        (None, Some(one), _) => PairOutcome::Contradicted { sides: vec![one.side], reason: one.reason.clone() },
        (None, None, Some((sides, reason))) => PairOutcome::Dropped { sides, reason },
        (None, None, None) => PairOutcome::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.binom.sf(k - 1, n, 0.5)`
    #[test]
    fn the_binomial_tail_is_scipy_s() {
        for (k, n, tail) in [(5, 5, 0.03125), (7, 7, 0.0078125), (8, 9, 0.01953125), (10, 11, 0.005859375)] {
            assert!((at_least(k, n) - tail).abs() < 1e-12, "{k} of {n}");
        }
    }

    #[test]
    fn a_side_that_is_invalid_by_itself_is_suspect_only_beyond_chance() {
        let counts = |dropped_a, dropped_b| Counts { ok: 30, dropped_a, dropped_b, ..Counts::default() };
        assert_eq!(counts(0, 5).one_sided(), None);
        assert!(counts(0, 6).one_sided().is_some());
        assert!(counts(6, 0).one_sided().is_some());
        assert_eq!(counts(5, 8).one_sided(), None);
    }

    #[test]
    fn lost_pairs_end_a_session_only_when_they_are_most() {
        let counts = |ok, dropped_b| Counts { ok, dropped_b, ..Counts::default() };
        assert_eq!(counts(0, 4).verdict(), None);
        assert_eq!(counts(0, 5).verdict().unwrap().0, Verdict::Invalid);
        assert_eq!(counts(5, 5).verdict(), None);
        let failed = Counts { failed_b: 1, ..counts(3, 0) };
        assert_eq!(failed.verdict().unwrap().0, Verdict::Failed);
        assert_eq!(Counts { failed_a: 1, ..failed }.verdict().unwrap().0, Verdict::Invalid);
    }
}
