use rand::Rng;

use super::*;
use crate::growth;
use crate::growth::{Law, NotIdentifiable, Point, Timing};
use crate::rng;

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1024.0 * MIB;

/// `seconds` at `hz`, as `of` seconds.
fn series(seconds: f64, hz: f64, of: impl Fn(f64) -> f64) -> Vec<Sample> {
    (0..=(seconds * hz) as usize).map(|i| i as f64 / hz).map(|t_s| Sample { t_s, bytes: of(t_s) }).collect()
}

/// From 0 up to 1 within each `period`.
fn tooth(t_s: f64, period: f64) -> f64 {
    (t_s / period).fract()
}

fn look(samples: &[Sample]) -> Oscillation {
    oscillation(&[samples], &Known::default()).unwrap()
}

#[test]
fn a_flat_series_with_jitter_has_no_cycle() {
    let mut random = rng::seeded(1, "jitter");
    let mut flat = series(120.0, 10.0, |_| 8.0 * GIB);
    for sample in &mut flat {
        // 120 MiB to either side: more than 1 % of the peak, but within the idle jitter.
        sample.bytes += ((random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 240.0 * MIB;
    }
    let idle: Vec<f64> = flat.iter().take_while(|s| s.t_s < 20.0).map(|s| s.bytes).collect();
    let found = oscillation(&[&flat], &Known { jitter_bytes: jitter(&idle), ..Known::default() }).unwrap();
    assert!(found.counted.h_bytes > 240.0 * MIB, "{}", found.counted.h_bytes / MIB);
    assert_eq!((found.counted.cycles, found.counted.half, found.reclaimed_bytes), (0, 0, 0.0));
    assert_eq!(found.counted.range_largest_bytes, None);
    assert!(look(&flat).counted.cycles > 50);
    let still = look(&series(60.0, 1.0, |_| GIB));
    assert_eq!((still.counted.cycles, still.churn, still.counted.h_bytes), (0, None, LEAST_SWING));
    assert_eq!(still.plateau.unwrap().slope_bytes_per_s, Some(0.0));
}

#[test]
fn a_sawtooth_of_three_a_minute_has_three_a_minute() {
    let found = look(&series(600.0, 5.0, |t| 4.0 * GIB + tooth(t + 0.1, 20.0) * GIB));
    assert_eq!(found.counted.cycles, 30);
    assert!((found.counted.per_minute.unwrap() - 3.0).abs() < 1e-9);
    assert_eq!(found.by_share.map(|count| count.cycles), [30; 3]);
    let largest = found.counted.range_largest_bytes.unwrap();
    assert!((largest / GIB - 0.99).abs() < 0.005, "{}", largest / GIB);
    assert!((found.reclaimed_bytes / GIB - 29.7).abs() < 0.2, "{}", found.reclaimed_bytes / GIB);
    assert!((found.churn.unwrap() - 30.0).abs() < 0.2);
    assert!(found.sampling.enough && found.sampling.warning().is_none());
    assert!((found.plateau.unwrap().level_bytes / GIB - 4.5).abs() < 0.01);
}

#[test]
fn a_leak_shows_as_a_slope_not_as_a_cycle() {
    let leak = look(&series(300.0, 4.0, |t| 2.0 * GIB + t * MIB));
    assert!((leak.plateau.unwrap().slope_bytes_per_s.unwrap() / MIB - 1.0).abs() < 1e-9);
    assert_eq!((leak.counted.cycles, leak.counted.half, leak.reclaimed_bytes), (0, 1, 0.0));
    assert_eq!(leak.counted.half_largest_bytes, Some(300.0 * MIB));
    // Below a sawtooth, after a separate warm-up; long enough to be thinned.
    let samples =
        series(900.0, 10.0, |t| if t < 60.0 { t * 100.0 * MIB } else { 6.0 * GIB + t * MIB } + tooth(t, 10.0) * GIB);
    let found = oscillation(&[&samples], &Known { warm_from_s: Some(60.0), ..Known::default() }).unwrap();
    let slope = found.plateau.unwrap().slope_bytes_per_s.unwrap() / MIB;
    assert!((slope - 1.0).abs() < 0.05, "{slope}");
    assert_eq!(found.counted.cycles, 90);
}

/// Period and amplitude of SciPy's periodogram (`scripts/fixtures oscillation`): a cycle of a sine
/// has twice its amplitude.
#[test]
fn period_and_range_agree_with_a_periodogram() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/oscillation/spectrum.json");
    let all: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
    let cases = all["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap();
        let bytes = case["bytes"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
        let samples: Vec<Sample> =
            bytes.enumerate().map(|(i, bytes)| Sample { t_s: i as f64 * number("interval_s"), bytes }).collect();
        let found = look(&samples);
        let period = 60.0 / found.counted.per_minute.unwrap();
        assert!((period / number("period_s") - 1.0).abs() < 0.02, "{}: {period} s", case["name"]);
        // The noise makes the largest of the cycles larger, never smaller.
        let range = found.counted.range_p95_bytes.unwrap() / (2.0 * number("amplitude_bytes"));
        assert!((0.99..1.06).contains(&range), "{}: {range}", case["name"]);
        assert_eq!(found.finding(), Finding::Oscillates);
    }
}

#[test]
fn what_a_series_shows_needs_enough_samples() {
    let saw = |seconds, hz| series(seconds, hz, |t| GIB + tooth(t + 0.05, 2.0) * GIB);
    let finding = |samples: &[Sample], known: &Known| oscillation(&[samples], known).unwrap().finding();
    assert_eq!(finding(&saw(60.0, 10.0), &Known::default()), Finding::Oscillates);
    assert_eq!(finding(&saw(1.5, 10.0), &Known::default()), Finding::TooFewSamples);
    let seen_once_a_cycle = saw(60.0, 0.5);
    assert_eq!(finding(&seen_once_a_cycle, &Known::default()), Finding::Steady);
    let known = Known { shortest_cycle_s: Some(2.0), ..Known::default() };
    assert_eq!(finding(&seen_once_a_cycle, &known), Finding::TooCoarse);
}

#[test]
fn a_series_that_is_no_memory_has_no_least_swing_in_bytes() {
    let watts = series(60.0, 10.0, |t| 20.0 + 5.0 * tooth(t, 4.0));
    assert_eq!(look(&watts).counted.cycles, 0, "16 MiB are more than any watts");
    let found = oscillation(&[&watts], &Known { least_swing: Some(0.0), ..Known::default() }).unwrap();
    assert_eq!((found.counted.cycles, found.counted), (15, found.by_share[0]));
}

#[test]
fn samples_too_far_apart_are_said_to_be() {
    let saw = |hz| series(120.0, hz, |t| GIB + tooth(t + 0.05, 2.0) * GIB);
    assert!(look(&saw(10.0)).sampling.enough);
    let sparse = look(&saw(3.0)).sampling;
    assert!(!sparse.enough);
    assert!(
        sparse.warning().unwrap().starts_with("sampled every 333 ms, but a cycle or the shortest request takes 2.0"),
        "{:?}",
        sparse.warning()
    );
    // Sampled once per cycle, the sawtooth is flat: only a known shortest cycle reveals the
    // problem.
    let blind = oscillation(&[&saw(0.5)], &Known { shortest_cycle_s: Some(2.0), ..Known::default() }).unwrap();
    assert_eq!(blind.counted.cycles, 0);
    assert!(blind.sampling.warning().is_some());
}

#[test]
fn what_is_no_series_is_refused() {
    let at = |t_s, bytes| Sample { t_s, bytes };
    for bad in [vec![], vec![at(0.0, 1.0)], vec![at(1.0, 1.0), at(1.0, 2.0)], vec![at(0.0, f64::NAN), at(1.0, 1.0)]] {
        assert_eq!(oscillation(&[&bad], &Known::default()), None);
    }
}

/// Columns of a CSV of the recorded runs on an M2 Max, as numbers.
fn recorded(file: &str) -> Vec<Vec<f64>> {
    let path = format!("{}/tests/data/m2max-gpt-oss-20b/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = fs_err::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(|field| field.parse().unwrap()).collect()).collect()
}

/// The figures in docs/explanation/method.md for these runs.
#[test]
fn wired_memory_of_the_recorded_runs() {
    for run in 1..=3 {
        let samples: Vec<Sample> =
            recorded(&format!("run{run}_wired.csv")).iter().map(|row| Sample { t_s: row[0], bytes: row[1] }).collect();
        let found = look(&samples);
        let [one, two, five] = found.by_share;
        assert_eq!(found.counted, one, "1 % of the peak is more than 16 MiB");
        assert!((20..=27).contains(&one.cycles), "run {run}: {one:?}");
        assert!((5..=9).contains(&two.cycles), "run {run}: {two:?}");
        assert!(five.cycles <= 1, "run {run}: {five:?}");
        for largest in [one.range_largest_bytes.unwrap(), two.range_largest_bytes.unwrap()] {
            assert!((0.9..1.1).contains(&(largest / GIB)), "run {run}: {}", largest / GIB);
        }
        assert!(found.sampling.enough, "{:?}", found.sampling);
    }
}

/// `elapsed_s` of a turn is the sum of prefill and decode, so neither law has its own time; and
/// three runs are not ten.
#[test]
fn growth_of_the_recorded_turns_is_not_identifiable() {
    let mut as_if_decode = Vec::new();
    for run in 1..=3 {
        for row in recorded(&format!("run{run}_turns.csv")) {
            let [turn, prompt, reused, generated, elapsed_s] = row[..] else { panic!("five columns") };
            let (prompt, reused, generated) = (prompt as u32, reused as u32, generated as u32);
            let timing = Timing { prompt, reused, generated, prefill_ms: None, decode_ms: None };
            for law in [Law::Decode, Law::Prefill] {
                assert_eq!(law.point(&timing), Err(NotIdentifiable::SumOfPhases));
            }
            let point = Point {
                n: f64::from(prompt) + f64::from(generated) / 2.0,
                time_ms: elapsed_s * 1e3 / f64::from(generated),
            };
            as_if_decode.push(growth::Sample { length: turn as usize, round: run, point });
        }
    }
    let refused = growth::fit_with_interval(Law::Decode, &as_if_decode, 1).unwrap_err();
    assert!(matches!(refused, NotIdentifiable::FewRounds { have: 3, .. }), "{refused:?}");
}

#[test]
fn no_swing_reaches_from_one_stretch_into_the_next() {
    let rise = |from: f64| {
        series(10.0, 10.0, |t| GIB + t * 100.0 * MIB).into_iter().map(move |s| Sample { t_s: s.t_s + from, ..s })
    };
    let parts: Vec<Vec<Sample>> = (0..4).map(|i| rise(f64::from(i) * 20.0).collect()).collect();
    let apart: Vec<&[Sample]> = parts.iter().map(Vec::as_slice).collect();
    let found = oscillation(&apart, &Known::default()).unwrap();
    assert_eq!((found.reclaimed_bytes, found.counted.half, found.counted.cycles), (0.0, 4, 0), "four rises");
    assert!(found.reclaimed_bytes.is_sign_positive());
    assert!((found.duration_s - 40.0).abs() < 1e-9 && found.sampling.longest_gap_s < 0.2, "{found:?}");
    let whole = look(&parts.concat());
    assert_eq!((whole.counted.cycles, falls(&parts.concat(), MIB).len()), (3, 3));
    assert!((whole.reclaimed_bytes - 3000.0 * MIB).abs() < 1.0);
    assert_eq!(oscillation(&[&parts[0][..1]], &Known::default()), None);
}

#[test]
fn a_handful_of_samples_has_neither_rate_nor_slope() {
    let few = series(0.9, 20.0, |t| GIB + tooth(t, 0.2) * GIB);
    assert!(few.len() < LEAST_SAMPLES && few.len() > 3, "{}", few.len());
    let found = look(&few);
    assert_eq!((found.counted.per_minute, found.plateau.unwrap().slope_bytes_per_s), (None, None));
    assert!(found.counted.cycles > 0 && found.sampling.cycle_s.is_none());
    let more = look(&series(2.0, 20.0, |t| GIB + tooth(t, 0.2) * GIB));
    assert!(more.counted.per_minute.is_some() && more.plateau.unwrap().slope_bytes_per_s.is_some());
}

#[test]
fn intervals_have_significant_digits() {
    let known = Known { shortest_cycle_s: Some(0.004), ..Known::default() };
    let told = oscillation(&[&series(2.0, 20.0, |_| GIB)], &known).unwrap().sampling.warning().unwrap();
    let wanted = "sampled every 50.0 ms, but a cycle or the shortest request takes 4.00 ms: cycles may be missed or \
                  appear too small; such short ones cannot be sampled";
    assert_eq!(told, wanted);
}
