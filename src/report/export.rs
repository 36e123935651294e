//! The summary for other programs: JSON and CSV.

use super::summary::{CellSummary, Summary, Tokens, TurnSummary};
use super::turns;
use crate::record::metric;
use inferometer_stats::robust;

const COLUMNS: [&str; 18] = [
    "run",
    "cell",
    "label",
    "engine",
    "series",
    "length",
    "prompt_tokens",
    "metric",
    "unit",
    "n",
    "median",
    "lo",
    "hi",
    "confidence",
    "mad",
    "min",
    "max",
    "turn",
];

/// A row for every cell and metric, empty where not measured; then, for a conversation, for every turn and metric, its
/// counts of tokens among them.
///
/// # Panics
/// Never: writing to memory does not fail.
#[must_use]
pub fn csv(summary: &Summary) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |fields: Vec<String>| writer.write_record(fields).expect("every row has as many fields");
    write(COLUMNS.iter().map(|c| (*c).to_owned()).collect());
    for cell in &summary.cells {
        for metric in metric::METRICS.iter().chain([&metric::LOAD]) {
            let figures = cell.metric(metric.key);
            write(row(summary, cell, None, (metric.key, metric.unit.symbol()), figures));
        }
    }
    for cell in turns::cells(summary) {
        for turn in &cell.turns {
            for (key, tokens) in counts(turn) {
                // Of counts the ends are known, and the median where they are one.
                let mut fields = row(summary, cell, Some(turn), (key, "tokens"), None);
                if let Some(Tokens { least, most }) = tokens {
                    fields[9] = turn.n.to_string();
                    fields[10] = if least == most { least.to_string() } else { String::new() };
                    (fields[15], fields[16]) = (least.to_string(), most.to_string());
                }
                write(fields);
            }
            for metric in metric::METRICS {
                let figures = turn.metric(metric.key);
                write(row(summary, cell, Some(turn), (metric.key, metric.unit.symbol()), figures));
            }
        }
    }
    let bytes = writer.into_inner().expect("memory takes every byte");
    String::from_utf8(bytes).expect("fields are UTF-8")
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

/// A row of a metric, given as key and unit, in the order of [`COLUMNS`].
fn row(
    summary: &Summary,
    cell: &CellSummary,
    turn: Option<&TurnSummary>,
    (key, unit): (&str, &str),
    figures: Option<&robust::Summary>,
) -> Vec<String> {
    let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    let count = |value: Option<u32>| value.map(|v| v.to_string()).unwrap_or_default();
    let same = turn.and_then(|t| t.prompt_tokens).filter(|n| n.least == n.most).map(|n| n.least);
    let interval = figures.and_then(|s| s.interval);
    vec![
        summary.run.name.clone(),
        cell.cell.to_string(),
        cell.label.clone(),
        cell.engine.clone(),
        cell.series.clone(),
        count(cell.length),
        count(if turn.is_some() { same } else { cell.prompt_tokens }),
        key.to_owned(),
        unit.to_owned(),
        figures.map_or(0, |s| s.n).to_string(),
        number(figures.map(|s| s.median)),
        number(interval.map(|i| i.lo)),
        number(interval.map(|i| i.hi)),
        number(interval.map(|i| i.confidence)),
        number(figures.map(|s| s.mad)),
        number(figures.map(|s| s.min)),
        number(figures.map(|s| s.max)),
        count(turn.map(|t| t.turn)),
    ]
}
