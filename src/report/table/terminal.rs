//! Tables for a terminal, laid out by comfy-table.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, TableStyle};

use super::{Cell, Column, Role, Shape, TERMINAL, Width};
use crate::report::text::{TERMINAL_WIDTH, broken, label, paragraph};

/// Marks a line to be replaced by a note. No cell contains it: control characters are made visible.
const NOTE: char = '\u{1}';
/// A column with labels has room for a piece of this length, which is enough for any number.
const WHOLE: u16 = 16;

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
            _ => match column.width {
                Width::AtMost(n) => broken(&cell(column, &column.cells[row]), usize::from(n), &BETWEEN),
                _ => cell(column, &column.cells[row]),
            },
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
            Width::AtMost(n) => {
                let least = described.cells.iter().map(|one| longest_piece(&cell(described, one))).max().unwrap_or(0);
                let (lower, upper) = (fixed(n.min(least).min(WHOLE) + shape.gap), fixed(n + shape.gap));
                column.set_constraint(ColumnConstraint::Boundaries { lower, upper });
            }
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

/// Long names are broken after these, not within a number.
const BETWEEN: [char; 2] = ['=', ','];

fn longest_piece(text: &str) -> u16 {
    let longest = text
        .split([' ', '\n'])
        .flat_map(|word| word.split_inclusive(BETWEEN))
        .map(|piece| piece.chars().count())
        .max()
        .unwrap_or(0);
    u16::try_from(longest).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Table;

    #[test]
    fn long_names_are_broken_between_key_and_value() {
        let rows = ["prefill_chunk_size=16326848", "cache_clear=1048576,2097152"];
        let mut table = Table::of("", rows).gap(2).head("cell", |row| *row).at_most(16);
        for title in ["prefill rate", "decode rate", "first token", "peak memory", "same tokens"] {
            table = table.number(title, |_| "123.4 [120.1, 130.2]");
        }
        let out = table.terminal();
        for number in ["16326848", "1048576", "2097152"] {
            assert!(out.contains(number), "{out}");
        }
    }
}
