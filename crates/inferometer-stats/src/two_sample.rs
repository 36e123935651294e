//! Two independent samples: for runs that were not measured in pairs (`compare`) and for the
//! simulator's calibration (docs/explanation/selftest.md). A shift is always b minus a.

use serde::{Deserialize, Serialize};

use super::rank::doubled_ranks;
use super::robust::{Interval, sorted};
use super::special::{normal, student_two_sided};

/// Smaller samples without ties are counted exactly (R's rule).
const EXACT_BELOW: usize = 50;

/// Mann and Whitney's test that neither sample tends to larger values (Hollander, Wolfe and
/// Chicken, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MannWhitney {
    /// Pairs (a, b) with b > a; ties count one half.
    pub u: f64,
    /// Two-sided.
    pub p_value: f64,
    /// Whether the distribution was counted exactly; otherwise a normal approximation with
    /// corrections for ties and continuity.
    pub exact: bool,
}

/// `None` when a sample is empty or a value is not finite.
#[must_use]
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<MannWhitney> {
    if !usable(a, 1) || !usable(b, 1) {
        return None;
    }
    let (m, n) = (a.len(), b.len());
    let all = [a, b].concat();
    // Twice U is a whole number, as twice a rank is.
    let doubled: usize = doubled_ranks(&all)[m..].iter().sum::<usize>() - n * (n + 1);
    let smaller = doubled.min(2 * m * n - doubled);
    let ties = tie_sizes(&all);
    let exact = ties.is_empty() && m.max(n) < EXACT_BELOW;
    let p_value = if exact {
        2.0 * below(m, n, smaller / 2)[smaller / 2]
    } else {
        let total = (m + n) as f64;
        let tied: f64 = ties.iter().map(|t| (t * t * t - t) as f64).sum();
        let variance = (m * n) as f64 / 12.0 * (total + 1.0 - tied / (total * (total - 1.0)));
        let distance = (m * n) as f64 / 2.0 - smaller as f64 / 2.0 - 0.5;
        // All values are equal.
        if variance > 0.0 { 2.0 * normal(-distance / variance.sqrt()) } else { 1.0 }
    };
    Some(MannWhitney { u: doubled as f64 / 2.0, p_value: p_value.min(1.0), exact })
}

/// The difference b minus a.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Hodges-Lehmann: the median of all differences b - a.
    pub estimate: f64,
    /// Distribution-free interval by Moses; `None` if the samples are too small for alpha.
    pub interval: Option<Interval>,
}

/// The shift with its interval, which misses with a two-sided probability of at most `alpha`. The
/// interval reaches from the k-th smallest to the k-th largest difference, k being the largest with
/// 2 P(U <= k - 1) <= alpha (Hollander, Wolfe and Chicken, section 4.3).
///
/// `None` when a sample is empty or a value is not finite.
#[must_use]
pub fn shift(a: &[f64], b: &[f64], alpha: f64) -> Option<Shift> {
    if !usable(a, 1) || !usable(b, 1) {
        return None;
    }
    let differences: Vec<f64> = a.iter().flat_map(|a| b.iter().map(move |b| b - a)).collect();
    let differences = sorted(&differences);
    let count = differences.len();
    let interval = depth(a.len(), b.len(), alpha).map(|(k, confidence)| Interval {
        lo: differences[k - 1],
        hi: differences[count - k],
        confidence,
    });
    Some(Shift { estimate: f64::midpoint(differences[(count - 1) / 2], differences[count / 2]), interval })
}

/// k of [`shift`], with the coverage 1 - 2 P(U < k).
fn depth(m: usize, n: usize, alpha: f64) -> Option<(usize, f64)> {
    // Never deeper than the middle.
    let deepest = (m * n).div_ceil(2);
    let below = if m.max(n) < EXACT_BELOW {
        below(m, n, deepest)
    } else {
        let (mean, sd) = ((m * n) as f64 / 2.0, ((m * n * (m + n + 1)) as f64 / 12.0).sqrt());
        (0..=deepest).map(|u| normal((u as f64 + 0.5 - mean) / sd)).collect()
    };
    let within = below.into_iter().take(deepest).take_while(|p| 2.0 * p <= alpha);
    within.enumerate().last().map(|(u, p)| (u + 1, 1.0 - 2.0 * p))
}

/// P(U <= u) for u in `0..=upto`. Counts the orders of m values of one sample and n of the other
/// that have u inversions, by which sample has the largest value:
/// ways(i, j, u) = ways(i - 1, j, u - j) + ways(i, j - 1, u).
fn below(m: usize, n: usize, upto: usize) -> Vec<f64> {
    let mut ways = vec![vec![0.0; upto + 1]; m + 1];
    for row in &mut ways {
        row[0] = 1.0;
    }
    for j in 1..=n {
        for i in 1..=m {
            let (before, after) = ways.split_at_mut(i);
            for u in j..=upto.min(i * j) {
                after[0][u] += before[i - 1][u - j];
            }
        }
    }
    // Whole numbers up to the division, so that a probability that equals alpha compares as equal.
    let orders = (1..=m).fold(1.0, |orders, i| orders * (n + i) as f64 / i as f64);
    let mut sum = 0.0;
    let summed = ways.swap_remove(m).into_iter().map(|ways| {
        sum += ways;
        sum / orders
    });
    summed.collect()
}

