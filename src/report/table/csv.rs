//! Tables as CSV for programs: every column, texts that no spreadsheet takes for a formula, an empty
//! field for a value that was not measured.

use std::borrow::Cow;

use super::{Column, Shape};
use crate::spreadsheet::guarded;

pub fn write(shape: &Shape) -> String {
    const IN_MEMORY: &str = "memory takes every byte, and rows have as many fields";
    let mut writer = csv::Writer::from_writer(Vec::new());
    let titles: Vec<Cow<'_, str>> = shape.columns.iter().map(|column| guarded(&column.title)).collect();
    writer.write_record(titles.iter().map(|title| title.as_bytes())).expect(IN_MEMORY);
    for row in 0..shape.rows {
        let fields: Vec<Cow<'_, str>> = shape.columns.iter().map(|column| field(column, row)).collect();
        writer.write_record(fields.iter().map(|field| field.as_bytes())).expect(IN_MEMORY);
    }
    String::from_utf8(writer.into_inner().expect(IN_MEMORY)).expect("fields are UTF-8")
}

/// A number stays one, also in a column of texts.
fn field(column: &Column, row: usize) -> Cow<'_, str> {
    let words = column.cells[row].words.as_deref().unwrap_or_default();
    let is_number = column.number || words.parse::<f64>().is_ok_and(f64::is_finite);
    if is_number { Cow::Borrowed(words) } else { guarded(words) }
}
