//! Multiple testing: the advisory metrics and single cells of a comparison.

/// Adjusted p-values, in the given order. Those at or below q are discoveries, of which on average
/// at most a share q is false (Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57, 289; the step-up
/// procedure for tests that are independent or positively dependent). Same as R's `p.adjust(p,
/// "BH")`.
///
/// Each p is within 0..=1; NaN stays NaN and counts as a test without a discovery.
#[must_use]
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    // NaN sorts last, where it affects no other value.
    order.sort_by(|a, b| p[*a].abs().total_cmp(&p[*b].abs()));
    let mut adjusted = p.to_vec();
    let mut least: f64 = 1.0;
    for (below, &at) in order.iter().enumerate().rev() {
        // `min` ignores NaN.
        least = least.min(p[at] * (p.len() as f64 / (below + 1) as f64));
        if !p[at].is_nan() {
            adjusted[at] = least;
        }
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::fixtures::{fixture, numbers};

    /// SciPy's `false_discovery_control`, including the fifteen p-values of Benjamini and
    /// Hochberg's own example, of which four are discoveries at 5 %.
    #[test]
    fn adjusted_as_scipy_does() {
        for case in fixture("multiple").as_array().unwrap() {
            let adjusted = benjamini_hochberg(&numbers(&case["p"]));
            for (own, want) in adjusted.iter().zip(numbers(&case["adjusted"])) {
                assert!((own - want).abs() < 1e-12, "{}: {own} {want}", case["name"]);
            }
            if let Value::Number(found) = &case["found_at_5_percent"] {
                assert_eq!(adjusted.iter().filter(|p| **p <= 0.05).count() as u64, found.as_u64().unwrap());
            }
        }
    }

    #[test]
    fn nothing_and_nan() {
        assert_eq!(benjamini_hochberg(&[]), [0.0; 0]);
        let adjusted = benjamini_hochberg(&[f64::NAN, 0.01, -f64::NAN]);
        assert!(adjusted[0].is_nan() && adjusted[2].is_nan());
        assert!((adjusted[1] - 0.03).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn order_is_kept_and_nothing_shrinks(p in prop::collection::vec(0.0..=1.0f64, 1..40)) {
            let adjusted = benjamini_hochberg(&p);
            for (i, a) in adjusted.iter().enumerate() {
                prop_assert!(p[i] <= *a && *a <= 1.0);
                for (j, b) in adjusted.iter().enumerate() {
                    prop_assert!(p[i] > p[j] || a <= b);
                }
            }
        }
    }
}
