//! Memory oscillation: the tables of a gauge and their notes.

use super::summary::oscillation::CauseShare;
use super::summary::{GaugeOscillation, Summary};
use super::table::Table;
use inferometer_protocol::units;
use inferometer_protocol::units::significant;
use inferometer_stats::oscillation::{LEAST_SAMPLES, Oscillation};

/// How values of a series are shown.
#[derive(Debug, Clone, Copy)]
pub enum Measure<'a> {
    Bytes,
    /// Plain numbers with this unit, which may be empty.
    Number(&'a str),
}

impl Measure<'_> {
    #[must_use]
    pub fn shown(self, value: f64) -> String {
        match self {
            Self::Bytes => bytes(Some(value)).unwrap_or_default(),
            Self::Number("") => significant(value),
            Self::Number(unit) => format!("{} {unit}", significant(value)),
        }
    }
}

/// A figure of an oscillation: title, meaning, value.
pub struct Figure {
    pub title: &'static str,
    pub meaning: &'static str,
    pub of: fn(&Oscillation, Measure<'_>) -> Option<String>,
}

const fn figure(
    title: &'static str,
    meaning: &'static str,
    of: fn(&Oscillation, Measure<'_>) -> Option<String>,
) -> Figure {
    Figure { title, meaning, of }
}

/// All figures, in the order of every table.
pub const FIGURES: &[Figure] = &[
    figure("cycles", "cycles of h or more, by rainflow counting", |o, _| Some(o.counted.cycles.to_string())),
    figure("a minute", "cycles / minutes watched", |o, _| o.counted.per_minute.map(significant)),
    figure("p95", "95th percentile of their ranges", |o, m| o.counted.range_p95_bytes.map(|v| m.shown(v))),
    figure("largest", "the largest range", |o, m| o.counted.range_largest_bytes.map(|v| m.shown(v))),
    figure("reclaimed", "sum of all falls of h or more", |o, m| Some(m.shown(o.reclaimed_bytes))),
    figure("churn", "reclaimed / (highest - lowest)", |o, _| o.churn.map(significant)),
    figure("highest", "highest sample; samples may miss the peak", |o, m| Some(m.shown(o.peak_bytes))),
    figure("plateau", "median after the warm-up", |o, m| o.plateau.map(|p| m.shown(p.level_bytes))),
    figure(
        "slope a minute",
        "median slope after the warm-up (Theil-Sen); above 0: a leak, or a cache that still grows",
        |o, m| o.plateau.and_then(|p| p.slope_bytes_per_s).map(|slope| m.shown(slope * 60.0)),
    ),
    figure("at 1, 2, 5 %", "cycles at h = 1, 2 and 5 % of the highest sample", |o, _| {
        Some(o.by_share.map(|count| count.cycles.to_string()).join(", "))
    }),
    figure("resolution", "median time between two samples; a swing within it is not seen", |o, _| {
        Some(format!("{} ms", significant(o.sampling.interval_s * 1e3)))
    }),
    figure("h", "the smallest swing that counts", |o, m| Some(m.shown(o.counted.h_bytes))),
];

/// The figures of a gauge: of the run, its cells and its phases.
#[must_use]
pub fn table<'a>(summary: &Summary, gauge: &'a GaugeOscillation) -> Table<(String, &'a Oscillation)> {
    let named = Table::of("Oscillation figures", rows(summary, gauge)).head("stretch", |row| row.0.clone());
    FIGURES.iter().fold(named, |table, figure| {
        table.number(figure.title, |row| (figure.of)(row.1, Measure::Bytes)).meaning(figure.meaning)
    })
}

/// What the engine was doing while memory fell.
#[must_use]
pub fn causes(gauge: &GaugeOscillation) -> Table<&CauseShare> {
    Table::of("Activity while memory fell", gauge.causes.iter().filter(|_| !gauge.falls.is_empty()))
        .head("while memory fell", |share| share.cause.words())
        .number("falls", |share| share.falls)
        .number("bytes", |share| bytes(Some(share.bytes)))
        .number("share of bytes", |share| share.share.map(percent))
        .number("share of time", |share| percent(share.time_share))
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

/// Notes on a gauge's figures: how h was chosen, how precisely falls are located, and whether there
/// are enough samples.
#[must_use]
pub fn notes(gauge: &GaugeOscillation) -> Vec<String> {
    let idle = match gauge.jitter_bytes {
        Some(jitter) => {
            let jitter = bytes(Some(jitter)).unwrap_or_default();
            format!("{} idle samples before the first host have a jitter of {jitter}", gauge.idle_samples)
        }
        None => "there are no idle samples".to_owned(),
    };
    let interval = significant(gauge.run.sampling.interval_s * 1e3);
    let mut notes = vec![format!(
        "{}: {}; h = max(16 MiB, 1 % of the highest sample, 6 x the jitter while idle); {idle}. Sampled every {interval} ms, \
         which limits how precisely a fall can be located.",
        gauge.gauge, gauge.meaning
    )];
    if gauge.phases.is_empty() {
        notes.push(format!(
            "{}: a request has fewer than two samples, so nothing is said about cells with such requests, phases and causes.",
            gauge.gauge
        ));
    }
    let few =
        |o: &&Oscillation| o.plateau.and_then(|p| p.slope_bytes_per_s).is_none() || o.counted.per_minute.is_none();
    if std::iter::once(&gauge.run).chain(gauge.cells.values()).chain(gauge.phases.values()).any(|o| few(&o)) {
        notes.push(format!(
            "{}: a dash for cycles a minute or the slope: fewer than {LEAST_SAMPLES} samples.",
            gauge.gauge
        ));
    }
    notes.extend(gauge.run.sampling.warning().map(|warning| format!("{}: {warning}.", gauge.gauge)));
    notes
}

/// The note below the causes.
pub const CAUSES_NOTE: &str = "A step down between two samples that overlaps a cache clear or a reset is attributed to it alone. \
                               Any other step is attributed by time to the phases it lies in. \"Share of time\" is what a \
                               cause would get if memory fell at random times: a cause is meaningful only if its share of \
                               bytes is well above its share of time.";
