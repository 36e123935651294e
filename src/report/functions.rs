//! Where time goes: the table of the functions that took the most time in the profiled pass.

use super::summary::{CellFunctions, CellSummary, FunctionRow, PhaseFunctions, Summary};
use super::table::{Cell, HTML, MARKDOWN, Table};

/// A function in a phase of a cell.
pub type Row<'a> = (&'a CellSummary, &'a PhaseFunctions, &'a FunctionRow);

/// The cells that a sampling profiler was asked for, each with its functions.
pub fn cells(summary: &Summary) -> impl Iterator<Item = (&CellSummary, &CellFunctions)> {
    let of = |seen: &CellFunctions| summary.cells.iter().find(|cell| cell.cell == seen.cell);
    summary.functions.iter().filter_map(move |seen| Some((of(seen)?, seen)))
}

/// The rows of a phase of a cell.
pub fn rows<'a>(cell: &'a CellSummary, phase: &'a PhaseFunctions) -> impl Iterator<Item = Row<'a>> {
    phase.functions.iter().map(move |row| (cell, phase, row))
}

/// What the figures of a phase rest on, or why it has none.
pub fn sampled(phase: &PhaseFunctions) -> String {
    match phase.too_few() {
        Some(samples) => format!("too few samples ({samples}): make the run longer"),
        None => phase.sampled.clone(),
    }
}

/// The page has one table for each phase; Markdown has one for all.
pub fn table<'a>(name: impl Into<String>, rows: impl Iterator<Item = Row<'a>>) -> Table<Row<'a>> {
    let percent = |value: f64| format!("{value:.1} %");
    Table::of(name, rows)
        .text("cell", |row| row.0.name())
        .only(MARKDOWN)
        .text("phase", |row| row.1.name())
        .only(MARKDOWN)
        .head("function", |row| Cell::from(&row.2.function).code())
        .number("self", |row| percent(row.2.self_percent))
        .number("total", |row| percent(row.2.total_percent))
        .number("self", |row| row.2.self_ms_per_token.map(ms))
        .unit("ms/token")
        .number("total", |row| row.2.total_ms_per_token.map(ms))
        .unit("ms/token")
        .only(HTML)
}

/// Milliseconds with about three significant digits.
fn ms(ms: f64) -> String {
    match ms {
        ms if ms >= 100.0 => format!("{ms:.0}"),
        ms if ms >= 1.0 => format!("{ms:.2}"),
        ms => format!("{ms:.4}"),
    }
}
