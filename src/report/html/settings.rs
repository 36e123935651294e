//! Requested and effective settings.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::section as titled;
use crate::report::summary::{Agreement, CellSummary, NOT_MEASURED, SettingRow, Summary};
use crate::report::table::{Cell, Table};
use crate::report::text;
use inferometer_protocol::{Settings, Value};

pub fn section(summary: &Summary) -> Markup {
    titled(
        "settings",
        "Settings requested and effective",
        html! {
            @if summary.cells.iter().all(|cell| cell.settings.is_empty()) {
                p { "No setting was requested and none was reported." }
            } @else {
                (table(summary).html())
                p.note {
                    "Effective is the value that the engine reported. A row that is the same in several cells is shown once."
                }
            }
            (merged(summary))
        },
    )
}

/// Distinct rows, each with the cells that have it.
fn table(summary: &Summary) -> Table<(&SettingRow, Vec<&CellSummary>)> {
    let mut grouped: Vec<(&SettingRow, Vec<&CellSummary>)> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for cell in &summary.cells {
        for row in &cell.settings {
            let at = *known.entry(format!("{row:?}")).or_insert_with(|| {
                grouped.push((row, Vec::new()));
                grouped.len() - 1
            });
            grouped[at].1.push(cell);
        }
    }
    grouped.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let all = summary.cells.len();
    Table::of("Settings requested and effective", grouped)
        .roomy()
        .head("setting", |(row, _)| Cell::from(&row.name).code())
        .text("requested", |(row, _)| row.requested.as_ref().map(ToString::to_string))
        .text("effective", |(row, _)| values(&row.effective))
        .text("agreement", |(row, cells)| Cell::from(words(row, cells)).alarm(row.agreement == Agreement::Mismatch))
        .said("cells", |(_, cells)| holders(cells, all))
}

fn holders(cells: &[&CellSummary], all: usize) -> String {
    if cells.len() == all {
        return "all".to_owned();
    }
    let names: Vec<String> = cells.iter().map(|cell| text::label(cell.name())).collect();
    text::list(&names, 6)
}

fn values(values: &[Value]) -> Option<String> {
    (!values.is_empty()).then(|| text::list(values, 6))
}

fn words(row: &SettingRow, cells: &[&CellSummary]) -> String {
    match row.agreement {
        Agreement::AsRequested => "as requested".to_owned(),
        Agreement::AsPredicted if row.effective.is_empty() => "reported through repetition_window".to_owned(),
        Agreement::AsPredicted => "follows from the request".to_owned(),
        Agreement::Mismatch => format!("✕ expected {}", expected(row)),
        Agreement::MismatchAllowed => format!("expected {}; allowed by the scenario", expected(row)),
        Agreement::EngineChose => "the engine chose".to_owned(),
        Agreement::NotReported if cells.iter().all(|cell| cell.counts.ok == 0) => "no valid iteration".to_owned(),
        Agreement::NotReported => "the engine does not report it".to_owned(),
    }
}

fn expected(row: &SettingRow) -> String {
    match (&row.requested, row.expected.as_slice()) {
        (Some(requested), []) => requested.to_string(),
        (_, expected) => values(expected).unwrap_or_else(|| NOT_MEASURED.to_owned()),
    }
}

fn merged(summary: &Summary) -> Markup {
    let merged: Vec<_> = summary.cells.iter().filter(|cell| !cell.merged.is_empty()).collect();
    html! {
        @if !merged.is_empty() {
            p.note { "Combinations that do the same work were run only once:" }
            ul.note {
                @for cell in merged {
                    li {
                        (text::label(cell.name())) " also covers "
                        (text::list(&cell.merged.iter().map(combination).collect::<Vec<_>>(), 8))
                    }
                }
            }
        }
    }
}

fn combination(settings: &Settings) -> String {
    let words: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    text::label(&words.join(" "))
}
