use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::fixtures::{fixture, numbers};
use crate::rng::seeded;

fn plain(values: &[f64]) -> Counted<'_> {
    Counted { values, counting: 0.0 }
}

/// `scipy.stats.ttest_ind(b, a, equal_var=False)` with its `confidence_interval(0.95)`.
#[test]
fn without_counting_it_is_welch_as_scipy_has_it() {
    for case in fixture("two_sample").as_array().unwrap() {
        let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
        let own = mean_change(plain(&a), plain(&b), 0.95).unwrap();
        for (own, key) in [(own.interval.lo, "welch_lo"), (own.interval.hi, "welch_hi"), (own.p_value, "welch_p")] {
            let want = case[key].as_f64().unwrap();
            assert!((own - want).abs() <= 1e-9 * want.abs().max(1e-3), "{} {key}: {own} {want}", case["name"]);
        }
    }
}

#[test]
fn counting_is_the_floor_of_what_values_say() {
    // Standard error from counting: sqrt(9 + 16) = 5; 1.96 is the normal quantile.
    let [a, b] = [Counted { values: &[10.0], counting: 9.0 }, Counted { values: &[20.0], counting: 16.0 }];
    let one = mean_change(a, b, 0.95).unwrap();
    assert!((one.interval.hi - 10.0 - 5.0 * 1.959_963_985).abs() < 1e-6, "{one:?}");
    assert!((one.p_value - 0.045_500_264).abs() < 1e-8, "{one:?}");
    // Equal by chance: the counting variance remains.
    let alike = Counted { values: &[10.0, 10.0, 10.0], counting: 9.0 };
    assert_eq!(mean_change(alike, b, 0.95).unwrap(), one);
    // Spread wider than counting explains.
    let apart = Counted { values: &[0.0, 10.0, 20.0], counting: 9.0 };
    let wide = mean_change(apart, b, 0.95).unwrap();
    assert!(wide.interval.hi > one.interval.hi && wide.difference == one.difference);
}

#[test]
fn nothing_is_made_of_nothing() {
    let fine = plain(&[1.0, 2.0]);
    for bad in [&[][..], &[f64::NAN], &[f64::INFINITY, 1.0]] {
        assert_eq!(mean_change(plain(bad), fine, 0.95), None);
        assert_eq!(mean_change(fine, plain(bad), 0.95), None);
    }
    assert_eq!(mean_change(plain(&[1.0]), plain(&[2.0]), 0.95), None, "one value and no counting");
    assert_eq!(mean_change(plain(&[1.0, 1.0]), plain(&[1.0, 1.0]), 0.95), None);
}

/// Standard normal, by the sum of twelve uniform values.
fn standard(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// Number of events with mean `mean`, from the gaps between them; for large means the normal
/// approximation.
fn poisson(rng: &mut ChaCha8Rng, mean: f64) -> f64 {
    if mean > 50.0 {
        return (mean + mean.sqrt() * standard(rng)).round().max(0.0);
    }
    let mut time = 0.0;
    let mut events = -1.0;
    while time < mean {
        time -= rng.random::<f64>().max(f64::MIN_POSITIVE).ln();
        events += 1.0;
    }
    events
}

/// Counts of `values` iterations whose means have relative spread `spread` about `mean`.
fn counts(rng: &mut ChaCha8Rng, values: usize, mean: f64, spread: f64) -> Vec<f64> {
    let mut one = || {
        let mean = (mean * (1.0 + spread * standard(rng))).max(0.0);
        poisson(rng, mean)
    };
    (0..values).map(|_| one()).collect()
}

/// Share of 95 % intervals that contain the true change.
fn coverage(values: usize, [a, b]: [f64; 2], spread: f64) -> f64 {
    const DRAWS: usize = 2000;
    let mut rng = seeded(7, &format!("coverage {values} {a} {b} {spread}"));
    let held = (0..DRAWS).filter(|_| {
        let [a_counts, b_counts] = [a, b].map(|mean| counts(&mut rng, values, mean, spread));
        let side = |values: &[f64]| (values.iter().sum::<f64>() + 1.0) / (values.len() as f64).powi(2);
        let [one, other] = [&a_counts, &b_counts].map(|values| Counted { values, counting: side(values) });
        let interval = mean_change(one, other, 0.95).unwrap().interval;
        interval.lo <= b - a && b - a <= interval.hi
    });
    held.count() as f64 / DRAWS as f64
}

/// 2000 draws each: four standard errors of 95 % are 1.9 points.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    for means in [[3.0, 9.0], [30.0, 30.0], [200.0, 220.0]] {
        for values in [2, 3, 5] {
            for spread in [0.0, 0.3] {
                let held = coverage(values, means, spread);
                assert!(held >= 0.931, "{values} values, means {means:?}, spread {spread}: {held}");
                // Intervals must not be needlessly wide either.
                assert!(held <= 0.995, "{values} values, means {means:?}, spread {spread}: {held}");
            }
        }
        // One value per side carries no information on the spread between iterations.
        let held = coverage(1, means, 0.0);
        assert!((0.931..=0.995).contains(&held), "one value, means {means:?}: {held}");
    }
    assert!(coverage(1, [200.0, 200.0], 0.3) < 0.5);
}
