//! Tables as CSV for programs: every column, texts unchanged, an empty field for a value that was
//! not measured.

use super::Shape;

pub fn write(shape: &Shape) -> String {
    const IN_MEMORY: &str = "memory takes every byte, and rows have as many fields";
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(shape.columns.iter().map(|column| &column.title)).expect(IN_MEMORY);
    for row in 0..shape.rows {
        let fields = shape.columns.iter().map(|column| column.cells[row].words.as_deref().unwrap_or_default());
        writer.write_record(fields).expect(IN_MEMORY);
    }
    String::from_utf8(writer.into_inner().expect(IN_MEMORY)).expect("fields are UTF-8")
}
