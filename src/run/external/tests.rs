//! Rows as the sampler produces them, and the resulting judgement of an iteration.

use std::time::Duration;

use super::*;
use crate::record::{RequestRow, Status};
use crate::run::measure::tests::empty_row;

const GAUGES: [&str; 14] = [
    "system_cpu_percent",
    "rss_bytes",
    "process_cpu_percent",
    "steal_percent",
    "swap_in_bytes_per_s",
    "swap_out_bytes_per_s",
    "process_swap_bytes",
    "major_faults_per_s",
    "thermal_throttles_per_s",
    "thermal_pressure",
    "gpu_throttle_reasons",
    "on_battery",
    "low_power_mode",
    "swap_used_bytes",
];
const MIB: f64 = 1_048_576.0;
const MS: u64 = 1_000_000;

fn gauges(names: &[&str]) -> Vec<GaugeInfo> {
    let gauge =
        |name: &&str| GaugeInfo { name: (*name).to_owned(), unit: String::new(), source: String::new(), absent: None };
    names.iter().map(gauge).collect()
}

/// Samples every 50 ms from 0 to 1000, on a quiet machine of 4 cores, except for the values of
/// `set` by gauge and sample.
fn samples(set: impl Fn(&str, u64) -> Option<f64>) -> Vec<TelemetryRow> {
    let value = |gauge: &&str, i| {
        set(gauge, i).or(match *gauge {
            "system_cpu_percent" => Some(50.0),
            "process_cpu_percent" => Some(190.0),
            "on_battery" => Some(0.0),
            _ => None,
        })
    };
    let row = |i: u64| TelemetryRow {
        t_ns: i * 50 * MS,
        host: Some(0),
        values: GAUGES.iter().map(|gauge| value(gauge, i)).collect(),
    };
    (0..=20).map(row).collect()
}

/// A gauge with this value in every sample.
fn steady(gauge: &'static str, value: f64) -> Vec<TelemetryRow> {
    samples(move |name, _| (name == gauge).then_some(value))
}

fn row(start_ms: u64, end_ms: u64) -> RequestRow {
    RequestRow { start_ns: start_ms * MS, end_ns: end_ms * MS, ..empty_row() }
}

fn watch(effect: ExternalCauses) -> Watch {
    Watch::new(&gauges(&GAUGES), Some(4), effect)
}

/// As in a run: a fault of the engine takes precedence over an external cause, and warm-ups are not
/// judged.
fn judge(watch: &mut Watch, rows: &mut [RequestRow], helpers: Duration) {
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    if first.warmup {
        return;
    }
    let window = Window { host: first.host, start_ns: first.start_ns, end_ns: last.end_ns };
    if let Some(fault) = watch.judge(window, &OwnUse { helpers, ..OwnUse::default() }).fault {
        rows.iter_mut().filter(|row| row.status == Status::Ok).for_each(|row| row.mark(&fault));
    }
}

/// An iteration from 100 to 900 ms among these samples.
fn judged(samples: &[TelemetryRow]) -> (RequestRow, Watch) {
    let mut watch = watch(ExternalCauses::Invalidate);
    watch.sampled(samples);
    let mut rows = [row(100, 900)];
    judge(&mut watch, &mut rows, Duration::ZERO);
    let [row] = rows;
    (row, watch)
}

#[test]
fn every_cause_makes_an_iteration_invalid_and_says_which() {
    for (samples, said) in [
        (steady("system_cpu_percent", 75.0), "other programs used more than 0.5 cores"),
        (steady("steal_percent", 5.0), "other guests took more than 3 %"),
        (steady("swap_out_bytes_per_s", 4.0 * MIB), "whose memory it was is unknown"),
        (samples(|name, i| (name == "thermal_throttles_per_s").then_some(f64::from(i == 9))), "the CPU throttled"),
        (samples(|name, i| (name == "thermal_pressure" && i == 5).then_some(2.0)), "slowed the machine down"),
        (steady("gpu_throttle_reasons", f64::from(0x24)), "the GPU throttled"),
        (samples(|name, i| (name == "on_battery").then_some(f64::from(i > 12))), "the power source differed"),
        (samples(|name, i| (name == "low_power_mode").then_some(f64::from(i > 12))), "low-power mode"),
    ] {
        let (row, watch) = judged(&samples);
        assert_eq!(row.status, Status::Invalid, "{said}");
        assert!(row.reason.contains(said) && row.cause.unwrap().is_external(), "{}", row.reason);
        let told = watch.sentences();
        assert!(told.len() == 1 && told[0].contains(said) && told[0].contains("1 of 1 iterations"), "{told:?}");
    }
}

