//! What a run says about where it was made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine the run was made on. Absent where the system does not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Machine {
    pub os: String,
    pub kernel: Option<String>,
    pub arch: String,
    pub cpu: Option<String>,
    pub physical_cores: Option<u32>,
    pub logical_cores: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub accelerator: Option<String>,
    pub virtual_machine: Option<bool>,
    pub governor: Option<String>,
    pub power_source: Option<String>,
    /// One-minute load average when the run began.
    pub load_at_start: Option<f64>,
    /// CPU features that matter for arithmetic, such as `avx512f`.
    pub cpu_features: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GitState {
    pub commit: String,
    pub dirty: bool,
}
