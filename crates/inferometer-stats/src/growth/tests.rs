use proptest::prelude::*;
use rand::Rng;
use serde_json::Value;

use super::*;
use crate::rng;

const LENGTHS: [f64; 5] = [256.0, 512.0, 1024.0, 2048.0, 4096.0];
const DECODE: [f64; 3] = [10.0, 0.002, 0.0];
const PREFILL: [f64; 3] = [20.0, 0.5, 0.00005];

/// A standard normal value (Box and Muller).
fn normal(random: &mut impl Rng) -> f64 {
    let mut unit = || ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos()
}

fn time_at(coefficients: [f64; 3], n: f64) -> f64 {
    coefficients[0] + coefficients[1] * n + coefficients[2] * n * n
}

/// An A/B session: every run has noise at each length (`white`), and noise common to all its
/// lengths (`run`).
fn session(a: [f64; 3], b: [f64; 3], pairs: u32, white: f64, run: f64, seed: u64) -> Vec<Observation> {
    let mut random = rng::seeded(seed, "session");
    let mut all = Vec::new();
    for pair in 1..=pairs {
        let (shared_a, shared_b) = (run * normal(&mut random), run * normal(&mut random));
        for (length, n) in LENGTHS.into_iter().enumerate() {
            let mut time = |side, shared: f64| time_at(side, n) * (shared + white * normal(&mut random)).exp();
            all.push(Observation { length, pair, n, a_ms: time(a, shared_a), b_ms: time(b, shared_b) });
        }
    }
    all
}

fn samples(coefficients: [f64; 3], rounds: u32, white: f64, seed: u64) -> Vec<Sample> {
    let both = session(coefficients, coefficients, rounds, white, 0.0, seed);
    both.iter().map(|o| Sample { length: o.length, round: o.pair, point: Point { n: o.n, time_ms: o.a_ms } }).collect()
}

