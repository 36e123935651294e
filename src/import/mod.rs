//! Results of other benchmark programs, as records that `compare`, `history` and `export` read.
//!
//! Nothing in such a record was measured here: its manifest has a block `imported`, its token times
//! have the grade `imported`, and what the file does not say stays empty. Samples become
//! iterations; a mean or median without samples becomes an [`Average`], never an iteration.

mod aiperf;
mod guidellm;
mod json;
mod llama_bench;
mod mlx_lm;
mod record;
mod sql;
mod vllm;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::record::{Average, AverageOf, RequestRow, Status, Timing};
use crate::spec::Machine;
use inferometer_protocol::{Settings, Value};

pub use record::write;

/// A program whose results can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// llama-bench: JSON, JSON lines, CSV, SQL.
    LlamaBench,
    /// `mlx_lm.benchmark`: what it prints.
    MlxLm,
    /// guidellm: its JSON report.
    Guidellm,
    /// AIPerf: `profile_export_aiperf.json`.
    Aiperf,
    /// `vllm bench serve --save-result`.
    Vllm,
}

impl Format {
    pub const ALL: [Self; 5] = [Self::LlamaBench, Self::MlxLm, Self::Guidellm, Self::Aiperf, Self::Vllm];

    /// Name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LlamaBench => "llama-bench",
            Self::MlxLm => "mlx-lm",
            Self::Guidellm => "guidellm",
            Self::Aiperf => "aiperf",
            Self::Vllm => "vllm",
        }
    }

    /// The program, as it calls itself.
    #[must_use]
    pub fn tool(self) -> &'static str {
        match self {
            Self::LlamaBench => "llama-bench",
            Self::MlxLm => "mlx_lm.benchmark",
            Self::Guidellm => "guidellm",
            Self::Aiperf => "AIPerf",
            Self::Vllm => "vllm bench serve",
        }
    }
}

/// What a file says about one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Version of the tool.
    pub version: Option<String>,
    /// Commit of the engine's build.
    pub commit: Option<String>,
    /// The engine's name in tables.
    pub engine: &'static str,
    pub model: Option<String>,
    pub started: Option<Timestamp>,
    pub machine: Machine,
    pub cells: Vec<FoundCell>,
    /// Sentences about what the file has and the record leaves out.
    pub warnings: Vec<String>,
}

/// One configuration that was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FoundCell {
    pub label: String,
    /// Exact prompt length in tokens, if the file states one.
    pub length: Option<u32>,
    pub settings: Settings,
    /// One for each sample.
    pub rows: Vec<RequestRow>,
    /// Figures without samples; their `cell` is filled in later.
    pub averages: Vec<Average>,
}

impl FoundCell {
    fn average(&mut self, metric: &str, value: f64, of: AverageOf, over: Option<u64>, deviation: Option<f64>) {
        self.averages.push(Average { cell: 0, metric: metric.to_owned(), value, of, over, deviation });
    }
}

/// A row of a sample that succeeded, without figures.
fn sample() -> RequestRow {
    RequestRow { status: Status::Ok, timing: Some(Timing::Imported), ..RequestRow::default() }
}

/// A setting whose value a table may hold as a text: whole numbers and booleans become numbers, so
/// that all formats of a tool agree.
fn setting(text: &str) -> Value {
    match text {
        "true" => Value::Int(1),
        "false" => Value::Int(0),
        _ => text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Int),
    }
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// `place` is a line or a key, such as `line 3` or `benchmarks[0].requests`.
    #[error("{}, {place}: {message}", path.display())]
    At { path: PathBuf, place: String, message: String },
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
    #[error("{} is imported already: {}", path.display(), record.display())]
    Again { path: PathBuf, record: PathBuf },
    #[error(transparent)]
    Record(#[from] crate::record::RecordError),
}

/// What is wrong with a file, before its path is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    place: Option<String>,
    message: String,
}

impl Fault {
    fn file(message: impl Into<String>) -> Self {
        Self { place: None, message: message.into() }
    }

    fn at(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: Some(place.into()), message: message.into() }
    }

    fn line(number: u64, message: impl Into<String>) -> Self {
        Self::at(format!("line {number}"), message)
    }
}

/// The runs in a file, with the format that they have: `format`, or the one that its content shows.
///
/// # Errors
/// A file that cannot be read or has no known format; a value that cannot be what its name says.
/// The error names the file, and the line or key.
pub fn read(path: &Path, format: Option<Format>) -> Result<(Format, Vec<Found>), ImportError> {
    let bytes = fs_err::read(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| ImportError::File { path: path.to_owned(), message: "not a text in UTF-8".to_owned() })?;
    parse(text.trim_start_matches('\u{feff}'), format).map_err(|fault| match fault {
        Fault { place: None, message } => ImportError::File { path: path.to_owned(), message },
        Fault { place: Some(place), message } => ImportError::At { path: path.to_owned(), place, message },
    })
}

