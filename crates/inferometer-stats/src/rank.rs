//! Rank statistics of one sample of paired differences: Walsh averages, the Hodges-Lehmann estimate
//! with its exact interval, and the exact signed-rank test (Wilcoxon 1945; Hollander, Wolfe and
//! Chicken, Nonparametric Statistical Methods, 3rd ed., sections 3.1 to 3.3).
//!
//! Under the null hypothesis x is symmetric about 0, so each rank of |x| is positive with
//! probability 1/2. The distribution of the sum of the positive ranks is counted exactly.

use serde::{Deserialize, Serialize};

use super::robust::{Interval, sorted};

/// The n (n + 1) / 2 averages of all pairs of values, including each value with itself, in
/// ascending order.
#[derive(Debug, Clone, PartialEq)]
pub struct Walsh {
    sorted: Vec<f64>,
}

impl Walsh {
    /// Takes finite values in any order; `None` if there are none or one is not finite. Time and
    /// memory grow with the square of their number.
    #[must_use]
    pub fn of(x: &[f64]) -> Option<Self> {
        if x.is_empty() || x.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut averages = Vec::with_capacity(x.len() * (x.len() + 1) / 2);
        for (i, a) in x.iter().enumerate() {
            averages.extend(x[i..].iter().map(|b| f64::midpoint(*a, *b)));
        }
        averages.sort_unstable_by(f64::total_cmp);
        Some(Self { sorted: averages })
    }

    /// The averages in ascending order, never empty.
    #[must_use]
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// The Hodges-Lehmann estimate of the centre: the median of the averages.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        let m = self.sorted.len();
        f64::midpoint(self.sorted[(m - 1) / 2], self.sorted[m / 2])
    }

    /// From the `depth.k`-th smallest to the `depth.k`-th largest average.
    /// # Panics
    /// When `depth` was computed for another number of values.
    /// When `depth` is not of as many values as these averages are.
    #[must_use]
    pub fn interval(&self, depth: Depth) -> Interval {
        let m = self.sorted.len();
        assert_eq!(m, depth.n * (depth.n + 1) / 2, "a depth belongs to one number of values");
        Interval { lo: self.sorted[depth.k - 1], hi: self.sorted[m - depth.k], confidence: depth.confidence }
    }
}

/// The Hodges-Lehmann estimate of the centre of finite values; `None` as in [`Walsh::of`].
#[must_use]
pub fn hodges_lehmann(x: &[f64]) -> Option<f64> {
    Some(Walsh::of(x)?.estimate())
}

/// How many sorted Walsh averages to count in from each end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Depth {
    /// Number of values that the averages are made of.
    pub n: usize,
    /// Counted from 1: 1 means the outermost averages.
    pub k: usize,
    /// Exact coverage of the interval for values without ties, 1 - 2 P(T < k); with ties the
    /// coverage is at least this.
    pub confidence: f64,
}

/// The deepest k whose interval misses the centre with a two-sided probability of at most `alpha`:
/// the largest with 2 P(T <= k - 1) <= alpha, where T is the signed-rank statistic. `None` if n is
/// too small.
#[must_use]
pub fn depth(n: usize, alpha: f64) -> Option<Depth> {
    // Never deeper than the middle of the averages.
    let deepest = (n * (n + 1) / 2).div_ceil(2);
    let ranks: Vec<usize> = (1..=n).collect();
    let mut best = None;
    let mut missed = 0.0;
    for (below, p) in probabilities(&ranks, deepest).iter().enumerate().take(deepest) {
        missed += 2.0 * p;
        if missed > alpha {
            break;
        }
        best = Some(Depth { n, k: below + 1, confidence: 1.0 - missed });
    }
    best
}

/// The signed-rank test that x is symmetric about 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignedRank {
    /// Sum of the ranks of |x| whose x is positive.
    pub positive: f64,
    /// Sum of the ranks of |x| whose x is negative.
    pub negative: f64,
    /// Exact, two-sided.
    pub p_value: f64,
}

/// Exact for any ties: equal |x| share the mean of their ranks, and the distribution is computed
/// for those ranks.
///
/// Zeros follow Pratt (1959): they are ranked with the rest, then removed with their ranks. A zero
/// thus raises the other ranks, as evidence that small differences are common; removing zeros first
/// (Wilcoxon's method) can make a result significant by adding zeros. The p-value
/// is 1 if all values are zero. `None` for no values or one that is not finite.
///
/// Takes n^3 steps: suitable for some hundreds of values.
#[must_use]
pub fn signed_rank(x: &[f64]) -> Option<SignedRank> {
    if x.is_empty() || x.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let magnitudes: Vec<f64> = x.iter().map(|v| v.abs()).collect();
    let ranked: Vec<(usize, f64)> = doubled_ranks(&magnitudes).into_iter().zip(x.iter().copied()).collect();
    let sum = |sign: fn(f64) -> bool| ranked.iter().filter(|(_, v)| sign(*v)).map(|(rank, _)| rank).sum::<usize>();
    let (positive, negative) = (sum(|v| v > 0.0), sum(|v| v < 0.0));
    let ranks: Vec<usize> = ranked.iter().filter(|(_, v)| *v != 0.0).map(|(rank, _)| *rank).collect();
    let tail: f64 = probabilities(&ranks, positive.min(negative)).iter().sum();
    Some(SignedRank {
        positive: positive as f64 / 2.0,
        negative: negative as f64 / 2.0,
        p_value: (2.0 * tail).min(1.0),
    })
}

/// Twice the rank of each value, in the given order, counted from 1. Equal values share the mean of
/// their ranks; doubling makes it a whole number.
#[must_use]
pub fn doubled_ranks(values: &[f64]) -> Vec<usize> {
    let sorted = sorted(values);
    // Compared as numbers, so that 0 equals -0.
    values.iter().map(|v| sorted.partition_point(|s| s < v) + sorted.partition_point(|s| s <= v) + 1).collect()
}

/// P(T = t) for t in `0..=upto`, where T is the sum of those `ranks` whose fair coin shows heads.
fn probabilities(ranks: &[usize], upto: usize) -> Vec<f64> {
    let mut p = vec![0.0; upto + 1];
    p[0] = 1.0;
    let mut highest = 0;
    for &rank in ranks {
        highest = (highest + rank).min(upto);
        for t in (0..=highest).rev() {
            let without = p[t];
            let with = if t >= rank { p[t - rank] } else { 0.0 };
            p[t] = f64::midpoint(without, with);
        }
    }
    p
}

#[cfg(test)]
mod tests;
