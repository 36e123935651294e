//! The table of cells under load, and what to say about them.

use super::figures;
use super::figures::LABEL_WIDTH;
use super::summary::{CellSummary, Determinism, Summary, TrafficSummary};
use super::table::{Cell, HTML, MARKDOWN, TERMINAL, Table};
use super::text::{label, valid};
use crate::record::metric;
use inferometer_protocol::units::significant;

/// The cells under load.
pub fn cells(summary: &Summary) -> impl Iterator<Item = (&CellSummary, &TrafficSummary)> {
    summary.cells.iter().filter_map(|cell| Some((cell, cell.traffic.as_ref()?)))
}

type Row<'a> = (&'a CellSummary, &'a TrafficSummary);

/// The median of a metric, or the grade of token times that are not verified.
fn median(cell: &CellSummary, key: &str) -> Option<String> {
    let metric = metric::find(key)?;
    if metric.is_token_time && cell.unverified().is_some() {
        return cell.unverified().map(|timing| timing.name().to_owned());
    }
    cell.metric(key).map(|figures| metric.unit.number(figures.median))
}

fn figure<'a>(table: Table<Row<'a>>, key: &'static str) -> Table<Row<'a>> {
    let metric = metric::find(key).expect("a metric of the table");
    figures::column(table, metric, move |row: &Row<'a>| Cell::from(median(row.0, key)))
}

/// Rates and times of each level of load; empty without load.
#[must_use]
pub fn table(summary: &Summary) -> Table<Row<'_>> {
    let both = move |cell: &CellSummary, keys: [&str; 2]| match keys.map(|key| median(cell, key)) {
        [Some(one), Some(other)] if one == other => Some(one),
        [Some(one), Some(other)] => Some(format!("{one}/{other}")),
        _ => None,
    };
    let table = Table::of("Load", cells(summary))
        .head("cell", |row: &Row<'_>| row.0.name())
        .at_most(LABEL_WIDTH)
        .number("n", |row| valid(row.0.counts))
        .meaning("valid iterations; out of the planned ones if some are missing, failed or invalid")
        .number("requests\n1/s", move |row: &Row<'_>| median(row.0, "requests_per_s"))
        .only(TERMINAL)
        .number("tokens\n1/s", move |row: &Row<'_>| median(row.0, "total_tps"))
        .only(TERMINAL)
        .number("each\ntok/s", move |row: &Row<'_>| median(row.0, metric::DECODE_TPS))
        .only(TERMINAL)
        .number("TTFT ms\np50/p95", move |row: &Row<'_>| both(row.0, ["ttft_p50_ms", "ttft_p95_ms"]))
        .only(TERMINAL)
        .number("end ms\np50/p95", move |row: &Row<'_>| both(row.0, ["e2e_p50_ms", "e2e_p95_ms"]))
        .only(TERMINAL);
    let table = ["requests_per_s", "total_tps", metric::DECODE_TPS]
        .into_iter()
        .chain(["ttft_p50_ms", "ttft_p95_ms", "ttft_p99_ms", "tpot_p50_ms", "tpot_p95_ms", "tpot_p99_ms"])
        .chain(["e2e_p50_ms", "e2e_p95_ms", "e2e_p99_ms"])
        .fold(table, |table, key| figure(table, key).only(MARKDOWN | HTML));
    let has = |key: &str| summary.cells.iter().any(|cell| cell.metric(key).is_some());
    let table = if has("queue_p50_ms") {
        figure(figure(table, "queue_p50_ms").only(MARKDOWN | HTML), "queue_p95_ms").only(MARKDOWN | HTML)
    } else {
        table
    };
    let table = if has("good_per_s") { figure(table, "good_per_s") } else { table };
    let table = if cells(summary).any(|(_, traffic)| traffic.failed > 0) {
        table
            .number("failed", |row: &Row<'_>| Cell::from(row.1.failed).alarm(row.1.failed > 0))
            .meaning("requests that failed, of all iterations; their times are in no figure")
    } else {
        table
    };
    table.number("same\ntokens", |row: &Row<'_>| {
        Cell::from(row.0.deterministic()).alarm(row.0.determinism == Determinism::Nondeterministic)
    })
}

/// What the table means, and what stands out.
#[must_use]
pub fn notes(summary: &Summary) -> Vec<String> {
    let mut notes = Vec::new();
    if cells(summary).next().is_none() {
        return notes;
    }
    notes.push(
        "an iteration is many requests; times count from the intended start of each, waiting included; `each` is the decode \
         rate of a single request"
            .to_owned(),
    );
    for (cell, traffic) in cells(summary) {
        let name = label(cell.name());
        if let Some(grows) = traffic.grows_ms_per_s {
            let shown = match (traffic.e2e_p95_from_sending_ms, cell.metric("e2e_p95_ms")) {
                (Some(sending), Some(all)) if all.median > 1.1 * sending => format!(
                    "; counted from sending, its p95 would be {} ms instead of {} ms",
                    significant(sending),
                    significant(all.median)
                ),
                _ => String::new(),
            };
            notes.push(format!(
                "{name}: the engine does not keep up: a request takes {} ms longer for each second that it comes later{shown}",
                significant(grows)
            ));
        }
    }
    notes.extend(knee(summary));
    notes
}

/// The level with the highest power, throughput over latency (Kleinrock 1979): beyond it a higher
/// load costs more time than it brings requests.
fn knee(summary: &Summary) -> Option<String> {
    let power = |cell: &CellSummary| {
        let value = |key| cell.metric(key).map(|figures| figures.median);
        Some(value("requests_per_s")? / value("e2e_p50_ms").filter(|ms| *ms > 0.0)?)
    };
    let mut engines: Vec<&str> = cells(summary).map(|(cell, _)| cell.engine.as_str()).collect();
    engines.dedup();
    let [_] = engines.as_slice() else { return None };
    let powers: Vec<(&CellSummary, f64)> = cells(summary).filter_map(|(cell, _)| Some((cell, power(cell)?))).collect();
    let (best, _) = powers.iter().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|_| powers.len() >= 3)?;
    Some(format!(
        "knee: {} has the most requests per second for its time to the last token (throughput over median latency)",
        label(best.name())
    ))
}