/// Welch's test that two means are equal, without assuming equal variances (Welch 1947).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Welch {
    /// Mean of b minus mean of a.
    pub difference: f64,
    pub t: f64,
    /// Degrees of freedom by Welch and Satterthwaite.
    pub df: f64,
    /// Two-sided.
    pub p_value: f64,
}

/// `None` when a sample has fewer than two values, a value is not finite, or neither sample varies.
#[must_use]
pub fn welch(a: &[f64], b: &[f64]) -> Option<Welch> {
    if !usable(a, 2) || !usable(b, 2) {
        return None;
    }
    let ((mean_a, error_a), (mean_b, error_b)) = (mean_and_error(a), mean_and_error(b));
    let error = error_a + error_b;
    if error <= 0.0 {
        return None;
    }
    let difference = mean_b - mean_a;
    let t = difference / error.sqrt();
    let df = error * error / (error_a * error_a / (a.len() - 1) as f64 + error_b * error_b / (b.len() - 1) as f64);
    Some(Welch { difference, t, df, p_value: student_two_sided(t, df) })
}

/// The mean and its squared standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, squares / (n - 1.0) / n)
}

fn usable(values: &[f64], fewest: usize) -> bool {
    values.len() >= fewest && values.iter().all(|v| v.is_finite())
}

/// The size of each group of equal values.
fn tie_sizes(values: &[f64]) -> Vec<usize> {
    let sorted = sorted(values);
    sorted.chunk_by(|a, b| a == b).map(<[f64]>::len).filter(|size| *size > 1).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::{fixture, numbers};

    /// SciPy's `mannwhitneyu` and `ttest_ind`; intervals by R's definition. Cases include the
    /// permeability of the chorioamnion (Hollander and Wolfe 1973, p. 69), ages of diabetics
    /// (SciPy's manual) and Student's sleep data.
    #[test]
    fn tests_and_intervals_match_scipy() {
        for case in fixture("two_sample").as_array().unwrap() {
            let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
            let close = |own: f64, key: &str, tolerance: f64| {
                let want = case[key].as_f64().unwrap();
                assert!((own - want).abs() <= tolerance * want.abs().max(1e-3), "{} {key}: {own} {want}", case["name"]);
            };
            let test = mann_whitney(&a, &b).unwrap();
            assert_eq!(test.exact, case["exact"], "{}", case["name"]);
            close(test.u, "u", 1e-12);
            close(test.p_value, "p", 1e-9);
            let shift = shift(&a, &b, 0.05).unwrap();
            close(shift.estimate, "shift", 1e-9);
            if let Some(interval) = shift.interval {
                close(interval.lo, "lo", 1e-9);
                close(interval.hi, "hi", 1e-9);
            } else {
                assert!(case["lo"].is_null(), "{}", case["name"]);
            }
            let welch = welch(&a, &b).unwrap();
            close(welch.t, "t", 1e-9);
            close(welch.df, "df", 1e-9);
            close(welch.p_value, "welch_p", 1e-9);
        }
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let two = [1.0, 2.0];
        for bad in [&[][..], &[1.0, f64::NAN]] {
            assert!(
                mann_whitney(&two, bad).is_none() && shift(bad, &two, 0.05).is_none() && welch(bad, &two).is_none()
            );
        }
        assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0]), None);
        assert_eq!(mann_whitney(&[1.0; 4], &[1.0; 4]).unwrap().p_value, 1.0);
        assert_eq!(shift(&two, &[3.0], 0.05).unwrap().interval, None);
    }

    proptest! {
        #[test]
        fn swapped_samples_give_the_opposite(
            a in prop::collection::vec((-9i32..10).prop_map(f64::from), 2..12),
            b in prop::collection::vec(-9.0..9.0f64, 2..60),
        ) {
            let (one, other) = (mann_whitney(&a, &b).unwrap(), mann_whitney(&b, &a).unwrap());
            prop_assert_eq!(one.u + other.u, (a.len() * b.len()) as f64);
            prop_assert!((one.p_value - other.p_value).abs() < 1e-12);
            let (one, other) = (shift(&a, &b, 0.1).unwrap(), shift(&b, &a, 0.1).unwrap());
            prop_assert_eq!(one.estimate, -other.estimate);
            prop_assert_eq!(one.interval.map(|i| (i.lo, i.hi)), other.interval.map(|i| (-i.hi, -i.lo)));
            let (one, other) = (welch(&a, &b), welch(&b, &a));
            prop_assert_eq!(one.map(|w| w.t), other.map(|w| -w.t));
        }

        #[test]
        fn distributions_are_symmetric_and_end_at_one(m in 1usize..15, n in 1usize..15) {
            let p = below(m, n, m * n);
            prop_assert_eq!(p[m * n], 1.0);
            for u in 0..m * n {
                prop_assert!((p[u] + p[m * n - u - 1] - 1.0).abs() < 1e-12);
            }
        }
    }
}
