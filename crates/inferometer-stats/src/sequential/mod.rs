//! A gate's decision over interim looks (docs/explanation/method.md#looks): regressed, improved,
//! proven unchanged, or not decided yet.
//!
//! A group-sequential plan: all pairs so far are tested at three looks, each at an alpha so small
//! that the three together spend 5 % (Pocock 1977, in the spending form of Lan and DeMets 1983).
//! The session's gates share the 5 % by Bonferroni.

mod power;
#[cfg(test)]
mod tests;
mod verdict;

use serde::{Deserialize, Serialize};

pub use power::{PILOT_PAIRS, Pilot, caught_nine_in_ten, pilot};
pub use verdict::Verdict;

use super::rank::{self, Depth, Walsh};
use super::robust::Interval;

/// Number of pairs at each look.
pub const LOOKS: [usize; 3] = [10, 20, 30];
/// Most gates of a session.
pub const MOST_GATES: usize = 3;
/// Two-sided alpha of each look, for one, two and three gates.
pub const ALPHAS: [[f64; 3]; MOST_GATES] =
    [[0.022_66, 0.021_71, 0.021_56], [0.011_33, 0.010_36, 0.010_02], [0.007_51, 0.006_71, 0.006_38]];

/// Parameters of a session's gates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Number of gates in the session, 1 to [`MOST_GATES`]; they share the 5 %.
    pub gates: usize,
    /// Smallest change that counts, in the unit of x and above 0: ln(1 + delta), or an absolute
    /// delta for counts.
    pub bound: f64,
}

/// The result of a gate at one look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    pub pairs: usize,
    /// Hodges-Lehmann estimate, in the unit of x.
    pub estimate: f64,
    /// Two-sided interval at this look's alpha for the session's number of gates.
    pub interval: Interval,
    /// Interval for two one-sided tests: each side at the alpha of one gate.
    pub equivalence: Interval,
    /// Exact two-sided signed-rank test, not adjusted for looks or gates: shown, but not used for
    /// the decision.
    pub p_value: f64,
    /// `None`: continue to the next look. The last look gives [`Verdict::Inconclusive`] if nothing
    /// else holds.
    pub verdict: Option<Verdict>,
    /// Unchanged, but the interval excludes 0: the change is detectable and below the bound.
    pub detectable: bool,
}

/// The outcome of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// [`Verdict::NotDecided`] while looks remain.
    pub verdict: Verdict,
    /// The looks taken, up to the deciding one.
    pub looks: Vec<Look>,
    /// For an inconclusive gate, the smallest bound above the rule's at which the same pairs would
    /// give `unchanged`, in the unit of x.
    pub would_decide: Option<f64>,
}

/// The Walsh averages that bound a look's intervals.
#[derive(Debug, Clone, Copy)]
struct Depths {
    interval: Depth,
    equivalence: Depth,
}

impl Depths {
    fn at(look: usize, gates: usize) -> Self {
        let pairs = LOOKS[look];
        let depth = |alpha| rank::depth(pairs, alpha).expect("ten pairs give an interval at every alpha of the table");
        Self { interval: depth(alphas(gates)[look]), equivalence: depth(2.0 * alphas(1)[look]) }
    }
}

/// The inputs of a verdict; all of them shift with x.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    estimate: f64,
    interval: Interval,
    equivalence: Interval,
}

impl Evidence {
    fn of(walsh: &Walsh, depths: &Depths) -> Self {
        Self {
            estimate: walsh.estimate(),
            interval: walsh.interval(depths.interval),
            equivalence: walsh.interval(depths.equivalence),
        }
    }

    /// The evidence that x + `shift` would give.
    fn moved(&self, shift: f64) -> Self {
        let moved = |i: Interval| Interval { lo: i.lo + shift, hi: i.hi + shift, ..i };
        Self { estimate: self.estimate + shift, interval: moved(self.interval), equivalence: moved(self.equivalence) }
    }

