//! The table of cells under load, and what to say about them.

use super::charts::Group;
use super::figures;
use super::figures::LABEL_WIDTH;
use super::summary::{CellSummary, Determinism, Summary, TrafficSummary};
use super::svg::load::{self, Curve, Point};
use super::table::{Cell, HTML, MARKDOWN, TERMINAL, Table};
use super::text::{label, valid};
use crate::record::metric;
use crate::spec::Level;
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
        .chain(["ttft_p50_ms", "ttft_p95_ms", "ttft_p99_ms", "tpot_p95_ms"])
        .chain(["e2e_p50_ms", "e2e_p95_ms", "e2e_p99_ms"])
        .fold(table, |table, key| figure(table, key).only(MARKDOWN | HTML));
    let has = |key: &str| summary.cells.iter().any(|cell| cell.metric(key).is_some());
    let queue = "queue_p95_ms";
    let table = if has(queue) { figure(table, queue).only(MARKDOWN | HTML) } else { table };
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

/// The cells that differ in the level alone, in its order: closed and open loops apart.
fn curves(summary: &Summary) -> Vec<(String, Vec<Row<'_>>)> {
    let several = summary.run.engines.len() > 1;
    let mut curves: Vec<(String, Vec<Row<'_>>)> = Vec::new();
    for (cell, traffic) in cells(summary) {
        let kind = match traffic.level {
            Level::Sessions(_) => "closed loop",
            Level::PerSecond(_) => "open loop",
        };
        // Lengths and toggles have curves of their own.
        let own = label(cell.name()).replace(&traffic.level.to_string(), "");
        let own = own.trim();
        let name = match (several || !own.is_empty(), own.is_empty()) {
            (false, _) => kind.to_owned(),
            (true, true) => format!("{}, {kind}", label(&cell.engine)),
            (true, false) => format!("{own}, {kind}"),
        };
        match curves.iter_mut().find(|(known, _)| *known == name) {
            Some((_, rows)) => rows.push((cell, traffic)),
            None => curves.push((name, vec![(cell, traffic)])),
        }
    }
    curves
}

/// Throughput against latency; empty without load.
#[must_use]
pub fn charts(summary: &Summary) -> Group {
    let mut group = Group::default();
    if cells(summary).next().is_none() {
        return group;
    }
    let point = |(cell, traffic): &Row<'_>| {
        let value = |key| cell.metric(key).map(|figures| figures.median);
        Some(Point {
            label: traffic.level.to_string(),
            rate: value(metric::REQUESTS_PER_S)?,
            latency_ms: value("e2e_p95_ms")?,
            grows: traffic.grows_ms_per_s.is_some(),
        })
    };
    let drawn = |(label, rows): (String, Vec<Row<'_>>)| {
        let points: Vec<Point> = rows.iter().filter_map(point).collect();
        (!points.is_empty()).then_some(Curve { label, points })
    };
    let curves: Vec<Curve> = curves(summary).into_iter().filter_map(drawn).collect();
    if curves.is_empty() {
        group.notes.push("Not drawn: no level has a valid iteration.".to_owned());
        return group;
    }
    group.charts.push(load::draw("load", "Throughput against latency", &curves));
    group.notes.push(
        "Better is down and to the right. In an open loop that the engine does not keep up with, latency grows for as \
         long as requests come; a closed loop slows its requests down instead, and its latency stays."
            .to_owned(),
    );
    group
}

/// What the table means; `None` without load.
#[must_use]
pub fn note(summary: &Summary) -> Option<&'static str> {
    cells(summary).next().map(|_| {
        "an iteration is many requests; times count from the intended start of each, waiting included; the decode rate is \
         that of a single request"
    })
}

/// What stands out.
#[must_use]
pub fn findings(summary: &Summary) -> Vec<String> {
    let behind = |(cell, traffic): (&CellSummary, &TrafficSummary)| {
        Some(format!(
            "{}: the engine does not keep up: a request takes {} ms longer for each second that it comes later",
            label(cell.name()),
            significant(traffic.grows_ms_per_s?)
        ))
    };
    let failed = |(cell, traffic): (&CellSummary, &TrafficSummary)| {
        let (failed, all) = (traffic.failed, traffic.requests);
        let told =
            || format!("{}: {failed} of {all} requests failed; their times are in no figure", label(cell.name()));
        (failed > 0).then(told)
    };
    let knees = curves(summary).into_iter().filter_map(|(name, rows)| knee(&name, &rows));
    cells(summary).filter_map(failed).chain(cells(summary).filter_map(behind)).chain(knees).collect()
}

/// The level of a curve with the highest power, throughput over latency (Kleinrock 1979): beyond it
/// a higher load costs more time than it brings requests. `None` where that is the lowest or the
/// highest level, or where requests failed or waited longer and longer.
fn knee(curve: &str, rows: &[Row<'_>]) -> Option<String> {
    let power = |(cell, traffic): &Row<'_>| {
        let value = |key| cell.metric(key).map(|figures| figures.median);
        let steady = traffic.failed == 0 && traffic.grows_ms_per_s.is_none();
        Some(value(metric::REQUESTS_PER_S)? / value("e2e_p50_ms").filter(|ms| *ms > 0.0 && steady)?)
    };
    let mut powers: Vec<(&Row<'_>, f64)> = rows.iter().filter_map(|row| Some((row, power(row)?))).collect();
    powers.sort_by(|a, b| a.0.1.level.number().total_cmp(&b.0.1.level.number()));
    let best = powers.iter().enumerate().max_by(|a, b| a.1.1.total_cmp(&b.1.1)).map(|(at, _)| at)?;
    if best == 0 || best + 1 == powers.len() && powers.len() == rows.len() {
        return None;
    }
    Some(format!(
        "{curve}: the knee is at {}, the level with the most requests per second for its time to the last token",
        powers[best].0.1.level
    ))
}
