//! The summary for other programs: JSON and CSV.

use super::summary::{CellSummary, Summary, Tokens, TurnSummary};
use super::table::Table;
use super::turns;
use crate::record::metric;
use inferometer_stats::robust;
use inferometer_stats::robust::Interval;

/// A metric of a cell or of one of its turns, or a count of tokens of a turn.
struct Row<'a> {
    cell: &'a CellSummary,
    turn: Option<&'a TurnSummary>,
    metric: &'static str,
    unit: &'static str,
    figures: Option<&'a robust::Summary>,
    /// Least and most of a token count. Its median is known only if they are equal.
    tokens: Option<Tokens>,
    /// A figure of the quality pass.
    quality: Option<Scored>,
}

/// A figure of a scored text: number of tokens, the figure and its 95 % interval.
#[derive(Clone, Copy)]
struct Scored {
    tokens: usize,
    value: f64,
    interval: Option<Interval>,
}

/// A row for every cell and metric, empty where not measured. A conversation then has a row for
/// every turn and metric, and for every token count of a turn.
#[must_use]
pub fn csv(summary: &Summary) -> String {
    let of_cells = summary.cells.iter().flat_map(|cell| {
        let metrics = metric::METRICS.iter().chain([&metric::LOAD]);
        let metrics = metrics.map(move |one| row(cell, None, one.key, one.unit.symbol(), cell.metric(one.key)));
        metrics.chain(scored(cell))
    });
    let of_turns = turns::cells(summary).flat_map(|cell| cell.turns.iter().map(move |turn| (cell, turn)));
    let of_turns = of_turns.flat_map(|(cell, turn)| {
        let counts = counts(turn).map(|(key, tokens)| Row { tokens, ..row(cell, Some(turn), key, "tokens", None) });
        let metrics = metric::METRICS.iter();
        let metrics = metrics.map(move |one| row(cell, Some(turn), one.key, one.unit.symbol(), turn.metric(one.key)));
        counts.into_iter().chain(metrics)
    });
    let same = |tokens: Option<Tokens>| tokens.filter(|n| n.least == n.most).map(|n| n.least);
    let spread = |of: fn(&robust::Summary) -> f64, count: fn(Tokens) -> Option<u32>| {
        move |row: &Row<'_>| {
            row.figures.and_then(|figures| figures.spread(of)).or(row.tokens.and_then(count).map(f64::from))
        }
    };
    let median = |row: &Row<'_>| row.figures.map(|s| s.median).or_else(|| same(row.tokens).map(f64::from));
    let interval = |row: &Row<'_>| row.figures.map_or(row.quality.and_then(|of| of.interval), |of| of.interval);
    Table::of("", of_cells.chain(of_turns))
        .text("run", |_| &summary.run.name)
        .number("cell", |row| row.cell.cell)
        .text("label", |row| &row.cell.label)
        .text("engine", |row| &row.cell.engine)
        .text("series", |row| &row.cell.series)
        .number("length", |row| row.cell.length)
        .number("prompt_tokens", |row| row.turn.map_or(row.cell.prompt_tokens, |turn| same(turn.prompt_tokens)))
        .text("metric", |row| row.metric)
        .text("unit", |row| row.unit)
        .number("n", |row| count_of(row))
        .number("median", |row| row.quality.map(|of| of.value).or_else(|| median(row)))
        .number("lo", |row| interval(row).map(|i| i.lo))
        .number("hi", |row| interval(row).map(|i| i.hi))
        .number("confidence", |row| interval(row).map(|i| i.confidence))
        .number("mad", spread(|s| s.mad, |_| None))
        .number("min", spread(|s| s.min, |n| Some(n.least)))
        .number("max", spread(|s| s.max, |n| Some(n.most)))
        .number("turn", |row| row.turn.map(|turn| turn.turn))
        .csv()
}

/// Number of values behind a row.
fn count_of(row: &Row<'_>) -> usize {
    let of_turn = row.tokens.and(row.turn).map(|turn| turn.n);
    row.figures.map(|s| s.n).or(of_turn).or(row.quality.map(|of| of.tokens)).unwrap_or(0)
}

/// The figures of the quality pass; none without one.
fn scored(cell: &CellSummary) -> impl Iterator<Item = Row<'_>> {
    let found = cell.quality.as_ref().map(|quality| quality.perplexity);
    found.into_iter().flat_map(move |of| {
        let perplexity = of.map(|of| Scored { tokens: of.tokens, value: of.perplexity, interval: Some(of.interval) });
        let bits = of.and_then(|of| Some(Scored { tokens: of.tokens, value: of.bits_per_byte?, interval: None }));
        [("perplexity", "", perplexity), ("bits_per_byte", "bits", bits)]
            .map(|(metric, unit, quality)| Row { quality, ..row(cell, None, metric, unit, None) })
    })
}

fn row<'a>(
    cell: &'a CellSummary,
    turn: Option<&'a TurnSummary>,
    metric: &'static str,
    unit: &'static str,
    figures: Option<&'a robust::Summary>,
) -> Row<'a> {
    Row { cell, turn, metric, unit, figures, tokens: None, quality: None }
}

fn counts(turn: &TurnSummary) -> [(&'static str, Option<Tokens>); 5] {
    [
        ("prompt_tokens", turn.prompt_tokens),
        ("reused_tokens", turn.reused_tokens),
        ("prefill_tokens", turn.prefill_tokens),
        ("generated_tokens", turn.generated_tokens),
        ("cache_tokens", turn.cache_tokens),
    ]
}
