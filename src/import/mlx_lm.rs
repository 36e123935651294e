//! What `mlx_lm.benchmark` prints: a line for each trial, rounded to three decimals.
//!
//! `prompt_tps` is the whole prompt over the time to the first token, `generation_tps` the tokens
//! over the time after it; with a batch both are sums over it. Memory is in units of 10⁹ bytes.
//!
//! Source: mlx-lm, `mlx_lm/benchmark.py`.

use super::{Fault, Found, FoundCell, sample};
use crate::record::AverageOf;
use crate::record::metric::{DECODE_TPS, PREFILL_TPS};
use inferometer_protocol::Value;

pub(super) fn runs(text: &str) -> Result<Vec<Found>, Fault> {
    let mut cells: Vec<FoundCell> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Timing with ") {
            cells.push(begin(number, rest.trim_end_matches('.'))?);
        } else if let Some((_, rest)) = line.strip_prefix("Trial ").and_then(|rest| rest.split_once(':')) {
            let figures = figures(number, rest)?;
            let cell = current(&mut cells);
            let figure = |key: &str| figures.iter().find(|(name, _)| name == key).map(|(_, value)| *value);
            let one = |cell: &FoundCell| cell.settings.get("batch_size").is_none_or(|size| *size == Value::Int(1));
            let tokens = |key: &str| cell.settings.get(key).and_then(Value::as_count).and_then(|n| n.try_into().ok());
            let mut row = sample();
            row.prompt_tokens = tokens("prompt_tokens").filter(|_| one(cell));
            row.prefill_tokens = row.prompt_tokens;
            row.counted_tokens = tokens("generation_tokens").filter(|_| one(cell));
            row.prefill_tps = figure("prompt_tps");
            row.decode_tps = figure("generation_tps");
            row.e2e_ms = figure("total_time").map(|seconds| seconds * 1e3);
            row.engine_peak_bytes = figure("peak_memory").map(|gigabytes| (gigabytes * 1e9).round() as u64);
            cell.rows.push(row);
        } else if let Some(rest) = line.strip_prefix("Averages:") {
            let figures = figures(number, rest)?;
            let cell = current(&mut cells);
            // Trials say more.
            let wanted = [("prompt_tps", PREFILL_TPS), ("generation_tps", DECODE_TPS)];
            let wanted = if cell.rows.is_empty() { &wanted[..] } else { &[] };
            for &(name, metric) in wanted {
                if let Some((_, value)) = figures.iter().find(|(known, _)| known == name) {
                    cell.average(metric, *value, AverageOf::Mean, None, None);
                }
            }
        }
    }
    Ok(vec![Found { engine: "mlx-lm", cells, ..Found::default() }])
}

/// The cell of the last `Timing with`; without one, a cell of which nothing is known.
fn current(cells: &mut Vec<FoundCell>) -> &mut FoundCell {
    if cells.is_empty() {
        cells.push(FoundCell { label: "mlx-lm".to_owned(), ..FoundCell::default() });
    }
    cells.last_mut().expect("there is one")
}

/// `prompt_tokens=512, generation_tokens=1024, batch_size=1`.
fn begin(line: u64, text: &str) -> Result<FoundCell, Fault> {
    let mut cell = FoundCell::default();
    for (name, value) in figures(line, text)? {
        if value.fract() != 0.0 {
            return Err(Fault::line(line, format!("{name} is {value}, not a whole number")));
        }
        cell.settings.insert(name, Value::Int(value as i64));
    }
    let count = |key: &str| cell.settings.get(key).and_then(Value::as_count);
    cell.length = count("prompt_tokens").and_then(|n| n.try_into().ok());
    let words = [("prompt_tokens", "pp"), ("generation_tokens", "tg")];
    let parts = words.iter().filter_map(|(key, word)| Some(format!("{word}{}", count(key)?)));
    cell.label = parts.collect::<Vec<_>>().join("+");
    if let Some(size) = count("batch_size").filter(|size| *size != 1) {
        cell.label = format!("{} batch={size}", cell.label);
    }
    Ok(cell)
}

/// `name=number` pairs.
fn figures(line: u64, text: &str) -> Result<Vec<(String, f64)>, Fault> {
    let pair = |part: &str| {
        let (name, value) = part.trim().split_once('=')?;
        let value = value.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)?;
        Some((name.to_owned(), value))
    };
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    parts
        .map(|part| pair(part).ok_or_else(|| Fault::line(line, format!("`{}` is not NAME=NUMBER", part.trim()))))
        .collect()
}
