use proptest::prelude::*;

use super::*;
use crate::fixtures::{fixture, numbers};
use crate::rng::seeded;

const RULE: Rule = Rule { gates: 1, bound: 0.03 };

/// Normal noise by Box and Muller.
pub fn noise(n: usize, sd: f64, seed: u64) -> Vec<f64> {
    use rand::Rng;
    let mut random = seeded(seed, "noise");
    let mut uniform = || (f64::from(random.next_u32()) + 0.5) / 4_294_967_296.0;
    (0..n).map(|_| sd * (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()).collect()
}

fn moved(x: &[f64], shift: f64) -> Vec<f64> {
    x.iter().map(|v| v + shift).collect()
}

/// The whole table of docs/explanation/method.md#looks.
#[test]
fn depths_are_the_methods_table() {
    for (gates, ks) in [(1, [6, 45, 122]), (2, [4, 38, 110]), (3, [3, 35, 103])] {
        assert_eq!([0, 1, 2].map(|look| Depths::at(look, gates).interval.k), ks, "{gates} gates");
    }
}

/// One side of a two one-sided test misses by at most one gate's alpha, and one step deeper by
/// more.
#[test]
fn equivalence_is_at_the_level_of_one_gate() {
    for (look, alpha) in ALPHAS[0].into_iter().enumerate() {
        let Depths { equivalence, .. } = Depths::at(look, 3);
        assert!((1.0 - equivalence.confidence) / 2.0 <= alpha);
        assert!(rank::depth(LOOKS[look], 2.0 * alpha + 0.01).unwrap().k > equivalence.k);
        assert!(equivalence.k > Depths::at(look, 1).interval.k);
        assert_eq!(equivalence, Depths::at(look, 1).equivalence);
    }
}

#[test]
fn a_clear_change_is_decided_at_the_first_look_and_frozen() {
    let quiet = noise(30, 0.005, 1);
    for (shift, want) in [(0.1, Verdict::Regressed), (-0.1, Verdict::Improved), (0.0, Verdict::Unchanged)] {
        let mut x = moved(&quiet, shift);
        let first = decide(&x[..10], &RULE);
        assert_eq!((first.verdict, first.looks.len()), (want, 1));
        // Later pairs are ignored.
        x[10..].iter_mut().for_each(|v| *v = -*v + 1.0);
        assert_eq!(decide(&x, &RULE), first);
    }
}

#[test]
fn between_looks_nothing_is_decided() {
    let x = noise(30, 0.1, 2);
    for n in 0..10 {
        let decision = decide(&x[..n], &RULE);
        assert_eq!((decision.verdict, decision.looks.len(), decision.would_decide), (Verdict::NotDecided, 0, None));
    }
    assert_eq!(decide(&x[..19], &RULE).looks.len(), 1);
    assert_eq!(decide(&x[..19], &RULE).verdict, Verdict::NotDecided);
}

#[test]
fn an_inconclusive_gate_names_the_bound_that_would_have_done() {
    let x = moved(&noise(30, 0.06, 3), 0.01);
    let decision = decide(&x, &RULE);
    assert_eq!((decision.verdict, decision.looks.len()), (Verdict::Inconclusive, 3));
    let bound = decision.would_decide.unwrap();
    assert!(bound > RULE.bound);
    assert_eq!(decide(&x, &Rule { bound, ..RULE }).verdict, Verdict::Unchanged);
    assert_eq!(decide(&x, &Rule { bound: bound * 0.999, ..RULE }).verdict, Verdict::Inconclusive);
}

#[test]
fn a_small_sure_change_is_unchanged_but_detectable() {
    let decision = decide(&moved(&noise(10, 0.002, 4), 0.01), &RULE);
    assert_eq!(decision.verdict, Verdict::Unchanged);
    assert!(decision.looks[0].detectable);
    assert!(decision.looks[0].interval.lo > 0.0);
    assert!(decision.looks[0].p_value < 0.01);
}

#[test]
fn all_zero_is_unchanged_whatever_the_bound() {
    for bound in [0.03, 0.0] {
        let decision = decide(&[0.0; 10], &Rule { gates: 3, bound });
        assert_eq!((decision.verdict, decision.looks[0].p_value), (Verdict::Unchanged, 1.0));
        assert!(!decision.looks[0].detectable);
    }
}

/// A change of exactly the bound in every pair is a regression; any smaller change is proven
/// unchanged.
#[test]
fn the_bound_itself_is_regressed() {
    assert_eq!(decide(&[0.03; 10], &RULE).verdict, Verdict::Regressed);
    assert_eq!(decide(&[-0.03; 10], &RULE).verdict, Verdict::Improved);
    assert_eq!(decide(&[0.0299; 10], &RULE).verdict, Verdict::Unchanged);
}

#[test]
fn between_looks_an_estimate_is_shown_with_the_next_looks_interval() {
    let x = noise(30, 0.1, 5);
    assert_eq!(estimate(&[], 1), None);
    assert_eq!(estimate(&[0.1, f64::NAN], 1), None);
    assert!(matches!(estimate(&x[..6], 1), Some((_, None))));
    assert!(matches!(estimate(&x[..7], 1), Some((_, Some(_)))));
    for (n, look) in [(10, 0), (20, 1), (30, 2)] {
        let (value, interval) = estimate(&x[..n], 2).unwrap();
        let look = decide(&x, &Rule { gates: 2, bound: 1e-6 }).looks[look].clone();
        assert_eq!((value, interval), (look.estimate, Some(look.interval)));
    }
}

proptest! {
    /// Swapped sides give the opposite verdict.
    #[test]
    fn swapped_sides_give_the_opposite(x in prop::collection::vec(-0.1..0.1f64, 0..35), gates in 1usize..4, bound in 0.001..0.2f64) {
        let rule = Rule { gates, bound };
        let swapped: Vec<f64> = x.iter().map(|v| -v).collect();
        let (one, other) = (decide(&x, &rule), decide(&swapped, &rule));
        let opposite = match one.verdict {
            Verdict::Regressed => Verdict::Improved,
            Verdict::Improved => Verdict::Regressed,
            same => same,
        };
        prop_assert_eq!(other.verdict, opposite);
        prop_assert_eq!(one.looks.len(), other.looks.len());
        prop_assert_eq!(one.would_decide, other.would_decide);
    }

    /// A verdict does not change with later pairs.
    #[test]
    fn verdicts_are_frozen(x in prop::collection::vec(-0.1..0.1f64, 30), n in 0usize..31, gates in 1usize..4) {
        let early = decide(&x[..n], &RULE);
        let late = decide(&x, &RULE);
        if early.verdict == Verdict::NotDecided {
            prop_assert!(late.looks.starts_with(&early.looks));
        } else {
            prop_assert_eq!(early, late);
        }
        let more = Rule { gates, ..RULE };
        // With more gates a change is never certain earlier.
        for (wide, narrow) in decide(&x, &more).looks.iter().zip(&decide(&x, &RULE).looks) {
            prop_assert!(wide.interval.lo <= narrow.interval.lo && wide.interval.hi >= narrow.interval.hi);
            prop_assert_eq!(wide.equivalence, narrow.equivalence);
        }
    }
}

/// The three alphas of a session with g gates spend 5 % / g: computed for normal increments, where
/// the looks are exact, and not more for the signed-rank statistic, which is discrete
/// (`scripts/fixtures stats`).
#[test]
fn the_alphas_spend_five_percent() {
    let fixture = fixture("looks");
    let table = fixture["table"].as_array().unwrap();
    assert_eq!(table.len(), MOST_GATES);
    for (gates, row) in (1..).zip(table) {
        assert_eq!(numbers(&row["alphas"]), ALPHAS[gates - 1]);
        let share = 0.05 / gates as f64;
        assert!((row["spent"].as_f64().unwrap() / share - 1.0).abs() < 0.01, "{gates} gates");
        assert!(row["signed_rank_spent"].as_f64().unwrap() < share, "{gates} gates");
        let ks = numbers(&row["k"]);
        assert_eq!([0, 1, 2].map(|look| Depths::at(look, gates).interval.k as f64)[..], ks);
    }
}
