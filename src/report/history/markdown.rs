//! The history as GitHub Markdown: the change points, then a folded table for each series.

use super::{cell_title, metric_of, metric_title, notes, runs, sentence, tally};
use crate::compare::history::History;
use crate::report::markdown::{escape, folded};

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
    out.push('\n');
    for series in &history.series {
        let metric = metric_title(metric_of(series));
        let title = format!("{}, {metric}, on {}", cell_title(history, series), series.machine);
        out.push_str(&folded(&escape(&title), &runs(series, 0).markdown()));
    }
    out
}
