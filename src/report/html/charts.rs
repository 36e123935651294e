//! The chart sections: static SVGs inside the page.

use maud::{Markup, PreEscaped, html};

use super::section;
use crate::record::Record;
use crate::report::charts::{Charts, Group};
use crate::report::summary::Summary;
use crate::report::svg::Chart;
use crate::report::{growth, text, traffic, turns};

pub fn sections(record: &Record, summary: &Summary, charts: &Charts) -> Markup {
    html! {
        @if turns::cells(summary).next().is_some() {
            (section("turns", "Turn by turn", html! {
                (group("pair", &charts.turns))
                details {
                    summary { "Every turn of every cell" }
                    (turns::all(summary).html())
                    p.note {
                        "Medians over the valid iterations of each cell. A count that differs between iterations is shown as a range."
                    }
                }
            }))
        }
        @if traffic::cells(summary).next().is_some() {
            (section("load", "Load", html! {
                (group("pair", &charts.load))
                ul { @for finding in traffic::findings(summary) { li { (finding) "." } } }
            }))
        }
        (section("length", "Rate and memory against prompt length", html! {
            (group("pair", &charts.rates))
            (laws(summary))
        }))
        (section("iterations", "Every iteration", group("panels", &charts.iterations)))
        (section("latency", "Time between tokens", group("panels", &charts.latency)))
        (section("timeline", "Memory and CPU over time", html! {
            (group("wide", &charts.timeline))
            @if !charts.more_gauges.charts.is_empty() || !charts.more_gauges.notes.is_empty() {
                details {
                    summary { "More gauges" }
                    (group("wide", &charts.more_gauges))
                }
            }
            (absent_gauges(record))
        }))
    }
}

/// The growth law of each series that has enough lengths.
fn laws(summary: &Summary) -> Markup {
    html! {
        @if !summary.growth.is_empty() {
            h3 { "Growth laws" }
            ul {
                @for law in &summary.growth { li { b { (text::label(&law.series)) } ": " (growth::sentence(law)) } }
            }
            p.note { (growth::NOTE) }
        }
    }
}

pub fn group(layout: &str, group: &Group) -> Markup {
    html! {
        (figures(layout, &group.charts))
        @for note in &group.notes { p.note { (note) } }
    }
}

/// Charts beside each other; `layout` is a CSS class.
pub fn figures<'a>(layout: &str, charts: impl IntoIterator<Item = &'a Chart>) -> Markup {
    let mut charts = charts.into_iter().peekable();
    html! {
        @if charts.peek().is_some() {
            div class={ "charts " (layout) } {
                // The drawing code escapes every text in it.
                @for chart in charts { figure { (PreEscaped(&chart.svg)) } }
            }
        }
    }
}

fn absent_gauges(record: &Record) -> Markup {
    let absent: Vec<_> = record.manifest.gauges.iter().filter(|gauge| gauge.absent.is_some()).collect();
    html! {
        @if !absent.is_empty() {
            details {
                summary { "Not measured in this run: " (text::plural(absent.len(), "gauge")) }
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
}
