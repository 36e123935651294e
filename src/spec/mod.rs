//! The nouns every floor shares. This floor knows no I/O and no engine.

pub mod ab;
pub mod build;
pub mod effective;
pub mod engine;
pub mod error;
pub mod machine;
pub mod model;
pub mod plan;
pub mod profile;
pub mod protocol;
pub mod receipt;
pub mod request;
pub mod scenario;
pub mod telemetry;
pub mod toggle;
pub mod value;

pub use ab::{AbSettings, CellSelector, Gate, GateMetric, OutputsRule, Scale, Side};
pub use build::BuildSettings;
pub use effective::{Shape, predict};
pub use engine::{EngineSpec, Honours, Offer, OptionSpec, Variant};
pub use error::{EngineError, ErrorKind};
pub use machine::{GitState, Machine};
pub use model::{Architecture, ModelIdentity, ModelSpec, Precision, Quantization};
pub use plan::{Cell, Plan};
pub use profile::{PhaseAllocations, Profile, ProfilePart, ProfileStack, SampleClock, SpanTiming};
pub use receipt::{Capabilities, Receipt, TokenTiming};
pub use request::{
    Choice, Completion, EngineMemory, FinishReason, MemorySample, Message, Phase, Prompt, Request, Sampling, Span,
};
pub use scenario::{
    Axis, ConversationWorkload, ExternalCauses, Isolation, ProfileSettings, ProfilerChoice, PromptWorkload, Replies,
    RunSettings, Scenario, SpanSync, TelemetrySettings, Threads, Turn, Vary, Workload,
};
pub use telemetry::{GaugeInfo, SamplingInfo, TelemetryRow};
pub use toggle::{Scope, ToggleSpec};
pub use value::{Kind, Settings, Value};
