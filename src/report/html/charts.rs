//! The chart sections: static SVGs inside the page.

use maud::{Markup, PreEscaped, html};

use super::{scrolling, section};
use crate::record::Record;
use crate::report::charts::{Charts, Group};
use crate::report::summary::Summary;
use crate::report::{growth, text, turns};

pub fn sections(record: &Record, summary: &Summary, charts: &Charts) -> Markup {
    html! {
        @if turns::cells(summary).next().is_some() {
            (section("turns", "Turn by turn", html! {
                (group("pair", &charts.turns))
                details {
                    summary { "Every turn of every cell" }
                    (scrolling("Figures of each turn", turn_table(summary)))
                    p.note {
                        "Medians over the valid iterations of each cell; a range where a count is not the same in all of them."
                    }
                }
            }))
        }
        (section("length", "Rate against prompt length", html! {
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

/// The growth law of each series, where there are lengths enough.
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

fn turn_table(summary: &Summary) -> Markup {
    html! {
        table.dense {
            thead {
                tr {
                    th scope="col" { "Cell" }
                    th.number scope="col" { "Turn" }
                    @for column in &turns::COLUMNS {
                        th.number scope="col" title=(column.meaning) {
                            (column.head[0]) br; span.unit { (column.head[1]) }
                        }
                    }
                }
            }
            @for cell in turns::cells(summary) {
                tbody {
                    @for (i, turn) in cell.turns.iter().enumerate() {
                        tr {
                            @if i == 0 {
                                th scope="rowgroup" rowspan=(cell.turns.len()) { (text::label(cell.name())) }
                            }
                            th.number scope="row" { (turn.turn) }
                            @for column in &turns::COLUMNS { td.number { ((column.of)(turn)) } }
                        }
                    }
                }
            }
        }
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