    /// The order follows the method: a change that is proven and large enough is never called
    /// unchanged.
    fn verdict(&self, bound: f64) -> Option<Verdict> {
        let (interval, equivalence) = (&self.interval, &self.equivalence);
        // Within any bound, even 0.
        let all_zero = equivalence.lo == 0.0 && equivalence.hi == 0.0 && self.estimate == 0.0;
        if interval.lo > 0.0 && self.estimate >= bound {
            Some(Verdict::Regressed)
        } else if interval.hi < 0.0 && self.estimate <= -bound {
            Some(Verdict::Improved)
        } else if all_zero || (-bound < equivalence.lo && equivalence.hi < bound) {
            Some(Verdict::Unchanged)
        } else {
            None
        }
    }
}

/// Evaluates a gate at one look.
///
/// # Panics
/// When the number of pairs is not in [`LOOKS`], a value is not finite, or the rule has no gates or
/// too many.
#[must_use]
pub fn look(x: &[f64], rule: &Rule) -> Look {
    let at = LOOKS.iter().position(|pairs| *pairs == x.len()).expect("a look has the pairs of a look");
    let evidence = Evidence::of(&walsh(x), &Depths::at(at, rule.gates));
    let verdict = match evidence.verdict(rule.bound) {
        None if at + 1 == LOOKS.len() => Some(Verdict::Inconclusive),
        verdict => verdict,
    };
    let Evidence { estimate, interval, equivalence } = evidence;
    Look {
        pairs: x.len(),
        estimate,
        interval,
        equivalence,
        p_value: rank::signed_rank(x).expect("x is finite, as the Walsh averages are").p_value,
        verdict,
        detectable: verdict == Some(Verdict::Unchanged) && (interval.lo > 0.0 || interval.hi < 0.0),
    }
}

/// Estimate and interval at any number of pairs, to show between looks: the interval at the alpha
/// of the next look (after the last look, of the last one), `None` if there are too few pairs for
/// it. It implies no verdict.
///
/// `None` for no pairs or a value that is not finite.
///
/// # Panics
/// When there are no gates or too many.
#[must_use]
pub fn estimate(x: &[f64], gates: usize) -> Option<(f64, Option<Interval>)> {
    let walsh = Walsh::of(x)?;
    let next = LOOKS.iter().position(|pairs| *pairs >= x.len()).unwrap_or(LOOKS.len() - 1);
    let depth = rank::depth(x.len(), alphas(gates)[next]);
    Some((walsh.estimate(), depth.map(|depth| walsh.interval(depth))))
}

/// The gate's decision over all looks that x is long enough for, with one value per pair in order;
/// final at the first verdict. Pairs after the last look are ignored.
///
/// # Panics
/// As [`look`], but any number of pairs is allowed.
#[must_use]
pub fn decide(x: &[f64], rule: &Rule) -> Decision {
    let mut looks: Vec<Look> = Vec::new();
    for pairs in LOOKS.into_iter().take_while(|pairs| *pairs <= x.len()) {
        looks.push(look(&x[..pairs], rule));
        if looks.last().is_some_and(|look| look.verdict.is_some()) {
            break;
        }
    }
    let verdict = looks.last().and_then(|look| look.verdict).unwrap_or(Verdict::NotDecided);
    let would_decide = (verdict == Verdict::Inconclusive).then(|| {
        let reach = |look: &Look| look.equivalence.lo.abs().max(look.equivalence.hi.abs());
        looks.iter().map(reach).fold(f64::INFINITY, f64::min).next_up()
    });
    Decision { verdict, looks, would_decide }
}

fn alphas(gates: usize) -> [f64; 3] {
    assert!((1..=MOST_GATES).contains(&gates), "a session has 1 to {MOST_GATES} gates, not {gates}");
    ALPHAS[gates - 1]
}

fn walsh(x: &[f64]) -> Walsh {
    Walsh::of(x).expect("a pair's x is finite")
}
