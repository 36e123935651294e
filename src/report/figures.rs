//! The tables of a run's figures: the headline metrics of each cell, and every metric.

use std::path::Path;

use super::quality;
use super::summary::{CellSummary, Determinism, NOT_MEASURED, Rejected, Summary};
use super::table::{Cell, HTML, MARKDOWN, TERMINAL, Table};
use super::text::{label, lower, valid};
use crate::record::metric;
use crate::record::metric::{
    ACCEPTANCE_RATE, ACCEPTED_LENGTH, DECODE_TPS, E2E_MS, ITL_P50_MS, ITL_P99_MS, Metric, PREFILL_TPS, TOKENS_PER_PASS,
    TTFT_MS,
};
use inferometer_protocol::Value;
use inferometer_protocol::toggle::{DRAFT_MODEL, LOOKUP_NGRAM, NO_DRAFT_MODEL};
use inferometer_protocol::units::significant;
use inferometer_stats::robust;

/// Widest column of labels in the terminal that leaves room for the figures.
pub const LABEL_WIDTH: u16 = 16;

/// Adds a column with the metric's name over its unit; the terminal breaks the name after its first
/// word.
pub fn column<R, C: Into<Cell>>(table: Table<R>, metric: &Metric, of: impl Fn(&R) -> C) -> Table<R> {
    table.number(lower(metric.title).replacen(' ', "\n", 1), of).unit(unit(metric)).meaning(metric.meaning)
}

/// The unit, empty if the figures include it.
#[must_use]
pub fn unit(metric: &Metric) -> &'static str {
    if metric.unit.is_in_number() { "" } else { metric.unit.symbol() }
}

#[must_use]
pub fn median(metric: &Metric, figures: Option<&robust::Summary>) -> Cell {
    figures.map(|f| metric.unit.number(f.median)).into()
}

/// The interval in brackets; `None` if there is none.
#[must_use]
pub fn interval(metric: &Metric, figures: Option<&robust::Summary>) -> Option<String> {
    range(metric, figures).map(|(lo, hi)| format!("[{lo}, {hi}]"))
}

fn range(metric: &Metric, figures: Option<&robust::Summary>) -> Option<(String, String)> {
    figures.and_then(|f| f.interval).map(|i| metric.unit.range(i.lo, i.hi))
}

/// The headline metrics, one row for each cell.
#[must_use]
pub fn headlines(summary: &Summary) -> Table<&CellSummary> {
    let figure = |table, key| {
        let metric = metric::find(key).expect("headlines are metrics");
        let of = |cell: &&CellSummary| cell.metric(key).copied();
        column(table, metric, |cell: &&CellSummary| match cell.unverified().filter(|_| metric.is_token_time) {
            Some(timing) => Cell::from(timing.name()),
            None => median(metric, of(cell).as_ref()).range(range(metric, of(cell).as_ref())),
        })
    };
    let digits = |cell: &CellSummary, key| cell.metric(key).map_or(NOT_MEASURED.to_owned(), |f| significant(f.median));
    let both = |cell: &CellSummary| match [ITL_P50_MS, ITL_P99_MS].map(|key| digits(cell, key)) {
        [p50, p99] if p50 == NOT_MEASURED && p99 == NOT_MEASURED => p50,
        [p50, p99] => format!("{p50}/{p99}"),
    };
    let gaps = |cell: &&CellSummary| match cell.unverified() {
        Some(timing) => timing.name().to_owned(),
        None => both(cell),
    };
    let table = Table::of("Figures of each cell", &summary.cells)
        .roomy()
        .head("cell", |cell| cell.name())
        .at_most(LABEL_WIDTH)
        .number("n", |cell| valid(cell.counts))
        .meaning("valid iterations; out of the planned ones if some are missing, failed or invalid");
    let table = figure(figure(table, PREFILL_TPS), DECODE_TPS);
    let table = figure(table, TTFT_MS).narrow().number("ITL ms\np50/p99", gaps).only(TERMINAL);
    let table = figure(table, ITL_P50_MS).only(MARKDOWN | HTML);
    let table = figure(table, ITL_P99_MS).only(MARKDOWN | HTML);
    // The harness checks the time of the whole request in any case.
    let unverified = summary.cells.iter().any(|cell| cell.unverified().is_some());
    let table = if unverified { figure(table, E2E_MS) } else { table };
    let table = if speculating(summary).is_some() { with_drafts(table, figure) } else { table };
    let unjudged = |cell: &CellSummary| match (cell.unjudged, cell.counts.ok) {
        (0, _) => None,
        (n, ok) if n == ok => Some("unjudged".to_owned()),
        (n, ok) => Some(format!("{n} of {ok} unjudged")),
    };
    let table = if summary.cells.iter().any(|cell| cell.unjudged > 0) {
        let note = move |cell: &&CellSummary| unjudged(cell).map(|told| format!("load by other programs: {told}"));
        let table = table.text("load", note).beneath().only(TERMINAL);
        table
            .text("load", move |cell| unjudged(cell).unwrap_or_else(|| "judged".to_owned()))
            .only(MARKDOWN | HTML)
            .meaning("whether it is known that other programs did not slow the iterations down")
    } else {
        table
    };
    let peak = metric::peak_memory(|key| summary.cells.iter().any(|cell| cell.metric(key).is_some()));
    let table = figure(table, peak).narrow().number("same\ntokens", |cell| {
        Cell::from(cell.deterministic()).alarm(cell.determinism == Determinism::Nondeterministic)
    });
    quality::column(table, summary)
}

