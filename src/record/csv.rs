//! Rows as CSV: one table of columns per file, read by name.
//!
//! An unknown column is ignored and a missing one reads as "not measured", so that older and newer
//! builds of the same major version can read each other's records.

use super::cause;
use super::error::RecordError;
use super::field::Field;
use super::flat::Kind;
pub use super::rows::{COMMIT_COLUMNS, REQUEST_COLUMNS, SPAN_COLUMNS, TOKEN_COLUMNS};
use super::rows::{Commit, RequestRow, SpanRow, TokenRow};
use super::schema::TelemetryRow;
use super::table::{Columns, Line};
use crate::spec::GaugeInfo;
use inferometer_protocol::effective::{EFFECTIVE, EFFECTIVE_CHUNK, EFFECTIVE_WINDOW};
use inferometer_protocol::{Settings, toggle};

pub const REQUESTS: &str = "requests.csv";
pub const TOKENS: &str = "tokens.csv";
pub const SPANS: &str = "spans.csv";
pub const TELEMETRY: &str = "telemetry.csv";

/// One column of a file of the record, as `docs/reference/record.md` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// Empty for names, flags, ids and indices.
    pub unit: &'static str,
    pub meaning: &'static str,
    pub kind: Kind,
}

/// Prefix of the columns that hold effective settings.
const EFFECTIVE_PREFIX: &str = "effective_";
/// JSON object of the effective settings that have no separate column.
const EFFECTIVE_OTHER: &str = "effective_other";

/// Columns of `telemetry.csv` before those of the gauges.
pub const TELEMETRY_COLUMNS: &[Column] = &[
    Column {
        name: "t_ns",
        unit: "ns",
        meaning: "when the sample was taken, from the run's origin, on the harness clock",
        kind: Kind::Whole,
    },
    Column {
        name: "host",
        unit: "",
        meaning: "number of the host process of the process gauges; empty between hosts",
        kind: Kind::Whole,
    },
];

/// Rows of one file, encoded in memory so that they are written in one call.
pub(super) struct Encoder {
    writer: csv::Writer<Vec<u8>>,
    text: String,
}

impl Encoder {
    pub fn new() -> Self {
        Self { writer: csv::Writer::from_writer(Vec::new()), text: String::new() }
    }

    pub fn field(&mut self, value: &impl Field) {
        self.text.clear();
        value.write(&mut self.text);
        self.writer.write_field(&self.text).expect(IN_MEMORY);
    }

    fn name(&mut self, name: impl AsRef<[u8]>) {
        self.writer.write_field(name).expect(IN_MEMORY);
    }

    fn end_row(&mut self) {
        self.writer.write_record(None::<&[u8]>).expect(IN_MEMORY);
    }

    pub fn bytes(self) -> Vec<u8> {
        self.writer.into_inner().expect(IN_MEMORY)
    }

    pub fn request(&mut self, row: &RequestRow, commit: &Commit) {
        row.write(self);
        commit.write(self);
        for name in EFFECTIVE {
            match row.effective.get(*name) {
                Some(value) => self.field(value),
                None => self.name(""),
            }
        }
        let other: serde_json::Map<_, _> = row
            .effective
            .iter()
            .filter(|(name, _)| !EFFECTIVE.contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name.clone(), serde_json::to_value(value).ok()?)))
            .collect();
        self.name(if other.is_empty() { String::new() } else { serde_json::Value::from(other).to_string() });
        self.end_row();
    }

    pub fn token(&mut self, row: &TokenRow) {
        row.write(self);
        self.end_row();
    }

    pub fn span(&mut self, row: &SpanRow) {
        row.write(self);
        self.end_row();
    }

    pub fn telemetry(&mut self, row: &TelemetryRow) {
        self.field(&row.t_ns);
        self.field(&row.host);
        for value in &row.values {
            self.field(value);
        }
        self.end_row();
    }
}

const IN_MEMORY: &str = "rows of one width, written to memory";

