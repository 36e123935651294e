//! Where time goes: functions and flamegraphs of the profiled pass.

use maud::{Markup, html};

use super::{base64, section as titled};
use crate::record::Record;
use crate::report::flamegraphs;
use crate::report::flamegraphs::Flamegraph;
use crate::report::functions::{cells, rows, sampled, table};
use crate::report::summary::{CellFunctions, CellSummary, Summary};
use crate::report::text;

/// Empty if no sampling profiler was asked for.
pub fn section(record: &Record, summary: &Summary) -> Markup {
    if cells(summary).next().is_none() {
        return html! {};
    }
    let drawn = flamegraphs::of(record, summary);
    titled(
        "functions",
        "Where time goes",
        html! {
            p.note {
                "From the profiled pass, which ran after the timed iterations and is not part of their figures. Self is time in \
                 the function itself; total includes everything that it called. Times are estimated from samples and the \
                 achieved sampling rate. In a flamegraph, the wider a frame, the more time it took; the order from left \
                 to right has no meaning."
            }
            @for (cell, seen) in cells(summary) { (one(cell, seen, &drawn)) }
        },
    )
}

fn one(cell: &CellSummary, seen: &CellFunctions, drawn: &[Flamegraph]) -> Markup {
    html! {
        h3 { (text::label(cell.name())) }
        @if let Some(missing) = &seen.missing { p.note { "No profile: " (text::sentence(missing)) "." } }
        @for phase in &seen.phases {
            @let caption = format!("{}: {}", phase.name(), sampled(phase));
            @if phase.too_few().is_some() {
                p.note { (caption) "." }
            } @else {
                @let name = format!("Functions of {} in {}", cell.name(), phase.name());
                (table(name, rows(cell, phase)).caption(caption).html())
            }
            @for graph in drawn.iter().filter(|graph| graph.cell == cell.cell && graph.phase == phase.phase) {
                figure {
                    img.flamegraph alt={ "Flamegraph of " (phase.name()) }
                        src={ "data:image/svg+xml;base64," (base64(graph.still().as_bytes())) };
                }
                p.note {
                    a href={ "charts/" (graph.file) } { "Interactive flamegraph with zoom and search" }
                    ". The record's folder " code { "profile/cell-" (cell.cell) "/" } " has folded stacks, all functions, the call \
                     graph and a pprof file."
                }
            }
        }
    }
}
