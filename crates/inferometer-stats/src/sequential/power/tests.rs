use super::*;
use crate::fixtures::fixture;
use crate::sequential::decide;
use crate::sequential::tests::noise;

const RULE: Rule = Rule { gates: 1, bound: 0.03 };

fn moved(x: &[f64], shift: f64) -> Vec<f64> {
    x.iter().map(|v| v + shift).collect()
}

/// Share of 300 sessions of normal noise, shifted by `shift`, that end with the verdict.
fn share(sd: f64, shift: f64, rule: &Rule, verdict: Verdict) -> f64 {
    let sessions = 300;
    let hits = (0..sessions).filter(|s| decide(&moved(&noise(30, sd, *s), shift), rule).verdict == verdict).count();
    hits as f64 / sessions as f64
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    summarize(&values.collect::<Vec<_>>()).unwrap().median
}

#[test]
fn a_drawn_session_is_judged_as_decide_judges() {
    for gates in [1, 3] {
        let rule = Rule { gates, ..RULE };
        let depths = std::array::from_fn(|look| Depths::at(look, gates));
        for s in 0..40 {
            let (x, shift) = (noise(30, 0.04, s), (s as f64 - 20.0) / 400.0);
            let own = Session::of(&x, &depths).verdict(shift, rule.bound).unwrap_or(Verdict::Inconclusive);
            assert_eq!(own, decide(&moved(&x, shift), &rule).verdict, "session {s}");
        }
    }
}

/// The shift computed from one session is caught nine times in ten in new sessions of the same
/// noise.
#[test]
fn nine_in_ten_are_caught() {
    for (gates, pairs, sd) in [(1, 10, 0.02), (3, 30, 0.06)] {
        let rule = Rule { gates, ..RULE };
        let shift = middle((0..5).map(|s| caught_nine_in_ten(&noise(pairs, sd, 900 + s), &rule, s).unwrap()));
        let caught = share(sd, shift, &rule, Verdict::Regressed);
        assert!((0.82..0.97).contains(&caught), "{gates} gates, {pairs} pairs: {shift} caught {caught}");
    }
}

#[test]
fn without_noise_the_bound_itself_is_caught() {
    let shift = caught_nine_in_ten(&[0.0; 10], &RULE, 1).unwrap();
    assert!((shift - RULE.bound).abs() < 1e-9, "{shift}");
    // Only the spread matters, not the location of x; the seed fixes the result.
    let x = noise(10, 0.02, 1);
    let (here, there) = (caught_nine_in_ten(&x, &RULE, 7), caught_nine_in_ten(&moved(&x, 0.5), &RULE, 7));
    assert!((here.unwrap() - there.unwrap()).abs() < 1e-9);
    assert_eq!(here, caught_nine_in_ten(&x, &RULE, 7));
}

#[test]
fn too_few_pairs_say_nothing() {
    for x in [&[][..], &[0.01; PILOT_PAIRS - 1], &[0.01, 0.0, f64::NAN, 0.0, 0.0]] {
        assert_eq!((pilot(x, &RULE), caught_nine_in_ten(x, &RULE, 1)), (None, None));
    }
}

/// The constants agree with the simulation to three digits.
#[test]
fn promises_are_those_of_the_simulation() {
    let normal = &fixture("looks")["normal"];
    for (own, key) in [(HALF_WIDTH, "half_width"), (SUPPORTED, "supported")] {
        assert!((own - normal[key].as_f64().unwrap()).abs() < 6e-4, "{key}");
    }
}

#[test]
fn a_pilots_promise_holds() {
    let sd = 0.05;
    let few: Vec<Pilot> = (0..300).map(|s| pilot(&noise(6, sd, 1000 + s), &RULE).unwrap()).collect();
    let spread = middle(few.iter().map(|p| p.spread));
    assert!((spread / sd - 1.0).abs() < 0.1, "{spread}");
    let many = pilot(&noise(500, sd, 7), &RULE).unwrap();
    assert!((many.spread / sd - 1.0).abs() < 0.1, "{}", many.spread);
    let unchanged = share(sd, 0.0, &Rule { bound: SUPPORTED * sd, ..RULE }, Verdict::Unchanged);
    assert!((0.85..0.95).contains(&unchanged), "{unchanged}");
}

/// If the expected half-width equals the bound, hardly any identical builds are proven
/// unchanged; at half of it, nearly all are.
#[test]
fn hopeless_is_hopeless() {
    let sd = 0.05;
    let unchanged = |bound| share(sd, 0.0, &Rule { bound, ..RULE }, Verdict::Unchanged);
    assert!(unchanged(HALF_WIDTH * sd) < 0.1);
    assert!(unchanged(2.0 * HALF_WIDTH * sd) > 0.9);
    // Spread about 1.48 * 0.095 = 0.14, half-width 0.055.
    let x = [0.06, -0.09, 0.11, -0.12, 0.08, 0.1];
    assert!(pilot(&x, &Rule { bound: 0.035, ..RULE }).unwrap().hopeless);
    assert!(!pilot(&x, &Rule { bound: 0.04, ..RULE }).unwrap().hopeless);
    // Two bursts in six pairs do not make a quiet machine hopeless.
    assert!(!pilot(&[0.004, -0.2, 0.006, -0.003, 0.15, -0.005], &RULE).unwrap().hopeless);
}

#[test]
fn one_that_is_not_zero_counts() {
    let zero = pilot(&[0.0; 6], &RULE).unwrap();
    assert_eq!((zero.spread, zero.hopeless), (0.0, false));
    assert!(pilot(&[0.0, 0.0, 0.0, 0.0, 0.0, 1e-3], &RULE).unwrap().spread > 0.0);
}
