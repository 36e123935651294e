//! The table for the terminal: one row a cell, then a short line for anything that is not as it should be.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};

use super::summary::{CellSummary, NOT_MEASURED, Standing, Summary};
use super::text::{self, plural};
use super::turns;
use crate::record::metric::{DECODE_TPS, ITL_P50_MS, ITL_P99_MS, PEAK_RSS_BYTES, PREFILL_TPS, TTFT_MS, Unit};
use inferometer_protocol::units::significant;
use inferometer_stats::robust;

/// Widest label column that leaves room for the figures.
const LABEL_WIDTH: u16 = 17;

/// The table and its remarks, each line ended by a newline.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let mut out = String::new();
    if !summary.cells.is_empty() {
        put(&mut out, &figures(summary));
    }
    if turns::cells(summary).next().is_some() {
        put(&mut out, &turn_figures(summary));
    }
    for line in remarks(summary) {
        text::paragraph(&mut out, &line, "  ");
    }
    out
}

/// Appends a table and an empty line.
pub(super) fn put(out: &mut String, table: &Table) {
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push('\n');
}

/// An empty table in the terminal's style.
pub(super) fn plain() -> Table {
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic).set_width(text::TERMINAL_WIDTH as u16);
    table
}

/// The cell's label on the left, figures on the right of their columns.
fn align(table: &mut Table) {
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if index > 0 {
            column.set_constraint(ColumnConstraint::ContentWidth).set_cell_alignment(CellAlignment::Right);
        } else {
            column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(LABEL_WIDTH)));
        }
    }
}

/// Some turns of each conversation: medians over its iterations.
fn turn_figures(summary: &Summary) -> Table {
    let mut table = plain();
    let heads = turns::COLUMNS.iter().map(|column| column.head.join("\n"));
    table.set_header(["cell".to_owned(), "turn".to_owned()].into_iter().chain(heads));
    let count = turns::cells(summary).count();
    for cell in turns::cells(summary) {
        for (i, turn) in turns::shown(&cell.turns, count).into_iter().enumerate() {
            let name = if i == 0 { text::label(cell.name()) } else { String::new() };
            let figures = turns::COLUMNS.iter().map(|column| (column.of)(turn));
            table.add_row([name, turn.turn.to_string()].into_iter().chain(figures));
        }
    }
    align(&mut table);
    table
}

/// What the tables of a conversation leave unsaid.
fn turns_note(summary: &Summary) -> Option<String> {
    let count = turns::cells(summary).count();
    let all = turns::cells(summary).map(|cell| cell.turns.len()).max()?;
    let shown = turns::cells(summary).map(|cell| turns::shown(&cell.turns, count).len()).max()?;
    let some = if shown < all { format!("; {shown} of {all} turns shown, the report has all") } else { String::new() };
    Some(format!(
        "an iteration is a whole conversation: rates of all its turns together, TTFT the mean of a turn{some}"
    ))
}

fn figures(summary: &Summary) -> Table {
    let mut table = plain();
    table.set_header([
        "cell",
        "n",
        "prefill\ntok/s",
        "decode\ntok/s",
        "TTFT\nms",
        "ITL ms\np50/p99",
        "peak\nmemory",
        "same\ntokens",
    ]);
    for cell in &summary.cells {
        table.add_row(row(cell));
    }
    align(&mut table);
    table
}

fn row(cell: &CellSummary) -> Vec<Cell> {
    vec![
        Cell::new(text::label(cell.name())),
        Cell::new(iterations(cell)),
        Cell::new(with_interval(cell.metric(PREFILL_TPS))),
        Cell::new(with_interval(cell.metric(DECODE_TPS))),
        Cell::new(median(cell.metric(TTFT_MS))),
        Cell::new(match (cell.metric(ITL_P50_MS), cell.metric(ITL_P99_MS)) {
            (None, None) => NOT_MEASURED.to_owned(),
            (p50, p99) => format!("{}/{}", median(p50), median(p99)),
        }),
        Cell::new(
            cell.metric(PEAK_RSS_BYTES).map_or_else(|| NOT_MEASURED.to_owned(), |s| Unit::Bytes.number(s.median)),
        ),
        Cell::new(cell.deterministic()),
    ]
}

/// `10`, or `8/10` where iterations are missing, failed or invalid.
fn iterations(cell: &CellSummary) -> String {
    let counts = cell.counts;
    if counts.ok == counts.planned { counts.ok.to_string() } else { format!("{}/{}", counts.ok, counts.planned) }
}

fn median(summary: Option<&robust::Summary>) -> String {
    summary.map_or_else(|| NOT_MEASURED.to_owned(), |s| significant(s.median))
}

/// Median over its interval, on two lines so that seven figures fit 80 columns.
fn with_interval(summary: Option<&robust::Summary>) -> String {
    match summary.and_then(|s| s.interval) {
        Some(i) => format!("{}\n[{}, {}]", median(summary), significant(i.lo), significant(i.hi)),
        None => median(summary),
    }
}

/// What the reader must know beside the figures.
#[must_use]
pub fn remarks(summary: &Summary) -> Vec<String> {
    let mut lines = vec![standing(summary)];
    lines.extend(interval_note(summary));
    lines.extend(turns_note(summary));
    if summary.run.synthetic {
        lines.push("synthetic model: random weights, so speed and memory mean something, the text does not".to_owned());
    }
    for problem in &summary.validity.problems {
        lines.push(format!("{}: {}", text::label(&problem.label), problem.sentence()));
    }
    lines.extend(summary.validity.remarks.iter().map(|remark| text::sentence(remark).trim_end_matches('.').to_owned()));
    lines
}

fn standing(summary: &Summary) -> String {
    let counts = summary.validity.counts;
    let word = match summary.validity.standing {
        Standing::Valid => "valid",
        Standing::ValidWithWarnings => "valid with warnings",
        Standing::OutputsDiffer => "OUTPUTS DIFFER",
        Standing::NotValid => "not valid",
    };
    let mut line = format!("{word}: {} of {} ok", counts.ok, plural(counts.planned, "iteration"));
    for (count, what) in [(counts.failed, "failed"), (counts.invalid, "invalid"), (counts.missing(), "missing")] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

/// What the brackets mean, where there are any.
#[must_use]
pub fn interval_note(summary: &Summary) -> Option<String> {
    let mut levels: Vec<f64> = summary
        .cells
        .iter()
        .flat_map(|cell| [PREFILL_TPS, DECODE_TPS].map(|key| cell.metric(key).and_then(|s| s.interval)))
        .flatten()
        .map(|interval| interval.confidence * 100.0)
        .collect();
    levels.sort_by(f64::total_cmp);
    let (low, high) = (levels.first()?, levels.last()?);
    let level = match (format!("{low:.1}"), format!("{high:.1}")) {
        (low, high) if low == high => format!("{low} %"),
        (low, high) => format!("{low} to {high} %"),
    };
    Some(format!("[lo, hi]: {level} interval of the median, {}", summary.run.interval_scope))
}
