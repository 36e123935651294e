//! Rows as CSV: one table of columns a file, read by name.
//!
//! An unknown column is ignored and a missing one reads as "not measured", so that older and newer builds of the same
//! major version read each other's records.

use super::error::RecordError;
use super::field::Field;
use super::schema::{RequestRow, SpanRow, TelemetryRow, TokenRow};
use super::table::{Columns, Line};
use crate::spec::GaugeInfo;
use inferometer_protocol::effective::{EFFECTIVE, EFFECTIVE_CHUNK, EFFECTIVE_WINDOW};
use inferometer_protocol::{Settings, toggle};

pub const REQUESTS: &str = "requests.csv";
pub const TOKENS: &str = "tokens.csv";
pub const SPANS: &str = "spans.csv";
pub const TELEMETRY: &str = "telemetry.csv";

/// One column of a file of the record, as `docs/record.md` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// Empty for names, flags and numbers that only count places.
    pub unit: &'static str,
    pub meaning: &'static str,
}

/// Prefix of the columns that hold effective settings.
const EFFECTIVE_PREFIX: &str = "effective_";
/// JSON object of the effective settings that have no column of their own.
const EFFECTIVE_OTHER: &str = "effective_other";

/// Makes a struct of fields that stand each in a column of the field's name: the columns, a writer and a reader.
/// Leaving a field out of the list does not compile.
macro_rules! columns {
    ($columns:ident, $write:ident, $read:ident, $row:ident $(, besides $rest:ident)?:
     $($field:ident $unit:literal $meaning:literal;)*) => {
        pub const $columns: &[Column] = &[
            $(Column { name: stringify!($field), unit: $unit, meaning: $meaning },)*
        ];

        fn $write(row: &$row, line: &mut Encoder) {
            let $row { $($field,)* $($rest: _)? } = row;
            $(line.field($field);)*
        }

        fn $read(line: &Line<'_>, columns: &[Option<usize>] $(, $rest: Settings)?) -> Result<$row, RecordError> {
            let mut at = columns.iter().copied();
            Ok($row {
                $($field: line.field(at.next().flatten(), stringify!($field))?,)*
                $($rest)?
            })
        }
    };
}

columns! { REQUEST_COLUMNS, write_request_row, read_request_row, RequestRow, besides effective:
    request "" "number of the request within the run, from 0; rises in the file, also over a resume";
    warmup "" "true: ran unmeasured, before the cell's first iteration in a fresh host";
    cell "" "id of the cell in the plan of `run.json`";
    iteration "" "iteration of the cell, from 1; 0 for warm-ups";
    turn "" "turn of a conversation, from 0";
    engine "" "label of the engine";
    host "" "number of the host process within the run, from 0; `hosts` of `run.json` tells more";
    status "" "`ok`; `failed`: an outcome of the engine; `invalid`: an external cause, or a measurement that cannot be trusted";
    reason "" "why it is failed or invalid; empty otherwise";
    start_ns "ns" "request written to the host, harness clock, from the run's origin";
    end_ns "ns" "reply read, or the failure noticed, harness clock, from the run's origin";
    finish_reason "" "`stop`, `length`, `cancelled` or `error`";
    prompt_tokens "tokens" "length of the whole prompt";
    reused_tokens "tokens" "of these, taken from the KV cache of an earlier request";
    prefill_tokens "tokens" "of these, computed in this request";
    generated_tokens "tokens" "tokens generated";
    cache_tokens "tokens" "length of the KV cache after the request, measured on the cache itself";
    load_s "s" "from opening the model to the first possible request; only in the first row of a host";
    tokenize_ms "ms" "time in the tokenize phase";
    ttft_ms "ms" "time to first token: request accepted to first token readable";
    prefill_ms "ms" "time in the prefill phase";
    decode_ms "ms" "first to last token";
    e2e_ms "ms" "request accepted to last token";
    prefill_tps "tok/s" "prefill_tokens / time in the prefill phase";
    decode_tps "tok/s" "(N-1) / (t_last - t_first) for N generated tokens";
    tpot_ms "ms" "mean gap between tokens";
    itl_p50_ms "ms" "median gap between tokens";
    itl_p95_ms "ms" "95th percentile of the gaps between tokens";
    itl_p99_ms "ms" "99th percentile of the gaps between tokens";
    itl_max_ms "ms" "longest gap between tokens";
    peak_rss_bytes "bytes" "highest resident memory of the host process, the kernel's own high-water mark, reset before the request";
    engine_active_bytes "bytes" "memory in use after the request, as the engine reports it";
    engine_cache_bytes "bytes" "memory the engine's allocator holds for reuse, as the engine reports it";
    engine_peak_bytes "bytes" "highest memory in use during the request, as the engine reports it";
    kv_cache_bytes "bytes" "memory allocated for KV caches, as the engine reports it";
    cpu_ms "ms" "CPU time of the host process during the request, user and system, all threads";
    cpu_instructions "count" "instructions retired by the host process during the request";
    cpu_cycles "count" "CPU cycles of the host process during the request";
    token_hash "" "first 16 hex digits of SHA-256 over the generated ids as little-endian 32-bit numbers";
    memory_cycles "count" "cycles of the memory gauge over the whole iteration, by rainflow counting; in its last row only";
    memory_swing_bytes "bytes" "the largest of these cycles, in the iteration's last row only";
    memory_reclaimed_bytes "bytes" "sum of the memory gauge's falls over the whole iteration; in its last row only";
    prefill_energy_j "J" "energy used during the prefill phase, where power is measured";
    decode_energy_j "J" "energy used from first to last token, where power is measured";
}

