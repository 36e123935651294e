//! One telemetry series, and one sample of all of them: what the sampler gives and the record keeps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A row of `telemetry.csv`: one sample of all gauges.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryRow {
    pub t_ns: u64,
    /// Host whose process the process gauges looked at; `None` between hosts.
    pub host: Option<u32>,
    /// One value a gauge, in the order of the run's gauges; `None` where not measured.
    pub values: Vec<Option<f64>>,
}

/// How well one sitting's sampling went, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SamplingInfo {
    pub interval_ms: u32,
    pub samples: u64,
    /// Deadlines that passed while an earlier sample, or the machine, was still busy.
    pub skipped: u64,
    /// How long after its deadline a sample began; absent before the first one.
    pub jitter_p50_ns: Option<f64>,
    pub jitter_p99_ns: Option<f64>,
    /// CPU time of the sampling thread.
    pub cpu_ns: u64,
    /// Time that it was at work, rests left out; `cpu_ns` / this is its share of a core.
    pub active_ns: u64,
}

/// One telemetry series that the run records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GaugeInfo {
    /// Column name, unit included: `rss_bytes`, `process_cpu_percent`.
    pub name: String,
    pub unit: String,
    pub source: String,
    /// Why it is not there, where it is not; such a column stays empty.
    pub absent: Option<String>,
}
