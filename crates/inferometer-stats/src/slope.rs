//! A slope that outliers do not move, with an interval.
//!
//! Source: Sen, "Estimates of the regression coefficient based on Kendall's tau", Journal of the
//! American Statistical Association 63 (1968). The interval has the normal approximation of
//! `scipy.stats.theilslopes`.

use std::collections::BTreeMap;

use crate::robust;

/// Normal quantile of a two-sided interval of 95 %.
const Z: f64 = 1.959_963_984_540_054;
/// With fewer points the normal approximation says little.
const LEAST: usize = 8;

/// The median slope between all pairs of points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    pub per_step: f64,
    /// 95 % interval.
    pub low: f64,
    pub high: f64,
}

/// The slope of values that were taken at equal steps; `None` for fewer than eight.
#[must_use]
pub fn slope(values: &[f64]) -> Option<Slope> {
    let n = values.len();
    if n < LEAST || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
    let slopes = robust::sorted(&pairs.map(|(i, j)| (values[j] - values[i]) / (j - i) as f64).collect::<Vec<_>>());
    let of = |n: usize| (n * (n - 1) * (2 * n + 5)) as f64;
    let mut equal: BTreeMap<u64, usize> = BTreeMap::new();
    values.iter().for_each(|value| *equal.entry(value.to_bits()).or_default() += 1);
    let deviation = ((of(n) - equal.values().map(|count| of(*count)).sum::<f64>()) / 18.0).sqrt();
    let (count, half) = (slopes.len() as f64, Z * deviation);
    let place = |at: f64| slopes[(at.max(0.0) as usize).min(slopes.len() - 1)];
    let per_step = robust::quantile(&slopes, 0.5)?;
    let low = place(((count - half) / 2.0).round_ties_even() - 1.0);
    let high = place(((count + half) / 2.0).round_ties_even());
    Some(Slope { per_step, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of `scipy.stats.theilslopes(values, range(n), 0.95)`, SciPy 1.16.3.
    #[test]
    fn slope_and_interval_are_those_of_scipy() {
        let apart = [10.0, 13.0, 11.0, 17.0, 14.5, 21.0, 19.0, 23.5, 22.0, 28.0, 26.0, 31.0];
        let found = slope(&apart).unwrap();
        assert!((found.per_step - 1.854_166_666_666_666_5).abs() < 1e-12, "{found:?}");
        assert!((found.low, found.high) == (1.5, 20.0 / 9.0), "{found:?}");
        let ties = [5.0, 5.0, 5.0, 6.0, 5.0, 7.0, 5.0, 5.0, 9.0, 5.0];
        assert_eq!(slope(&ties), Some(Slope { per_step: 0.0, low: 0.0, high: 0.5 }));
    }

    #[test]
    fn a_level_has_no_slope_and_a_line_has_its_own() {
        let of = |step: f64| (0..20).map(|at| 7.0 + step * f64::from(at)).collect::<Vec<_>>();
        assert_eq!(slope(&of(0.0)), Some(Slope { per_step: 0.0, low: 0.0, high: 0.0 }));
        assert_eq!(slope(&of(3.0)), Some(Slope { per_step: 3.0, low: 3.0, high: 3.0 }));
        // One jump is no slope: half of the pairs do not see it.
        let jump: Vec<f64> = (0..20).map(|at| if at < 3 { 0.0 } else { 100.0 }).collect();
        assert_eq!(slope(&jump).unwrap().per_step, 0.0);
        assert_eq!(slope(&of(1.0)[..7]), None);
        assert_eq!(slope(&[f64::NAN; 9]), None);
    }
}
