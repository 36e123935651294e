//! Distribution functions for the tests.

use std::f64::consts::SQRT_2;

/// P(Z <= z), where Z is standard normal.
pub fn normal(z: f64) -> f64 {
    libm::erfc(-z / SQRT_2) / 2.0
}

/// P(|T| >= |t|), where T is Student's with `df` degrees of freedom (not necessarily whole): I_x(df
/// / 2, 1/2) with x = df / (df + t^2) (Abramowitz and Stegun 26.7.1).
pub fn student_two_sided(t: f64, df: f64) -> f64 {
    beta(df / 2.0, 0.5, df / (df + t * t)).clamp(0.0, 1.0)
}

/// The regularized incomplete beta function I_x(a, b), by the continued fraction of DLMF 8.17.22
/// with Lentz's algorithm. It converges fast below (a + 1) / (a + b + 2); above, I_x(a, b) = 1 -
/// I_{1-x}(b, a).
fn beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(b, a, 1.0 - x);
    }
    let log_front = a * x.ln() + b * (-x).ln_1p() + libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) - a.ln();
    log_front.exp() * fraction(a, b, x)
}

/// 1 / (1 + d1 / (1 + d2 / (1 + ...))).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    /// Replaces a denominator of 0.
    const TINY: f64 = 1e-300;
    const STEPS: u32 = 500;
    let nonzero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let (mut value, mut c, mut d) = (1.0, 1.0, 0.0);
    for step in 1..=STEPS {
        let m = f64::from(step / 2);
        let term = if step % 2 == 1 {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        } else {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        };
        d = 1.0 / nonzero(1.0 + term * d);
        c = nonzero(1.0 + term / c);
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    1.0 / value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{fixture, numbers};

    /// SciPy's `norm.cdf` and `t.sf`.
    #[test]
    fn distributions_match_scipy() {
        let all = fixture("special");
        for row in all["normal"].as_array().unwrap() {
            let [z, want] = numbers(row)[..] else { panic!("two numbers") };
            assert!((normal(z) / want - 1.0).abs() < 1e-12, "{z}");
        }
        for row in all["student"].as_array().unwrap() {
            let [t, df, want] = numbers(row)[..] else { panic!("three numbers") };
            assert!((student_two_sided(t, df) / want - 1.0).abs() < 1e-9, "{t} {df}");
        }
    }
}
