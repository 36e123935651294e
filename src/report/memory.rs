//! How memory goes up and down: the tables of a gauge, and what must be said with them.

use super::summary::oscillation::CauseShare;
use super::summary::{GaugeOscillation, Summary};
use super::table::Table;
use inferometer_protocol::units;
use inferometer_protocol::units::significant;
use inferometer_stats::oscillation::Oscillation;

/// The figures of a gauge: of the run, its cells and its phases.
#[must_use]
pub fn table<'a>(summary: &Summary, gauge: &'a GaugeOscillation) -> Table<(String, &'a Oscillation)> {
    Table::of("Oscillation figures", rows(summary, gauge))
        .head("stretch", |row| row.0.clone())
        .number("cycles", |(_, o)| o.counted.cycles)
        .meaning("cycles of h or more, by rainflow counting")
        .number("a minute", |(_, o)| o.counted.per_minute.map(significant))
        .meaning("cycles / minutes watched")
        .number("p95", |(_, o)| bytes(o.counted.range_p95_bytes))
        .meaning("95th percentile of their ranges")
        .number("largest", |(_, o)| bytes(o.counted.range_largest_bytes))
        .meaning("the largest range")
        .number("reclaimed", |(_, o)| bytes(Some(o.reclaimed_bytes)))
        .meaning("sum of all falls of h or more")
        .number("churn", |(_, o)| o.churn.map(significant))
        .meaning("reclaimed / (highest - lowest)")
        .number("highest", |(_, o)| bytes(Some(o.peak_bytes)))
        .meaning("highest sample; not the peak, which samples miss")
        .number("plateau", |(_, o)| bytes(o.plateau.map(|p| p.level_bytes)))
        .meaning("median after the warm-up")
        .number("slope a minute", |(_, o)| bytes(o.plateau.map(|p| p.slope_bytes_per_s * 60.0)))
        .meaning("median slope after the warm-up (Theil-Sen): a leak, or a cache that still grows, where above 0")
        .number("at 1, 2, 5 %", |(_, o)| o.by_share.map(|count| count.cycles.to_string()).join(", "))
        .meaning("cycles at h = 1, 2 and 5 % of the highest sample")
        .number("h", |(_, o)| bytes(Some(o.counted.h_bytes)))
        .meaning("the smallest swing that counts")
}

/// What went on while memory fell.
#[must_use]
pub fn causes(gauge: &GaugeOscillation) -> Table<&CauseShare> {
    Table::of("What went on while memory fell", gauge.causes.iter().filter(|_| !gauge.falls.is_empty()))
        .head("while memory fell", |share| share.cause.words())
        .number("falls", |share| share.falls)
        .number("bytes", |share| bytes(Some(share.bytes)))
        .number("of all that fell", |share| share.share.map(percent))
        .number("of the time", |share| percent(share.time_share))
}

/// Bytes that may be negative.
fn bytes(value: Option<f64>) -> Option<String> {
    let sign = |value: f64| if value <= -0.5 { "-" } else { "" };
    value.map(|value| format!("{}{}", sign(value), units::bytes(value.abs().round() as u64)))
}

/// Share as a whole number of percent.
fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The run, its cells and its phases, by name.
fn rows<'a>(summary: &Summary, gauge: &'a GaugeOscillation) -> Vec<(String, &'a Oscillation)> {
    let name = |id: &u32| {
        let cell = summary.cells.iter().find(|cell| cell.cell == *id);
        cell.map_or_else(|| format!("cell {id}"), |cell| cell.name().to_owned())
    };
    let run = std::iter::once(("whole run".to_owned(), &gauge.run));
    let cells = gauge.cells.iter().map(|(id, found)| (name(id), found));
    let phases = gauge.phases.iter().map(|(part, found)| (part.words().to_owned(), found));
    run.chain(cells).chain(phases).collect()
}

/// What must be said of a gauge's figures: how h came about, how far falls can be placed, and whether the samples suffice.
#[must_use]
pub fn notes(gauge: &GaugeOscillation) -> Vec<String> {
    let idle = match gauge.jitter_bytes {
        Some(jitter) => {
            let jitter = bytes(Some(jitter)).unwrap_or_default();
            format!("{} idle samples before the first host jitter by {jitter}", gauge.idle_samples)
        }
        None => "no idle stretch".to_owned(),
    };
    let interval = significant(gauge.run.sampling.interval_s * 1e3);
    let mut notes = vec![format!(
        "{}: {}; h = max(16 MiB, 1 % of the highest sample, 6 x the jitter while idle), {idle}. Sampled every {interval} ms: a fall \
         can be placed no closer than that.",
        gauge.gauge, gauge.meaning
    )];
    notes.extend(gauge.run.sampling.warning().map(|warning| format!("{}: {warning}.", gauge.gauge)));
    notes
}

/// Said with the causes.
pub const CAUSES_NOTE: &str = "A sample's step down that touches a cache clear or a reset is ascribed to it whole, any other by time \
                               to the phase it lies in; \"of the time\" is the share of all steps that would be ascribed so whatever \
                               memory did, and a cause says something only where its share of the bytes is well above that.";
