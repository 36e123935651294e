//! The history's page: the change points, then a chart for each series, then all runs.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{cell_title, commit, metric_of, notes, sentence, tally, when};
use crate::compare::history::{History, Point, Series};
use crate::report::html::{Head, document, drawings, in_banner, section};
use crate::report::svg::Chart;
use crate::report::table::Table;
use crate::report::text;

/// `charts`: one for each series, in their order.
pub fn render(history: &History, charts: &[Chart]) -> String {
    let notes = notes(history).into_iter().map(|note| note.replace('`', ""));
    let tally = tally(history);
    let head = Head {
        kicker: "Inferometer history",
        title: "Runs over time",
        badges: Vec::new(),
        lead: Some(&tally),
        facts: &[],
        banner: in_banner(("warned", "!"), html! { @for note in notes { p { (text::sentence(&note)) "." } } }),
    };
    let body = html! {
        (head.html())
        (section("changes", "Change points", changes(history)))
        (section("series", "Every series", all_series(history, charts)))
        (section("runs", "Every run", runs(history)))
    };
    document("History", env!("CARGO_PKG_VERSION"), &body)
}

fn changes(history: &History) -> Markup {
    let found: Vec<String> = history
        .series
        .iter()
        .flat_map(|series| series.changes.iter().map(move |change| sentence(history, series, change)))
        .collect();
    html! {
        @if found.is_empty() { p.note { "No change point was found. That does not mean that nothing changed." } }
        @else { ul { @for line in found { li { (line) } } } }
    }
}

fn all_series(history: &History, charts: &[Chart]) -> Markup {
    let mut by_cell: Vec<(&Series, Vec<&Chart>)> = Vec::new();
    for (series, chart) in history.series.iter().zip(charts) {
        match by_cell.last_mut() {
            Some((first, drawn)) if first.work == series.work && first.machine == series.machine => drawn.push(chart),
            _ => by_cell.push((series, vec![chart])),
        }
    }
    html! {
        p.note {
            "Each dot is the median of a run. The bar is its interval within that run; it does not include the spread between \
             runs. Grey lines are the levels between change points. Orange marks a change for the worse, green a change \
             for the better. The vertical axis does not start at 0."
        }
        @for (series, drawn) in by_cell {
            h3 { (cell_title(history, series)) }
            p.note { "On " (text::label(&series.machine)) ". " (metrics_not_drawn(history, series)) }
            (drawings("pair", drawn))
        }
    }
}

/// A note on runs without a value.
fn metrics_not_drawn(history: &History, series: &Series) -> String {
    let same = |other: &&Series| other.work == series.work && other.machine == series.machine;
    let gaps: Vec<String> = history
        .series
        .iter()
        .filter(same)
        .filter_map(|series| {
            let missing = series.points.iter().filter(|point| point.figures.is_none()).count();
            (missing > 0)
                .then(|| format!("{} not measured in {missing} of {}", metric_of(series).title, series.points.len()))
        })
        .collect();
    if gaps.is_empty() { String::new() } else { format!("{}.", text::list(&gaps, gaps.len())) }
}

fn runs(history: &History) -> Markup {
    let mut all: BTreeMap<(&str, &str), (&Series, &Point)> = BTreeMap::new();
    for series in &history.series {
        for point in &series.points {
            all.entry((&point.started_utc, &point.run)).or_insert((series, point));
        }
    }
    Table::of("Every run", all.into_values())
        .text("when (UTC)", |(_, point)| when(point))
        .text("commit", |(_, point)| commit(point))
        .text("inferometer", |(_, point)| &point.inferometer_version)
        .text("scenario", |(series, _)| &series.scenario)
        .text("machine", |(series, _)| &series.machine)
        .text("run", |(_, point)| &point.run)
        .html()
}
