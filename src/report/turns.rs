//! The table of a conversation's turns, and which turns a short table shows.

use super::figures;
use super::figures::LABEL_WIDTH;
use super::summary::{CellSummary, Summary, Tokens, TurnSummary};
use super::table::Table;
use crate::record::metric;
use crate::record::metric::{DECODE_TPS, PREFILL_TPS, TTFT_MS};

/// Most rows of the terminal's table over all cells, but at least two for each cell.
const MOST_ROWS: usize = 16;
/// Most turns of a cell in the terminal's table.
const MOST_TURNS: usize = 8;

/// A turn of a cell.
pub type Row<'a> = (&'a CellSummary, &'a TurnSummary);

/// Every turn of the conversations.
#[must_use]
pub fn all(summary: &Summary) -> Table<Row<'_>> {
    table(cells(summary).flat_map(|cell| cell.turns.iter().map(move |turn| (cell, turn))))
}

/// As many turns of each conversation as fit in a terminal.
#[must_use]
pub fn some(summary: &Summary) -> Table<Row<'_>> {
    let count = cells(summary).count();
    table(cells(summary).flat_map(|cell| shown(&cell.turns, count).into_iter().map(move |turn| (cell, turn))))
}

fn table<'a>(rows: impl Iterator<Item = Row<'a>>) -> Table<Row<'a>> {
    let table = Table::of("Figures of each turn", rows)
        .group("cell", |row| row.0.cell, |row| row.0.name())
        .at_most(LABEL_WIDTH)
        .number("turn", |row| row.1.turn)
        .header()
        .number("prompt", |row| count(row.1.prompt_tokens))
        .unit("tokens")
        .meaning("tokens of the whole prompt")
        .number("reused", |row| count(row.1.reused_tokens))
        .unit("tokens")
        .meaning("of these, taken from the KV cache")
        .number("prefill", |row| count(row.1.prefill_tokens))
        .unit("tokens")
        .meaning("of these, computed in this turn")
        .number("cache", |row| count(row.1.cache_tokens))
        .unit("tokens")
        .meaning("measured length of the KV cache after the turn");
    [TTFT_MS, PREFILL_TPS, DECODE_TPS].into_iter().filter_map(metric::find).fold(table, |table, metric| {
        figures::column(table, metric, |row: &Row<'_>| figures::median(metric, row.1.metric(metric.key)))
    })
}

fn count(tokens: Option<Tokens>) -> Option<String> {
    tokens.map(|n| n.to_string())
}

/// The cells that have turns.
pub fn cells(summary: &Summary) -> impl Iterator<Item = &CellSummary> {
    summary.cells.iter().filter(|cell| !cell.turns.is_empty())
}

/// The turns that a short table shows if there are `cells` conversations: the first, the last, and
/// some between.
#[must_use]
pub fn shown(turns: &[TurnSummary], cells: usize) -> Vec<&TurnSummary> {
    let most = (MOST_ROWS / cells.max(1)).clamp(2, MOST_TURNS);
    if turns.len() <= most {
        return turns.iter().collect();
    }
    (0..most).map(|i| &turns[(i * (turns.len() - 1) + (most - 1) / 2) / (most - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_short_table_has_the_first_and_the_last_turn() {
        let turn = |turn| TurnSummary {
            turn,
            n: 1,
            prompt_tokens: Some(Tokens { least: 7, most: 9 }),
            reused_tokens: Some(Tokens { least: 0, most: 0 }),
            prefill_tokens: None,
            generated_tokens: None,
            cache_tokens: None,
            token_hash: None,
            metrics: BTreeMap::new(),
        };
        let turns: Vec<TurnSummary> = (0..20).map(turn).collect();
        let numbers = |cells| shown(&turns, cells).iter().map(|t| t.turn).collect::<Vec<_>>();
        assert_eq!(numbers(2), [0, 3, 5, 8, 11, 14, 16, 19]);
        assert_eq!(numbers(30), [0, 19]);
        assert_eq!(shown(&turns[..3], 1).len(), 3);
        assert_eq!(shown(&turns[..1], 9).len(), 1);
        assert_eq!(count(turns[0].prompt_tokens).as_deref(), Some("7–9"));
        assert_eq!((count(turns[0].reused_tokens).as_deref(), count(turns[0].cache_tokens)), (Some("0"), None));
    }
}
