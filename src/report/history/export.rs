//! The history as CSV: a row for every run of every series, empty where not measured.

use crate::compare::history::History;
use crate::record::metric;

const COLUMNS: [&str; 18] = [
    "scenario",
    "machine",
    "cell",
    "engine",
    "work",
    "metric",
    "unit",
    "run",
    "started_utc",
    "commit",
    "inferometer_version",
    "n",
    "median",
    "lo",
    "hi",
    "confidence",
    "change_ratio",
    "change",
];

/// # Panics
/// Never: writing to memory does not fail.
#[must_use]
pub fn csv(history: &History) -> String {
    let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).expect("memory takes every byte");
    for series in &history.series {
        let unit = metric::find(&series.metric).map_or("", |m| m.unit.symbol());
        for (at, point) in series.points.iter().enumerate() {
            let change = series.changes.iter().find(|change| change.at == at);
            let interval = point.figures.and_then(|f| f.interval);
            let row = [
                series.scenario.clone(),
                series.machine.clone(),
                series.cell.clone(),
                series.engine.clone(),
                series.work.clone(),
                series.metric.clone(),
                unit.to_owned(),
                point.run.clone(),
                point.started_utc.clone(),
                point.commit.clone().unwrap_or_default(),
                point.inferometer_version.clone(),
                point.figures.map_or(0, |f| f.n).to_string(),
                number(point.figures.map(|f| f.median)),
                number(interval.map(|i| i.lo)),
                number(interval.map(|i| i.hi)),
                number(interval.map(|i| i.confidence)),
                number(change.map(|c| c.ratio())),
                change.map(|c| c.change.name().to_owned()).unwrap_or_default(),
            ];
            writer.write_record(row).expect("memory takes every byte");
        }
    }
    let bytes = writer.into_inner().expect("memory takes every byte");
    String::from_utf8(bytes).expect("fields are UTF-8")
}
