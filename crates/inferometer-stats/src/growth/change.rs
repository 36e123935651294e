//! Change of each growth coefficient between the sides of an A/B session, with its interval.
//!
//! The change is fitted directly: for each pair, (B - A) / mean of both, on the law's regressors
//! divided by that mean as the law fits it. A disturbance that slows both halves of a pair cancels,
//! and identical sides have a change of 0 on average.

use serde::{Deserialize, Serialize};

use super::huber::{self, Row};
use super::resample::{Group, spread};
use super::{Law, NotIdentifiable, Point, Scaled, Term, WIDEST, enough, interval, relative};
use crate::robust;
use crate::robust::Interval;

/// One pair at one length, with each side's time (of one token, or of a prefill).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Index of the length.
    pub length: usize,
    /// Index of the pair; a pair has the same number at every length.
    pub pair: u32,
    /// Number of tokens: of context, or of the prompt.
    pub n: f64,
    pub a_ms: f64,
    pub b_ms: f64,
}

/// The change from A to B, coefficient by coefficient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub law: Law,
    /// Smallest number of pairs at any length.
    pub pairs: usize,
    /// The greatest n.
    pub longest: f64,
    /// One per term of the law, in its order.
    pub terms: Vec<TermChange>,
    /// The main cause: of the coefficients that moved, the one that contributes most at the longest
    /// length.
    pub named: Option<Term>,
    /// B / A as measured, at every length.
    pub ratios: Vec<Ratio>,
    /// Robust standard deviation of the relative differences after subtracting the fitted change.
    pub scale: f64,
}

/// The change of one coefficient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TermChange {
    pub term: Term,
    /// Value in A, in the term's unit: the mean of both sides minus half of the change.
    pub a: f64,
    /// Value in B: A plus the change.
    pub b: f64,
    pub change: f64,
    /// Interval of the change.
    pub interval: Interval,
    /// The change's effect on the time at the longest length, as a share of A's time there: 0.05 is
    /// 5 %.
    pub contribution: f64,
    pub contribution_interval: Interval,
    /// Whether the interval of the contribution extends at most 20 points to either side.
    pub identifiable: bool,
    /// Identifiable, and its interval excludes 0.
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
    /// Whether every coefficient's change is identifiable.
    #[must_use]
    pub fn identifiable(&self) -> bool {
        self.terms.iter().all(|term| term.identifiable)
    }
}

/// B / A at every length, shortest first, for any number of pairs.
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

/// Fits the change of each coefficient, with intervals from resampling the pairs within each length
/// (seeded).
///
/// # Errors
/// With fewer than five lengths, fewer than ten pairs at a length, or times that are not positive.
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

    // n is in units of the longest length, so a scaled coefficient is the term's time there, in ms.
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
