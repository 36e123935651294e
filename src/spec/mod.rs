//! The harness's own types: scenario, plan, machine. No I/O.

pub mod ab;
pub mod build;
pub mod machine;
pub mod plan;
pub mod scenario;
pub mod telemetry;
pub mod traffic;

pub use ab::{AbSettings, CellSelector, Gate, GateMetric, GateOrigin, OutputsRule, Scale, Side};
pub use build::BuildSettings;
pub use machine::{GitState, Machine};
pub use plan::{Cell, Plan};
pub use scenario::{
    Axis, ConversationWorkload, ExternalCauses, Isolation, ProfileSettings, ProfilerChoice, PromptWorkload,
    QualitySettings, Replies, RunSettings, Scenario, SpanSync, TelemetrySettings, Threads, Turn, Vary, Workload,
};
pub use telemetry::{GaugeInfo, SamplingInfo, TelemetryRow};
pub use traffic::{Arrivals, Level, Limits, TrafficSettings};
