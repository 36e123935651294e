//! Where the time of a token goes: spans and allocations of the profiled pass.

use maud::{Markup, html};

use super::section as titled;
use crate::report::summary::{CellSpans, CellSummary, Summary};
use crate::report::{spans, text};

/// Empty if the run has no profiled pass.
pub fn section(summary: &Summary) -> Markup {
    if spans::cells(summary).next().is_none() {
        return html! {};
    }
    titled(
        "spans",
        "Where the time of a token goes",
        html! {
            p.note {
                "From the profiled pass, which ran after the timed iterations and is not part of their figures. Own time is the \
                 time of a span without the spans inside it. Own times and unaccounted time add up to the phase. Figures are \
                 medians over the profiled iterations, with their range. Here each token is detokenized as it comes, as a \
                 streaming server does; timed iterations decode their text afterwards."
            }
            @for (cell, of) in spans::cells(summary) { (one(cell, of)) }
        },
    )
}

fn one(cell: &CellSummary, of: &CellSpans) -> Markup {
    html! {
        h3 { (text::label(cell.name())) }
        p.note { (text::plural(of.iterations as usize, "profiled iteration")) ". " (spans::timing(of.timing)) }
        @for phase in &of.phases {
            @let name = spans::title(phase.phase);
            @let table = spans::table(format!("{name} of {}", cell.name()), spans::rows(cell, phase));
            (table.caption(format!("{name}: {} for {}", spans::ms(phase.total_ms), spans::tokens(phase))).html())
        }
        @if !of.chunks_ms.is_empty() {
            details {
                summary { "Each prefill chunk (" (of.chunks_ms.len()) ")" }
                (spans::chunks(&of.chunks_ms).html())
            }
        }
        @if !of.along.is_empty() { (spans::along(&of.along).html()) }
        @if !of.allocations.is_empty() { (spans::allocations(of).html()) }
    }
}
