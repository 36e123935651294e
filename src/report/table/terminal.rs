//! Tables for a terminal, laid out by comfy-table.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, TableStyle};

use super::{Cell, Column, Role, Shape, TERMINAL, Width};
use crate::report::text::{TERMINAL_WIDTH, label, paragraph};

/// Marks a line to be replaced by a note. No cell contains it: control characters are made visible.
const NOTE: char = '\u{1}';

pub fn write(shape: &Shape) -> String {
    if shape.rows == 0 {
        return String::new();
    }
    let (beneath, columns): (Vec<&Column>, Vec<&Column>) =
        shape.shown(TERMINAL).partition(|column| column.role == Role::Beneath);
    let notes = |row: usize| -> Vec<String> {
        beneath.iter().filter_map(|column| Some(column.line(column.cells[row].words.as_ref()?))).collect()
    };
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    let mut table = comfy_table::Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic).set_width(TERMINAL_WIDTH as u16);
    if columns.iter().any(|column| !column.title.is_empty()) {
        table.set_header(columns.iter().map(|column| {
            let lines = column.title.split('\n').chain([column.unit.as_str()]);
            lines.map(label).collect::<Vec<_>>().join("\n").trim_end().to_owned()
        }));
    }
    for row in 0..shape.rows {
        table.add_row(columns.iter().map(|column| match column.role {
            Role::Group if shape.is_named(row) => String::new(),
            _ => cell(column, &column.cells[row]),
        }));
        if !notes(row).is_empty() {
            table.add_row([format!("{NOTE}{row}")]);
        }
    }
    for (column, described) in table.column_iter_mut().zip(&columns) {
        column.set_padding((0, shape.gap));
        if described.number {
            column.set_cell_alignment(CellAlignment::Right);
        }
        match described.width {
            Width::Rest => {}
            Width::Content => _ = column.set_constraint(ColumnConstraint::ContentWidth),
            Width::AtMost(n) => _ = column.set_constraint(ColumnConstraint::UpperBoundary(fixed(n + shape.gap))),
            Width::Exactly(n) => _ = column.set_constraint(ColumnConstraint::Absolute(fixed(n + shape.gap))),
        }
    }
    let mut out = String::new();
    for line in table.lines() {
        match line.trim().strip_prefix(NOTE).and_then(|row| row.parse().ok()) {
            Some(row) => notes(row).iter().for_each(|note| paragraph(&mut out, &format!("    {note}"), "      ")),
            None => out.extend([line.trim_end(), "\n"]),
        }
    }
    out
}

fn fixed(width: u16) -> comfy_table::Width {
    comfy_table::Width::Fixed(width)
}

fn cell(column: &Column, cell: &Cell) -> String {
    cell.joined(|words| column.line(words), column.between)
}
