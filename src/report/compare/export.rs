//! Comparisons as CSV: a row for every pair of runs, cell and metric, empty where not measured.

use super::{Comparison, outputs};
use crate::record::metric;
use crate::report::table::Table;

#[must_use]
pub fn csv(comparisons: &[Comparison]) -> String {
    let cells = comparisons.iter().flat_map(|of| of.cells.iter().map(move |cell| (of, cell)));
    let rows = cells.flat_map(|(of, cell)| cell.metrics.iter().map(move |figures| (cell, figures, of)));
    Table::of("", rows)
        .text("run_a", |row| &row.2.a.run)
        .text("run_b", |row| &row.2.b.run)
        .text("cell", |row| &row.0.name)
        .number("cell_a", |row| row.0.cell_a)
        .number("cell_b", |row| row.0.cell_b)
        .text("metric", |row| &row.1.metric)
        .text("unit", |row| metric::find(&row.1.metric).map(|m| m.unit.symbol()))
        .number("n_a", |row| row.1.a.map_or(0, |s| s.n))
        .number("median_a", |row| row.1.a.map(|s| s.median))
        .number("n_b", |row| row.1.b.map_or(0, |s| s.n))
        .number("median_b", |row| row.1.b.map(|s| s.median))
        .number("ratio", |row| row.1.ratio)
        .number("lo", |row| row.1.interval.map(|i| i.lo))
        .number("hi", |row| row.1.interval.map(|i| i.hi))
        .number("confidence", |row| row.1.interval.map(|i| i.confidence))
        .number("p_value", |row| row.1.p_value)
        .text("change", |row| row.1.change.name().replace(' ', "_"))
        .text("outputs", |row| outputs(&row.0.outputs, "B"))
        .number("p_adjusted", |row| row.1.p_adjusted)
        .csv()
}
