//! Which charts a run has, and the numbers in them. A chart without data is not drawn; a note says
//! why.

use std::collections::{BTreeMap, BTreeSet};

use super::summary::{CellSummary, Summary, TurnSummary};
use super::svg::latency::Gap;
use super::svg::rate::Across;
use super::svg::timeline::{Doing, Gauge, Panel, Shade, Timeline};
use super::svg::{self, Chart, iterations, latency, rate, timeline};
use super::{growth, text, tradeoff, traffic, turns};
use crate::record::metric;
use crate::record::metric::{DECODE_TPS, PREFILL_TPS, Unit};
use crate::record::{GaugeInfo, Record, RequestRow, Status, TelemetryRow, TokenIndex};
use inferometer_protocol::{Phase, TokenTiming};
use inferometer_stats::growth::Law;
use inferometer_stats::robust;

/// A page shows at most this many small charts of one kind.
const MOST_PANELS: usize = 24;
/// A close-up shows at most this many requests.
const CLOSE_UP: usize = 6;
/// More phases than this are not shaded: nobody could tell them apart.
const MOST_SHADES: usize = 1200;

/// Charts of one kind with their notes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub charts: Vec<Chart>,
    pub notes: Vec<String>,
}

/// Every chart of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charts {
    /// Latency, throughput and memory of several engines; empty for one.
    pub tradeoff: Group,
    /// Throughput against latency under load; empty without load.
    pub load: Group,
    pub rates: Group,
    /// Of a conversation; empty for prompts.
    pub turns: Group,
    pub iterations: Group,
    pub latency: Group,
    pub timeline: Group,
    /// The gauges that `timeline` leaves out.
    pub more_gauges: Group,
}

impl Charts {
    #[must_use]
    pub fn of(record: &Record, summary: &Summary) -> Self {
        let mut valid: BTreeMap<u32, Vec<&RequestRow>> = BTreeMap::new();
        for row in record.requests.iter().filter(|row| !row.warmup && row.status == Status::Ok) {
            valid.entry(row.cell).or_default().push(row);
        }
        Self {
            tradeoff: tradeoff::charts(summary),
            load: traffic::charts(summary),
            rates: rates(summary, &valid),
            turns: turn_by_turn(summary, &valid),
            iterations: every_iteration(record, summary, &valid),
            latency: along_the_generation(record, summary, &valid),
            timeline: over_time(record, summary),
            more_gauges: more_over_time(record, summary),
        }
    }

    /// All charts, in the page's order.
    pub fn all(&self) -> impl Iterator<Item = &Chart> {
        [
            &self.tradeoff,
            &self.load,
            &self.rates,
            &self.turns,
            &self.iterations,
            &self.latency,
            &self.timeline,
            &self.more_gauges,
        ]
        .into_iter()
        .flat_map(|group| &group.charts)
    }
}

type ByCell<'a> = BTreeMap<u32, Vec<&'a RequestRow>>;

fn rows<'m, 'a>(valid: &'m ByCell<'a>, cell: &CellSummary) -> &'m [&'a RequestRow] {
    valid.get(&cell.cell).map_or(&[], Vec::as_slice)
}

/// One value for each iteration.
fn values(rows: &[&RequestRow], key: &str) -> Vec<f64> {
    let metric = metric::find(key).expect("a metric of the table");
    metric::iterations(rows).filter_map(|turns| metric.of_iteration(turns)).collect()
}

