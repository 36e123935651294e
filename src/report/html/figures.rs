//! The headline figures: the range over cells at a glance, the table, and every metric on demand.

use maud::{Markup, html};

use super::section as titled;
use crate::record::metric::{DECODE_TPS, METRICS, Metric, PREFILL_TPS, REQUESTS_PER_S, TTFT_MS};
use crate::record::{Timing, metric};
use crate::report::figures::{all, headlines, rejected, speculating, unit};
use crate::report::summary::{CellSummary, Determinism, NOT_MEASURED, Summary, WIDE};
use crate::report::{leaks, quality, terminal, text, traffic, turns};
use inferometer_protocol::TokenTiming;

const HEADLINES: [&str; 3] = [DECODE_TPS, PREFILL_TPS, TTFT_MS];
const UNDER_LOAD: [&str; 3] = [REQUESTS_PER_S, "total_tps", "ttft_p95_ms"];

pub fn section(summary: &Summary) -> Markup {
    titled(
        "figures",
        "Figures",
        html! {
            @if summary.cells.is_empty() {
                p { "The plan has no cells." }
            } @else {
                (tiles(summary))
                @if traffic::cells(summary).next().is_some() { (traffic::table(summary).html()) }
                @else { (headlines(summary).html()) }
                @for line in rejected(summary) { p.rejected { (line) "." } }
                @for leak in &summary.leaks { p { (leaks::line(leak)) "." } }
                p.note {
                    "Medians over the valid iterations of each cell."
                    @if let Some(note) = terminal::interval_note(summary) { " " (note) "." }
                    @if let Some(note) = terminal::no_interval_note(summary) { " " (text::capital(&note)) "." }
                    @if let Some(note) = speculating(summary) { " " (text::capital(note)) "." }
                    @if turns::cells(summary).next().is_some() {
                        " An iteration is a whole conversation. Rates are over all turns together. TTFT and other times of a \
                          request are means over the turns. Times between tokens are medians over the turns. Memory is the \
                          highest value of any turn."
                    }
                    @if let Some(note) = traffic::note(summary) { " " (text::capital(note)) "." }
                    @for note in quality::notes(summary) { " " (text::capital(&note)) "." }
                    " " (includes(summary)) " " b { (NOT_MEASURED) } " means not measured."
                }
                details {
                    summary { "Every metric of every cell" }
                    (all_metrics(summary))
                }
            }
        },
    )
}

/// One tile for each headline metric: the range of the medians over the cells, and the cells at its
/// ends.
fn tiles(summary: &Summary) -> Markup {
    let timings: Vec<TokenTiming> = summary.run.engines.iter().filter_map(|e| e.token_timing).collect();
    if timings.windows(2).any(|pair| pair[0] != pair[1]) {
        return html! {};
    }
    let peak = metric::peak_memory(|key| summary.cells.iter().any(|cell| cell.metric(key).is_some()));
    let headlines = if traffic::cells(summary).next().is_some() { UNDER_LOAD } else { HEADLINES };
    html! {
        div.tiles {
            @for metric in headlines.into_iter().chain([peak]).filter_map(metric::find) {
                (tile(summary, metric))
            }
        }
    }
}

fn tile(summary: &Summary, metric: &Metric) -> Markup {
    // A cell whose outputs differ is in the table only.
    let same: Vec<&CellSummary> =
        summary.cells.iter().filter(|cell| cell.determinism != Determinism::Nondeterministic).collect();
    let mut cells: Vec<(&CellSummary, f64)> =
        same.iter().filter_map(|cell| Some((*cell, cell.metric(metric.key)?.median))).collect();
    let widest = widest(&cells, metric);
    cells.sort_by(|a, b| a.1.total_cmp(&b.1));
    let ends = cells.first().zip(cells.last()).map(|(low, high)| (low, high, metric.unit.range(low.1, high.1)));
    html! {
        div.tile {
            p.what { (metric.title) }
            @match ends {
                None => {
                    p.value { (NOT_MEASURED) }
                    p.where {
                        @if same.len() < summary.cells.len() { "outputs differ: no headline" }
                        @else if metric.is_token_time && summary.cells.iter().any(|cell| cell.unverified().is_some()) {
                            "not verified: no headline"
                        }
                        @else { "not measured in this run" }
                    }
                }
                Some((low, high, (from, to))) => {
                    @let one = metric.unit.number(low.1) == metric.unit.number(high.1);
                    p.value {
                        @if !one { (from) " – " }
                        (to)
                        @if !unit(metric).is_empty() { " " span.unit { (unit(metric)) } }
                    }
                    @if !one {
                        p.where { "lowest: " (text::label(low.0.name())) }
                        p.where { "highest: " (text::label(high.0.name())) }
                    } @else if cells.len() > 1 {
                        p.where { "in every cell" }
                    } @else {
                        p.where { (text::label(low.0.name())) }
                    }
                    @if let Some((cell, lo, hi)) = &widest {
                        p.unsure { "uncertain: " (lo) " to " (hi) " " (unit(metric)) " at " (text::label(cell.name())) }
                    }
                }
            }
        }
    }
}

/// The cell with the widest interval relative to its median, and the interval's ends, if it is too
/// wide for a headline.
fn widest<'a>(cells: &[(&'a CellSummary, f64)], metric: &Metric) -> Option<(&'a CellSummary, String, String)> {
    let intervals = cells.iter().filter_map(|(cell, median)| {
        let interval = cell.metric(metric.key)?.interval?;
        Some(((interval.hi - interval.lo) / median, *cell, interval))
    });
    let (share, cell, interval) = intervals.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (share > WIDE).then(|| (cell, metric.unit.number(interval.lo), metric.unit.number(interval.hi)))
}

/// What the times of each engine include, and how far its token times can be trusted.
fn includes(summary: &Summary) -> String {
    let words: Vec<String> = summary
        .run
        .engines
        .iter()
        .filter(|engine| engine.token_timing.is_some())
        .map(|engine| {
            let what = match engine.includes.as_slice() {
                [] => "the model alone".to_owned(),
                parts => {
                    let all: Vec<&str> = std::iter::once("the model").chain(parts.iter().map(String::as_str)).collect();
                    text::list(&all, 8)
                }
            };
            let grades = summary.cells.iter().filter(|cell| cell.engine == engine.label).filter_map(|cell| cell.timing);
            let timing = match (grades.max(), engine.token_timing) {
                (Some(Timing::Verified), _) => "the harness verified its token times",
                (Some(Timing::Imported), _) => "another program measured them",
                (Some(Timing::Claimed), _) => "its token times are not verified",
                (None, Some(TokenTiming::Exact)) => "every token has its own time stamp",
                (Some(Timing::Inexact) | None, _) => "several tokens may share a time stamp",
            };
            format!("Times of {} include {what}; {timing}.", text::label(&engine.label))
        })
        .collect();
    words.join(" ")
}

fn all_metrics(summary: &Summary) -> Markup {
    let is_measured = |key: &str| summary.cells.iter().any(|cell| cell.metric(key).is_some());
    let (measured, unmeasured): (Vec<&Metric>, Vec<&Metric>) = METRICS
        .iter()
        .chain([&metric::LOAD])
        .filter(|metric| !metric::is_other_peak(metric.key, is_measured))
        .partition(|metric| is_measured(metric.key));
    let unmeasured: Vec<&str> = unmeasured.iter().map(|metric| metric.title).collect();
    html! {
        @if !measured.is_empty() { (all(summary, &measured).html()) }
        @if !unmeasured.is_empty() {
            p.note { "Not measured in this run: " (text::list(&unmeasured, METRICS.len() + 1)) "." }
        }
    }
}
