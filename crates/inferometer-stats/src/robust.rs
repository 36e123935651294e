//! Order statistics: median with its distribution-free interval, MAD, quantiles.
//!
//! The interval between the k-th smallest and k-th largest of n values covers the median with
//! probability 1 - 2 P(Bin(n, 1/2) < k) (David and Nagaraja, Order Statistics, 3rd ed., section
//! 7.1).

use serde::{Deserialize, Serialize};

/// Minimum coverage of an interval; the narrowest interval that reaches it is used.
const WANTED: f64 = 0.95;

/// Summary of one metric over a cell's iterations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of values; 0 for a figure that was [stated](Summary::stated) without them.
    pub n: usize,
    pub median: f64,
    /// Median absolute deviation from the median, unscaled.
    pub mad: f64,
    pub min: f64,
    pub max: f64,
    /// `None` if n is too small for 95 % (under 6 values).
    pub interval: Option<Interval>,
}

/// A distribution-free interval of the median.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub lo: f64,
    pub hi: f64,
    /// Exact coverage, 0 to 1.
    pub confidence: f64,
}

impl Summary {
    /// A mean or median that was stated without its samples: `n` is 0, and nothing is known of
    /// their spread.
    #[must_use]
    pub fn stated(value: f64) -> Self {
        Self { n: 0, median: value, mad: 0.0, min: value, max: value, interval: None }
    }

    /// A figure of the spread; `None` without samples.
    #[must_use]
    pub fn spread(&self, of: fn(&Self) -> f64) -> Option<f64> {
        (self.n > 0).then(|| of(self))
    }
}

/// Summarizes finite values; `None` when there are none or one is not finite.
#[must_use]
pub fn summarize(values: &[f64]) -> Option<Summary> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let sorted = sorted(values);
    let median = middle(&sorted);
    let deviations: Vec<f64> = sorted.iter().map(|v| (v - median).abs()).collect();
    let interval = median_rank(sorted.len()).map(|(k, confidence)| Interval {
        lo: sorted[k - 1],
        hi: sorted[sorted.len() - k],
        confidence,
    });
    Some(Summary {
        n: sorted.len(),
        median,
        mad: middle(&self::sorted(&deviations)),
        min: sorted[0],
        max: sorted[sorted.len() - 1],
        interval,
    })
}

/// Largest k whose interval (k-th smallest to k-th largest of n) covers the median with at least 95
/// %, and its coverage.
#[must_use]
pub fn median_rank(n: usize) -> Option<(usize, f64)> {
    // P(Bin(n, 1/2) = i), computed term by term in logarithms so that large n do not underflow.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    let mut best = None;
    for k in 1..=n / 2 {
        below += log_term.exp();
        let coverage = 1.0 - 2.0 * below;
        if coverage < WANTED {
            break;
        }
        best = Some((k, coverage));
        log_term += ((n - k + 1) as f64 / k as f64).ln();
    }
    best
}

/// The fewest values whose median has an interval of at least 95 %.
#[must_use]
pub fn least_for_interval() -> usize {
    (1..).find(|n| median_rank(*n).is_some()).unwrap_or(usize::MAX)
}

/// Quantile of sorted values by linear interpolation (type 7 of Hyndman and Fan 1996; NumPy's
/// default).
///
/// `q` in 0..=1; `None` for no values.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    let share = position - below as f64;
    Some(sorted[below] + (sorted[above] - sorted[below]) * share)
}

/// The values in ascending order.
#[must_use]
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    if n % 2 == 1 { sorted[n / 2] } else { f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_values_give_second_to_ninth_at_97_9_percent() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let s = summarize(&values).unwrap();
        assert_eq!((s.median, s.mad, s.min, s.max), (5.5, 2.5, 1.0, 10.0));
        let i = s.interval.unwrap();
        assert_eq!((i.lo, i.hi), (2.0, 9.0));
        assert!((i.confidence - 0.978_515_625).abs() < 1e-12);
    }

    /// Ranks as in the table of Conover, Practical Nonparametric Statistics (two-sided 95 % or
    /// better for the median), equal to SciPy's `binom.ppf(0.025, n, 0.5)`.
    #[test]
    fn ranks_match_published_tables() {
        for (n, k) in [(6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (15, 4), (20, 6), (30, 10), (50, 18), (100, 40)] {
            assert_eq!(median_rank(n).unwrap().0, k, "n = {n}");
        }
        assert_eq!(median_rank(5), None);
        assert!(median_rank(4000).is_some());
    }

    /// `numpy.quantile([1, 2, 4, 8, 16], q)`.
    #[test]
    fn quantiles_match_numpy() {
        let v = [1.0, 2.0, 4.0, 8.0, 16.0];
        for (q, want) in [(0.0, 1.0), (0.5, 4.0), (0.95, 14.4), (0.99, 15.68), (1.0, 16.0)] {
            assert!((quantile(&v, q).unwrap() - want).abs() < 1e-12);
        }
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(summarize(&[]), None);
        assert_eq!(summarize(&[1.0, f64::NAN]), None);
        assert_eq!(least_for_interval(), 6, "1 - 2 / 2^6 is 96.9 %, 1 - 2 / 2^5 only 93.8 %");
        assert!(summarize(&[3.0]).unwrap().interval.is_none());
    }
}