columns! { COMMIT_COLUMNS, write_commit, read_commit_row, Commit:
    token_rows "rows" "rows of this request in `tokens.csv`";
    span_rows "rows" "rows of this request in `spans.csv`";
    telemetry_rows "rows" "rows of `telemetry.csv` that were committed with this iteration; 0 but in its last row";
    rows_left "rows" "rows of the same iteration that follow this one; an iteration is committed by its row with 0";
}

columns! { TOKEN_COLUMNS, write_token_row, read_token_row, TokenRow:
    request "" "number of the request";
    index "" "position in the generation, from 0";
    id "" "token id in the model's vocabulary";
    t_ns "ns" "when the token was readable on the host, from the run's origin, on the harness clock";
}

columns! { SPAN_COLUMNS, write_span_row, read_span_row, SpanRow:
    request "" "number of the request";
    phase "" "what the engine was doing: `load`, `tokenize`, `prefill`, `decode`, and inside them `prefill_chunk`, `cache_clear`, `forward`, `penalty`, `sample`, `detokenize`, `wait`; before them `reset`, which the harness records itself";
    index "" "which one of its phase within the request, from 0";
    start_ns "ns" "begin, from the run's origin, on the harness clock";
    end_ns "ns" "end, likewise";
}

/// Columns of `telemetry.csv` before those of the gauges.
pub const TELEMETRY_COLUMNS: &[Column] = &[
    Column {
        name: "t_ns",
        unit: "ns",
        meaning: "when the sample was taken, from the run's origin, on the harness clock",
    },
    Column {
        name: "host",
        unit: "",
        meaning: "number of the host process that the process gauges looked at; empty between hosts",
    },
];

/// How a request's row binds the other files to it; held by `requests.csv` only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Commit {
    pub token_rows: u64,
    pub span_rows: u64,
    pub telemetry_rows: u64,
    pub rows_left: u64,
}

/// Rows of one file, encoded in memory so that they reach it in one write.
pub(super) struct Encoder {
    writer: csv::Writer<Vec<u8>>,
    text: String,
}

impl Encoder {
    pub fn new() -> Self {
        Self { writer: csv::Writer::from_writer(Vec::new()), text: String::new() }
    }

    fn field(&mut self, value: &impl Field) {
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
        write_request_row(row, self);
        write_commit(commit, self);
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
        write_token_row(row, self);
        self.end_row();
    }

    pub fn span(&mut self, row: &SpanRow) {
        write_span_row(row, self);
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

/// Header lines of the four files, in the order they are committed: tokens, spans, telemetry, requests.
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
            EFFECTIVE_WINDOW => "tokens the penalty looked at when the last token was sampled; 0 = off",
            EFFECTIVE_CHUNK => "tokens in the largest prefill forward pass",
            toggle => toggle::find(toggle).map_or("", |toggle| toggle.meaning),
        };
        (format!("{EFFECTIVE_PREFIX}{name}"), meaning.to_owned())
    });
    own.chain([(EFFECTIVE_OTHER.to_owned(), "JSON object of further effective settings".to_owned())]).collect()
}

/// Where the columns of `requests.csv` stand in a given file.
pub(super) struct RequestReader {
    fixed: Vec<Option<usize>>,
    commit: Vec<Option<usize>>,
    /// Name of the setting, name of the column, place.
    effective: Vec<(String, String, usize)>,
    other: Option<usize>,
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
        }
    }

    pub fn row(&self, line: &Line<'_>) -> Result<(RequestRow, Commit), RecordError> {
        let commit = read_commit_row(line, &self.commit)?;
        Ok((read_request_row(line, &self.fixed, self.settings(line)?)?, commit))
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
        read_token_row(line, &self.0)
    }
}

pub(super) struct SpanReader(Vec<Option<usize>>);

impl SpanReader {
    pub fn new(columns: &Columns) -> Self {
        Self(columns.places(SPAN_COLUMNS))
    }

    pub fn row(&self, line: &Line<'_>) -> Result<SpanRow, RecordError> {
        read_span_row(line, &self.0)
    }
}

/// Reads the gauges of the manifest, wherever their columns stand.
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
