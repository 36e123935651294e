//! Facts about the machine of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine of the run. Fields are absent if the system does not provide them.
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
    /// CPU features that affect arithmetic, such as `avx512f`.
    pub cpu_features: Vec<String>,
}

impl Machine {
    /// Operating system and architecture; `None` in an imported record, which has neither.
    #[must_use]
    pub fn system(&self) -> Option<String> {
        (!self.os.is_empty()).then(|| format!("{} {}", self.os, self.arch))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GitState {
    pub commit: String,
    pub dirty: bool,
}
