//! The history for the terminal: 80 columns, one table for each series.

use super::{cell_title, notes, runs, tally};
use crate::compare::history::History;
use crate::report::text;

/// Most runs of a series in the terminal; the newest are shown.
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
        out.extend([&runs(series, series.points.len().saturating_sub(NEWEST)).terminal(), "\n"]);
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
