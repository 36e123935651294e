//! The history as GitHub Markdown: the change points, then a table a series, folded away.

use super::{
    cell_title, commit, interval, iterations, median, metric_of, metric_title, notes, sentence, shift_in_words, tally,
    when,
};
use crate::compare::history::{History, Series};
use crate::report::markdown::escape;

#[must_use]
pub fn render(history: &History) -> String {
    let mut out = format!("## History: {}\n\n", tally(history));
    for series in &history.series {
        for change in &series.changes {
            out.push_str(&format!("- {}\n", escape(&sentence(history, series, change))));
        }
    }
    for line in notes(history) {
        out.push_str(&format!("- {}\n", escape(&line)));
    }
    for series in &history.series {
        out.push_str(&table(history, series));
    }
    out
}

fn table(history: &History, series: &Series) -> String {
    let metric = metric_of(series);
    let title = format!("{}, {}, on {}", cell_title(history, series), metric_title(metric), series.machine);
    let mut out = format!(
        "\n<details><summary>{}</summary>\n\n| when (UTC) | commit | n | median | interval | change point |\n|---|---|--:|--:|--:|---|\n",
        escape(&title)
    );
    for (at, point) in series.points.iter().enumerate() {
        let change = series.changes.iter().find(|change| change.at == at).map(shift_in_words).unwrap_or_default();
        out.push_str(&format!(
            "| {} | {} | {} | {} | {} | {change} |\n",
            escape(&when(point)),
            escape(&commit(point)),
            iterations(point),
            median(metric, point),
            interval(metric, point)
        ));
    }
    out + "\n</details>\n"
}
