//! The figures of each turn of a conversation, over the iterations of its cell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::RequestRow;
use crate::record::metric::METRICS;
use inferometer_stats::robust;

/// One turn of a cell, over the cell's valid iterations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnSummary {
    /// From 0.
    pub turn: u32,
    /// Valid iterations that have it.
    pub n: usize,
    /// Tokens of the whole prompt. Like the other counts, null if not reported.
    pub prompt_tokens: Option<Tokens>,
    /// Of these, taken from the KV cache of the turns before.
    pub reused_tokens: Option<Tokens>,
    /// Of these, computed in this turn.
    pub prefill_tokens: Option<Tokens>,
    pub generated_tokens: Option<Tokens>,
    /// Measured length of the KV cache after the turn.
    pub cache_tokens: Option<Tokens>,
    /// The tokens' hash, if all iterations agree.
    pub token_hash: Option<String>,
    /// By metric key; null if not measured.
    pub metrics: BTreeMap<String, Option<robust::Summary>>,
}

/// A count over the iterations: equal in all of them, or from `least` to `most`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub least: u32,
    pub most: u32,
}

impl std::fmt::Display for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.least == self.most {
            true => write!(f, "{}", self.least),
            false => write!(f, "{}–{}", self.least, self.most),
        }
    }
}

impl TurnSummary {
    /// The metric's summary, if it was measured.
    #[must_use]
    pub fn metric(&self, key: &str) -> Option<&robust::Summary> {
        self.metrics.get(key)?.as_ref()
    }
}

/// Summarizes the valid rows of a conversation's cell, turn by turn.
#[must_use]
pub fn turns(valid: &[&RequestRow]) -> Vec<TurnSummary> {
    let mut by_turn: BTreeMap<u32, Vec<&RequestRow>> = BTreeMap::new();
    for row in valid {
        by_turn.entry(row.turn).or_default().push(row);
    }
    by_turn.into_iter().map(|(turn, rows)| summarize(turn, &rows)).collect()
}

fn summarize(turn: u32, rows: &[&RequestRow]) -> TurnSummary {
    let count = |of: fn(&RequestRow) -> Option<u32>| -> Option<Tokens> {
        let values: Vec<u32> = rows.iter().filter_map(|row| of(row)).collect();
        Some(Tokens { least: *values.iter().min()?, most: *values.iter().max()? })
    };
    let first = rows.first().and_then(|row| row.token_hash.clone());
    TurnSummary {
        turn,
        n: rows.len(),
        prompt_tokens: count(|r| r.prompt_tokens),
        reused_tokens: count(|r| r.reused_tokens),
        prefill_tokens: count(|r| r.prefill_tokens),
        generated_tokens: count(|r| r.generated_tokens),
        cache_tokens: count(|r| r.cache_tokens),
        token_hash: first.filter(|hash| rows.iter().all(|row| row.token_hash.as_ref() == Some(hash))),
        metrics: METRICS
            .iter()
            .map(|metric| {
                let values: Vec<f64> = rows.iter().filter_map(|row| metric.of_iteration(&[row])).collect();
                (metric.key.to_owned(), robust::summarize(&values))
            })
            .collect(),
    }
}
