//! The comparison as CSV: a row for every cell and metric, empty where not measured.

use super::{Comparison, outputs};
use crate::record::metric;

const COLUMNS: [&str; 19] = [
    "run_a",
    "run_b",
    "cell",
    "cell_a",
    "cell_b",
    "metric",
    "unit",
    "n_a",
    "median_a",
    "n_b",
    "median_b",
    "ratio",
    "lo",
    "hi",
    "confidence",
    "p_value",
    "change",
    "outputs",
    "p_adjusted",
];

/// # Panics
/// Never: writing to memory does not fail.
#[must_use]
pub fn csv(comparison: &Comparison) -> String {
    let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).expect("memory takes every byte");
    for cell in &comparison.cells {
        for figures in &cell.metrics {
            let unit = metric::find(&figures.metric).map_or("", |m| m.unit.symbol());
            let row = [
                comparison.a.run.clone(),
                comparison.b.run.clone(),
                cell.name.clone(),
                cell.cell_a.to_string(),
                cell.cell_b.to_string(),
                figures.metric.clone(),
                unit.to_owned(),
                figures.a.map_or(0, |s| s.n).to_string(),
                number(figures.a.map(|s| s.median)),
                figures.b.map_or(0, |s| s.n).to_string(),
                number(figures.b.map(|s| s.median)),
                number(figures.ratio),
                number(figures.interval.map(|i| i.lo)),
                number(figures.interval.map(|i| i.hi)),
                number(figures.interval.map(|i| i.confidence)),
                number(figures.p_value),
                figures.change.name().replace(' ', "_"),
                outputs(&cell.outputs),
                number(figures.p_adjusted),
            ];
            writer.write_record(row).expect("memory takes every byte");
        }
    }
    let bytes = writer.into_inner().expect("memory takes every byte");
    String::from_utf8(bytes).expect("fields are UTF-8")
}
