//! Where the time of a token goes: tables of the profiled pass's spans, and their words.

use maud::{Markup, html};

use super::summary::{AllocationSummary, CellSpans, CellSummary, Summary};
use super::table::{Cell, HTML, MARKDOWN, Table};
use crate::profile::spans::{Along, PhaseSummary, Share, Spread};
use inferometer_protocol::units;
use inferometer_protocol::{Phase, SpanTiming};

/// A row of the table: a span of a phase, or the unaccounted time.
pub struct Row<'a> {
    cell: &'a CellSummary,
    phase: Phase,
    span: &'static str,
    count: Option<Spread>,
    total: Spread,
    own: &'a Share,
}

/// The cells that have spans of single operations, each with its spans.
pub fn cells(summary: &Summary) -> impl Iterator<Item = (&CellSummary, &CellSpans)> {
    let of = |spans: &CellSpans| summary.cells.iter().find(|cell| cell.cell == spans.cell);
    summary.spans.iter().filter_map(move |spans| Some((of(spans)?, spans)))
}

/// How the spans were timed, as a sentence.
#[must_use]
pub fn timing(timing: Option<SpanTiming>) -> &'static str {
    match timing {
        Some(SpanTiming::Done) => {
            "Each operation finishes before its call returns: a span contains the work of its operation."
        }
        Some(SpanTiming::Submit) => {
            "The backend is lazy: a span contains only the time to submit its operation. The work itself shows as waiting."
        }
        Some(SpanTiming::ForcedSync) => {
            "The backend is lazy and was forced to finish each operation within its span. Host and device then do not \
             overlap: shares are shares of the work, and the total time is longer than in timed iterations."
        }
        None => "The engine records no spans of single operations.",
    }
}

/// What a span is called.
fn name(span: Phase) -> &'static str {
    match span {
        Phase::PrefillChunk => "rest of the chunks",
        Phase::Forward => "forward",
        Phase::Penalty => "penalty",
        Phase::Sample => "sample",
        Phase::Detokenize => "detokenize",
        Phase::CacheClear => "cache clear",
        Phase::Wait => "wait for the device",
        Phase::Draft => "draft",
        other => other.name(),
    }
}

/// What the tokens of a phase are.
#[must_use]
pub fn tokens(phase: &PhaseSummary) -> String {
    let of = if phase.phase == Phase::Prefill { "prompt tokens" } else { "tokens after the first" };
    format!("{} {of}", range(phase.tokens, &|n| format!("{n:.0}")))
}

/// The rows of a phase, the longest first, unaccounted time last.
pub fn rows<'a>(cell: &'a CellSummary, of: &'a PhaseSummary) -> impl Iterator<Item = Row<'a>> {
    let row = move |span, count, total, own| Row { cell, phase: of.phase, span, count, total, own };
    let spans = of.spans.iter().map(move |span| row(name(span.span), Some(span.count), span.total_ms, &span.own));
    spans.chain([row("unaccounted", None, of.unaccounted.own_ms, &of.unaccounted)])
}

/// Where the time goes. The page has one table for each phase, with a bar for each span's share.
pub fn table<'a>(name: impl Into<String>, rows: impl Iterator<Item = Row<'a>>) -> Table<Row<'a>> {
    Table::of(name, rows)
        .text("cell", |row| row.cell.name())
        .only(MARKDOWN)
        .text("phase", |row| row.phase.name())
        .only(MARKDOWN)
        .head("span", |row| row.span)
        .number("count", |row| row.count.map(|count| range(count, &|n| format!("{n:.0}"))))
        .only(HTML)
        .number("total", |row| ms(row.total))
        .only(HTML)
        .number("own time", |row| ms(row.own.own_ms))
        .only(HTML)
        .number("own time per token", |row| row.own.per_token_us.map(|spread| range(spread, &us)))
        .number("share of the phase", |row| row.own.share.map(|share| range(share, &percent)))
        .text("", |row| Cell::nothing().page(bar(row.own.share.map_or(0.0, |share| share.median))))
        .only(HTML)
}

/// Width of a full bar in the table, in its own units.
const BAR: f64 = 120.0;

fn bar(share: f64) -> Markup {
    let width = format!("{:.1}", share.clamp(0.0, 1.0) * BAR);
    html! {
        svg aria-hidden="true" width=(BAR) height="10" viewBox={ "0 0 " (BAR) " 10" } {
            rect width=(BAR) height="10" fill="currentColor" fill-opacity="0.12" {}
            rect width=(width) height="10" fill="currentColor" fill-opacity="0.6" {}
        }
    }
}

/// Each prefill chunk.
#[must_use]
pub fn chunks(chunks: &[Spread]) -> Table<(usize, Spread)> {
    Table::of("Prefill chunks", (1..).zip(chunks.iter().copied()))
        .caption("Prefill chunks in order, over all turns")
        .number("chunk", |row| row.0)
        .header()
        .number("time", |row| ms(row.1))
}

/// How operations change along the generation.
#[must_use]
pub fn along(rows: &[Along]) -> Table<&Along> {
    let quarters = ["first", "second", "third", "last"].into_iter().enumerate();
    quarters
        .fold(
            Table::of("Along the generation", rows)
                .caption("Along the generation: median time per token in each quarter of the decoded tokens")
                .text("span", |row| name(row.span))
                .header(),
            |table, (at, quarter)| table.number(quarter, |row| us(row.quarters_us[at])),
        )
        .number("growth", |row| row.growth.map(|growth| format!("{:+.0} %", growth * 100.0)))
}

/// What the host allocated for each token.
#[must_use]
pub fn allocations(of: &CellSpans) -> Table<&AllocationSummary> {
    Table::of("Allocations", &of.allocations)
        .caption("Allocations of Rust code in the host, all threads; libraries in other languages are not counted")
        .head("phase", |row| title(row.phase))
        .number("allocations per token", |row| range(row.per_token, &units::significant))
        .number("bytes per token", |row| range(row.bytes_per_token, &|n| units::bytes(n.round() as u64)))
}

#[must_use]
pub fn title(phase: Phase) -> &'static str {
    if phase == Phase::Prefill { "Prefill" } else { "Decode" }
}

/// Milliseconds as a duration: the median, and the range if there is one.
#[must_use]
pub fn ms(spread: Spread) -> String {
    range(spread, &|ms| units::duration_ns((ms * 1e6).round() as u64))
}

fn percent(share: f64) -> String {
    format!("{:.*} %", units::percent_decimals(share * 100.0), share * 100.0)
}

/// `median (min – max)`, or the median alone if all iterations agree to the digits shown.
fn range(spread: Spread, number: &dyn Fn(f64) -> String) -> String {
    let (median, min, max) = (number(spread.median), number(spread.min), number(spread.max));
    if min == max { median } else { format!("{median} ({min} – {max})") }
}

/// Microseconds as a duration.
fn us(us: f64) -> String {
    units::duration_ns((us * 1e3).round() as u64)
}