#[test]
fn what_is_ordinary_disturbs_nothing() {
    for samples in [
        samples(|_, _| None),
        steady("steal_percent", 2.0),
        steady("swap_in_bytes_per_s", 0.5 * MIB),
        steady("swap_used_bytes", 900.0 * MIB),
        steady("major_faults_per_s", 5000.0),
        steady("thermal_throttles_per_s", 0.0),
        steady("thermal_pressure", 1.0),
        // A power cap, and idle clocks.
        steady("gpu_throttle_reasons", f64::from(0x4 | 0x1)),
        steady("on_battery", 1.0),
        // Before and after the iteration.
        samples(|name, i| (name == "thermal_throttles_per_s").then_some(f64::from(!(3..=18).contains(&i)))),
        samples(|name, i| (name == "system_cpu_percent").then_some(if !(3..=18).contains(&i) { 100.0 } else { 50.0 })),
        // A short burst does not raise the average much.
        samples(|name, i| (name == "system_cpu_percent").then_some(if i == 9 { 75.0 } else { 50.0 })),
    ] {
        let (row, watch) = judged(&samples);
        assert_eq!((row.status, row.reason.as_str()), (Status::Ok, ""));
        assert_eq!(watch.sentences(), [""; 0]);
    }
}

#[test]
fn swapping_is_attributed_by_whose_memory_it_is() {
    let swapping = |own: fn(u64) -> f64, faults: f64| {
        samples(move |name, i| match name {
            "swap_in_bytes_per_s" | "swap_out_bytes_per_s" => Some(8.0 * MIB),
            "process_swap_bytes" => Some(own(i) * MIB),
            "major_faults_per_s" => Some(faults),
            _ => None,
        })
    };
    let (row, _) = judged(&swapping(|_| 0.0, 9000.0));
    assert_eq!(row.status, Status::Invalid, "pages of files");
    assert!(row.reason.contains("not the engine's memory"), "{}", row.reason);
    let (row, _) = judged(&swapping(|_| 64.0, 0.0));
    assert_eq!(row.status, Status::Invalid, "memory that was swapped out earlier and is not needed");
    for samples in [swapping(|i| i as f64, 0.0), swapping(|i| 64.0 - i as f64, 0.0), swapping(|_| 64.0, 1000.0)] {
        let (row, watch) = judged(&samples);
        assert_eq!(row.status, Status::Failed);
        assert!(row.reason.contains("the engine's own memory was swapped"), "{}", row.reason);
        assert!(row.cause == Some(crate::record::Cause::OwnSwap) && watch.sentences()[0].contains("failed"));
    }
}

#[test]
fn a_warning_counts_iterations_and_changes_nothing() {
    let mut watch = watch(ExternalCauses::Warn);
    watch.sampled(&steady("system_cpu_percent", 75.0));
    let mut rows = [row(0, 1000)];
    judge(&mut watch, &mut rows, Duration::ZERO);
    judge(&mut watch, &mut [row(100, 900)], Duration::ZERO);
    judge(&mut watch, &mut [row(2000, 2001)], Duration::ZERO);
    assert_eq!(rows[0], row(0, 1000));
    let told = watch.sentences();
    assert!(told[0].contains("in 2 of 3 iterations (up to 1.10 cores): they stay valid"), "{told:?}");
    let told = watch.not_judged().unwrap();
    assert!(told.contains("1 of 3 iterations are unjudged"), "{told}");
}

#[test]
fn turns_share_the_cause_and_what_the_engine_did_weighs_more() {
    let mut watch = watch(ExternalCauses::Invalidate);
    watch.sampled(&steady("system_cpu_percent", 75.0));
    // Each is too short by itself.
    let mut turns: Vec<RequestRow> = (0..10).map(|i| row(i * 100, i * 100 + 90)).collect();
    judge(&mut watch, &mut turns, Duration::ZERO);
    assert!(turns.iter().all(|row| row.status == Status::Invalid && row.reason == turns[0].reason));
    let mut failed = [RequestRow { status: Status::Failed, reason: "crashed".to_owned(), ..row(100, 900) }];
    judge(&mut watch, &mut failed, Duration::ZERO);
    assert_eq!((failed[0].status, failed[0].reason.as_str()), (Status::Failed, "crashed"));
}