/// Header lines of the four files, in the order they are committed: tokens, spans, telemetry,
/// requests.
pub(super) fn headers(gauges: &[GaugeInfo]) -> [(&'static str, Vec<u8>); 4] {
    let line = |names: Vec<String>| {
        let mut encoder = Encoder::new();
        names.into_iter().for_each(|name| encoder.name(name));
        encoder.end_row();
        encoder.bytes()
    };
    let own = |columns: &[Column]| columns.iter().map(|c| c.name.to_owned()).collect::<Vec<_>>();
    let telemetry = own(TELEMETRY_COLUMNS).into_iter().chain(gauges.iter().map(|g| g.name.clone())).collect();
    [
        (TOKENS, line(own(TOKEN_COLUMNS))),
        (SPANS, line(own(SPAN_COLUMNS))),
        (TELEMETRY, line(telemetry)),
        (REQUESTS, line(request_column_names())),
    ]
}

/// Names of the columns of `requests.csv`, in order.
#[must_use]
pub fn request_column_names() -> Vec<String> {
    let fixed = REQUEST_COLUMNS.iter().chain(COMMIT_COLUMNS).map(|c| c.name.to_owned());
    fixed.chain(effective_columns().into_iter().map(|(name, _)| name)).collect()
}

/// Columns of effective settings in `requests.csv`, in order, each with its meaning.
#[must_use]
pub fn effective_columns() -> Vec<(String, String)> {
    let own = EFFECTIVE.iter().map(|name| {
        let meaning = match *name {
            EFFECTIVE_WINDOW => "tokens in the penalty's window when the last token was sampled; 0 = off",
            EFFECTIVE_CHUNK => "tokens in the largest prefill forward pass",
            toggle => toggle::find(toggle).map_or("", |toggle| toggle.meaning),
        };
        (format!("{EFFECTIVE_PREFIX}{name}"), meaning.to_owned())
    });
    own.chain([(EFFECTIVE_OTHER.to_owned(), "JSON object of other effective settings".to_owned())]).collect()
}

/// The positions of the columns of `requests.csv` in a given file.
pub(super) struct RequestReader {
    fixed: Vec<Option<usize>>,
    commit: Vec<Option<usize>>,
    /// Name of the setting, name of the column, position.
    effective: Vec<(String, String, usize)>,
    other: Option<usize>,
    /// Files of older versions do not have the column `cause`.
    has_cause: bool,
}

impl RequestReader {
    pub fn new(columns: &Columns) -> Self {
        let effective = columns
            .names()
            .enumerate()
            .filter(|(_, name)| *name != EFFECTIVE_OTHER)
            .filter_map(|(at, name)| Some((name.strip_prefix(EFFECTIVE_PREFIX)?.to_owned(), name.to_owned(), at)))
            .collect();
        Self {
            fixed: columns.places(REQUEST_COLUMNS),
            commit: columns.places(COMMIT_COLUMNS),
            effective,
            other: columns.place(EFFECTIVE_OTHER),
            has_cause: columns.place("cause").is_some(),
        }
    }

    pub fn row(&self, line: &Line<'_>) -> Result<(RequestRow, Commit), RecordError> {
        let commit = Commit::read(line, &self.commit)?;
        let mut row = RequestRow::read(line, &self.fixed, self.settings(line)?)?;
        row.cause = match row.cause {
            _ if !self.has_cause => cause::of_older_row(row.status, &row.reason),
            Some(cause) => Some(cause.with_status(row.status)),
            None => None,
        };
        Ok((row, commit))
    }

    fn settings(&self, line: &Line<'_>) -> Result<Settings, RecordError> {
        let mut settings = match line.text(self.other, EFFECTIVE_OTHER)? {
            "" => Settings::new(),
            json => serde_json::from_str(json)
                .map_err(|e| line.error(EFFECTIVE_OTHER, format!("not a JSON object of settings: {e}")))?,
        };
        for (setting, column, at) in &self.effective {
            if let Some(value) = line.field(Some(*at), column)? {
                settings.insert(setting.clone(), value);
            }
        }
        Ok(settings)
    }
}

pub(super) struct TokenReader(Vec<Option<usize>>);

impl TokenReader {
    pub fn new(columns: &Columns) -> Self {
        Self(columns.places(TOKEN_COLUMNS))
    }

    pub fn row(&self, line: &Line<'_>) -> Result<TokenRow, RecordError> {
        TokenRow::read(line, &self.0)
    }
}

pub(super) struct SpanReader(Vec<Option<usize>>);

impl SpanReader {
    pub fn new(columns: &Columns) -> Self {
        Self(columns.places(SPAN_COLUMNS))
    }

    pub fn row(&self, line: &Line<'_>) -> Result<SpanRow, RecordError> {
        SpanRow::read(line, &self.0)
    }
}

/// Reads the gauges of the manifest, in any column order.
pub(super) struct TelemetryReader {
    fixed: Vec<Option<usize>>,
    gauges: Vec<(String, Option<usize>)>,
}

impl TelemetryReader {
    pub fn new(columns: &Columns, gauges: &[GaugeInfo]) -> Self {
        Self {
            fixed: columns.places(TELEMETRY_COLUMNS),
            gauges: gauges.iter().map(|g| (g.name.clone(), columns.place(&g.name))).collect(),
        }
    }

    pub fn row(&self, line: &Line<'_>) -> Result<TelemetryRow, RecordError> {
        Ok(TelemetryRow {
            t_ns: line.field(self.fixed[0], "t_ns")?,
            host: line.field(self.fixed[1], "host")?,
            values: self.gauges.iter().map(|(name, at)| line.field(*at, name)).collect::<Result<_, _>>()?,
        })
    }
}
