//! A gate's decision, look by look (METHOD sections 3.5 and 3.6): regressed, improved, proven unchanged, or not decided yet.
//!
//! A group-sequential plan: all pairs so far are looked at three times, each time at an alpha so small that the three together
//! spend 5 % (Pocock 1977, in the spending form of Lan and DeMets 1983), shared by the session's gates after Bonferroni.

mod power;
#[cfg(test)]
mod tests;
mod verdict;

use serde::{Deserialize, Serialize};

pub use power::{PILOT_PAIRS, Pilot, caught_nine_in_ten, pilot};
pub use verdict::Verdict;

use super::rank::{self, Depth, Walsh};
use super::robust::Interval;

/// How many pairs there are at each look.
pub const LOOKS: [usize; 3] = [10, 20, 30];
/// How many gates a session may have.
pub const MOST_GATES: usize = 3;
/// Two-sided alpha of each look, for one, two and three gates.
pub const ALPHAS: [[f64; 3]; MOST_GATES] =
    [[0.022_66, 0.021_71, 0.021_56], [0.011_33, 0.010_36, 0.010_02], [0.007_51, 0.006_71, 0.006_38]];

/// How a session's gates are judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Gates of the session, 1 to [`MOST_GATES`]: they share the 5 %.
    pub gates: usize,
    /// The least change that counts, in the unit of x and over 0: ln(1 + delta), or an absolute delta for counts.
    pub bound: f64,
}

/// A gate at one look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    pub pairs: usize,
    /// Hodges-Lehmann, in the unit of x.
    pub estimate: f64,
    /// Two-sided, at this look's alpha for as many gates as the session has.
    pub interval: Interval,
    /// For two one-sided tests: both sides at the alpha of one gate.
    pub equivalence: Interval,
    /// Exact signed-rank, two-sided, not adjusted for looks or gates: to read, not to decide by.
    pub p_value: f64,
    /// Absent: take the next look. The last look's is [`Verdict::Inconclusive`] where nothing else holds.
    pub verdict: Option<Verdict>,
    /// Unchanged, though the interval excludes 0: detectable, but below the bound.
    pub detectable: bool,
}

/// What came of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// [`Verdict::NotDecided`] while looks are left.
    pub verdict: Verdict,
    /// The looks taken: none behind the one that decided.
    pub looks: Vec<Look>,
    /// Of an inconclusive gate, the smallest bound above the rule's with which the same pairs would have been decided (as
    /// unchanged), in the unit of x.
    pub would_decide: Option<f64>,
}

/// Which Walsh averages bound a look's intervals.
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

/// What a verdict depends on: all of it moves with x.
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

    /// The order is the method's: a change that is proven and large enough is never called unchanged.
    fn verdict(&self, bound: f64) -> Option<Verdict> {
        let (interval, equivalence) = (&self.interval, &self.equivalence);
        // Inside any bound, even one of 0.
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

/// A gate at one look.
///
/// # Panics
/// When x has no number of pairs that is in [`LOOKS`], holds a value that is not finite, or the rule has no gates or too many.
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

/// Estimate and interval at any number of pairs, to show between looks: the interval at the alpha of the next look (after the
/// last one, of the last), absent where the pairs are too few for it. No verdict follows from it.
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

/// The gate's decision over all looks that x, one value a pair in their order, is long enough for; frozen at the first verdict.
/// Pairs behind the last look count for nothing.
///
/// # Panics
/// As [`look`] does, but for the number of pairs.
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
