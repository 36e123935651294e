//! Compares sampling on the device with sampling on the host.

use mlx_rs::Array;
use proptest::prelude::*;
use rand::Rng;

use crate::serial::alone;
use crate::transformer::backend::{Backend, TokenSampler};
use crate::transformer::mlx::MlxBackend;
use crate::transformer::sampler::{Order, Penalty, Sampler, SamplingPlan, gap};
use inferometer_host::rng::seeded;
use inferometer_protocol::{EngineError, ErrorKind, Sampling};

fn choice(sampling: Sampling) -> SamplingPlan {
    SamplingPlan { sampling, order: Order::default(), factor: 1.0, context_size: 0, cap: 0 }
}

fn row(logits: &[f32]) -> Array {
    Array::from_slice(logits, &[1, logits.len() as i32])
}

/// Tokens of one request, chosen from these rows of logits one after another.
fn on_device<'a>(
    sampling: &Sampling,
    order: Order,
    rows: impl Iterator<Item = &'a [f32]>,
) -> Result<Vec<u32>, EngineError> {
    alone(|| {
        let backend = MlxBackend::new(None, false);
        let plan = SamplingPlan { order, ..choice(sampling.clone()) };
        let mut sampler = backend.sampler(&plan, &[0], 1)?;
        rows.map(|logits| {
            sampler.penalize(row(logits))?;
            backend.wait(&sampler.choose(None)?)
        })
        .collect()
    })
}

fn on_host<'a>(
    sampling: &Sampling,
    order: Order,
    rows: impl Iterator<Item = &'a [f32]>,
) -> Result<Vec<u32>, EngineError> {
    let mut sampler = Sampler::new(sampling, order);
    rows.map(|logits| sampler.choose(logits)).collect()
}

const VOCABULARY: u32 = 12;

/// Often ties and zeros.
fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![2 => -8.0f32..8.0, 1 => (-2i8..3).prop_map(f32::from)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// The same logits after the penalty, and the same window, at every step of a request.
    #[test]
    fn the_penalty_is_the_hosts(
        prompt in prop::collection::vec(0..VOCABULARY, 1..30),
        steps in prop::collection::vec((prop::collection::vec(logit(), VOCABULARY as usize), 0..VOCABULARY), 1..12),
        factor in prop_oneof![Just(1.0f32), Just(1.1), 0.5f32..2.0],
        context_size in 0u64..20,
        cap in 0u64..20,
    ) {
        let choice = SamplingPlan { factor, context_size, cap, ..choice(Sampling::default()) };
        alone(|| as_the_hosts(&choice, prompt, steps))?;
    }
}

fn as_the_hosts(choice: &SamplingPlan, prompt: Vec<u32>, steps: Vec<(Vec<f32>, u32)>) -> Result<(), TestCaseError> {
    let backend = MlxBackend::new(None, false);
    let mut device = backend.sampler(choice, &prompt, steps.len()).unwrap();
    let mut host = Penalty::new(choice.factor, choice.context_size, choice.cap);
    let mut history = prompt;
    for (logits, forced) in steps {
        device.penalize(row(&logits)).unwrap();
        let (mut want, mut got) = (logits, Vec::new());
        let looked_at = host.apply(&mut want, &history);
        backend.read(device.logits(), &mut got).unwrap();
        prop_assert_eq!(&got, &want);
        prop_assert_eq!(device.window(), looked_at);
        let best = Sampler::new(&choice.sampling, choice.order).choose(&want).unwrap();
        prop_assert_eq!(device.gap().unwrap(), gap(&want).unwrap());
        let chosen = device.choose(Some(forced)).unwrap();
        prop_assert_eq!(backend.wait(&chosen).unwrap(), best);
        history.push(forced);
    }
    Ok(())
}

/// Rows of logits like a model's: a few likely tokens, many unlikely ones.
fn rows(count: usize, vocabulary: usize) -> Vec<f32> {
    let mut rng = seeded(5, "rows of logits");
    let mut unit = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
    (0..count * vocabulary).map(|_| (-(unit() + 1e-9).ln() * 2.0 - 3.0 * unit()) as f32).collect()
}

/// The number of draws, and how many differ from the host's.
fn differing(settings: &[Sampling], device: impl Fn(&Sampling) -> Sampling) -> (usize, usize) {
    const EACH: usize = 500;
    let (mut draws, mut differ) = (0, 0);
    let cases = [(300, Order::FiltersFirst), (2048, Order::FiltersFirst), (300, Order::TemperatureFirst)];
    for ((vocabulary, order), sampling) in cases.into_iter().flat_map(|v| settings.iter().map(move |s| (v, s))) {
        let logits = rows(EACH, vocabulary);
        let host = on_host(sampling, order, logits.chunks(vocabulary)).unwrap();
        let device = on_device(&device(sampling), order, logits.chunks(vocabulary)).unwrap();
        draws += host.len();
        differ += host.iter().zip(&device).filter(|(a, b)| a != b).count();
    }
    (draws, differ)
}

