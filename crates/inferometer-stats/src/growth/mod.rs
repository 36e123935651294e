//! Growth laws: how the time per token grows with the context, and the prefill time with the
//! prompt.
//!
//! Decode takes t(n) = a + b n per token, where n is the context in tokens; prefill takes
//! p(n) = c + d n + e n². Both are fitted by Huber regression on *relative* error: each residual is
//! divided by the fitted time, so a length of 100 tokens counts as much as one of 10,000. Times are
//! in ms. Data that cannot determine the coefficients gives [`NotIdentifiable`].

mod change;
mod huber;
mod laws;
mod resample;

use serde::{Deserialize, Serialize};

pub use change::{Change, Observation, Ratio, TermChange, change, ratios};
pub use laws::{Law, Point, Term, Timing};
pub use resample::RESAMPLES;

use super::robust::Interval;
use huber::Row;
use resample::{Group, spread};

/// Number of lengths that a fit needs.
pub const LEAST_LENGTHS: usize = 5;
/// Rounds (iterations, or pairs of an A/B session) needed at every length.
pub const LEAST_ROUNDS: usize = 10;
/// An identifiable coefficient's interval extends at most this share to either side.
pub const WIDEST: f64 = 0.2;
/// The fit and its weights alternate until fitted times change by less than this share.
const SETTLED: f64 = 1e-9;
const MOST_TURNS: usize = 50;
/// The fitted time that divides a residual is at least this share of the measured time.
const LEAST_SHARE: f64 = 0.1;
/// Joint coverage of all intervals of a law; each interval has more (Bonferroni).
pub const CONFIDENCE: f64 = 0.95;

/// Why a law's coefficients cannot be estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum NotIdentifiable {
    #[error("only the sum of prefill and decode was measured, not the time of each phase")]
    SumOfPhases,
    #[error("tokens were reused from the KV cache, so the prompt's length is not the number of computed tokens")]
    Reused,
    #[error("only one token was generated, so there is no time between tokens")]
    OneToken,
    #[error("a growth law needs at least {LEAST_LENGTHS} lengths, not {have}")]
    FewLengths { have: usize },
    #[error("a growth law needs at least {LEAST_ROUNDS} rounds at every length; there are {have} at {tokens} tokens")]
    FewRounds { tokens: u64, have: usize },
    #[error("a time is not a positive number")]
    NoTime,
    #[error("the lengths are too close together to separate the coefficients")]
    TooClose,
}

/// The best-fitting coefficients.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    pub law: Law,
    /// One per term of the law, in its order and units.
    pub coefficients: Vec<f64>,
    /// Robust standard deviation of the relative residuals: 0.01 is 1 %.
    pub scale: f64,
}

impl Fit {
    /// The law's time at `n` tokens, in ms.
    #[must_use]
    pub fn at(&self, n: f64) -> f64 {
        self.law.terms().iter().zip(&self.coefficients).map(|(term, c)| c * n.powi(term.power())).sum()
    }
}

/// Fits a law to points; `None` with fewer different lengths than coefficients, or where a time is
/// not positive.
#[must_use]
pub fn fit(law: Law, points: &[Point]) -> Option<Fit> {
    let scaled = Scaled::new(law, points.iter().map(|p| p.n))?;
    let Relative { found, .. } = relative(&scaled, points).ok()?;
    Some(Fit { law, coefficients: scaled.back(&found.coefficients), scale: found.scale })
}

/// One measured time of a run: iteration `round` at one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Index of the length.
    pub length: usize,
    /// Index of the iteration; iterations of the same number ran near each other, whatever their
    /// length.
    pub round: u32,
    pub point: Point,
}

/// A law fitted to one run, each coefficient with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub law: Law,
    /// Smallest number of iterations at any length.
    pub rounds: usize,
    /// Smallest and greatest n; the law is not extrapolated beyond them.
    pub shortest: f64,
    pub longest: f64,
    pub terms: Vec<TermEstimate>,
    /// Robust standard deviation of the relative residuals.
    pub scale: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TermEstimate {
    pub term: Term,
    /// Value in the term's unit.
    pub value: f64,
    pub interval: Interval,
    /// Whether the interval extends at most a fifth of the value to either side.
    pub identifiable: bool,
}

impl Estimate {
    /// The law's time at `n` tokens, in ms.
    #[must_use]
    pub fn at(&self, n: f64) -> f64 {
        self.terms.iter().map(|t| t.value * n.powi(t.term.power())).sum()
    }

    /// Whether every coefficient is identifiable.
    #[must_use]
    pub fn identifiable(&self) -> bool {
        self.terms.iter().all(|term| term.identifiable)
    }
}

