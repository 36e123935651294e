//! Conversations turn by turn: which columns tables show, and in them which turns.

use super::summary::{CellSummary, NOT_MEASURED, Summary, Tokens, TurnSummary};
use crate::record::metric;
use crate::record::metric::{DECODE_TPS, PREFILL_TPS, TTFT_MS};

/// Rows of the terminal's table, over all cells, as far as two a cell allow.
const MOST_ROWS: usize = 16;
/// Turns of a cell in the terminal's table.
const MOST_TURNS: usize = 8;

/// A column of a table of turns.
pub struct Column {
    /// Heading, in two lines.
    pub head: [&'static str; 2],
    /// What it says.
    pub meaning: &'static str,
    pub of: fn(&TurnSummary) -> String,
}

/// Every column after the turn's number.
pub const COLUMNS: [Column; 7] = [
    Column { head: ["prompt", "tokens"], meaning: "tokens of the whole prompt", of: |t| count(t.prompt_tokens) },
    Column { head: ["reused", "tokens"], meaning: "of these, taken from the KV cache", of: |t| count(t.reused_tokens) },
    Column { head: ["prefill", "tokens"], meaning: "of these, computed in this turn", of: |t| count(t.prefill_tokens) },
    Column {
        head: ["cache", "tokens"],
        meaning: "measured length of the KV cache after the turn",
        of: |t| count(t.cache_tokens),
    },
    Column { head: ["TTFT", "ms"], meaning: "request accepted to first token readable", of: |t| figure(t, TTFT_MS) },
    Column {
        head: ["prefill", "tok/s"],
        meaning: "prompt tokens computed / time in prefill",
        of: |t| figure(t, PREFILL_TPS),
    },
    Column {
        head: ["decode", "tok/s"],
        meaning: "(N-1) / time from first to last token",
        of: |t| figure(t, DECODE_TPS),
    },
];

fn count(tokens: Option<Tokens>) -> String {
    tokens.map_or_else(|| NOT_MEASURED.to_owned(), |n| n.to_string())
}

/// Median of a metric.
fn figure(turn: &TurnSummary, key: &str) -> String {
    match (metric::find(key), turn.metric(key)) {
        (Some(metric), Some(figures)) => metric.unit.number(figures.median),
        _ => NOT_MEASURED.to_owned(),
    }
}

/// The cells that have turns.
pub fn cells(summary: &Summary) -> impl Iterator<Item = &CellSummary> {
    summary.cells.iter().filter(|cell| !cell.turns.is_empty())
}

/// The turns that a short table shows, where `cells` have them: the first, the last, and some between.
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
        let row: Vec<String> = COLUMNS.iter().map(|column| (column.of)(&turns[0])).collect();
        assert_eq!(row[..3], ["7–9", "0", NOT_MEASURED]);
    }
}
