//! Which cost moved between the sides of an A/B session: the change of each coefficient, with its interval.
//!
//! The change is fitted directly: in each pair (B - A) over the mean of both, by the law's regressors over that mean as
//! the law fits it. What slows both halves of a pair down cancels, and identical sides have a change of 0 on average.

use serde::{Deserialize, Serialize};

use super::huber::{self, Row};
use super::resample::{Group, spread};
use super::{Law, NotIdentifiable, Point, Scaled, Term, WIDEST, enough, interval, relative};
use crate::robust;
use crate::robust::Interval;

/// One pair at one length: the time that each side took (of a token, or of a prefill).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Which length.
    pub length: usize,
    /// Which pair; a pair has the same number at every length.
    pub pair: u32,
    /// Tokens: of context, or of the prompt.
    pub n: f64,
    pub a_ms: f64,
    pub b_ms: f64,
}

/// What changed from A to B, coefficient by coefficient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub law: Law,
    /// Fewest pairs at a length.
    pub pairs: usize,
    /// The greatest n.
    pub longest: f64,
    /// One a term of the law, in its order.
    pub terms: Vec<TermChange>,
    /// The coefficient that explains most: among those that moved, the one that matters most at the longest length.
    pub named: Option<Term>,
    /// B / A as measured, at every length.
    pub ratios: Vec<Ratio>,
    /// Robust standard deviation of what the change leaves of a pair's relative difference.
    pub scale: f64,
}

/// The change of one coefficient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TermChange {
    pub term: Term,
    /// In A, in the term's unit: that of the mean of both sides, less half of the change.
    pub a: f64,
    /// In B: A and the change.
    pub b: f64,
    pub change: f64,
    /// Of the change.
    pub interval: Interval,
    /// What the change adds to the time at the longest length, as a share of A's time there: 0.05 is 5 %.
    pub contribution: f64,
    pub contribution_interval: Interval,
    /// Whether the interval of the contribution stays within 20 points to either side.
    pub identifiable: bool,
    /// Identifiable, and the interval excludes 0.
    pub moved: bool,
}

/// B / A at one length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub n: f64,
    pub pairs: usize,
    /// Median over the pairs.
    pub ratio: f64,
}

impl Change {
    /// Whether the change of every coefficient is known well enough.
    #[must_use]
    pub fn identifiable(&self) -> bool {
        self.terms.iter().all(|term| term.identifiable)
    }
}

/// B / A at every length, the shortest first, however few the pairs: to be shown beside the change, or in its place.
#[must_use]
pub fn ratios(observations: &[Observation]) -> Vec<Ratio> {
    let groups = groups(observations);
    let ratio = |group: &Group| {
        let values: Vec<f64> =
            group.members.iter().map(|(_, i)| observations[*i].b_ms / observations[*i].a_ms).collect();
        let ratio = robust::summarize(&values)?.median;
        Some(Ratio { n: group.n, pairs: values.len(), ratio })
    };
    groups.iter().filter_map(ratio).collect()
}

/// Fits the change of each coefficient, with intervals from resampling the pairs within each length, seeded.
///
/// # Errors
/// With fewer than five lengths, fewer than ten pairs at one of them, or times that are not positive.
pub fn change(law: Law, observations: &[Observation], seed: u64) -> Result<Change, NotIdentifiable> {
    let groups = groups(observations);
    let pairs = enough(&groups)?;
    if !observations.iter().all(|o| [o.a_ms, o.b_ms].iter().all(|ms| *ms > 0.0 && ms.is_finite())) {
        return Err(NotIdentifiable::NoTime);
    }
    let middle = |o: &Observation| f64::midpoint(o.a_ms, o.b_ms);
    let means: Vec<Point> = observations.iter().map(|o| Point { n: o.n, time_ms: middle(o) }).collect();
    let scaled = Scaled::new(law, observations.iter().map(|o| o.n)).ok_or(NotIdentifiable::TooClose)?;
    let mean = relative(&scaled, &means)?;
    let terms = scaled.terms();
    let rows: Vec<Row> = observations.iter().zip(&mean.by).map(|(o, by)| scaled.row(o.n, *by)).collect();
    let differences: Vec<f64> = observations.iter().map(|o| (o.b_ms - o.a_ms) / middle(o)).collect();
    let found = huber::fit(&rows, &differences, terms).ok_or(NotIdentifiable::TooClose)?;
    let intervals = spread(&groups, &rows, &differences, terms, &found.coefficients, seed);

    // n counts in longest lengths, so a scaled coefficient is what the term adds there, in ms.
    let side = |j: usize, sign: f64| mean.found.coefficients[j] + sign * found.coefficients[j] / 2.0;
    let there: f64 = (0..terms).map(|j| side(j, -1.0)).sum();
    if there.is_nan() || there <= 0.0 {
        return Err(NotIdentifiable::NoTime);
    }
    let terms: Vec<TermChange> = (0..terms)
        .map(|j| {
            let (unit, change, [lo, hi]) = (scaled.unit(j), found.coefficients[j], intervals[j]);
            let identifiable = (change - lo).max(hi - change) / there <= WIDEST;
            TermChange {
                term: law.terms()[j],
                a: side(j, -1.0) / unit,
                b: side(j, 1.0) / unit,
                change: change / unit,
                interval: interval(lo / unit, hi / unit, terms),
                contribution: change / there,
                contribution_interval: interval(lo / there, hi / there, terms),
                identifiable,
                moved: identifiable && (lo > 0.0 || hi < 0.0),
            }
        })
        .collect();
    let most = terms.iter().filter(|t| t.moved).max_by(|a, b| a.contribution.abs().total_cmp(&b.contribution.abs()));
    Ok(Change {
        law,
        pairs,
        longest: scaled.longest,
        named: most.map(|t| t.term),
        terms,
        ratios: ratios(observations),
        scale: found.scale,
    })
}

fn groups(observations: &[Observation]) -> Vec<Group> {
    Group::of(observations.iter().map(|o| (o.length, o.pair, o.n)))
}