fn rates(summary: &Summary, valid: &ByCell) -> Group {
    let mut group = Group::default();
    let peak = metric::peak_memory(|key| summary.cells.iter().any(|cell| cell.metric(key).is_some()));
    let charts = [
        ("decode-rate", "Decode rate", DECODE_TPS),
        ("prefill-rate", "Prefill rate", PREFILL_TPS),
        ("peak-memory", "Peak memory", peak),
    ];
    let mut missing: Vec<(String, Vec<String>)> = Vec::new();
    for (name, what, key) in charts {
        let mut series = series(summary, valid, key);
        let unit = readable_unit(&mut series, key);
        let lengths: BTreeSet<u32> = series.iter().flat_map(|s| s.points.iter().map(|p| p.at)).collect();
        let reason = match (lengths.len(), lengths.first()) {
            (0, _) | (_, None) => "no valid iteration has it".to_owned(),
            (1, Some(only)) => format!("only one prompt length was measured ({only} tokens)"),
            _ => {
                let title = format!("{what} against prompt length");
                group.charts.push(rate::draw(name, &title, unit, Across::Lengths, &series));
                continue;
            }
        };
        match missing.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, titles)) => titles.push(text::lower(what)),
            None => missing.push((reason, vec![text::lower(what)])),
        }
    }
    let told = |(reason, what): (String, Vec<String>)| {
        format!("Not drawn: {} against prompt length, because {reason}.", text::list(&what, 3))
    };
    group.notes.extend(missing.into_iter().map(told));
    let most = summary.cells.iter().map(|cell| &cell.series).collect::<BTreeSet<_>>().len();
    if !group.charts.is_empty() && most > svg::COLOURS {
        group.notes.push(format!("{most} series: colours repeat after {}, in the order of the legend.", svg::COLOURS));
    }
    if !group.charts.is_empty() {
        let dot = if turns::cells(summary).next().is_some() { "a turn of an iteration" } else { "an iteration" };
        group.notes.insert(
            0,
            format!("Each dot is {dot}. The line connects the medians; the bars are their intervals. Axes start at 0."),
        );
        if summary.growth.iter().any(|law| law.estimate.is_some()) {
            group.notes.push("The dashed line is the fitted growth law.".to_owned());
        }
    }
    group
}

/// The unit of a metric's axis; bytes become MiB or GiB.
fn readable_unit(series: &mut [rate::Series], key: &str) -> &'static str {
    let unit = metric::find(key).expect("a metric of the table").unit;
    if unit != Unit::Bytes {
        return unit.symbol();
    }
    let highest = series.iter().flat_map(|s| &s.points).map(|p| p.summary.max).fold(0.0, f64::max);
    let (factor, symbol) = readable("bytes", highest);
    for point in series.iter_mut().flat_map(|s| &mut s.points) {
        point.values.iter_mut().for_each(|value| *value /= factor);
        point.summary = robust::summarize(&point.values).unwrap_or(point.summary);
    }
    symbol
}

