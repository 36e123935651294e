//! The shapes of the record, version 1. Columns are appended, never renamed; names contain the
//! unit.
//!
//! Times named `t_ns`, `start_ns`, `end_ns` count from the run's origin ([`Manifest::origin_utc`])
//! on the harness's monotonic clock; a resumed run places its times by wall-clock distance to that
//! origin. Values that were not measured are empty in CSV and null in JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::plan::Plan;
use crate::spec::scenario::Scenario;
pub use crate::spec::{GaugeInfo, GitState, Machine, SamplingInfo, TelemetryRow};
use inferometer_protocol::{Receipt, Settings};

/// Major version of the record; a reader refuses a newer one.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishState {
    Running,
    Interrupted,
    Finished,
}

/// A host process of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostInfo {
    /// Number within the run, from 0.
    pub host: u32,
    /// Index into the scenario's engines.
    pub engine: u32,
    /// Load-scope toggles as requested.
    pub load: Settings,
    pub pid: u32,
    /// Start time, from the run's origin.
    #[serde(default)]
    pub started_ns: Option<u64>,
    pub command: Vec<String>,
    /// SHA-256 of the host's executable, if it is a readable file.
    pub executable_sha256: Option<String>,
    /// SHA-256 of the files named in an external engine's command line, such as an adapter's
    /// script, by argument; as they were when this run segment first started the command.
    #[serde(default)]
    pub command_sha256: BTreeMap<String, String>,
    pub receipt: Receipt,
    pub load_s: f64,
    /// Times of the loads that followed in the same process, under isolation `load`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_loads_s: Vec<f64>,
    /// Memory of the process in huge pages after the load; `None` where the system does not say.
    #[serde(default)]
    pub huge_page_bytes: Option<u64>,
    /// Host clock minus harness clock, from the ping with the shortest round trip.
    pub clock_offset_ns: i64,
    pub clock_round_trip_ns: u64,
    pub clock: String,
    /// Receipt fields that the harness verified (the others are as reported).
    pub verified: Vec<String>,
}

impl HostInfo {
    /// The times of all loads of the process, in seconds.
    pub fn loads_s(&self) -> impl Iterator<Item = f64> {
        std::iter::once(self.load_s).chain(self.further_loads_s.iter().copied()).filter(|time| time.is_finite())
    }
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    pub schema_version: u32,
    /// Name of the run's folder.
    pub run: String,
    pub inferometer_version: String,
    /// RFC 3339; zero of every `*_ns` in the record.
    pub origin_utc: String,
    /// When the run (or its last run segment) ended.
    pub finished_utc: Option<String>,
    pub state: FinishState,
    /// Number of run segments: 1, plus one per resume.
    #[serde(rename = "sessions")]
    pub segments: u32,
    pub scenario: Scenario,
    /// SHA-256 of the resolved scenario.
    pub scenario_sha256: String,
    pub plan: Plan,
    /// SHA-256 of each cell's prompt by cell id: of the token ids as little-endian 32-bit numbers,
    /// of the text in UTF-8, or of the messages as JSON.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
    pub machine: Machine,
    /// Repository of the working directory, if there is one.
    pub git: Option<GitState>,
    pub gauges: Vec<GaugeInfo>,
    /// Statistics of the sampling: one entry per run segment that ended in order.
    #[serde(default)]
    pub sampling: Vec<SamplingInfo>,
    pub hosts: Vec<HostInfo>,
    /// Findings about the whole run, as sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Generated text by token hash, if the engine returns text.
    #[serde(default)]
    pub texts: BTreeMap<String, String>,
    /// What was removed from the record so that it can be shared; absent from an original record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redacted: Option<Redacted>,
    /// Another program measured this run; absent from a record of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
}

/// Where an imported record comes from. Nothing of it was measured or checked here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// The program that measured, as it calls itself.
    pub tool: String,
    pub tool_version: Option<String>,
    /// Commit of the engine's build, as the file states it.
    pub commit: Option<String>,
    /// Name of the file, without its folder.
    pub file: String,
    pub file_sha256: String,
    /// Figures that the file has without their samples.
    pub averages: Vec<Average>,
}

/// A mean or median of a cell without its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Average {
    pub cell: u32,
    /// Name of the metric in `summary.json`.
    pub metric: String,
    pub value: f64,
    pub of: AverageOf,
    /// Number of samples, if the file states it.
    pub over: Option<u64>,
    /// Standard deviation of the samples, if the file states it.
    pub deviation: Option<f64>,
}

/// What an [`Average`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AverageOf {
    Mean,
    Median,
}

impl Imported {
    /// The program and its version.
    #[must_use]
    pub fn by(&self) -> String {
        let version = self.tool_version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        format!("{}{version}", self.tool)
    }

    /// In a sentence, for reports.
    #[must_use]
    pub fn sentence(&self) -> String {
        let averages = match self.averages.len() {
            0 => String::new(),
            n => format!(
                " {n} of the figures are means or medians without samples: they have no interval and are never tested."
            ),
        };
        format!("Imported from {}, which {} wrote; tokens are not compared.{averages}", self.file, self.by())
    }

    /// The value of a cell's metric for which there are no samples.
    #[must_use]
    pub fn average(&self, cell: u32, metric: &str) -> Option<f64> {
        let found = self.averages.iter().find(|average| average.cell == cell && average.metric == metric)?;
        Some(found.value).filter(|value| value.is_finite())
    }
}

/// A record that `inferometer results redact` made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redacted {
    /// Version of the program that redacted it.
    pub inferometer_version: String,
    pub removed: Vec<Removed>,
}

/// A kind of content that a redacted record lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    Prompts,
    GeneratedTexts,
    /// Only hashes say whether outputs are equal.
    TokenIds,
    /// Of folders only; the names of files and models stay.
    Paths,
    Names,
    Secrets,
    CommitMessages,
    Logs,
}

impl Redacted {
    /// As this version redacts.
    #[must_use]
    pub fn now() -> Self {
        Self {
            inferometer_version: env!("CARGO_PKG_VERSION").to_owned(),
            removed: vec![
                Removed::Prompts,
                Removed::GeneratedTexts,
                Removed::TokenIds,
                Removed::Paths,
                Removed::Names,
                Removed::Secrets,
                Removed::CommitMessages,
                Removed::Logs,
            ],
        }
    }

    /// In a sentence, for reports.
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        "The record is redacted: prompts, texts and token ids were removed, so outputs can be compared by their hashes only."
    }
}