fn parse(text: &str, format: Option<Format>) -> Result<(Format, Vec<Found>), Fault> {
    let content = Content::of(text);
    let format = format.map_or_else(|| detect(&content), Ok)?;
    let runs = match format {
        Format::LlamaBench => llama_bench::runs(&content)?,
        Format::MlxLm => mlx_lm::runs(text)?,
        Format::Guidellm => guidellm::runs(content.whole()?)?,
        Format::Aiperf => aiperf::runs(content.whole()?)?,
        Format::Vllm => vllm::runs(content.values()?)?,
    };
    let measured = |run: &&Found| run.cells.iter().any(|cell| !cell.rows.is_empty() || !cell.averages.is_empty());
    if runs.iter().filter(measured).count() == 0 {
        return Err(Fault::file(format!("no result of {} in it", format.tool())));
    }
    Ok((format, runs))
}

/// A file's content: JSON values, or text.
enum Content<'a> {
    /// One value, or one a line; with the line that each begins on.
    Json(Vec<(u64, serde_json::Value)>),
    Text {
        text: &'a str,
        no_json: Option<Fault>,
    },
}

impl<'a> Content<'a> {
    fn of(text: &'a str) -> Self {
        let seems_json = text.trim_start().starts_with(['{', '[']);
        let mut values = Vec::new();
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
        let (mut line, mut counted) = (1, 0);
        loop {
            let before = stream.byte_offset();
            let begin = before + text[before..].len() - text[before..].trim_start().len();
            line += text[counted..begin].matches('\n').count() as u64;
            counted = begin;
            match stream.next() {
                None => return Self::Json(values),
                Some(Ok(value)) => values.push((line, value)),
                Some(Err(error)) => {
                    let fault = Fault::line(error.line() as u64, format!("not JSON: {error}"));
                    return Self::Text { text, no_json: seems_json.then_some(fault) };
                }
            }
        }
    }

    /// All JSON values.
    fn values(&self) -> Result<&[(u64, serde_json::Value)], Fault> {
        match self {
            Self::Json(values) => Ok(values),
            Self::Text { no_json: Some(fault), .. } => Err(fault.clone()),
            Self::Text { .. } => Err(Fault::line(1, "not JSON")),
        }
    }

    /// The only JSON value.
    fn whole(&self) -> Result<&serde_json::Value, Fault> {
        match self.values()? {
            [(_, value)] => Ok(value),
            [] => Err(Fault::file("the file is empty")),
            [_, (line, _), ..] => Err(Fault::line(*line, "more than one JSON value")),
        }
    }
}

fn detect(content: &Content<'_>) -> Result<Format, Fault> {
    let unknown = || {
        let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
        Fault::file(format!(
            "not recognized as a result of any known tool; name it with `--format {}`",
            names.join("|")
        ))
    };
    match content {
        Content::Json(values) => {
            let first = &values.first().ok_or_else(|| Fault::file("the file is empty"))?.1;
            let first = first.get(0).unwrap_or(first);
            let has = |keys: &[&str]| keys.iter().all(|key| first.get(key).is_some());
            match () {
                () if has(&["n_prompt", "n_gen"]) => Ok(Format::LlamaBench),
                () if has(&["benchmarks"]) => Ok(Format::Guidellm),
                () if has(&["aiperf_version"]) || has(&["request_latency", "input_config"]) => Ok(Format::Aiperf),
                () if has(&["model_id", "num_prompts", "duration"]) => Ok(Format::Vllm),
                () => Err(unknown()),
            }
        }
        Content::Text { no_json: Some(fault), .. } => Err(fault.clone()),
        Content::Text { text, .. } => {
            let line = |found: &dyn Fn(&str) -> bool| text.lines().any(|line| found(line.trim_start()));
            match () {
                () if line(&|l| {
                    l.starts_with("Timing with prompt_tokens=") || l.starts_with("Averages: prompt_tps=")
                }) =>
                {
                    Ok(Format::MlxLm)
                }
                () if line(&|l| l.starts_with("INSERT INTO")) => Ok(Format::LlamaBench),
                () if text.lines().next().is_some_and(|head| head.contains("n_prompt") && head.contains("avg_ts")) => {
                    Ok(Format::LlamaBench)
                }
                () if line(&|l| l.starts_with("| model ") && l.contains("t/s")) => Err(Fault::file(
                    "llama-bench's table for people has rounded figures; let it write `-o json`, `jsonl`, `csv` or `sql`",
                )),
                () => Err(unknown()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
