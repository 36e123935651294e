//! Every gauge: sampled for some seconds, counted, and held against its unit and its promise.

use std::time::{Duration, Instant};

use super::{Item, State};
use crate::origin::Origin;
use crate::report::text::plural;
use crate::spec::{GaugeInfo, TelemetryRow};
use crate::telemetry::{GROUPS, Sampler};
use inferometer_protocol::units;
use inferometer_protocol::units::significant;

const PART: &str = "Gauges";
const EVERY: Duration = Duration::from_millis(50);
const LENGTH: Duration = Duration::from_millis(3000);
/// Gauges that come from an engine.
const OF_ENGINE: &str = "engine_";
/// Values of one gauge that are read as series: fewer distinct ones over the time are told.
const FINE: [&str; 4] = ["footprint_bytes", "rss_bytes", "wired_bytes", "process_cpu_percent"];

pub fn items() -> Vec<Item> {
    let sampler = Sampler::start(EVERY, &GROUPS.map(str::to_owned), Origin::start());
    sampler.watch(Some((0, std::process::id())));
    let begun = Instant::now();
    let mut held: Vec<Vec<u8>> = Vec::new();
    while begun.elapsed() < LENGTH {
        // Memory that grows and work that is done, so that every gauge has something to show.
        held.push(std::hint::black_box(vec![1_u8; 1 << 20]));
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(held);
    let (gauges, rows) = (sampler.gauges(), sampler.drain());
    judged(&gauges, &rows)
}

fn judged(gauges: &[GaugeInfo], rows: &[TelemetryRow]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut absent: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut working = Vec::new();
    for (column, gauge) in gauges.iter().enumerate().filter(|(_, gauge)| !gauge.name.starts_with(OF_ENGINE)) {
        if let Some(why) = &gauge.absent {
            match absent.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(&gauge.name),
                None => absent.push((why, vec![&gauge.name])),
            }
            continue;
        }
        let values: Vec<f64> = rows.iter().filter_map(|row| *row.values.get(column)?).collect();
        let odd = values.iter().find(|value| !plausible(&gauge.unit, **value));
        let differs = match (values.first(), odd) {
            (None, _) => Some(format!("promised by {}, but gave no value in {} samples", gauge.source, rows.len())),
            (_, Some(odd)) => Some(format!("{} {} from {}", significant(*odd), gauge.unit, gauge.source)),
            _ => None,
        };
        match differs {
            Some(seen) => items.push(Item::new(PART, gauge.name.clone(), State::Differs, seen)),
            None if FINE.contains(&gauge.name.as_str()) => items.push(series(gauge, &values, rows.len())),
            None => working.push(gauge.name.as_str()),
        }
    }
    items.push(Item::new(PART, format!("{} more", plural(working.len(), "gauge")), State::Works, working.join(", ")));
    items.extend(absent.iter().map(|(why, names)| {
        Item::new(PART, plural(names.len(), "gauge"), State::Absent, format!("{}: {why}", names.join(", ")))
    }));
    items
}

/// How fine a series is: values, and how many of them differ from the one before.
fn series(gauge: &GaugeInfo, values: &[f64], samples: usize) -> Item {
    let changes = values.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(lo, hi), value| (lo.min(*value), hi.max(*value)));
    let amount = |value: f64| match gauge.unit.as_str() {
        "bytes" => units::bytes(value as u64),
        unit => format!("{} {unit}", significant(value)),
    };
    let (count, least, most) = (values.len(), amount(least), amount(most));
    let seen = format!("{count} values in {samples} samples, {changes} changes, {least} to {most}");
    Item::new(PART, gauge.name.clone(), State::Works, seen)
}

/// Whether a value of that unit can be.
fn plausible(unit: &str, value: f64) -> bool {
    let range = match unit {
        "percent" => 0.0..=100.0 * 4096.0,
        "bytes" | "bytes/s" => 0.0..=1e15,
        "MHz" => 0.0..=20_000.0,
        "W" => 0.0..=10_000.0,
        "°C" => -40.0..=150.0,
        "level" => 0.0..=3.0,
        "0/1" => 0.0..=1.0,
        _ => 0.0..=1e18,
    };
    range.contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_that_is_silent_or_impossible_differs_from_its_promise() {
        let info = |name: &str, unit: &str, absent: Option<&str>| GaugeInfo {
            name: name.to_owned(),
            unit: unit.to_owned(),
            source: "a test".to_owned(),
            absent: absent.map(str::to_owned),
        };
        let gauges = [
            info("rss_bytes", "bytes", None),
            info("cpu_celsius", "°C", None),
            info("wired_bytes", "bytes", None),
            info("load_1m", "count", None),
            info("gpu_watts", "W", Some("no GPU")),
            info("ane_watts", "W", Some("no GPU")),
        ];
        let row = |t_ns, rss| TelemetryRow {
            t_ns,
            host: Some(0),
            values: vec![Some(rss), Some(999.0), None, Some(1.0), None, None],
        };
        let items = judged(&gauges, &[row(0, 1e9), row(1, 1e9), row(2, 2e9)]);
        let told: Vec<(State, &str)> = items.iter().map(|item| (item.state, item.what.as_str())).collect();
        assert_eq!(
            told,
            [
                (State::Works, "rss_bytes"),
                (State::Differs, "cpu_celsius"),
                (State::Differs, "wired_bytes"),
                (State::Works, "1 gauge more"),
                (State::Absent, "2 gauges")
            ]
        );
        let seen = |at: usize| items[at].seen.as_str();
        assert!(seen(0).starts_with("3 values in 3 samples, 1 changes, "), "{}", seen(0));
        assert_eq!(seen(1), "999 °C from a test");
        assert_eq!(seen(2), "promised by a test, but gave no value in 3 samples");
        assert_eq!((seen(3), seen(4)), ("load_1m", "gpu_watts, ane_watts: no GPU"));
    }
}
