//! A telemetry series, and a sample of all series, as sampled and recorded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A row of `telemetry.csv`: one sample of all gauges.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryRow {
    pub t_ns: u64,
    /// Host whose process was sampled by the process gauges; `None` between hosts.
    pub host: Option<u32>,
    /// One value per gauge, in the order of the run's gauges; `None` if not measured.
    pub values: Vec<Option<f64>>,
}

/// Quality and cost of the sampling in one run segment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SamplingInfo {
    pub interval_ms: u32,
    pub samples: u64,
    /// Deadlines that passed while an earlier sample, or the machine, was still busy.
    pub skipped: u64,
    /// Delay from a sample's deadline to its begin; absent before the first sample.
    pub jitter_p50_ns: Option<f64>,
    pub jitter_p99_ns: Option<f64>,
    /// CPU time of the sampling thread.
    pub cpu_ns: u64,
    /// Time during which the thread was sampling, without pauses; `cpu_ns` / this is its share of a
    /// core.
    pub active_ns: u64,
}

/// One recorded telemetry series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GaugeInfo {
    /// Column name including the unit: `rss_bytes`, `process_cpu_percent`.
    pub name: String,
    pub unit: String,
    pub source: String,
    /// Why the gauge is missing, if it is; its column stays empty.
    pub absent: Option<String>,
}
