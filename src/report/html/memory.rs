//! The oscillation section: figures of the run, its cells and phases, and the activity while memory
//! fell.

use maud::{Markup, html};

use super::section;
use crate::report::memory::{CAUSES_NOTE, causes, notes, table};
use crate::report::summary::Summary;

pub fn of_run(summary: &Summary) -> Markup {
    html! {
        @if !summary.memory.is_empty() {
            (section("oscillation", "Memory oscillation", html! {
                @for (i, gauge) in summary.memory.iter().enumerate() {
                    h3 { code { (gauge.gauge) } @if i == 0 { " – the memory gauge of this run: it carries the figures of iterations" } }
                    (table(summary, gauge).html())
                    @for note in notes(gauge) { p.note { (note) } }
                    @if !gauge.falls.is_empty() { (causes(gauge).html()) }
                }
                @if summary.memory.iter().any(|gauge| !gauge.falls.is_empty()) { p.note { (CAUSES_NOTE) } }
            }))
        }
    }
}
