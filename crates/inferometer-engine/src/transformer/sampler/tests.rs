use super::*;
use inferometer_protocol::ErrorKind;
use proptest::prelude::*;

fn sampling(temperature: f64) -> Sampling {
    Sampling { seed: 7, temperature, ..Sampling::default() }
}

fn counts(sampling: &Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
    ordered_counts(sampling, Order::default(), logits, draws)
}

fn ordered_counts(sampling: &Sampling, order: Order, logits: &[f32], draws: usize) -> Vec<usize> {
    let mut sampler = Sampler::new(sampling, order);
    let mut counts = vec![0; logits.len()];
    for _ in 0..draws {
        counts[sampler.choose(logits).unwrap() as usize] += 1;
    }
    counts
}

/// Pearson's statistic of counts against probabilities; a count where the probability is 0 fails at
/// once.
fn chi_square(counts: &[usize], probabilities: &[f64]) -> f64 {
    let draws: usize = counts.iter().sum();
    let terms = counts.iter().zip(probabilities).map(|(count, p)| {
        let expected = p * draws as f64;
        if expected == 0.0 {
            assert_eq!(*count, 0, "a token that should be out was drawn");
            return 0.0;
        }
        (*count as f64 - expected).powi(2) / expected
    });
    terms.sum()
}

fn softmax(logits: &[f32], temperature: f64, keep: impl Fn(usize) -> bool) -> Vec<f64> {
    let weight = |(at, l): (usize, &f32)| if keep(at) { (f64::from(*l) / temperature).exp() } else { 0.0 };
    let weights: Vec<f64> = logits.iter().enumerate().map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

const LOGITS: [f32; 6] = [1.0, 2.0, 0.0, 3.0, 2.0, -4.0];
const DRAWS: usize = 40_000;
/// 99.9 % quantile of chi-square with five degrees of freedom.
const LIMIT: f64 = 20.515;

#[test]
fn draws_follow_the_closed_form() {
    let none = |_: usize| true;
    // At temperature 1 the probabilities are .0704 .1914 .0259 .5204 .1914 .0005 in these
    // logits' order.
    let cases: [(Sampling, Vec<f64>); 7] = [
        (sampling(1.0), softmax(&LOGITS, 1.0, none)),
        (sampling(0.5), softmax(&LOGITS, 0.5, none)),
        (sampling(3.0), softmax(&LOGITS, 3.0, none)),
        // Ids 1 and 4 are equal: the lower one is kept.
        (Sampling { top_k: 2, ..sampling(1.0) }, softmax(&LOGITS, 1.0, |at| [1, 3].contains(&at))),
        (Sampling { top_p: 0.8, ..sampling(1.0) }, softmax(&LOGITS, 1.0, |at| [1, 3, 4].contains(&at))),
        (Sampling { min_p: 0.1, ..sampling(1.0) }, softmax(&LOGITS, 1.0, |at| [0, 1, 3, 4].contains(&at))),
        // top-p sees all tokens: 3 alone has .52 of their sum, so top-k has two to keep.
        (Sampling { top_k: 2, top_p: 0.7, ..sampling(1.0) }, softmax(&LOGITS, 1.0, |at| [1, 3].contains(&at))),
    ];
    for (settings, probabilities) in cases {
        let statistic = chi_square(&counts(&settings, &LOGITS, DRAWS), &probabilities);
        assert!(statistic < LIMIT, "{settings:?}: {statistic}");
    }
}

/// Token 3 has .52 of the probability at temperature 1 and .29 at temperature 3: the same share
/// keeps more tokens if temperature comes first.
#[test]
fn the_order_of_filters_and_temperature_decides_what_is_kept() {
    let cases = [
        (Sampling { top_p: 0.5, ..sampling(3.0) }, vec![3], vec![1, 3]),
        (Sampling { min_p: 0.3, ..sampling(3.0) }, vec![1, 3, 4], vec![0, 1, 2, 3, 4]),
        // Of the two that top-k keeps, 3 has .58 at temperature 3.
        (Sampling { top_k: 2, top_p: 0.55, ..sampling(3.0) }, vec![1, 3], vec![3]),
    ];
    for (settings, first, last) in cases {
        for (order, kept) in [(Order::FiltersFirst, first), (Order::TemperatureFirst, last)] {
            let statistic = chi_square(
                &ordered_counts(&settings, order, &LOGITS, DRAWS),
                &softmax(&LOGITS, 3.0, |at| kept.contains(&at)),
            );
            assert!(statistic < LIMIT, "{settings:?}, {order:?}: {statistic}");
        }
    }
}

#[test]
fn the_test_of_draws_would_see_a_wrong_temperature() {
    let counts = counts(&sampling(1.1), &LOGITS, DRAWS);
    assert!(chi_square(&counts, &softmax(&LOGITS, 1.0, |_| true)) > LIMIT);
}

#[test]
fn equal_seeds_draw_alike_and_others_do_not() {
    let draw = |seed| {
        let mut sampler = Sampler::new(&Sampling { seed, ..sampling(1.0) }, Order::default());
        (0..64).map(|_| sampler.choose(&LOGITS).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn filters_at_their_ends() {
    let only = |settings: Sampling, want: u32| {
        assert_eq!(counts(&settings, &LOGITS, 200)[want as usize], 200, "{settings:?}");
    };
    only(Sampling { top_k: 1, ..sampling(5.0) }, 3);
    only(Sampling { top_p: 1e-9, ..sampling(5.0) }, 3);
    only(Sampling { min_p: 1.0, ..sampling(5.0) }, 3);
    only(sampling(0.0), 3);
    only(sampling(1e-6), 3);
    let all = |settings: Sampling| counts(&settings, &LOGITS, 20_000).iter().filter(|c| **c > 0).count();
    assert_eq!(all(Sampling { top_k: 6, top_p: 1.0, min_p: 0.0, ..sampling(5.0) }), 6);
    assert_eq!(all(Sampling { top_k: 100, ..sampling(5.0) }), 6);
    // Tokens that tie for the highest logit all have the same probability.
    let equal = [2.0f32; 4];
    assert_eq!(counts(&Sampling { min_p: 1.0, ..sampling(1.0) }, &equal, 4000).iter().filter(|c| **c > 0).count(), 4);
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let mut sampler = Sampler::new(&sampling(0.0), Order::default());
    assert_eq!(sampler.choose(&[1.0, 3.0, 3.0]).unwrap(), 1);
    assert_eq!(sampler.choose(&[-3.0, f32::MIN]).unwrap(), 0);
    // Whole blocks and a rest, the best anywhere.
    for length in [1, 15, 16, 17, 40, 64] {
        for at in 0..length {
            let mut logits = vec![-2.0; length];
            logits[at..].fill(-1.0);
            assert_eq!(sampler.choose(&logits).unwrap(), at as u32, "{length}");
        }
    }
    assert!(sampler.choose(&[]).is_err());
}

#[test]
fn one_logit_that_is_not_finite_is_an_error() {
    for none in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 40, 99] {
            let mut logits = [f32::MAX; 100];
            logits[at] = none;
            for temperature in [0.0, 1.0] {
                let error = Sampler::new(&sampling(temperature), Order::default()).choose(&logits).unwrap_err();
                assert_eq!(error.kind, ErrorKind::NotFinite, "{none} at {at}");
            }
            assert_eq!(gap(&logits).unwrap_err().kind, ErrorKind::NotFinite);
        }
    }
}

#[test]
fn the_gap_is_that_of_the_two_best_numbers() {
    for (logits, want) in [
        (&LOGITS[..], 1.0),
        (&[3.0, 1.0, 3.0], 0.0),
        (&[-7.0, -4.5], 2.5),
        (&[1.0], f32::MAX),
        (&[f32::MAX, f32::MIN], f32::MAX),
    ] {
        assert_eq!(gap(logits).unwrap(), want, "{logits:?}");
    }
    assert!(gap(&[]).is_err());
}

#[test]
fn settings_out_of_range_are_named() {
    for (settings, word) in [
        (Sampling { temperature: -1.0, ..sampling(0.0) }, "temperature"),
        (Sampling { temperature: f64::NAN, ..sampling(0.0) }, "temperature"),
        (Sampling { top_p: 0.0, ..sampling(0.0) }, "top_p"),
        (Sampling { top_p: 1.5, ..sampling(0.0) }, "top_p"),
        (Sampling { min_p: -0.1, ..sampling(0.0) }, "min_p"),
    ] {
        assert!(check(&settings, 1.0).unwrap_err().message.contains(word));
    }
    assert!(check(&sampling(0.0), 0.0).unwrap_err().message.contains("repetition_penalty"));
    assert!(check(&sampling(0.0), f64::INFINITY).is_err());
    assert!(check(&sampling(0.7), 1.1).is_ok());
}

/// The penalty, implemented as defined and without regard to speed.
fn naive(logits: &[f32], history: &[u32], factor: f32, context: usize, cap: usize) -> (Vec<f32>, usize) {
    let mut count = history.len();
    for bound in [context, cap] {
        if bound != 0 && bound < count {
            count = bound;
        }
    }
    let recent: std::collections::BTreeSet<u32> = history[history.len() - count..].iter().copied().collect();
    let penalized = (0..).zip(logits).map(|(id, l): (u32, &f32)| match recent.contains(&id) {
        true if *l > 0.0 => l / factor,
        true => l * factor,
        false => *l,
    });
    (penalized.collect(), count)
}

proptest! {
    #[test]
    fn the_penalty_is_what_its_meaning_says(
        logits in prop::collection::vec(-5f32..5.0, 20),
        histories in prop::collection::vec(prop::collection::vec(0u32..20, 0..40), 1..4),
        factor in 1.01f32..3.0,
        context in 0usize..30,
        cap in 0usize..30,
    ) {
        let mut penalty = Penalty::new(factor, context as u64, cap as u64);
        for history in histories {
            let mut got = logits.clone();
            let looked_at = penalty.apply(&mut got, &history);
            prop_assert_eq!((got, looked_at), naive(&logits, &history, factor, context, cap));
        }
    }

    /// With any settings, a drawn token passes the filters of a naive implementation. In either
    /// order each filter sees what the one before kept.
    #[test]
    fn what_is_drawn_passes_every_filter(
        logits in prop::collection::vec(-5f32..5.0, 1..200),
        top_k in 0u32..50,
        top_p in 0.01f64..=1.0,
        min_p in 0.0f64..0.5,
        temperature in prop_oneof![Just(1.0), 0.1f64..10.0],
        order in prop_oneof![Just(Order::FiltersFirst), Just(Order::TemperatureFirst)],
        seed in any::<u64>(),
    ) {
        let settings = Sampling { seed, temperature, top_k, top_p, min_p, ..Sampling::default() };
        let id = Sampler::new(&settings, order).choose(&logits).unwrap() as usize;
        let above = |limit: f32| logits.iter().filter(move |l| **l > limit);
        if top_k > 0 {
            prop_assert!(above(logits[id]).count() < top_k as usize);
        }
        let seen_at = if order == Order::FiltersFirst { 1.0 } else { temperature };
        let highest = logits.iter().copied().fold(f32::MIN, f32::max);
        let weight = |l: &f32| ((f64::from(*l) - f64::from(highest)) / seen_at).exp();
        let mut sorted: Vec<f64> = logits.iter().map(weight).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        if top_k > 0 && order == Order::TemperatureFirst {
            sorted.truncate(top_k as usize);
        }
        let before: f64 = above(logits[id]).map(weight).sum();
        prop_assert!(before < top_p * sorted.iter().sum::<f64>() + 1e-9);
        prop_assert!(weight(&logits[id]) >= min_p * sorted[0] - 1e-9);
    }
}

#[test]
fn a_penalty_of_one_is_off() {
    let mut logits = LOGITS.to_vec();
    assert_eq!(Penalty::new(1.0, 0, 0).apply(&mut logits, &[1, 2, 3]), 0);
    assert_eq!(logits, LOGITS);
}

/// Logits ln 1, ln 2, ln 4 and ln 1 have probabilities 1/8, 1/4, 1/2 and 1/8.
#[test]
fn log_probabilities_by_hand() {
    let logits = [1.0_f32, 2.0, 4.0, 1.0].map(f32::ln);
    let of = logprob(&logits, 1, 3).unwrap();
    let near = |a: f32, b: f32| assert!((a - b.ln()).abs() < 1e-6, "{a} is not ln {b}");
    near(of.logprob, 0.25);
    let ids: Vec<u32> = of.top.iter().map(|top| top.0).collect();
    assert_eq!(ids, [2, 1, 0], "of equally likely ones the lower id");
    std::iter::zip(&of.top, [0.5, 0.25, 0.125]).for_each(|(top, p)| near(top.1, p));
    assert_eq!(of.check(1), Ok(()));
    assert_eq!(logprob(&logits, 3, 9).unwrap().top.len(), 4, "as many as there are");
    assert!(logprob(&logits, 3, 0).unwrap().top.is_empty());
    // All alike; far apart; farther apart than any model's, which is reported as the least.
    assert_eq!(logprob(&[3.0; 300], 1, 256).unwrap().check(1), Ok(()));
    assert_eq!(logprob(&[690.0, 0.0], 1, 256).unwrap().check(1), Ok(()));
    let absurd = logprob(&[f32::MAX, f32::MIN], 1, 256).unwrap();
    assert_eq!((absurd.logprob, absurd.check(1)), (LEAST_LOGPROB as f32, Ok(())), "{absurd:?}");
    assert!(logprob(&[1.0, f32::NAN], 0, 1).is_err() && logprob(&[], 0, 1).is_err());
}
