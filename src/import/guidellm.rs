//! guidellm's JSON report: each benchmark is a cell, each successful request an iteration.
//!
//! Source: guidellm, `schemas/base/request_stats.py` and `benchmark/schemas`.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::json::Node;
use super::{Fault, Found, FoundCell, sample, setting};
use crate::record::metric::{E2E_MS, TTFT_MS};
use crate::record::{AverageOf, Cause, Fault as Failure, RequestRow};

pub(super) fn runs(report: &Json) -> Result<Vec<Found>, Fault> {
    let report = Node::root(report, "");
    let benchmarks = report.list("benchmarks")?.ok_or_else(|| report.fault("no list `benchmarks`"))?;
    let mut run = Found {
        version: report.get("metadata").and_then(|metadata| metadata.text("guidellm_version")),
        engine: "server",
        model: model(&report),
        ..Found::default()
    };
    for benchmark in &benchmarks {
        run.model = run.model.or_else(|| model(benchmark));
        run.started = [run.started, started(benchmark)].into_iter().flatten().min();
        run.cells.push(cell(benchmark)?);
    }
    Ok(vec![run])
}

/// The model, which stands in different places in different versions.
fn model(node: &Node<'_>) -> Option<String> {
    const PLACES: [&[&str]; 6] = [
        &["config", "spec", "backend"],
        &["config", "backend"],
        &["config", "backend_kwargs"],
        &["config"],
        &["args"],
        &["benchmarker"],
    ];
    PLACES.iter().find_map(|place| node.below(place)?.text("model"))
}

fn started(benchmark: &Node<'_>) -> Option<Timestamp> {
    let seconds = benchmark.get("start_time")?.positive().ok()?;
    Timestamp::from_microsecond((seconds * 1e6) as i64).ok()
}

fn cell(benchmark: &Node<'_>) -> Result<FoundCell, Fault> {
    let mut cell = FoundCell::default();
    let strategy = [&["config", "strategy"][..], &["args", "strategy"], &["scheduler", "strategy"]];
    if let Some(strategy) = strategy.iter().find_map(|place| benchmark.below(place)) {
        for (name, value) in strategy.value.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !value.is_null() && !value.is_object() && !value.is_array() {
                cell.settings.insert(format!("strategy_{}", name.trim_end_matches('_')), setting(&text));
            }
        }
    }
    const IN_NAME: [&str; 4] = ["strategy_type", "strategy_streams", "strategy_rate", "strategy_max_concurrency"];
    let words = IN_NAME.iter().filter_map(|name| {
        let value = cell.settings.get(*name)?;
        let short = name.trim_start_matches("strategy_");
        Some(if short == "type" { value.to_string() } else { format!("{short}={value}") })
    });
    cell.label = words.collect::<Vec<_>>().join(" ");
    if let Some(requests) = benchmark.get("requests") {
        for request in requests.list("successful")?.unwrap_or_default() {
            cell.rows.push(row(&request)?);
        }
        for request in requests.list("errored")?.unwrap_or_default() {
            let mut row = sample();
            let error = request.get("info").and_then(|info| info.text("error")).unwrap_or_default();
            row.mark(&Failure::new(Cause::Server, error.chars().take(200).collect::<String>()));
            cell.rows.push(row);
        }
    }
    if cell.rows.is_empty() {
        averages(benchmark, &mut cell)?;
    }
    Ok(cell)
}

fn row(request: &Node<'_>) -> Result<RequestRow, Fault> {
    let mut row = sample();
    row.prompt_tokens = request.count_at("prompt_tokens")?;
    row.counted_tokens = request.count_at("output_tokens")?;
    row.reused_tokens = request.count_at("cached_tokens")?;
    row.ttft_ms = request.positive_at("time_to_first_token_ms")?;
    row.e2e_ms = request.positive_at("request_latency")?.map(|seconds| seconds * 1e3);
    // From the first to the last token, over the tokens but one: our definition. It is 0 if all
    // tokens came in one chunk.
    let gap = request.get("inter_token_latency_ms").map(|node| node.number()).transpose()?.filter(|ms| *ms > 0.0);
    row.tpot_ms = gap;
    row.decode_tps = gap.map(|ms| 1e3 / ms);
    row.decode_ms = gap.zip(row.counted_tokens).map(|(ms, tokens)| ms * f64::from(tokens.saturating_sub(1)));
    Ok(row)
}

/// A report without requests: the medians over the successful ones.
fn averages(benchmark: &Node<'_>, cell: &mut FoundCell) -> Result<(), Fault> {
    let wanted = [
        (TTFT_MS, "time_to_first_token_ms", 1.0),
        ("tpot_ms", "inter_token_latency_ms", 1.0),
        (E2E_MS, "request_latency", 1e3),
    ];
    for (metric, name, size) in wanted {
        let Some(found) = benchmark.below(&["metrics", name, "successful"]) else { continue };
        let over = found.count_at("count")?.map(u64::from);
        let deviation = found.get("std_dev").map(|node| node.number()).transpose()?.map(|value| value * size);
        if let Some(median) = found.get("median").map(|node| node.number()).transpose()?.filter(|value| *value > 0.0) {
            cell.average(metric, median * size, AverageOf::Median, over, deviation);
        }
    }
    Ok(())
}