/// Fits a law to one run's samples, with intervals from resampling the iterations within each
/// length.
///
/// # Errors
/// With fewer than five lengths, fewer than ten iterations at a length, or times that are not
/// positive.
pub fn fit_with_interval(law: Law, samples: &[Sample], seed: u64) -> Result<Estimate, NotIdentifiable> {
    let groups = Group::of(samples.iter().map(|s| (s.length, s.round, s.point.n)));
    let rounds = enough(&groups)?;
    let points: Vec<Point> = samples.iter().map(|s| s.point).collect();
    let scaled = Scaled::new(law, points.iter().map(|p| p.n)).ok_or(NotIdentifiable::TooClose)?;
    let Relative { rows, times, found, .. } = relative(&scaled, &points)?;
    let intervals = spread(&groups, &rows, &times, scaled.terms(), &found.coefficients, seed);
    let terms = (0..scaled.terms()).map(|j| {
        let value = found.coefficients[j];
        let wide = value.abs() * WIDEST;
        let [lo, hi] = intervals[j];
        TermEstimate {
            term: law.terms()[j],
            value: value / scaled.unit(j),
            interval: interval(lo / scaled.unit(j), hi / scaled.unit(j), scaled.terms()),
            identifiable: value != 0.0 && value - lo <= wide && hi - value <= wide,
        }
    });
    Ok(Estimate {
        law,
        rounds,
        shortest: points.iter().map(|p| p.n).fold(f64::INFINITY, f64::min),
        longest: scaled.longest,
        terms: terms.collect(),
        scale: found.scale,
    })
}

/// The interval of one of `terms` coefficients.
fn interval(lo: f64, hi: f64, terms: usize) -> Interval {
    Interval { lo, hi, confidence: 1.0 - (1.0 - CONFIDENCE) / terms as f64 }
}

/// The smallest number of rounds at a length, if there are enough lengths and rounds.
fn enough(groups: &[Group]) -> Result<usize, NotIdentifiable> {
    if groups.len() < LEAST_LENGTHS {
        return Err(NotIdentifiable::FewLengths { have: groups.len() });
    }
    let fewest = groups.iter().min_by_key(|group| group.members.len()).expect("there are groups");
    match fewest.members.len() {
        have if have < LEAST_ROUNDS => Err(NotIdentifiable::FewRounds { tokens: fewest.n.round() as u64, have }),
        have => Ok(have),
    }
}

/// Regressors with n in units of the longest length, so that its powers stay near 1.
struct Scaled {
    law: Law,
    longest: f64,
}

impl Scaled {
    /// `None` without a length above 0.
    fn new(law: Law, lengths: impl Iterator<Item = f64>) -> Option<Self> {
        let longest = lengths.fold(0.0, f64::max);
        (longest > 0.0 && longest.is_finite()).then_some(Self { law, longest })
    }

    fn terms(&self) -> usize {
        self.law.terms().len()
    }

    /// Divide a scaled coefficient by this to get its value per token.
    fn unit(&self, term: usize) -> f64 {
        self.longest.powi(self.law.terms()[term].power())
    }

    fn back(&self, coefficients: &[f64; huber::TERMS]) -> Vec<f64> {
        (0..self.terms()).map(|j| coefficients[j] / self.unit(j)).collect()
    }

    /// The law's time at `n` tokens.
    fn time(&self, coefficients: &[f64; huber::TERMS], n: f64) -> f64 {
        self.row(n, 1.0).iter().zip(coefficients).map(|(x, c)| x * c).sum()
    }

    /// The regressors of a time at `n` tokens, all divided by `by` ms.
    fn row(&self, n: f64, by: f64) -> Row {
        let mut row = [0.0; huber::TERMS];
        for (x, term) in row.iter_mut().zip(self.law.terms()) {
            *x = (n / self.longest).powi(term.power()) / by;
        }
        row
    }
}

/// A law fitted to times, with the data of its regression: everything divided by the fitted time.
struct Relative {
    rows: Vec<Row>,
    times: Vec<f64>,
    by: Vec<f64>,
    found: huber::Solution,
}

/// Regression on relative error. The divisor depends on the fit, so the two alternate, starting
/// with the measured times. Dividing by the measured times alone would favour fast ones: with noise
/// of 30 % the fit would be 10 % too fast.
fn relative(scaled: &Scaled, points: &[Point]) -> Result<Relative, NotIdentifiable> {
    if !points.iter().all(|p| p.time_ms > 0.0 && p.time_ms.is_finite() && p.n >= 0.0) {
        return Err(NotIdentifiable::NoTime);
    }
    let mut by: Vec<f64> = points.iter().map(|p| p.time_ms).collect();
    let mut turn = 1;
    loop {
        let rows: Vec<Row> = points.iter().zip(&by).map(|(p, by)| scaled.row(p.n, *by)).collect();
        let times: Vec<f64> = points.iter().zip(&by).map(|(p, by)| p.time_ms / by).collect();
        let found = huber::fit(&rows, &times, scaled.terms()).ok_or(NotIdentifiable::TooClose)?;
        // A law that fits badly may become negative.
        let time = |p: &Point| scaled.time(&found.coefficients, p.n).max(p.time_ms * LEAST_SHARE);
        let next: Vec<f64> = points.iter().map(time).collect();
        let moved = next.iter().zip(&by).map(|(next, by)| (next / by - 1.0).abs()).fold(0.0, f64::max);
        if moved < SETTLED || turn == MOST_TURNS {
            return Ok(Relative { rows, times, by, found });
        }
        by = next;
        turn += 1;
    }
}

#[cfg(test)]
mod tests;
