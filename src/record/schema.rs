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
use inferometer_protocol::{FinishReason, Phase, Receipt, Settings};

/// Major version of the record; a reader refuses a newer one.
pub const SCHEMA_VERSION: u32 = 1;

/// Ends the reason of an iteration whose stamps do not fit what the harness saw, where a machine too busy to wake a process in
/// time may be the cause. Any other reason for `invalid` contradicts the engine's own words.
pub const MAYBE_BUSY: &str = "(a busy machine, or wrong stamps)";

/// Ends the reason of an iteration that something outside the engine disturbed. It says nothing against the engine.
pub const EXTERNAL_CAUSE: &str = "(external cause)";

/// What became of an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// An outcome of the engine: crash, time-out, out of memory, zero tokens, wrong finish reason.
    Failed,
    /// An external cause, or a measurement that cannot be trusted (stamps, effective settings).
    Invalid,
}

impl Status {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Invalid => "invalid",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Status::Ok, Status::Failed, Status::Invalid].into_iter().find(|status| status.name() == name)
    }
}

/// One request: a row of `requests.csv`. An iteration is committed by these rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRow {
    /// Number within the run, from 0; rises in the file, also over a resume.
    pub request: u64,
    /// Not measured: ran before the cell's first iteration in a fresh host.
    pub warmup: bool,
    /// Cell id in the manifest's plan.
    pub cell: u32,
    /// From 1; 0 for warm-ups.
    pub iteration: u32,
    /// Turn of a conversation, from 0.
    pub turn: u32,
    /// Label of the engine.
    pub engine: String,
    /// Which host process, by its number within the run, from 0.
    pub host: u32,
    pub status: Status,
    /// Why it is failed or invalid; empty otherwise.
    pub reason: String,
    /// Request written to the host, harness clock.
    pub start_ns: u64,
    /// Reply read, or the failure noticed, harness clock.
    pub end_ns: u64,
    /// Effective settings as the engine reported them.
    pub effective: Settings,
    pub finish_reason: Option<FinishReason>,
    pub prompt_tokens: Option<u32>,
    pub reused_tokens: Option<u32>,
    pub prefill_tokens: Option<u32>,
    pub generated_tokens: Option<u32>,
    /// Measured length of the KV cache after the request.
    pub cache_tokens: Option<u32>,
    /// Time from opening the model to the first possible request, in the first row of a host only.
    pub load_s: Option<f64>,
    pub tokenize_ms: Option<f64>,
    /// Request accepted to first token readable.
    pub ttft_ms: Option<f64>,
    /// Time in the prefill phase.
    pub prefill_ms: Option<f64>,
    /// First to last token.
    pub decode_ms: Option<f64>,
    /// Request accepted to last token.
    pub e2e_ms: Option<f64>,
    /// Prompt tokens computed / time in prefill, tok/s.
    pub prefill_tps: Option<f64>,
    /// (N-1) / (t_last - t_first), tok/s.
    pub decode_tps: Option<f64>,
    /// Mean gap between tokens; `itl_*` are its percentiles.
    pub tpot_ms: Option<f64>,
    pub itl_p50_ms: Option<f64>,
    pub itl_p95_ms: Option<f64>,
    pub itl_p99_ms: Option<f64>,
    pub itl_max_ms: Option<f64>,
    /// The kernel's high-water mark of the host's resident memory, reset before the request.
    pub peak_rss_bytes: Option<u64>,
    pub engine_active_bytes: Option<u64>,
    pub engine_cache_bytes: Option<u64>,
    pub engine_peak_bytes: Option<u64>,
    pub kv_cache_bytes: Option<u64>,
    /// CPU time of the host process during the request (user and system, all threads).
    pub cpu_ms: Option<f64>,
    pub cpu_instructions: Option<u64>,
    pub cpu_cycles: Option<u64>,
    /// First 16 hex digits of SHA-256 over the generated ids (little-endian u32).
    pub token_hash: Option<String>,
    /// Memory oscillation of the iteration up to the end of this request, in its last row only: cycles of the memory gauge
    /// (METHOD section 5), ...
    pub memory_cycles: Option<u32>,
    /// ... the largest of them, ...
    pub memory_swing_bytes: Option<u64>,
    /// ... and the sum of its falls.
    pub memory_reclaimed_bytes: Option<u64>,
    /// Energy used during the prefill and the decode phase, where power is measured.
    pub prefill_energy_j: Option<f64>,
    pub decode_energy_j: Option<f64>,
}

/// A row of `tokens.csv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    pub request: u64,
    /// Position in the generation, from 0.
    pub index: u32,
    pub id: u32,
    pub t_ns: u64,
}

/// A row of `spans.csv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanRow {
    pub request: u64,
    pub phase: Phase,
    pub index: u32,
    pub start_ns: u64,
    pub end_ns: u64,
}

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
    pub sessions: u32,
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