/// Fixtures that `scripts/fixtures growth` computed with statsmodels and SciPy.
#[test]
fn fits_equal_those_of_statsmodels() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/growth");
    let mut seen = 0;
    for entry in fs_err::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let case: Value = serde_json::from_str(&fs_err::read_to_string(&path).unwrap()).unwrap();
        let points: Vec<Point> = case["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| Point { n: p[0].as_f64().unwrap(), time_ms: p[1].as_f64().unwrap() })
            .collect();
        let law: Law = serde_json::from_value(case["law"].clone()).unwrap();
        let fit = fit(law, &points).unwrap();
        for (got, want) in fit.coefficients.iter().zip(case["coefficients"].as_array().unwrap()) {
            assert!((got / want.as_f64().unwrap() - 1.0).abs() < 1e-6, "{}: {got} {want}", path.display());
        }
        assert!((fit.scale / case["scale"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen} fixtures");
}

#[test]
fn each_planted_cost_is_named() {
    for (law, base, changed, named) in [
        (Law::Decode, DECODE, [11.0, 0.002, 0.0], Term::PerToken),
        (Law::Decode, DECODE, [10.0, 0.0026, 0.0], Term::PerTokenOfContext),
        (Law::Decode, DECODE, [10.0, 0.0012, 0.0], Term::PerTokenOfContext),
        (Law::Prefill, PREFILL, [20.0, 0.56, 0.00005], Term::PerPromptToken),
        (Law::Prefill, PREFILL, [20.0, 0.5, 0.0001], Term::PerPromptTokenSquared),
    ] {
        let change = change(law, &session(base, changed, 10, 0.007, 0.005, 3), 1).unwrap();
        assert_eq!(change.named, Some(named), "{change:#?}");
        assert!(change.identifiable(), "{change:#?}");
        for (j, term) in change.terms.iter().enumerate() {
            let truth = changed[j] - base[j];
            let Interval { lo, hi, .. } = term.interval;
            assert!(lo <= truth && truth <= hi && lo <= term.change && term.change <= hi, "{term:#?}");
            assert_eq!(term.moved, truth != 0.0, "{term:#?}");
            assert!((term.b - term.a - term.change).abs() < 1e-9);
        }
        assert_eq!(change.ratios.len(), LENGTHS.len());
        let last = change.ratios[4];
        assert_eq!((last.n, last.pairs), (4096.0, 10));
        let longest = time_at(changed, 4096.0) / time_at(base, 4096.0);
        assert!((last.ratio / longest - 1.0).abs() < 0.01);
        let sum: f64 = change.terms.iter().map(|t| t.contribution).sum();
        assert!((sum - (longest - 1.0)).abs() < 0.02, "{sum} {longest}");
    }
}

/// A disturbance of a whole run scales its law by one factor. Treated as independent at each
/// length, it would make a dominant coefficient look more certain than it is, and a small one less.
#[test]
fn what_slows_a_whole_run_counts_once() {
    let together = session(DECODE, DECODE, 20, 0.0, 0.02, 9);
    // With different numbers at each length, the same times look independent.
    let apart: Vec<Observation> =
        together.iter().map(|o| Observation { pair: o.pair + 100 * o.length as u32, ..*o }).collect();
    let width = |observations: &[Observation], term: usize| {
        let change = change(Law::Decode, observations, 1).unwrap();
        let Interval { lo, hi, .. } = change.terms[term].interval;
        (hi - lo) / change.terms[term].a
    };
    // Both coefficients change by the pair's factor, so both are equally certain.
    let (a, b) = (width(&together, 0), width(&together, 1));
    assert!((a / b - 1.0).abs() < 0.05, "{a} {b}");
    assert!(width(&apart, 0) < 0.9 * a && width(&apart, 1) > 1.1 * b, "{} {}", width(&apart, 0), width(&apart, 1));
}

#[test]
fn identical_sides_seldom_move_a_coefficient() {
    let moved = |seed: &u64| {
        let change = change(Law::Decode, &session(DECODE, DECODE, 10, 0.007, 0.01, *seed), *seed).unwrap();
        change.terms.iter().any(|term| term.moved)
    };
    // Of 16 sessions with a chance of 8 % each, five or more have one of 0.7 %.
    assert!((0..16).filter(moved).count() < 5);
}

#[test]
fn equal_times_have_no_change_at_all() {
    let change = change(Law::Prefill, &session(PREFILL, PREFILL, 10, 0.0, 0.0, 1), 1).unwrap();
    assert_eq!(change.named, None);
    assert!(change.terms.iter().all(|t| !t.moved && t.identifiable && t.change == 0.0));
}

#[test]
fn noise_that_hides_a_coefficient_makes_it_not_identifiable() {
    let change = change(Law::Prefill, &session(PREFILL, PREFILL, 10, 0.6, 0.0, 4), 1).unwrap();
    assert!(!change.identifiable(), "{change:#?}");
    let flat = fit_with_interval(Law::Decode, &samples([10.0, 0.0, 0.0], 10, 0.01, 5), 1).unwrap();
    assert!(flat.terms[0].identifiable && !flat.terms[1].identifiable, "{flat:#?}");
    assert!(!flat.identifiable());
}

#[test]
fn one_run_gives_its_law_with_intervals() {
    let found = fit_with_interval(Law::Decode, &samples(DECODE, 10, 0.01, 6), 1).unwrap();
    assert!(found.identifiable());
    assert_eq!((found.rounds, found.shortest, found.longest), (10, 256.0, 4096.0));
    for (term, truth) in found.terms.iter().zip(DECODE) {
        assert!(term.interval.lo < truth && truth < term.interval.hi, "{term:?}");
        assert!(term.interval.confidence == 0.975);
    }
    assert_eq!(found, fit_with_interval(Law::Decode, &samples(DECODE, 10, 0.01, 6), 1).unwrap());
    assert_ne!(found, fit_with_interval(Law::Decode, &samples(DECODE, 10, 0.01, 6), 2).unwrap());
}

#[test]
fn too_little_is_said_to_be_too_little() {
    let all = session(DECODE, DECODE, 10, 0.01, 0.0, 7);
    let four: Vec<Observation> = all.iter().copied().filter(|o| o.length < 4).collect();
    assert_eq!(change(Law::Decode, &four, 1).unwrap_err(), NotIdentifiable::FewLengths { have: 4 });
    assert_eq!(ratios(&four).len(), 4);
    let nine: Vec<Observation> = all.iter().copied().filter(|o| o.length != 2 || o.pair != 10).collect();
    let missing = change(Law::Decode, &nine, 1).unwrap_err();
    assert_eq!(missing, NotIdentifiable::FewRounds { tokens: 1024, have: 9 });
    assert_eq!(
        missing.to_string(),
        "a growth law needs at least 10 rounds at every length; there are 9 at 1024 tokens"
    );
    let mut zero = all.clone();
    zero[3].b_ms = 0.0;
    assert_eq!(change(Law::Decode, &zero, 1).unwrap_err(), NotIdentifiable::NoTime);
    let same: Vec<Observation> = all.iter().map(|o| Observation { n: 512.0, ..*o }).collect();
    assert_eq!(change(Law::Decode, &same, 1).unwrap_err(), NotIdentifiable::TooClose);
    assert_eq!(fit(Law::Decode, &[]), None);
    // Pairs missing at some lengths are resampled within each length.
    let uneven: Vec<Observation> = session(DECODE, [11.0, 0.002, 0.0], 12, 0.007, 0.0, 8)
        .into_iter()
        .filter(|o| o.length as u32 != o.pair)
        .collect();
    let change = change(Law::Decode, &uneven, 1).unwrap();
    assert_eq!((change.pairs, change.named), (11, Some(Term::PerToken)));
}

#[test]
fn a_request_tells_the_time_of_a_phase_or_why_not() {
    let timing = Timing { prompt: 100, reused: 0, generated: 21, prefill_ms: Some(50.0), decode_ms: Some(200.0) };
    assert_eq!(Law::Decode.point(&timing), Ok(Point { n: 110.5, time_ms: 10.0 }));
    assert_eq!(Law::Prefill.point(&timing), Ok(Point { n: 100.0, time_ms: 50.0 }));
    assert_eq!(Law::Prefill.point(&Timing { reused: 7, ..timing }), Err(NotIdentifiable::Reused));
    assert_eq!(Law::Decode.point(&Timing { generated: 1, ..timing }), Err(NotIdentifiable::OneToken));
    assert_eq!(Law::Decode.point(&Timing { decode_ms: None, ..timing }), Err(NotIdentifiable::SumOfPhases));
    assert_eq!(Law::Prefill.point(&Timing { prefill_ms: Some(0.0), ..timing }), Err(NotIdentifiable::NoTime));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A law without noise is recovered whatever its size, the order of its points and one outlier
    /// per length.
    #[test]
    fn a_clean_law_comes_back(a in 0.01f64..1e4, b in 1e-6f64..10.0, wild in 0usize..50) {
        let mut points: Vec<Point> = samples([a, b, 0.0], 10, 0.0, 1).iter().map(|s| s.point).collect();
        points[wild].time_ms *= 5.0;
        let found = fit(Law::Decode, &points).unwrap();
        for point in points.iter().filter(|p| **p != points[wild]) {
            prop_assert!((found.at(point.n) / point.time_ms - 1.0).abs() < 1e-6, "{found:?} {point:?}");
        }
    }
}
