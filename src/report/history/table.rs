//! The history for the terminal: 80 columns, a table a series.

use comfy_table::{CellAlignment, ColumnConstraint, Table};

use super::{cell_title, commit, interval, iterations, median, metric_of, notes, shift_in_words, tally, when};
use crate::compare::history::{History, Series};
use crate::record::metric::Metric;
use crate::report::table::{plain, put};
use crate::report::text;

/// Runs of a series that the terminal shows: the newest.
const NEWEST: usize = 12;

#[must_use]
pub fn render(history: &History) -> String {
    let mut out = String::new();
    text::paragraph(&mut out, &tally(history), "  ");
    out.push('\n');
    let mut told = None;
    for series in &history.series {
        let cell = (&series.scenario, &series.machine, &series.work);
        if told != Some(cell) {
            text::paragraph(&mut out, &cell_title(history, series), "  ");
            text::paragraph(&mut out, &format!("  on {}", text::label(&series.machine)), "  ");
            told = Some(cell);
        }
        put(&mut out, &figures(series));
        if series.points.len() > NEWEST {
            let all = series.points.len();
            text::paragraph(&mut out, &format!("the newest {NEWEST} of {all} runs; --format csv has all"), "  ");
            out.push('\n');
        }
    }
    for line in notes(history) {
        text::paragraph(&mut out, &line, "  ");
    }
    out
}

fn figures(series: &Series) -> Table {
    let metric = metric_of(series);
    let mut table = plain();
    table.set_header(["when (UTC)", "commit", "n", &head(metric), "interval", "change point"]);
    let hidden = series.points.len().saturating_sub(NEWEST);
    for (at, point) in series.points.iter().enumerate().skip(hidden) {
        let change = series.changes.iter().find(|change| change.at == at);
        table.add_row([
            when(point),
            commit(point),
            iterations(point),
            median(metric, point),
            interval(metric, point),
            change.map(shift_in_words).unwrap_or_default(),
        ]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        column.set_constraint(ColumnConstraint::ContentWidth);
        if (2..=4).contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The metric over its unit, its words on two lines so that the table stays narrow.
fn head(metric: &Metric) -> String {
    let title = metric.title.replacen(' ', "\n", 1);
    if metric.unit.is_in_number() { title } else { format!("{title}\n{}", metric.unit.symbol()) }
}
