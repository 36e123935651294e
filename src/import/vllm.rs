//! `vllm bench serve --save-result`: one JSON object, or several that `--append-result` wrote below
//! each other. Only `--save-detailed` has the requests.
//!
//! Source: vLLM, `vllm/benchmarks/serve.py`.

use serde_json::Value as Json;

use super::json::Node;
use super::{Fault, Found, FoundCell, sample, setting};
use crate::record::metric::{E2E_MS, TTFT_MS};
use crate::record::{AverageOf, Cause, Fault as Failure, RequestRow};
use inferometer_protocol::Value;
use inferometer_stats::robust;

const SETTINGS: [&str; 6] =
    ["backend", "request_rate", "burstiness", "max_concurrency", "num_prompts", "ramp_up_strategy"];
/// Our metric and the tool's name for it. Its percentiles of gaps are over the gaps of all requests
/// together, ours are of each request.
const AVERAGES: [(&str, &str); 3] = [(TTFT_MS, "ttft"), ("tpot_ms", "tpot"), (E2E_MS, "e2el")];

pub(super) fn runs(values: &[(u64, Json)]) -> Result<Vec<Found>, Fault> {
    let several = values.len() > 1;
    let place = |line: &u64| if several { format!("line {line}") } else { String::new() };
    values.iter().map(|(line, value)| run(&Node::root(value, &place(line)))).collect()
}

fn run(result: &Node<'_>) -> Result<Found, Fault> {
    let mut cell = FoundCell { rows: requests(result)?, ..FoundCell::default() };
    for name in SETTINGS {
        match result.get(name).map(|node| node.value) {
            Some(Json::Number(number)) if number.as_i64().is_none() => {
                cell.settings.insert(name.to_owned(), Value::Float(number.as_f64().unwrap_or_default()));
            }
            Some(value) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                cell.settings.insert(name.to_owned(), setting(&text));
            }
            None => {}
        }
    }
    let shown = ["request_rate", "max_concurrency"];
    let words = shown.iter().filter_map(|name| Some(format!("{name}={}", cell.settings.get(*name)?)));
    cell.label = words.collect::<Vec<_>>().join(" ");
    if cell.rows.is_empty() {
        averages(result, &mut cell)?;
    }
    let left_out = "the rates of the whole run (such as output_throughput) have no counterpart here and are left out";
    Ok(Found {
        engine: "server",
        model: result.text("model_id"),
        started: result.text("date").as_deref().and_then(date),
        cells: vec![cell],
        warnings: vec![left_out.to_owned()],
        ..Found::default()
    })
}

/// `20261122-110500`, in the local time of a machine that the file does not name: as if UTC.
fn date(text: &str) -> Option<jiff::Timestamp> {
    let at = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", text).ok()?;
    at.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

fn averages(result: &Node<'_>, cell: &mut FoundCell) -> Result<(), Fault> {
    let over = result.count_at("completed")?.map(u64::from);
    for (metric, name) in AVERAGES {
        let value = |of: &str| result.positive_at(&format!("{of}_{name}_ms"));
        let deviation = value("std").ok().flatten();
        match (value("median")?, value("mean")?) {
            (Some(median), _) => cell.average(metric, median, AverageOf::Median, over, deviation),
            (None, Some(mean)) => cell.average(metric, mean, AverageOf::Mean, over, deviation),
            (None, None) => {}
        }
    }
    Ok(())
}

/// The requests of a detailed result; empty without.
fn requests(result: &Node<'_>) -> Result<Vec<RequestRow>, Fault> {
    let Some(ttfts) = result.list("ttfts")? else { return Ok(Vec::new()) };
    let lists = ["input_lens", "output_lens", "itls", "latencies", "errors"];
    let mut columns = Vec::new();
    for name in lists {
        let column = result.list(name)?;
        if let Some(found) = column.as_ref().filter(|found| found.len() != ttfts.len()) {
            return Err(result.fault(format!("{} in {name}, but {} in ttfts", found.len(), ttfts.len())));
        }
        columns.push(column);
    }
    let at = |column: usize, request: usize| columns[column].as_ref().map(|items| &items[request]);
    (0..ttfts.len())
        .map(|i| {
            let mut row = sample();
            row.prompt_tokens = at(0, i).map(Node::count).transpose()?;
            row.counted_tokens = at(1, i).map(Node::count).transpose()?;
            if let Some(error) = at(4, i).and_then(|node| node.value.as_str()).filter(|error| !error.is_empty()) {
                let reason = error.lines().next_back().unwrap_or_default().chars().take(200).collect::<String>();
                row.mark(&Failure::new(Cause::Server, reason));
                return Ok(row);
            }
            row.ttft_ms = Some(ttfts[i].positive()? * 1e3);
            row.e2e_ms = at(3, i).map(Node::positive).transpose()?.map(|seconds| seconds * 1e3);
            let gaps = at(2, i).map(Node::items).transpose()?.unwrap_or_default();
            let gaps: Vec<f64> = gaps.iter().map(Node::number).collect::<Result<_, _>>()?;
            add_gaps(&mut row, &gaps);
            Ok(row)
        })
        .collect()
}

/// Gaps between chunks, in seconds. They are gaps between tokens only if each chunk was one token.
fn add_gaps(row: &mut RequestRow, gaps: &[f64]) {
    let Some(tokens) = row.counted_tokens.filter(|tokens| *tokens > 1) else { return };
    let seconds: f64 = gaps.iter().sum();
    if gaps.is_empty() || seconds <= 0.0 {
        return;
    }
    let count = f64::from(tokens - 1);
    row.decode_ms = Some(seconds * 1e3);
    row.decode_tps = Some(count / seconds);
    row.tpot_ms = Some(seconds * 1e3 / count);
    if gaps.len() == (tokens - 1) as usize {
        let sorted = robust::sorted(gaps);
        let quantile = |q: f64| robust::quantile(&sorted, q).map(|seconds| seconds * 1e3);
        (row.itl_p50_ms, row.itl_p95_ms, row.itl_p99_ms) = (quantile(0.5), quantile(0.95), quantile(0.99));
        row.itl_max_ms = quantile(1.0);
    }
}