#[test]
fn few_samples_or_absent_gauges_say_nothing() {
    let busy = steady("system_cpu_percent", 100.0);
    let looked = |names: &[&str], samples: &[TelemetryRow], of: RequestRow| {
        let mut watch = Watch::new(&gauges(names), Some(4), ExternalCauses::Invalidate);
        watch.sampled(samples);
        let mut rows = [of];
        judge(&mut watch, &mut rows, Duration::ZERO);
        (rows[0].status, watch.not_judged().is_some())
    };
    assert_eq!(looked(&GAUGES, &busy, row(60, 240)), (Status::Ok, true), "three samples give two stretches");
    assert_eq!(looked(&GAUGES, &busy, row(60, 260)), (Status::Invalid, false));
    assert_eq!(looked(&GAUGES, &[], row(0, 1000)), (Status::Ok, true));
    assert_eq!(looked(&GAUGES, &busy, RequestRow { host: 7, ..row(0, 1000) }), (Status::Ok, true), "of another host");
    assert_eq!(looked(&GAUGES, &busy, RequestRow { warmup: true, ..row(0, 1000) }), (Status::Ok, false));
    assert_eq!(looked(&["rss_bytes"], &busy, row(0, 1000)), (Status::Ok, true), "nothing shows the load");
}

#[test]
fn larger_machines_bear_more_foreign_load() {
    let busy = steady("system_cpu_percent", 75.0);
    let status = |cores| {
        let mut watch = Watch::new(&gauges(&GAUGES), cores, ExternalCauses::Invalidate);
        watch.sampled(&busy);
        let mut rows = [row(100, 900)];
        judge(&mut watch, &mut rows, Duration::ZERO);
        rows[0].reason.clone()
    };
    // Three quarters of all cores, minus the engine's 1.9.
    assert!(status(Some(16)).contains("more than 2 cores"));
    assert!(status(Some(2)).is_empty() && status(None).is_empty());
}

#[test]
fn the_sample_before_an_iteration_is_remembered() {
    let mut watch = watch(ExternalCauses::Invalidate);
    let all = samples(|name, i| (name == "steal_percent").then_some(if i <= 4 { 9.0 } else { 0.0 }));
    let (before, within) = all.split_at(3);
    watch.sampled(before);
    watch.sampled(within);
    assert_eq!(watch.recent(), all);
    watch.sampled(&[TelemetryRow { t_ns: 9000 * MS, ..all[0].clone() }]);
    watch.sampled(&[]);
    assert_eq!(watch.recent().len(), 1, "old samples are dropped");
    // 2 of 3 stretches with 9 % are within.
    let (mut early, mut late) = ([row(100, 250)], [row(100, 900)]);
    let mut watch = self::watch(ExternalCauses::Invalidate);
    watch.sampled(before);
    watch.sampled(within);
    judge(&mut watch, &mut early, Duration::ZERO);
    judge(&mut watch, &mut late, Duration::ZERO);
    assert_eq!((early[0].status, late[0].status), (Status::Invalid, Status::Ok));
}

/// The machine has 4 cores; 2 of them are busy, 1.9 of these with the engine.
#[test]
fn what_the_host_has_started_is_the_engine_s_own_work() {
    let reason = |process: f64, helpers_ms: u64| {
        let mut watch = watch(ExternalCauses::Invalidate);
        watch.sampled(&steady("process_cpu_percent", process));
        let mut rows = [row(0, 1000)];
        judge(&mut watch, &mut rows, Duration::from_millis(helpers_ms));
        rows[0].reason.clone()
    };
    assert!(reason(10.0, 0).contains("other programs used more than 0.5 cores"), "{}", reason(10.0, 0));
    assert_eq!(reason(10.0, 1800), "", "helpers use 1.8 cores and the host 0.1, so 0.1 is foreign");
}

/// The machine's CPU is read at every fourth sample, the engine's at every one. The engine works
/// intermittently, and there is no foreign load.
#[test]
fn gauges_of_different_pace_make_no_foreign_load() {
    let on_and_off = samples(|gauge, i| match gauge {
        "process_cpu_percent" => Some(if i % 4 < 2 { 400.0 } else { 0.0 }),
        "system_cpu_percent" => Some(if i % 4 == 0 { 50.0 } else { f64::NAN }),
        _ => None,
    });
    let mut watch = watch(ExternalCauses::Invalidate);
    watch.sampled(&on_and_off);
    let mut rows = [row(0, 1000)];
    judge(&mut watch, &mut rows, Duration::ZERO);
    assert_eq!((rows[0].status, rows[0].reason.as_str()), (Status::Ok, ""));
}

/// Throttle counts are read once a second: the stretch that contains the iteration is longer than
/// it.
#[test]
fn a_throttled_short_iteration_is_seen() {
    let rare =
        samples(|gauge, i| (gauge == "thermal_throttles_per_s").then_some(if i % 20 == 0 { 1.0 } else { f64::NAN }));
    let mut watch = watch(ExternalCauses::Invalidate);
    watch.sampled(&rare);
    let mut rows = [row(400, 600)];
    judge(&mut watch, &mut rows, Duration::ZERO);
    assert!(rows[0].reason.contains("throttled"), "{}", rows[0].reason);
}
