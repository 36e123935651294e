//! Which pairs count, which are dropped and which say that a side fails.

use serde::Serialize;

use super::{Evidence, Sides};
use crate::record::Status;
use crate::record::ab::{PairKind, PairRow};
use crate::spec::Side;
use crate::stats::sequential::Verdict;

/// So many pairs may be dropped before the session is given up, unless more than that count.
const DROPPED_BEFORE_GIVING_UP: u32 = 5;
/// A side whose pairs are invalid more often than the other's by a chance below this is suspect.
const SUSPECT: f64 = 0.01;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairOutcome {
    Ok,
    /// Of these sides an iteration is invalid; the pair is replaced.
    Dropped {
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
    /// Whether it is a pair of A and B that counts.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.row.kind == PairKind::Pair && self.outcome == PairOutcome::Ok
    }
}

/// How the pairs of A and B, and of the pilot, came out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    pub ok: u32,
    /// Pairs dropped for this side alone.
    pub dropped_a: u32,
    pub dropped_b: u32,
    pub dropped_both: u32,
    /// Pairs in which this side failed.
    pub failed_a: u32,
    pub failed_b: u32,
    pub pilot_ok: u32,
    pub pilot_dropped: u32,
    /// Of the first failure, and of the last pair dropped.
    pub failure: Option<String>,
    pub last_dropped: Option<String>,
}

impl Counts {
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped_a + self.dropped_b + self.dropped_both
    }

    /// What failures and lost pairs alone decide.
    pub(super) fn verdict(&self) -> Option<(Verdict, String)> {
        let why = self.failure.as_deref().unwrap_or_default();
        if self.failed_a > 0 {
            let who = if self.failed_b > 0 { "both sides fail" } else { "side A fails" };
            return Some((Verdict::Invalid, format!("{who}, so nothing can be said of B: {why}")));
        }
        if self.failed_b > 0 {
            return Some((
                Verdict::Failed,
                format!("side B fails in {} of {} pairs: {why}", self.failed_b, self.all()),
            ));
        }
        let why = self.last_dropped.as_deref().unwrap_or_default();
        if self.dropped() >= DROPPED_BEFORE_GIVING_UP && self.dropped() > self.ok {
            return Some((Verdict::Invalid, format!("{} of {} pairs are invalid: {why}", self.dropped(), self.all())));
        }
        let pilot = self.pilot_ok + self.pilot_dropped;
        (self.pilot_dropped >= DROPPED_BEFORE_GIVING_UP && self.pilot_dropped > self.pilot_ok).then(|| {
            (Verdict::Invalid, format!("{} of {pilot} null pairs of A are invalid: {why}", self.pilot_dropped))
        })
    }

    /// Why nothing good can be said of B: its side alone was invalid more often than chance explains.
    pub(super) fn one_sided(&self) -> Option<String> {
        let (a, b) = (self.dropped_a, self.dropped_b);
        (b > a && at_least(b, a + b) < SUSPECT).then(|| {
            format!(
                "side B was invalid in {b} pairs and side A in {a}, more than chance explains: {}",
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
    for pair in &judged {
        counts.note(pair);
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

/// A failure of a side counts more than what is invalid.
fn outcome(evidence: &Evidence<'_>, sides: &Sides<'_>, row: &PairRow) -> PairOutcome {
    let mut found: Vec<(Status, Side, String)> = Vec::new();
    for (side, iteration) in row.iterations() {
        for cell in evidence.cells {
            let place = || if cell.label.is_empty() { String::new() } else { format!(" in cell `{}`", cell.label) };
            let told = |reason: &str| format!("side {}{}: {reason}", side.name(), place());
            match sides.of(side).status(cell.id, iteration) {
                Some((Status::Ok, _)) => {}
                Some((status, reason)) => found.push((status, side, told(reason))),
                // What was not run after a failure of the same turn.
                None => found.push((Status::Invalid, side, told("not recorded"))),
            }
        }
    }
    let of = |status: Status| -> Option<(Vec<Side>, String)> {
        let reason = found.iter().find(|(s, ..)| *s == status)?.2.clone();
        let all = Side::BOTH.into_iter().filter(|side| found.iter().any(|(s, who, _)| *s == status && who == side));
        Some((all.collect(), reason))
    };
    match (of(Status::Failed), of(Status::Invalid)) {
        (Some((sides, reason)), _) => PairOutcome::Failed { sides, reason },
        (None, Some((sides, reason))) => PairOutcome::Dropped { sides, reason },
        (None, None) => PairOutcome::Ok,
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
        assert_eq!(counts(0, 6).one_sided(), None);
        assert!(counts(0, 7).one_sided().is_some());
        assert_eq!(counts(7, 0).one_sided(), None, "A's own trouble does not make B look better");
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
