//! The oscillation section: figures of the run, its cells and phases, and what was going on when memory fell.

use maud::{Markup, html};

use super::{scrolling, section};
use crate::report::memory::{CAUSES_NOTE, COLUMNS, bytes, notes, percent, rows};
use crate::report::summary::{GaugeOscillation, Summary};

pub fn of_run(summary: &Summary) -> Markup {
    html! {
        @if !summary.memory.is_empty() {
            (section("oscillation", "How memory goes up and down", html! {
                @for (i, gauge) in summary.memory.iter().enumerate() {
                    h3 { code { (gauge.gauge) } @if i == 0 { " – the memory gauge of this run" } }
                    (scrolling("Oscillation figures", table(summary, gauge)))
                    @for note in notes(gauge) { p.note { (note) } }
                    (causes(gauge))
                }
                @if summary.memory.iter().any(|gauge| !gauge.falls.is_empty()) { p.note { (CAUSES_NOTE) } }
            }))
        }
    }
}

fn table(summary: &Summary, gauge: &GaugeOscillation) -> Markup {
    html! {
        table.dense {
            thead {
                tr {
                    th scope="col" { "Stretch" }
                    @for column in &COLUMNS { th.number scope="col" title=(column.meaning) { (column.head) } }
                }
            }
            tbody {
                @for (name, found) in rows(summary, gauge) {
                    tr {
                        th scope="row" { (name) }
                        @for column in &COLUMNS { td.number { ((column.of)(found)) } }
                    }
                }
            }
        }
    }
}

fn causes(gauge: &GaugeOscillation) -> Markup {
    html! {
        @if !gauge.falls.is_empty() {
            (scrolling("What went on while memory fell", html! {
                table.dense {
                    thead {
                        tr {
                            th scope="col" { "While memory fell" }
                            th.number scope="col" { "falls" }
                            th.number scope="col" { "bytes" }
                            th.number scope="col" { "of all that fell" }
                            th.number scope="col" { "of the time" }
                        }
                    }
                    tbody {
                        @for share in &gauge.causes {
                            tr {
                                th scope="row" { (share.cause.words()) }
                                td.number { (share.falls) }
                                td.number { (bytes(Some(share.bytes))) }
                                td.number { (percent(share.share)) }
                                td.number { (percent(Some(share.time_share))) }
                            }
                        }
                    }
                }
            }))
        }
    }
}
