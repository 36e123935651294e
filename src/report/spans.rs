//! Words and rows for the profiled pass' spans, as the page and the Markdown have them.

use super::summary::{CellSpans, CellSummary, Summary};
use crate::profile::spans::{PhaseSummary, Share, Spread};
use inferometer_protocol::units;
use inferometer_protocol::{Phase, SpanTiming};

/// A row of the table: a span of a phase, or what is in none.
pub struct Row {
    pub span: &'static str,
    pub count: Option<String>,
    pub total: String,
    pub own: String,
    pub per_token: Option<String>,
    /// Share of the phase, 0 to 1.
    pub share: Option<f64>,
    pub share_range: Option<String>,
}

/// The cells that have spans of single operations, with what the summary says of each.
pub fn cells(summary: &Summary) -> impl Iterator<Item = (&CellSummary, &CellSpans)> {
    let of = |spans: &CellSpans| summary.cells.iter().find(|cell| cell.cell == spans.cell);
    summary.spans.iter().filter_map(move |spans| Some((of(spans)?, spans)))
}

/// How the spans were timed, as a sentence.
#[must_use]
pub fn timing(timing: Option<SpanTiming>) -> &'static str {
    match timing {
        Some(SpanTiming::Done) => "Each operation is done when it is called: a span holds its operation's work.",
        Some(SpanTiming::Submit) => {
            "The backend is lazy: a span holds only the time to submit its operation; the work itself shows as waiting."
        }
        Some(SpanTiming::ForcedSync) => {
            "The backend is lazy and was made to finish each operation within its span, which costs the overlap of host \
             and device: shares are of the work, and the whole is slower than in timed iterations."
        }
        None => "The engine records no spans of single operations.",
    }
}

/// What a span is called.
#[must_use]
pub fn name(span: Phase) -> &'static str {
    match span {
        Phase::PrefillChunk => "rest of the chunks",
        Phase::Forward => "forward",
        Phase::Penalty => "penalty",
        Phase::Sample => "sample",
        Phase::Detokenize => "detokenize",
        Phase::CacheClear => "cache clear",
        Phase::Wait => "wait for the device",
        other => other.name(),
    }
}

/// What the tokens of a phase are.
#[must_use]
pub fn tokens(phase: &PhaseSummary) -> String {
    let of = if phase.phase == Phase::Prefill { "prompt tokens" } else { "tokens after the first" };
    format!("{} {of}", range(phase.tokens, &|n| format!("{n:.0}")))
}

/// The rows of a phase, the longest first, what is unaccounted for last.
#[must_use]
pub fn rows(phase: &PhaseSummary) -> Vec<Row> {
    let row = |span, count, total: String, share: &Share| Row {
        span,
        count,
        total,
        own: ms(share.own_ms),
        per_token: share.per_token_us.map(|us| range(us, &|us| units::duration_ns((us * 1e3).round() as u64))),
        share: share.share.map(|share| share.median),
        share_range: share.share.map(|share| range(share, &percent)),
    };
    let mut rows: Vec<Row> = phase
        .spans
        .iter()
        .map(|span| row(name(span.span), Some(range(span.count, &|n| format!("{n:.0}"))), ms(span.total_ms), &span.own))
        .collect();
    rows.push(row("unaccounted for", None, ms(phase.unaccounted.own_ms), &phase.unaccounted));
    rows
}

/// Milliseconds as a duration: the median, and the range where there is one.
#[must_use]
pub fn ms(spread: Spread) -> String {
    range(spread, &|ms| units::duration_ns((ms * 1e6).round() as u64))
}

fn percent(share: f64) -> String {
    format!("{:.*} %", units::percent_decimals(share * 100.0), share * 100.0)
}

/// `median (min – max)`, the median alone where all iterations agree to the digits shown.
pub fn range(spread: Spread, number: &dyn Fn(f64) -> String) -> String {
    let (median, min, max) = (number(spread.median), number(spread.min), number(spread.max));
    if min == max { median } else { format!("{median} ({min} – {max})") }
}

/// A change as the table of growth says it.
#[must_use]
pub fn growth(growth: Option<f64>) -> String {
    growth.map_or_else(|| super::summary::NOT_MEASURED.to_owned(), |growth| format!("{:+.0} %", growth * 100.0))
}

/// Microseconds as a duration.
#[must_use]
pub fn us(us: f64) -> String {
    units::duration_ns((us * 1e3).round() as u64)
}
