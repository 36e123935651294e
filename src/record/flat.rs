//! The rows of a record as typed columns, for formats that store columns.

use super::csv::{COMMIT_COLUMNS, Encoder, REQUEST_COLUMNS, SPAN_COLUMNS, TELEMETRY_COLUMNS, TOKEN_COLUMNS};
use super::csv::{Column, effective_columns};
use super::field::Field;
use super::rows::Commit;
use super::{Record, RequestRow};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Whole,
    Number,
    Text,
}

/// The values of a column, row by row; `None`: not measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Bool(Vec<Option<bool>>),
    /// Signed, so that differences have no surprises; a number beyond 2⁶³ is `None`.
    Whole(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
}

/// A column with all its values.
#[derive(Debug, Clone, PartialEq)]
pub struct FlatColumn {
    pub name: String,
    pub values: Values,
}

/// The files of a record that have rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlatTable {
    Requests,
    Tokens,
    Spans,
    Telemetry,
}

/// The columns of a table as its CSV file has them, without those that commit rows. Requests also
/// have the `run` and the `cell_label`.
#[must_use]
pub fn columns(record: &Record, table: FlatTable) -> Vec<FlatColumn> {
    let known = |columns: &[Column]| columns.iter().map(|c| (c.name.to_owned(), c.kind)).collect::<Vec<_>>();
    let mut encoder = Encoder::new();
    match table {
        FlatTable::Requests => {
            record.requests.iter().for_each(|row| encoder.request(row, &Commit::default()));
            let commits = COMMIT_COLUMNS.iter().map(|c| c.name).collect::<Vec<_>>();
            let effective = effective_columns().into_iter().map(|(name, _)| (name, Kind::Text));
            let names = [known(REQUEST_COLUMNS), known(COMMIT_COLUMNS), effective.collect()].concat();
            let mut found = filled(&names, encoder);
            found.retain(|column| !commits.contains(&column.name.as_str()));
            found.extend(of_run(record));
            found
        }
        FlatTable::Tokens => {
            record.tokens.iter().for_each(|row| encoder.token(row));
            filled(&known(TOKEN_COLUMNS), encoder)
        }
        FlatTable::Spans => {
            record.spans.iter().for_each(|row| encoder.span(row));
            filled(&known(SPAN_COLUMNS), encoder)
        }
        FlatTable::Telemetry => {
            record.telemetry.iter().for_each(|row| encoder.telemetry(row));
            let gauges = record.manifest.gauges.iter().map(|gauge| (gauge.name.clone(), Kind::Number));
            filled(&known(TELEMETRY_COLUMNS).into_iter().chain(gauges).collect::<Vec<_>>(), encoder)
        }
    }
}

fn of_run(record: &Record) -> [FlatColumn; 2] {
    let manifest = &record.manifest;
    let text = |name: &str, of: &dyn Fn(&RequestRow) -> Option<String>| FlatColumn {
        name: name.to_owned(),
        values: Values::Text(record.requests.iter().map(of).collect()),
    };
    let label = |row: &RequestRow| manifest.plan.cells.get(row.cell as usize).map(|cell| cell.label.clone());
    [text("run", &|_| Some(manifest.run.clone())), text("cell_label", &label)]
}

/// The columns of rows that are encoded as CSV.
fn filled(names: &[(String, Kind)], encoder: Encoder) -> Vec<FlatColumn> {
    let mut columns: Vec<FlatColumn> = names
        .iter()
        .map(|(name, kind)| {
            let values = match kind {
                Kind::Bool => Values::Bool(Vec::new()),
                Kind::Whole => Values::Whole(Vec::new()),
                Kind::Number => Values::Number(Vec::new()),
                Kind::Text => Values::Text(Vec::new()),
            };
            FlatColumn { name: name.clone(), values }
        })
        .collect();
    let bytes = encoder.bytes();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice());
    for line in reader.records() {
        let line = line.expect("the encoder writes rows of one width, in UTF-8");
        columns.iter_mut().zip(&line).for_each(|(column, cell)| column.values.push(cell));
    }
    columns
}

impl Values {
    fn push(&mut self, cell: &str) {
        match self {
            Self::Bool(values) => values.push(cell.parse().ok()),
            Self::Whole(values) => values.push(cell.parse().ok()),
            Self::Number(values) => values.push(cell.parse().ok()),
            Self::Text(values) => {
                let text = String::read(cell).unwrap_or_else(|_| cell.to_owned());
                values.push(Some(text).filter(|text| !text.is_empty()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_every_column_with_its_type() {
        let record = crate::record::open(std::path::Path::new("tests/fixtures/record-v1-sound")).unwrap();
        let of = |table, name: &str| {
            let column = columns(&record, table).into_iter().find(|column| column.name == name);
            column.unwrap_or_else(|| panic!("no column {name}")).values
        };
        let rates: Vec<Option<f64>> = record.requests.iter().map(|row| row.decode_tps).collect();
        assert!(rates.iter().any(Option::is_some));
        assert_eq!(of(FlatTable::Requests, "decode_tps"), Values::Number(rates));
        let warm = record.requests.iter().map(|row| Some(row.warmup)).collect();
        assert_eq!(of(FlatTable::Requests, "warmup"), Values::Bool(warm));
        let causes = record.requests.iter().map(|row| row.cause.map(|cause| cause.name().to_owned())).collect();
        assert_eq!(of(FlatTable::Requests, "cause"), Values::Text(causes));
        let runs = record.requests.iter().map(|_| Some(record.manifest.run.clone())).collect();
        assert_eq!(of(FlatTable::Requests, "run"), Values::Text(runs));
        let stamps = record.tokens.iter().map(|row| Some(row.t_ns as i64)).collect();
        assert_eq!(of(FlatTable::Tokens, "t_ns"), Values::Whole(stamps));
        let phases = record.spans.iter().map(|row| Some(row.phase.name().to_owned())).collect();
        assert_eq!(of(FlatTable::Spans, "phase"), Values::Text(phases));
        let gauge = record.manifest.gauges.first().expect("a gauge").name.clone();
        let samples = record.telemetry.iter().map(|row| row.values[0]).collect();
        assert_eq!(of(FlatTable::Telemetry, &gauge), Values::Number(samples));
        let names = columns(&record, FlatTable::Requests);
        assert!(names.iter().all(|column| column.name != "rows_left"), "commits are of the files alone");
    }
}
