//! One CSV file, read line by line up to its last complete line.

use std::io::{Cursor, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use super::csv::Column;
use super::error::{RecordError, file_error};
use super::field::Field;

/// A CSV file of a record. Data after the last line end was left by an interrupted write and is
/// ignored.
pub(super) struct Table {
    path: PathBuf,
    reader: csv::Reader<Take<Box<dyn Source>>>,
    columns: Columns,
    record: csv::ByteRecord,
    whole_bytes: u64,
}

/// Where the file's bytes come from.
trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// The names in a file's header.
pub(super) struct Columns(Vec<String>);

/// One row, with its place for error messages.
pub(super) struct Line<'a> {
    path: &'a Path,
    number: u64,
    record: &'a csv::ByteRecord,
}

impl Table {
    pub fn open(path: PathBuf) -> Result<Self, RecordError> {
        let file = fs_err::File::open(&path)?;
        Self::new(path, Box::new(file))
    }

    /// A file in memory; `name` is what its errors name.
    pub fn of_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, RecordError> {
        Self::new(name.into(), Box::new(Cursor::new(bytes)))
    }

    fn new(path: PathBuf, mut file: Box<dyn Source>) -> Result<Self, RecordError> {
        let whole_bytes = whole_lines(&mut file).map_err(file_error("read", &path))?;
        let reader =
            csv::ReaderBuilder::new().has_headers(false).buffer_capacity(1 << 16).from_reader(file.take(whole_bytes));
        let columns = Columns(Vec::new());
        let mut table = Self { path, reader, columns, record: csv::ByteRecord::new(), whole_bytes };
        let Some(header) = table.next()? else {
            return Err(RecordError::Row { path: table.path, line: 1, message: "the header is missing".to_owned() });
        };
        let names = (0..header.record.len())
            .map(|at| header.text(Some(at), "header").map(str::to_owned))
            .collect::<Result<_, _>>()?;
        table.columns = Columns(names);
        Ok(table)
    }

    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Length of the file's complete lines in bytes, header included.
    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// Number of bytes read so far, header included.
    pub fn read_bytes(&self) -> u64 {
        self.reader.position().byte()
    }

    /// The next row; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Line<'_>>, RecordError> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let number = self.record.position().map_or(0, csv::Position::line);
                Ok(Some(Line { path: &self.path, number, record: &self.record }))
            }
            Err(e) => Err(self.csv_error(e)),
        }
    }

    fn csv_error(&self, error: csv::Error) -> RecordError {
        let path = self.path.clone();
        match error.into_kind() {
            csv::ErrorKind::Io(source) => RecordError::File { what: "read", path, source },
            csv::ErrorKind::UnequalLengths { pos, expected_len, len } => RecordError::Row {
                path,
                line: pos.map_or(0, |p| p.line()),
                message: format!("{len} fields where the header has {expected_len}"),
            },
            other => RecordError::Row { path, line: self.reader.position().line(), message: format!("{other:?}") },
        }
    }
}

impl Columns {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub fn place(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|n| n == name)
    }

    pub fn places(&self, columns: &[Column]) -> Vec<Option<usize>> {
        columns.iter().map(|column| self.place(column.name)).collect()
    }
}

impl<'a> Line<'a> {
    /// The field at `place` as text; empty if the file does not have the column.
    pub fn text(&self, place: Option<usize>, column: &str) -> Result<&'a str, RecordError> {
        let bytes = place.and_then(|at| self.record.get(at)).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| self.error(column, "not UTF-8 text".to_owned()))
    }

    pub fn field<T: Field>(&self, place: Option<usize>, column: &str) -> Result<T, RecordError> {
        T::read(self.text(place, column)?).map_err(|message| match place {
            Some(_) => self.error(column, message),
            None => self.error(column, "the file has no such column".to_owned()),
        })
    }

    pub fn error(&self, column: &str, message: String) -> RecordError {
        RecordError::Value { path: self.path.to_owned(), line: self.number, column: column.to_owned(), message }
    }

    pub fn row_error(&self, message: String) -> RecordError {
        RecordError::Row { path: self.path.to_owned(), line: self.number, message }
    }
}

/// Length of `file` up to and including its last line end; rewinds the file.
fn whole_lines(file: &mut Box<dyn Source>) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0_u8; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|b| *b == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    file.rewind()?;
    Ok(end)
}
