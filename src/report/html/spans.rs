//! Where the time of a token goes: spans and allocations of the profiled pass.

use maud::{Markup, html};

use super::{scrolling, section as titled};
use crate::profile::spans::{Along, PhaseSummary, Spread};
use crate::report::summary::{CellSpans, CellSummary, NOT_MEASURED, Summary};
use crate::report::{spans, text};
use inferometer_protocol::Phase;
use inferometer_protocol::units;

/// Width of a full bar in the table, in its own units.
const BAR: f64 = 120.0;

/// Nothing where the run has no profiled pass.
pub fn section(summary: &Summary) -> Markup {
    if spans::cells(summary).next().is_none() {
        return html! {};
    }
    titled(
        "spans",
        "Where the time of a token goes",
        html! {
            p.note {
                "From the profiled pass, which ran after the timed iterations and is in none of their figures. Own time is a \
                 span's without the spans inside of it: own times and what is unaccounted for add up to the phase. Medians \
                 over the profiled iterations, with their range. Detokenizing is timed as a server does it that streams, each \
                 token as it comes; timed iterations decode their text afterwards."
            }
            @for (cell, of) in spans::cells(summary) { (one(cell, of)) }
        },
    )
}

fn one(cell: &CellSummary, of: &CellSpans) -> Markup {
    html! {
        h3 { (text::label(cell.name())) }
        p.note {
            (of.iterations) " profiled iteration" @if of.iterations != 1 { "s" } ". " (spans::timing(of.timing))
        }
        @for phase in &of.phases {
            @let label = format!("{} of {}", title(phase.phase), text::label(cell.name()));
            (scrolling(&label, table(phase)))
        }
        @if !of.chunks_ms.is_empty() { (chunks(&of.chunks_ms)) }
        @if !of.along.is_empty() { (scrolling("Along the generation", along(&of.along))) }
        @if !of.allocations.is_empty() { (scrolling("Allocations", allocations(of))) }
    }
}

fn title(phase: Phase) -> &'static str {
    if phase == Phase::Prefill { "Prefill" } else { "Decode" }
}

fn table(phase: &PhaseSummary) -> Markup {
    html! {
        table.dense {
            caption { (title(phase.phase)) ": " (spans::ms(phase.total_ms)) " for " (spans::tokens(phase)) }
            thead {
                tr {
                    th scope="col" { "Span" }
                    @for heading in ["Count", "Total", "Own time", "Own time per token", "Share of the phase"] {
                        th.number scope="col" { (heading) }
                    }
                    th scope="col" aria-hidden="true" {}
                }
            }
            tbody {
                @for row in spans::rows(phase) {
                    tr {
                        th scope="row" { (row.span) }
                        td.number { (row.count.as_deref().unwrap_or(NOT_MEASURED)) }
                        td.number { (row.total) }
                        td.number { (row.own) }
                        td.number { (row.per_token.as_deref().unwrap_or(NOT_MEASURED)) }
                        td.number { (row.share_range.as_deref().unwrap_or(NOT_MEASURED)) }
                        td aria-hidden="true" { (bar(row.share.unwrap_or(0.0))) }
                    }
                }
            }
        }
    }
}

fn bar(share: f64) -> Markup {
    let width = format!("{:.1}", share.clamp(0.0, 1.0) * BAR);
    html! {
        svg width=(BAR) height="10" viewBox={ "0 0 " (BAR) " 10" } {
            rect width=(BAR) height="10" fill="currentColor" fill-opacity="0.12" {}
            rect width=(width) height="10" fill="currentColor" fill-opacity="0.6" {}
        }
    }
}

/// Each prefill chunk, folded away.
fn chunks(chunks: &[Spread]) -> Markup {
    let list = html! {
        table.dense {
            caption { "Prefill chunks in their order, over all turns" }
            thead { tr { th.number scope="col" { "Chunk" } th.number scope="col" { "Time" } } }
            tbody {
                @for (at, ms) in chunks.iter().enumerate() {
                    tr { th.number scope="row" { (at + 1) } td.number { (spans::ms(*ms)) } }
                }
            }
        }
    };
    html! {
        details {
            summary { "Each prefill chunk (" (chunks.len()) ")" }
            (scrolling("Prefill chunks", list))
        }
    }
}

fn along(rows: &[Along]) -> Markup {
    html! {
        table.dense {
            caption { "Along the generation: median time per token in each quarter of the decoded tokens" }
            thead {
                tr {
                    th scope="col" { "Span" }
                    @for heading in ["First", "Second", "Third", "Last", "Growth"] { th.number scope="col" { (heading) } }
                }
            }
            tbody {
                @for row in rows {
                    tr {
                        th scope="row" { (spans::name(row.span)) }
                        @for us in row.quarters_us { td.number { (spans::us(us)) } }
                        td.number { (spans::growth(row.growth)) }
                    }
                }
            }
        }
    }
}

fn allocations(of: &CellSpans) -> Markup {
    let count = |n: f64| units::significant(n);
    let bytes = |n: f64| units::bytes(n.round() as u64);
    html! {
        table.dense {
            caption { "Allocations of Rust code in the host, all threads; libraries in other languages are not counted" }
            thead {
                tr {
                    th scope="col" { "Phase" }
                    @for heading in ["Allocations per token", "Bytes per token"] { th.number scope="col" { (heading) } }
                }
            }
            tbody {
                @for phase in &of.allocations {
                    tr {
                        th scope="row" { (title(phase.phase)) }
                        td.number { (spans::range(phase.per_token, &count)) }
                        td.number { (spans::range(phase.bytes_per_token, &bytes)) }
                    }
                }
            }
        }
    }
}
