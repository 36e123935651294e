//! The summary for other programs: JSON and CSV.

use super::summary::metric;
use super::summary::{CellSummary, Summary};

const COLUMNS: [&str; 17] = [
    "run",
    "cell",
    "label",
    "engine",
    "series",
    "length",
    "prompt_tokens",
    "metric",
    "unit",
    "n",
    "median",
    "lo",
    "hi",
    "confidence",
    "mad",
    "min",
    "max",
];

/// A row for every cell and metric, empty where not measured.
///
/// # Panics
/// Never: writing to memory does not fail.
#[must_use]
pub fn csv(summary: &Summary) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |fields: Vec<String>| writer.write_record(fields).expect("every row has as many fields");
    write(COLUMNS.iter().map(|c| (*c).to_owned()).collect());
    for cell in &summary.cells {
        for metric in metric::METRICS.iter().chain([&metric::LOAD]) {
            write(row(summary, cell, metric));
        }
    }
    let bytes = writer.into_inner().expect("memory takes every byte");
    String::from_utf8(bytes).expect("fields are UTF-8")
}

fn row(summary: &Summary, cell: &CellSummary, metric: &metric::Metric) -> Vec<String> {
    let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    let count = |value: Option<u32>| value.map(|v| v.to_string()).unwrap_or_default();
    let figures = cell.metric(metric.key);
    let interval = figures.and_then(|s| s.interval);
    vec![
        summary.run.name.clone(),
        cell.cell.to_string(),
        cell.label.clone(),
        cell.engine.clone(),
        cell.series.clone(),
        count(cell.length),
        count(cell.prompt_tokens),
        metric.key.to_owned(),
        metric.unit.symbol().to_owned(),
        figures.map_or(0, |s| s.n).to_string(),
        number(figures.map(|s| s.median)),
        number(interval.map(|i| i.lo)),
        number(interval.map(|i| i.hi)),
        number(interval.map(|i| i.confidence)),
        number(figures.map(|s| s.mad)),
        number(figures.map(|s| s.min)),
        number(figures.map(|s| s.max)),
    ]
}
