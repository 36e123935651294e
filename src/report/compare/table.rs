//! The comparison for the terminal: 80 columns.

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width};

use super::{
    CellComparison, Comparison, after, before, cell_facts, interval, median, p_value, ratio, shown, side, title,
    unmeasured,
};
use crate::compare::difference::Difference;
use crate::report::profiles;
use crate::report::summary::NOT_MEASURED;
use crate::report::table::{plain, put};
use crate::report::text;

/// Widest value of a difference that leaves room for the other side's.
const VALUE_WIDTH: u16 = 25;
/// Width of a metric's name, alike in all cells.
const METRIC_WIDTH: u16 = 16;

/// The comparison; with `all` every metric, also those that were not measured.
#[must_use]
pub fn render(comparison: &Comparison, all: bool) -> String {
    let mut out = String::new();
    for (name, run) in [("A", &comparison.a), ("B", &comparison.b)] {
        text::paragraph(&mut out, &format!("{name}  {}", text::label(&run.run)), "   ");
        text::paragraph(&mut out, &format!("   {}", side(run)), "   ");
    }
    out.push('\n');
    for line in before(comparison) {
        text::paragraph(&mut out, &line, "  ");
    }
    out.push('\n');
    if !comparison.differences.is_empty() {
        put(&mut out, &differences(&comparison.differences));
    }
    for cell in &comparison.cells {
        text::paragraph(&mut out, &format!("{}: {}", text::label(&cell.name), cell_facts(cell)), "  ");
        put(&mut out, &figures(comparison, cell, all));
    }
    if all && !unmeasured(comparison).is_empty() {
        let titles = unmeasured(comparison);
        text::paragraph(&mut out, &format!("not measured: {}", text::list(&titles, titles.len())), "  ");
    }
    for line in after(comparison) {
        text::paragraph(&mut out, &line, "  ");
    }
    if !comparison.profiles.is_empty() {
        out.push('\n');
        out.push_str(&profiles::table(&comparison.profiles));
    }
    out
}

fn differences(differences: &[Difference]) -> Table {
    let mut table = plain();
    table.set_header(["differs", "", "A", "B"]);
    let mut area = None;
    for difference in differences {
        let head = if area == Some(difference.area) { "" } else { difference.area.name() };
        area = Some(difference.area);
        let value = |value: &Option<String>| value.as_deref().map_or_else(|| NOT_MEASURED.to_owned(), text::label);
        table.add_row([head.to_owned(), text::label(&difference.what), value(&difference.a), value(&difference.b)]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        column.set_constraint(match index {
            0 => ColumnConstraint::ContentWidth,
            _ => ColumnConstraint::UpperBoundary(Width::Fixed(VALUE_WIDTH)),
        });
    }
    table
}

fn figures(whole: &Comparison, cell: &CellComparison, all: bool) -> Table {
    let mut table = plain();
    table.set_header(["metric", "A", "B", "B/A", "interval %", "p", "trend"]);
    for (metric, comparison) in shown(whole, cell, all) {
        table.add_row([
            title(metric),
            median(metric, comparison.a.as_ref()),
            median(metric, comparison.b.as_ref()),
            ratio(comparison),
            interval(comparison),
            p_value(comparison),
            comparison.change.name().to_owned(),
        ]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        column.set_constraint(match index {
            0 => ColumnConstraint::Absolute(Width::Fixed(METRIC_WIDTH)),
            _ => ColumnConstraint::ContentWidth,
        });
        if (1..=5).contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