/// Each turn's time to first token, and the prompt tokens computed for it.
fn turn_by_turn(summary: &Summary, valid: &ByCell) -> Group {
    let mut group = Group::default();
    let charts: [(&str, &str, &str, Figure); 2] = [
        ("turn-ttft", "Time to first token, turn by turn", "ms", |r| r.ttft_ms.filter(|_| r.has_token_times())),
        ("turn-prefill", "Prompt tokens computed, turn by turn", "tokens", |r| r.prefill_tokens.map(f64::from)),
    ];
    for (name, title, unit, of) in charts {
        let series: Vec<rate::Series> = turns::cells(summary)
            .map(|cell| {
                let at = |turn: &TurnSummary| point(turn.turn, turn, rows(valid, cell), of);
                rate::Series {
                    label: cell.series.clone(),
                    points: cell.turns.iter().filter_map(at).collect(),
                    law: Vec::new(),
                }
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if !series.is_empty() {
            group.charts.push(rate::draw(name, title, unit, Across::Turns, &series));
        }
    }
    if !group.charts.is_empty() {
        let words = "Each dot is a turn of an iteration; the first turn is 0. Tokens reused from the KV cache are not computed.";
        group.notes.push(words.to_owned());
    }
    group
}

/// A figure of a request.
type Figure = fn(&RequestRow) -> Option<f64>;

/// A turn's values over the iterations, drawn at `at`.
fn point(at: u32, turn: &TurnSummary, rows: &[&RequestRow], of: Figure) -> Option<rate::Point> {
    let rows = rows.iter().filter(|row| row.turn == turn.turn);
    let values: Vec<f64> = rows.filter_map(|row| of(row)).filter(|v| v.is_finite()).collect();
    Some(rate::Point { at, summary: robust::summarize(&values)?, values })
}

fn series(summary: &Summary, valid: &ByCell, key: &str) -> Vec<rate::Series> {
    let mut all: Vec<rate::Series> = Vec::new();
    for cell in &summary.cells {
        let points = points(cell, rows(valid, cell), key);
        match all.iter_mut().find(|s| s.label == cell.series) {
            _ if points.is_empty() => {}
            Some(found) => found.points.extend(points),
            None => all.push(rate::Series { label: cell.series.clone(), points, law: Vec::new() }),
        }
    }
    for one in &mut all {
        one.points.sort_by_key(|p| p.at);
        one.law = match key {
            DECODE_TPS => growth::curve(summary, one, Law::Decode),
            PREFILL_TPS => growth::curve(summary, one, Law::Prefill),
            _ => Vec::new(),
        };
    }
    all
}

/// A cell's points by prompt length: one, or one for each turn.
fn points(cell: &CellSummary, rows: &[&RequestRow], key: &str) -> Vec<rate::Point> {
    if cell.turns.is_empty() {
        let at =
            |(at, figures): (u32, &robust::Summary)| rate::Point { at, values: values(rows, key), summary: *figures };
        return cell.prompt_length().zip(cell.metric(key)).map(at).into_iter().collect();
    }
    let of = metric::find(key).expect("a metric of the table").of;
    cell.turns.iter().filter_map(|turn| point(turn.prompt_tokens?.most, turn, rows, of)).collect()
}

fn every_iteration(record: &Record, summary: &Summary, valid: &ByCell) -> Group {
    let mut group = Group::default();
    let panels: Vec<iterations::Panel> =
        summary.cells.iter().filter_map(|cell| iterations_panel(record, cell, rows(valid, cell))).collect();
    if panels.is_empty() {
        group.notes.push("Not drawn: no valid iteration has a decode rate.".to_owned());
        return group;
    }
    let reach = panels
        .iter()
        .map(iterations::Panel::reach)
        .fold((0.0, 0.0), |all: (f64, f64), one| (all.0.min(one.0), all.1.max(one.1)));
    group.notes.push(
        "Decode rate of each iteration as its distance from the cell's median. All cells share one scale. The shaded \
         band is the interval of the median. A grey cross is a rejected (invalid) iteration, at the edge if it lies \
         beyond the scale. A coloured cross at the bottom is an iteration without a rate."
            .to_owned(),
    );
    group.notes.extend(not_shown(panels.len(), summary.cells.len()));
    group.charts = panels.iter().take(MOST_PANELS).map(|panel| iterations::draw(panel, reach)).collect();
    group
}

fn iterations_panel(record: &Record, cell: &CellSummary, rows: &[&RequestRow]) -> Option<iterations::Panel> {
    let (figures, decode) = (cell.metric(DECODE_TPS)?, metric::find(DECODE_TPS)?);
    let rejected: Vec<(u32, f64)> =
        cell.rejected.iter().filter_map(|rejected| Some((rejected.iteration, rejected.decode_tps?))).collect();
    let shown = |row: &&RequestRow| rejected.iter().any(|(iteration, _)| *iteration == row.iteration);
    let lost = record.requests.iter().filter(|r| r.cell == cell.cell && !r.warmup && r.status != Status::Ok);
    // Under load an iteration may have a rate although some of its requests failed.
    let has_rate = |row: &&RequestRow| rows.iter().any(|valid| valid.iteration == row.iteration);
    let lost = lost.filter(|row| !shown(row) && !has_rate(row)).map(|row| row.iteration).collect::<BTreeSet<_>>();
    let number = inferometer_protocol::units::significant;
    let interval = figures.interval.map(|i| format!("  [{}, {}]", number(i.lo), number(i.hi))).unwrap_or_default();
    Some(iterations::Panel {
        name: format!("iterations-{}", cell.cell),
        rejected,
        title: text::label(cell.name()),
        subtitle: format!("median {} tok/s{interval}", number(figures.median)),
        dots: metric::iterations(rows)
            .filter_map(|turns| Some((turns[0].iteration, decode.of_iteration(turns)?)))
            .collect(),
        lost: lost.into_iter().collect(),
        planned: cell.counts.planned as u32,
        summary: *figures,
    })
}

fn not_shown(drawn: usize, cells: usize) -> Option<String> {
    let shown = drawn.min(MOST_PANELS);
    match (drawn > MOST_PANELS, drawn < cells) {
        (true, _) => Some(format!("The first {shown} of {cells} cells are drawn; the record has all of them.")),
        (_, true) => Some(format!("Not drawn: {} without data.", text::plural(cells - drawn, "cell"))),
        _ => None,
    }
}

fn along_the_generation(record: &Record, summary: &Summary, valid: &ByCell) -> Group {
    let tokens = TokenIndex::new(&record.tokens);
    let mut group = Group::default();
    let mut panels = Vec::new();
    let (mut unverified, mut together) = (Vec::new(), Vec::new());
    for cell in &summary.cells {
        let engine = summary.run.engines.iter().find(|e| e.label == cell.engine);
        if cell.unverified().is_some() || engine.is_some_and(|e| e.token_timing == Some(TokenTiming::Inexact)) {
            unverified.push(text::label(cell.name()));
            continue;
        }
        if rows(valid, cell).iter().any(|row| row.has_passes_of_several_tokens()) {
            together.push(text::label(cell.name()));
            continue;
        }
        if panels.len() < MOST_PANELS {
            panels.extend(latency_panel(cell, rows(valid, cell), &tokens));
        }
    }
    if panels.is_empty() && unverified.is_empty() && together.is_empty() {
        group.notes.push("Not drawn: no valid iteration has two or more tokens with time stamps.".to_owned());
        return group;
    }
    if !unverified.is_empty() {
        let cells = text::list(&unverified, 6);
        group.notes.push(format!("Not drawn for {cells}: the time stamps of its tokens are not verified."));
    }
    if !together.is_empty() {
        let cells = text::list(&together, 6);
        group
            .notes
            .push(format!("Not drawn for {cells}: with speculative decoding, tokens of one pass come together."));
    }
    if !panels.is_empty() {
        group.notes.insert(
            0,
            "Time between a token and the one before it. Line: median over the cell's iterations. Band: from the \
             shortest to the longest. Each cell has its own scale, which starts at 0. Long generations show the lowest \
             and highest value in each pixel column."
                .to_owned(),
        );
        group.notes.extend(not_shown(panels.len(), summary.cells.len() - unverified.len() - together.len()));
    }
    group.charts = panels.iter().map(latency::draw).collect();
    group
}

fn latency_panel(cell: &CellSummary, rows: &[&RequestRow], tokens: &TokenIndex) -> Option<latency::Panel> {
    let stamps: Vec<_> = rows.iter().map(|row| tokens.of(row.request)).filter(|t| t.len() > 1).collect();
    let longest = stamps.iter().map(|t| t.len()).max()?;
    let mut at_index = Vec::with_capacity(stamps.len());
    let gaps = (1..longest)
        .filter_map(|index| {
            at_index.clear();
            let pairs = stamps.iter().filter_map(|t| Some((t.get(index - 1)?, t.get(index)?)));
            at_index.extend(pairs.map(|(a, b)| b.t_ns.saturating_sub(a.t_ns) as f64 / 1e6));
            at_index.sort_by(f64::total_cmp);
            Some(Gap {
                index: index as u32,
                median_ms: robust::quantile(&at_index, 0.5)?,
                least_ms: *at_index.first()?,
                most_ms: *at_index.last()?,
            })
        })
        .collect();
    let name = format!("itl-{}", cell.cell);
    let what = if cell.turns.is_empty() { "iteration" } else { "turn" };
    Some(latency::Panel { name, title: text::label(cell.name()), gaps, over: text::plural(stamps.len(), what) })
}

/// Gauges in the first chart; the others are folded.
const HEADLINES: [&str; 20] = [
    "process_cpu_percent",
    "system_cpu_percent",
    "performance_cpu_percent",
    "efficiency_cpu_percent",
    "rss_bytes",
    "rss_anon_bytes",
    "rss_file_bytes",
    "footprint_bytes",
    "wired_bytes",
    "available_memory_bytes",
    "engine_active_bytes",
    "engine_cache_bytes",
    "engine_peak_bytes",
    "gpu_percent",
    "gpu_memory_bytes",
    "gpu_process_memory_bytes",
    "cpu_watts",
    "gpu_watts",
    "ane_watts",
    "dram_watts",
];

fn over_time(record: &Record, summary: &Summary) -> Group {
    let mut group = Group::default();
    let panels = panels(record, summary, |gauge| HEADLINES.contains(&gauge));
    if panels.is_empty() {
        let reason = match record.manifest.scenario.telemetry.interval_ms {
            0 => "telemetry is off in the scenario",
            _ => "no gauge has a value",
        };
        group.notes.push(format!("Not drawn: {reason}."));
        return group;
    }
    let mut shades = shades(record);
    let shaded = shades.len() <= MOST_SHADES;
    let all = if shaded { shades.clone() } else { Vec::new() };
    group.charts.push(timeline::draw(&whole_run("timeline", record, panels.clone(), all)));
    if !shaded {
        let note = format!("The whole run has {} phases, too many to shade; the close-up shows them.", shades.len());
        group.notes.push(note);
    }
    if let Some((from, to, shown)) = close_up(record) {
        shades.retain(|s| s.to >= from && s.from <= to);
        let closer = Timeline {
            name: "timeline-close-up".to_owned(),
            title: format!("Close-up: the first {shown} measured requests"),
            from,
            to,
            ..whole_run("timeline", record, panels, shades)
        };
        group.charts.push(timeline::draw(&closer));
    }
    let interval = record.manifest.scenario.telemetry.interval_ms;
    group.notes.push(format!(
        "Sampled every {interval} ms; each pixel column shows its lowest and highest sample. Samples miss peaks, so peak \
         memory in the table is the kernel's high-water mark, unless it is called sampled. Axes start at 0, except those of memory that never falls \
         below half of its highest value."
    ));
    group
}

/// The gauges that the first charts leave out. A note lists those that never changed.
fn more_over_time(record: &Record, summary: &Summary) -> Group {
    let mut group = Group::default();
    let (mut moving, mut still) = (Vec::new(), Vec::new());
    for panel in panels(record, summary, |gauge| !HEADLINES.contains(&gauge)) {
        let mut values = panel.gauges.iter().flat_map(|g| &g.stretches).flatten().map(|(_, value)| *value);
        let first = values.next();
        if values.all(|value| Some(value) == first) {
            let names: Vec<&str> = panel.gauges.iter().map(|gauge| gauge.title.as_str()).collect();
            still.push(format!(
                "{} {} {}",
                names.join(", "),
                inferometer_protocol::units::significant(first.unwrap_or(0.0)),
                panel.unit
            ));
        } else {
            moving.push(panel);
        }
    }
    if !moving.is_empty() {
        let shades = Some(shades(record)).filter(|shades| shades.len() <= MOST_SHADES).unwrap_or_default();
        group.charts.push(timeline::draw(&whole_run("timeline-more", record, moving, shades)));
    }
    if !still.is_empty() {
        group.notes.push(format!("The same in every sample: {}.", still.join("; ")));
    }
    group
}

fn whole_run(name: &str, record: &Record, panels: Vec<Panel>, shades: Vec<Shade>) -> Timeline {
    Timeline { name: name.to_owned(), title: "The whole run".to_owned(), from: 0.0, to: end(record), panels, shades }
}

/// Time of the last recorded row, in seconds.
fn end(record: &Record) -> f64 {
    let end = record.telemetry.last().map_or(0.0, |row| seconds(row.t_ns));
    record.requests.iter().map(|row| seconds(row.end_ns)).fold(end, f64::max)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The gauges that have values, in units people read; neighbours of one kind (`rss`, `rss_anon`)
/// share a panel.
fn panels(record: &Record, summary: &Summary, wanted: impl Fn(&str) -> bool) -> Vec<Panel> {
    let infos = &record.manifest.gauges;
    let kind = |info: &GaugeInfo| {
        let first = info.name.split('_').next().unwrap_or_default().to_owned();
        (first, info.unit.clone())
    };
    let columns: Vec<usize> = (0..infos.len()).filter(|column| wanted(&infos[*column].name)).collect();
    columns
        .chunk_by(|a, b| kind(&infos[*a]) == kind(&infos[*b]))
        .filter_map(|some| panel(record, summary, some))
        .collect()
}

/// One panel of the gauges in these columns; `None` when none of them has a value.
fn panel(record: &Record, summary: &Summary, columns: &[usize]) -> Option<Panel> {
    let infos = &record.manifest.gauges;
    let values = columns.iter().flat_map(|c| record.telemetry.iter().filter_map(|row| sample(row, *c)));
    let (low, high) = values.fold(None, |found: Option<(f64, f64)>, v| {
        Some(found.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
    })?;
    let unit = &infos[columns[0]].unit;
    let (factor, symbol) = readable(unit, high);
    let gauges = columns
        .iter()
        .map(|c| Gauge {
            title: words(&infos[*c].name, unit),
            stretches: stretches(record, *c, factor),
            falls: falls(summary, &infos[*c].name),
        })
        .filter(|gauge| !gauge.stretches.is_empty())
        .collect();
    Some(Panel { gauges, unit: text::label(symbol), from_zero: unit != "bytes" || low < 0.5 * high })
}

fn sample(row: &TelemetryRow, column: usize) -> Option<f64> {
    row.values.get(column).copied().flatten().filter(|v| v.is_finite())
}

/// When the gauge fell by h or more, in seconds. Only gauges of the oscillation section have falls;
/// the engine's own gauges are there as a sum.
fn falls(summary: &Summary, gauge: &str) -> Vec<(f64, f64)> {
    let own = summary.memory.iter().filter(|one| one.gauge == gauge);
    own.flat_map(|one| one.falls.iter().map(|fall| (fall.from_s, fall.to_s))).collect()
}

/// A gauge's samples in seconds and `1 / factor` units, broken where samples are missing.
fn stretches(record: &Record, column: usize, factor: f64) -> Vec<Vec<(f64, f64)>> {
    let interval = seconds(u64::from(record.manifest.scenario.telemetry.interval_ms) * 1_000_000);
    let longest_step = (interval * 10.0).max(2.0);
    let mut stretches: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut last = f64::NEG_INFINITY;
    for row in &record.telemetry {
        let Some(value) = sample(row, column) else {
            // A row without this gauge does not end the line: the engine's own samples, and gauges
            // that are read less often, have rows of their own. A row without a host does: no
            // process was running.
            if row.host.is_none() {
                last = f64::NEG_INFINITY;
            }
            continue;
        };
        let t = seconds(row.t_ns);
        if t - last > longest_step {
            stretches.push(Vec::new());
        }
        stretches.last_mut().expect("the first sample begins one").push((t, value / factor));
        last = t;
    }
    stretches
}

/// `rss_bytes` → `rss`, `system_cpu_percent` → `system cpu`.
fn words(name: &str, unit: &str) -> String {
    let stem = name.strip_suffix(unit).map_or(name, |stem| stem.trim_end_matches('_'));
    text::label(&stem.replace('_', " "))
}

fn readable(unit: &str, highest: f64) -> (f64, &str) {
    const MIB: f64 = 1_048_576.0;
    match unit {
        "bytes" if highest >= 4096.0 * MIB => (1024.0 * MIB, "GiB"),
        "bytes" => (MIB, "MiB"),
        "percent" => (1.0, "%"),
        other => (1.0, other),
    }
}

fn shades(record: &Record) -> Vec<Shade> {
    let warmups: std::collections::HashSet<u64> =
        record.requests.iter().filter(|row| row.warmup).map(|row| row.request).collect();
    record
        .spans
        .iter()
        .filter_map(|span| {
            let doing = match span.phase {
                Phase::Prefill => Doing::Prefill,
                Phase::Decode => Doing::Decode,
                Phase::CacheClear => Doing::CacheClear,
                Phase::Reset => Doing::Reset,
                _ => return None,
            };
            let warmup = warmups.contains(&span.request);
            Some(Shade { doing, from: seconds(span.start_ns), to: seconds(span.end_ns), warmup })
        })
        .collect()
}

/// The first measured requests, where the whole run has many more.
fn close_up(record: &Record) -> Option<(f64, f64, usize)> {
    let mut measured: Vec<&RequestRow> = record.requests.iter().filter(|row| !row.warmup).collect();
    measured.sort_by_key(|row| row.start_ns);
    let shown = record.manifest.plan.cells.len().clamp(2, CLOSE_UP);
    if measured.len() <= 2 * shown {
        return None;
    }
    let (from, to) = (seconds(measured[0].start_ns), seconds(measured[shown - 1].end_ns));
    let margin = (to - from) * 0.02;
    Some(((from - margin).max(0.0), to + margin, shown))
}
