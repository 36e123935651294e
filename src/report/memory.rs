//! The oscillation figures in words: one table for the page and for Markdown.

use super::summary::{GaugeOscillation, NOT_MEASURED, Summary};
use super::text;
use inferometer_protocol::units;
use inferometer_protocol::units::significant;
use inferometer_stats::oscillation::Oscillation;

/// A column of the table.
pub struct Column {
    pub head: &'static str,
    pub meaning: &'static str,
    pub of: fn(&Oscillation) -> String,
}

/// What stands beside each stretch.
pub const COLUMNS: [Column; 11] = [
    Column {
        head: "cycles",
        meaning: "cycles of h or more, by rainflow counting",
        of: |o| o.counted.cycles.to_string(),
    },
    Column { head: "a minute", meaning: "cycles / minutes watched", of: |o| number(o.counted.per_minute) },
    Column { head: "p95", meaning: "95th percentile of their ranges", of: |o| bytes(o.counted.range_p95_bytes) },
    Column { head: "largest", meaning: "the largest range", of: |o| bytes(o.counted.range_largest_bytes) },
    Column { head: "reclaimed", meaning: "sum of all falls of h or more", of: |o| bytes(Some(o.reclaimed_bytes)) },
    Column { head: "churn", meaning: "reclaimed / (highest - lowest)", of: |o| number(o.churn) },
    Column {
        head: "highest",
        meaning: "highest sample; not the peak, which samples miss",
        of: |o| bytes(Some(o.peak_bytes)),
    },
    Column { head: "plateau", meaning: "median after the warm-up", of: |o| bytes(o.plateau.map(|p| p.level_bytes)) },
    Column {
        head: "slope a minute",
        meaning: "median slope after the warm-up (Theil-Sen): a leak, or a cache that still grows, where above 0",
        of: |o| bytes(o.plateau.map(|p| p.slope_bytes_per_s * 60.0)),
    },
    Column {
        head: "at 1, 2, 5 %",
        meaning: "cycles at h = 1, 2 and 5 % of the highest sample",
        of: |o| o.by_share.map(|count| count.cycles.to_string()).join(", "),
    },
    Column { head: "h", meaning: "the smallest swing that counts", of: |o| bytes(Some(o.counted.h_bytes)) },
];

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), significant)
}

/// Bytes that may be negative.
#[must_use]
pub fn bytes(value: Option<f64>) -> String {
    value.map_or_else(
        || NOT_MEASURED.to_owned(),
        |value| {
            let sign = if value <= -0.5 { "-" } else { "" };
            format!("{sign}{}", units::bytes(value.abs().round() as u64))
        },
    )
}

/// Share as a whole number of percent.
#[must_use]
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| NOT_MEASURED.to_owned(), |share| format!("{:.0} %", share * 100.0))
}

/// The run, its cells and its phases, by name.
#[must_use]
pub fn rows<'a>(summary: &Summary, gauge: &'a GaugeOscillation) -> Vec<(String, &'a Oscillation)> {
    let name = |id: &u32| {
        let cell = summary.cells.iter().find(|cell| cell.cell == *id);
        cell.map_or_else(|| format!("cell {id}"), |cell| text::label(cell.name()))
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
            format!("{} idle samples before the first host jitter by {}", gauge.idle_samples, bytes(Some(jitter)))
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
