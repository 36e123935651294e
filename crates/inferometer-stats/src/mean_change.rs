//! Change of a mean between two small samples whose values are counts, such as times estimated from
//! a profiler's samples. Counting alone gives each value a variance, even if the few values happen
//! to be equal.

use serde::{Deserialize, Serialize};

use super::robust::Interval;
use super::special::{normal, student_two_sided};

/// Independent values of one side.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    pub values: &'a [f64],
    /// Squared standard error of their mean due to counting alone; 0 if nothing was counted.
    pub counting: f64,
}

/// Difference of the means, b minus a.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanChange {
    pub difference: f64,
    pub interval: Interval,
    /// Two-sided p-value of the hypothesis that the means are equal.
    pub p_value: f64,
}

/// The change with its interval. Each side's squared standard error is the larger of the estimate
/// from its values and the counting variance; a side with one value has only the latter.
///
/// Degrees of freedom follow Welch and Satterthwaite; a side contributes only if its variance was
/// estimated from the values, since the counting variance is known. Without counting this is
/// Welch's interval. In simulations with Poisson counts of 3 to 300 per value, 2 to 5 values per
/// side and a spread between them of 0 to 30 %, an interval of 95 % contains the true change in 94
/// to 98 % of the cases; with a mean count below 1, in more than 99 %.
///
/// `None` when a side is empty, a value is not finite, or nothing varies.
#[must_use]
pub fn mean_change(a: Counted<'_>, b: Counted<'_>, confidence: f64) -> Option<MeanChange> {
    let [(mean_a, of_a), (mean_b, of_b)] = [a.moments()?, b.moments()?];
    let error = (of_a.squared + of_b.squared).sqrt();
    if !error.is_finite() || error <= 0.0 {
        return None;
    }
    let difference = mean_b - mean_a;
    let uncertainty = of_a.uncertainty() + of_b.uncertainty();
    let df = (uncertainty > 0.0).then(|| error.powi(4) / uncertainty);
    let reach = quantile(1.0 - confidence, df) * error;
    Some(MeanChange {
        difference,
        interval: Interval { lo: difference - reach, hi: difference + reach, confidence },
        p_value: two_sided(difference / error, df),
    })
}

/// Squared standard error of a mean.
struct MeanError {
    squared: f64,
    /// Degrees of freedom, if the variance was estimated from the values.
    df: Option<f64>,
}

impl MeanError {
    /// This side's term in the denominator of Welch and Satterthwaite's degrees of freedom.
    fn uncertainty(&self) -> f64 {
        self.df.map_or(0.0, |df| self.squared * self.squared / df)
    }
}

impl Counted<'_> {
    fn moments(&self) -> Option<(f64, MeanError)> {
        let n = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / n;
        // Also rejects an empty side.
        if !mean.is_finite() {
            return None;
        }
        let squares: f64 = self.values.iter().map(|v| (v - mean).powi(2)).sum();
        let spread = if n > 1.0 { squares / (n - 1.0) / n } else { 0.0 };
        let error = match spread > self.counting {
            true => MeanError { squared: spread, df: Some(n - 1.0) },
            false => MeanError { squared: self.counting, df: None },
        };
        Some((mean, error))
    }
}

/// P(|T| >= |t|), where T is Student's with `df` degrees of freedom, or normal for `None`.
fn two_sided(t: f64, df: Option<f64>) -> f64 {
    df.map_or_else(|| 2.0 * normal(-t.abs()), |df| student_two_sided(t, df))
}

/// The t above 0 with P(|T| >= t) = alpha.
fn quantile(alpha: f64, df: Option<f64>) -> f64 {
    let (mut lo, mut hi) = (0.0, 1.0);
    while two_sided(hi, df) > alpha && hi < 1e9 {
        hi *= 2.0;
    }
    // Bisection to the last bit.
    for _ in 0..100 {
        let middle = f64::midpoint(lo, hi);
        if two_sided(middle, df) > alpha { lo = middle } else { hi = middle }
    }
    hi
}

#[cfg(test)]
mod tests;