/// Sums are f32 on the device and f64 on the host: draws so close to a border that this matters are
/// rare.
#[test]
fn draws_are_the_hosts_but_for_rounding_at_a_border() {
    let sampling = |seed, temperature| Sampling { seed, temperature, ..Sampling::default() };
    let settings = [
        sampling(1, 1.0),
        sampling(2, 0.3),
        Sampling { top_k: 40, ..sampling(3, 0.8) },
        Sampling { top_p: 0.9, ..sampling(4, 1.0) },
        Sampling { min_p: 0.05, ..sampling(5, 1.2) },
        Sampling { top_k: 50, top_p: 0.95, min_p: 0.02, ..sampling(6, 0.7) },
    ];
    let (draws, differ) = differing(&settings, Sampling::clone);
    assert!(draws >= 6000 && differ * 1000 <= draws, "{differ} of {draws} draws differ");
    let wrong: [fn(&Sampling) -> Sampling; 3] = [
        |s| Sampling { seed: s.seed + 1, ..s.clone() },
        |s| Sampling { temperature: s.temperature * 1.05, ..s.clone() },
        |s| Sampling { top_k: 3, ..s.clone() },
    ];
    for wrong in wrong {
        let (draws, differ) = differing(&settings[2..4], wrong);
        assert!(differ * 100 > draws, "only {differ} of {draws} draws show a wrong setting");
    }
}

/// All ids that 400 draws give.
fn drawn(
    side: impl Fn(&Sampling, &mut dyn Iterator<Item = &'static [f32]>) -> Result<Vec<u32>, EngineError>,
    of: &Sampling,
    logits: &'static [f32],
) -> Vec<u32> {
    let mut ids = side(of, &mut std::iter::repeat_n(logits, 400)).unwrap();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[test]
fn of_equal_logits_filters_keep_the_lowest_ids() {
    const EQUAL: &[f32] = &[1.0; 8];
    const PAIRS: &[f32] = &[0.0, 2.0, 1.0, 2.0, 1.0, 0.0, 1.0, -1.0];
    // A high temperature, so that 400 draws give every id that the filters keep.
    let hot = || Sampling { seed: 3, temperature: 50.0, ..Sampling::default() };
    let cases: [(Sampling, &'static [f32], &[u32]); 8] = [
        (hot(), EQUAL, &[0, 1, 2, 3, 4, 5, 6, 7]),
        (Sampling { top_k: 3, ..hot() }, EQUAL, &[0, 1, 2]),
        (Sampling { top_p: 0.5, ..hot() }, EQUAL, &[0, 1, 2, 3]),
        (Sampling { min_p: 1.0, ..hot() }, PAIRS, &[1, 3]),
        (Sampling { top_k: 1, ..hot() }, PAIRS, &[1]),
        (Sampling { top_k: 4, ..hot() }, PAIRS, &[1, 2, 3, 4]),
        (Sampling { top_k: 100, ..hot() }, PAIRS, &[0, 1, 2, 3, 4, 5, 6, 7]),
        // Weights 1, 1, .37, .37, .37, .14, .14 and .05 add up to 3.43; the first to 1, the second
        // to 2.
        (Sampling { top_p: 0.5, ..hot() }, PAIRS, &[1, 3]),
    ];
    for (settings, logits, want) in cases {
        both(&settings, Order::FiltersFirst, logits, want);
    }
    // At that temperature, weights 1, 1, .98, .98, .98, .96, .96 and .94 add up to 7.80; the first
    // four to 3.96.
    both(&Sampling { top_p: 0.5, ..hot() }, Order::TemperatureFirst, PAIRS, &[1, 2, 3, 4]);
    // top-p after and before top-k.
    let few = Sampling { top_k: 6, top_p: 0.5, ..hot() };
    both(&few, Order::TemperatureFirst, EQUAL, &[0, 1, 2]);
    both(&few, Order::FiltersFirst, EQUAL, &[0, 1, 2, 3]);
    // Nothing filters, so that a token far below is drawn too.
    both(&hot(), Order::FiltersFirst, &[0.0, 95.0], &[0, 1]);
    // This filter keeps it as well, although its own probability is 0 in f32.
    both(&Sampling { min_p: 1e-100, ..hot() }, Order::FiltersFirst, &[0.0, 120.0], &[0, 1]);
}

fn both(settings: &Sampling, order: Order, logits: &'static [f32], want: &[u32]) {
    assert_eq!(drawn(|s, rows| on_host(s, order, rows), settings, logits), want, "host: {settings:?}, {order:?}");
    assert_eq!(drawn(|s, rows| on_device(s, order, rows), settings, logits), want, "device: {settings:?}, {order:?}");
}

#[test]
fn greedy_takes_the_lowest_of_equal_ids() {
    let greedy =
        |logits: &[f32]| on_device(&Sampling::default(), Order::default(), std::iter::once(logits)).unwrap()[0];
    assert_eq!(greedy(&[0.5; 2048]), 0);
    let mut logits = vec![-1.0; 2048];
    for at in [2047, 900, 33] {
        logits[at] = 3.0;
        assert_eq!(greedy(&logits), at as u32);
    }
}

#[test]
fn logits_that_are_no_numbers_are_an_error_where_the_token_is_read() {
    for temperature in [0.0, 1.0] {
        for none in [f32::NAN, f32::NEG_INFINITY] {
            let sampling = Sampling { temperature, ..Sampling::default() };
            // The logit of any token, not only of the first.
            let (sound, none_at_all) = ([1.0; 64], [none; 64]);
            let rows = [sound.as_slice(), &none_at_all];
            assert!(on_device(&sampling, Order::default(), rows[..1].iter().copied()).is_ok());
            let error = on_device(&sampling, Order::default(), rows.into_iter()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotFinite, "temperature {temperature}, {none}: {error}");
            // One of many is enough.
            let mut one = [1.0; 64];
            one[40] = none;
            assert_eq!(
                on_device(&sampling, Order::default(), std::iter::once(&one[..])).unwrap_err().kind,
                ErrorKind::NotFinite
            );
        }
    }
}
