//! The chart sections: static SVGs inside the page.

use maud::{Markup, PreEscaped, html};

use super::section;
use crate::record::Record;
use crate::report::charts::{Charts, Group};
use crate::report::text;

pub fn sections(record: &Record, charts: &Charts) -> Markup {
    html! {
        (section("length", "Rate against prompt length", group("pair", &charts.rates)))
        (section("iterations", "Every iteration", group("panels", &charts.iterations)))
        (section("latency", "Time between tokens", group("panels", &charts.latency)))
        (section("timeline", "Memory and CPU over time", html! {
            (group("wide", &charts.timeline))
            (absent_gauges(record))
        }))
    }
}

/// `layout` is a class: how the charts stand beside each other.
fn group(layout: &str, group: &Group) -> Markup {
    html! {
        @if !group.charts.is_empty() {
            div class={ "charts " (layout) } {
                // The drawing code escapes every text in it.
                @for chart in &group.charts { figure { (PreEscaped(&chart.svg)) } }
            }
        }
        @for note in &group.notes { p.note { (note) } }
    }
}

fn absent_gauges(record: &Record) -> Markup {
    let absent: Vec<_> = record.manifest.gauges.iter().filter(|gauge| gauge.absent.is_some()).collect();
    html! {
        @if !absent.is_empty() {
            p.note { "Not measured in this run:" }
            ul.note {
                @for gauge in absent {
                    li {
                        code { (text::label(&gauge.name)) } ": "
                        (text::sentence(gauge.absent.as_deref().unwrap_or_default()))
                    }
                }
            }
        }
    }
}
