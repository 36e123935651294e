//! The history as CSV: a row for every run of every series, empty where not measured.

use crate::compare::history::History;
use crate::record::metric;
use crate::report::table::Table;

#[must_use]
pub fn csv(history: &History) -> String {
    let rows = history.series.iter().flat_map(|series| {
        series.points.iter().enumerate().map(move |(at, point)| {
            let change = series.changes.iter().find(|change| change.at == at);
            (series, point, point.figures.and_then(|f| f.interval), change)
        })
    });
    Table::of("", rows)
        .text("scenario", |row| &row.0.scenario)
        .text("machine", |row| &row.0.machine)
        .text("cell", |row| &row.0.cell)
        .text("engine", |row| &row.0.engine)
        .text("work", |row| &row.0.work)
        .text("metric", |row| &row.0.metric)
        .text("unit", |row| metric::find(&row.0.metric).map(|m| m.unit.symbol()))
        .text("run", |row| &row.1.run)
        .text("started_utc", |row| &row.1.started_utc)
        .text("commit", |row| row.1.commit.as_ref())
        .text("inferometer_version", |row| &row.1.inferometer_version)
        .number("n", |row| row.1.figures.map_or(0, |f| f.n))
        .number("median", |row| row.1.figures.map(|f| f.median))
        .number("lo", |row| row.2.map(|i| i.lo))
        .number("hi", |row| row.2.map(|i| i.hi))
        .number("confidence", |row| row.2.map(|i| i.confidence))
        .number("change_ratio", |row| row.3.map(|c| c.ratio()))
        .text("change", |row| row.3.map(|c| c.change.name()))
        .csv()
}