/// A sentence about the cells in which passes of speculative decoding gave several tokens; `None`
/// without such cells.
#[must_use]
pub fn speculating(summary: &Summary) -> Option<&'static str> {
    summary.cells.iter().any(|cell| cell.metric(TOKENS_PER_PASS).is_some()).then_some(
        "with speculative decoding, the tokens of one pass come together: decode is the rate over the whole generation, \
         and there is no time between single tokens",
    )
}

/// What drafted a cell's tokens, by its effective settings: the look-up comes first.
fn drafted_by(cell: &CellSummary) -> Option<String> {
    cell.metric(TOKENS_PER_PASS)?;
    let used = |name: &str| cell.settings.iter().find(|row| row.name == name)?.effective.first();
    match used(LOOKUP_NGRAM).and_then(Value::as_count) {
        Some(ngram) if ngram > 0 => Some(format!("look-up of {ngram}")),
        _ => {
            let path = used(DRAFT_MODEL).and_then(Value::as_text).filter(|path| *path != NO_DRAFT_MODEL)?;
            let name = Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy());
            Some(format!("draft model {}", label(&name)))
        }
    }
}

/// How much of the drafts was accepted: columns, or in the terminal a line beneath the cell.
fn with_drafts<'a>(
    mut table: Table<&'a CellSummary>,
    figure: impl Fn(Table<&'a CellSummary>, &'static str) -> Table<&'a CellSummary>,
) -> Table<&'a CellSummary> {
    let told = |cell: &&CellSummary| {
        let [rate, length, tokens] = [ACCEPTANCE_RATE, ACCEPTED_LENGTH, TOKENS_PER_PASS].map(|key| cell.metric(key));
        let accepted = match rate.zip(length) {
            Some((rate, length)) => {
                format!(
                    "{} of the drafted tokens accepted, {} a draft",
                    significant(rate.median),
                    significant(length.median)
                )
            }
            None => "nothing was drafted".to_owned(),
        };
        let by = drafted_by(cell).map_or_else(String::new, |by| format!(" by {by}"));
        tokens
            .map(|tokens| format!("speculative decoding{by}: {accepted}; {} tokens a pass", significant(tokens.median)))
    };
    table = table.text("drafts", told).beneath().only(TERMINAL);
    table = table.said("drafted by", |cell| drafted_by(cell)).only(MARKDOWN | HTML);
    [ACCEPTANCE_RATE, ACCEPTED_LENGTH, TOKENS_PER_PASS]
        .into_iter()
        .fold(table, |table, key| figure(table, key).only(MARKDOWN | HTML))
}

/// Rejected iterations shown for each cell.
const REJECTED: usize = 4;

/// A line for each cell with rejected iterations, and their values.
#[must_use]
pub fn rejected(summary: &Summary) -> Vec<String> {
    let value = |rejected: &Rejected| {
        let rates = [("prefill", rejected.prefill_tps), ("decode", rejected.decode_tps)];
        let rates = rates.into_iter().filter_map(|(name, rate)| Some(format!("{name} {} tok/s", significant(rate?))));
        format!("iteration {}: {}", rejected.iteration, rates.collect::<Vec<_>>().join(", "))
    };
    let cells = summary.cells.iter().filter(|cell| !cell.rejected.is_empty());
    cells
        .map(|cell| {
            let values: Vec<String> = cell.rejected.iter().take(REJECTED).map(value).collect();
            let more = match cell.rejected.len().saturating_sub(REJECTED) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            format!("{}: rejected, not counted: {}{more}", label(cell.name()), values.join("; "))
        })
        .collect()
}

/// These metrics in every cell.
#[must_use]
pub fn all<'a>(summary: &'a Summary, metrics: &[&'a Metric]) -> Table<(&'a CellSummary, &'a Metric)> {
    let rows = summary.cells.iter().flat_map(|cell| metrics.iter().map(move |metric| (cell, *metric)));
    let of = |(cell, metric): &(&'a CellSummary, &'a Metric)| cell.metric(metric.key);
    let number = |value: fn(&robust::Summary) -> Option<f64>| {
        move |row: &(&'a CellSummary, &'a Metric)| of(row).and_then(value).map(|value| row.1.unit.number(value))
    };
    Table::of("Every metric", rows)
        .group("cell", |row| row.0.cell, |row| row.0.name())
        .head("metric", |(_, metric)| Cell::from(metric.title).unit(unit(metric)).hint(metric.meaning))
        .number("n", |row| of(row).map_or(0, |figures| figures.n))
        .number("median", number(|f| Some(f.median)))
        .number("interval", |row| interval(row.1, of(row)))
        .number("MAD", number(|f| f.spread(|f| f.mad)))
        .number("min", number(|f| f.spread(|f| f.min)))
        .number("max", number(|f| f.spread(|f| f.max)))
}
