//! The shapes of the record, version 1. Columns are appended, never renamed; units stand in names.
//!
//! Times named `t_ns`, `start_ns`, `end_ns` count from the run's origin ([`Manifest::origin_utc`]) on the harness's
//! monotonic clock; a resumed session goes on from the wall-clock distance to that origin.
//! What was not measured is empty in CSV and null in JSON.

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
    /// When it was started, from the run's origin.
    #[serde(default)]
    pub started_ns: Option<u64>,
    pub command: Vec<String>,
    /// SHA-256 of the host's executable, where it is a file that can be read.
    pub executable_sha256: Option<String>,
    /// SHA-256 of the files that the command line of an engine not built in names, such as an adapter's script, by the
    /// argument; as they were when this sitting of the run first started the command.
    #[serde(default)]
    pub command_sha256: BTreeMap<String, String>,
    pub receipt: Receipt,
    pub load_s: f64,
    /// Host clock minus harness clock, from the ping with the shortest round trip.
    pub clock_offset_ns: i64,
    pub clock_round_trip_ns: u64,
    pub clock: String,
    /// Receipt fields that the harness checked itself (the rest are as reported).
    pub verified: Vec<String>,
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
    /// When the run (or its last resumed session) ended.
    pub finished_utc: Option<String>,
    pub state: FinishState,
    /// How many times `run` worked on this folder: 1, plus one a resume.
    #[serde(rename = "sessions")]
    pub segments: u32,
    pub scenario: Scenario,
    /// SHA-256 of the resolved scenario.
    pub scenario_sha256: String,
    pub plan: Plan,
    /// SHA-256 of each cell's prompt by the cell's id: over the token ids as little-endian 32-bit numbers, over the text
    /// in UTF-8, or over the messages as JSON.
    #[serde(default)]
    pub prompts: BTreeMap<String, String>,
    pub machine: Machine,
    /// Repository of the working folder, where there is one.
    pub git: Option<GitState>,
    pub gauges: Vec<GaugeInfo>,
    /// How the sampling went: one entry a sitting that ended in order.
    #[serde(default)]
    pub sampling: Vec<SamplingInfo>,
    pub hosts: Vec<HostInfo>,
    /// Findings of the driver that concern the whole run, in plain sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Generated text by token hash, where the engine gives text.
    #[serde(default)]
    pub texts: BTreeMap<String, String>,
}
