use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::fixtures::{fixture, numbers};

/// SciPy's `wilcoxon`, over all sign choices if there are ties or zeros, and intervals
/// consistent with its test. Published examples: depression (Hollander and Wolfe 1973, p. 29f)
/// and Darwin's maize (Fisher, The Design of Experiments).
#[test]
fn tests_and_intervals_match_scipy() {
    for case in fixture("signed_rank").as_array().unwrap() {
        let x = numbers(&case["x"]);
        let test = signed_rank(&x).unwrap();
        let walsh = Walsh::of(&x).unwrap();
        let interval = depth(x.len(), 0.05).map(|depth| walsh.interval(depth));
        for (key, own) in [
            ("statistic", Some(test.positive.min(test.negative))),
            ("p", Some(test.p_value)),
            ("estimate", Some(walsh.estimate())),
            ("lo", interval.map(|i| i.lo)),
            ("hi", interval.map(|i| i.hi)),
        ] {
            let close = |want: &Value, tolerance: f64| match (own, want.as_f64()) {
                (Some(own), Some(want)) => (own - want).abs() <= tolerance,
                (own, want) => own.is_none() && want.is_none(),
            };
            assert!(close(&case[key], 1e-12), "{} {key}: {own:?}", case["name"]);
            if let Some(published) = case["published"].get(key) {
                assert!(close(published, 6e-5), "{} {key}: {own:?}, published {published}", case["name"]);
            }
        }
    }
}

#[test]
fn depths_match_counting_in_whole_numbers() {
    for row in fixture("depths").as_array().unwrap() {
        let [n, alpha, k] = numbers(row)[..] else { panic!("three numbers") };
        assert_eq!(depth(n as usize, alpha).map_or(0, |d| d.k), k as usize, "n = {n}, alpha {alpha}");
    }
}

/// Critical values from tables of Wilcoxon's test, two-sided 5 % and 1 % (T of the table is k -
/// 1).
#[test]
fn depths_match_published_critical_values() {
    for (n, t5, t1) in [(8, 3, Some(0)), (10, 8, Some(3)), (15, 25, Some(15)), (20, 52, Some(37)), (25, 89, Some(68))] {
        assert_eq!(depth(n, 0.05).unwrap().k - 1, t5, "n = {n}");
        assert_eq!(depth(n, 0.01).map(|d| d.k - 1), t1, "n = {n}");
    }
    assert_eq!(depth(5, 0.05), None);
    assert_eq!(depth(0, 0.05), None);
    assert!(depth(300, 0.05).is_some());
}

#[test]
fn nothing_is_made_of_nothing() {
    for x in [&[][..], &[1.0, f64::NAN], &[f64::INFINITY]] {
        assert_eq!((hodges_lehmann(x), signed_rank(x)), (None, None));
    }
    assert_eq!(signed_rank(&[0.0; 4]).unwrap().p_value, 1.0);
}

/// Enumerates all 2^n choices of signs.
fn counted(x: &[f64]) -> f64 {
    let magnitudes: Vec<f64> = x.iter().map(|v| v.abs()).collect();
    let ranks: Vec<usize> =
        doubled_ranks(&magnitudes).into_iter().zip(x).filter(|(_, v)| **v != 0.0).map(|(r, _)| r).collect();
    let sum =
        |signs: usize| ranks.iter().enumerate().filter(|(i, _)| signs >> i & 1 == 1).map(|(_, r)| r).sum::<usize>();
    let own = x.iter().filter(|v| **v != 0.0).enumerate().map(|(i, v)| usize::from(*v > 0.0) << i).sum();
    let (total, all): (usize, usize) = (ranks.iter().sum(), 1 << ranks.len());
    let extreme = |t: usize| t.min(total - t);
    let as_far = (0..all).filter(|signs| extreme(sum(*signs)) <= extreme(sum(own))).count();
    as_far as f64 / all as f64
}

proptest! {
    /// Coarse values, so that ties and zeros are frequent.
    #[test]
    fn p_values_are_those_of_counting(x in prop::collection::vec((-4i32..5).prop_map(f64::from), 1..11)) {
        prop_assert!((signed_rank(&x).unwrap().p_value - counted(&x)).abs() < 1e-12);
    }

    #[test]
    fn ranks_add_up(x in prop::collection::vec(-1e3..1e3f64, 1..40)) {
        let test = signed_rank(&x).unwrap();
        prop_assert_eq!(test.positive + test.negative, (x.len() * (x.len() + 1)) as f64 / 2.0);
    }

    #[test]
    fn estimate_and_interval_move_with_the_data(x in prop::collection::vec(-1.0..1.0f64, 8..40), shift in -1.0..1.0f64) {
        let depth = depth(x.len(), 0.05).unwrap();
        let moved: Vec<f64> = x.iter().map(|v| v + shift).collect();
        let turned: Vec<f64> = x.iter().map(|v| -v).collect();
        let (here, there, back) = (Walsh::of(&x).unwrap(), Walsh::of(&moved).unwrap(), Walsh::of(&turned).unwrap());
        prop_assert!(here.sorted().is_sorted());
        prop_assert!((here.estimate() + shift - there.estimate()).abs() < 1e-12);
        prop_assert!((here.interval(depth).lo + shift - there.interval(depth).lo).abs() < 1e-12);
        prop_assert_eq!(here.estimate(), -back.estimate());
        prop_assert_eq!(here.interval(depth).lo, -back.interval(depth).hi);
        prop_assert!(here.interval(depth).lo <= here.estimate() && here.estimate() <= here.interval(depth).hi);
    }

    /// The interval contains exactly the centres that the test does not reject.
    #[test]
    fn interval_and_test_agree(x in prop::collection::vec(-1.0..1.0f64, 6..25)) {
        let interval = Walsh::of(&x).unwrap().interval(depth(x.len(), 0.05).unwrap());
        let rejected = signed_rank(&x).unwrap().p_value <= 0.05;
        prop_assert_eq!(rejected, interval.lo > 0.0 || interval.hi < 0.0);
    }
}
