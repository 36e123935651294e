//! The engine protocol: the messages between the harness and an engine host, and their types.
//!
//! See `docs/reference/protocol.md` for the wire format. This crate knows no engine and does no I/O
//! beyond reading lines and files of bounded length.

pub mod bounded;
pub mod chat;
pub mod clock;
pub mod effective;
pub mod engine;
pub mod error;
pub mod messages;
pub mod model;
pub mod profile;
pub mod receipt;
pub mod request;
pub mod sampling;
pub mod toggle;
pub mod units;
pub mod value;

pub use chat::{Chat, Message};
pub use effective::{Shape, predict};
pub use engine::{EngineSpec, Honours, Offer, OptionSpec, Variant};
pub use error::{EngineError, ErrorKind};
pub use messages::{Detail, Instrumentation};
pub use model::{Architecture, ModelIdentity, ModelSpec, Precision, Quantization};
pub use profile::{PhaseAllocations, Profile, ProfilePart, ProfileStack, SampleClock, SpanTiming};
pub use receipt::{Capabilities, Receipt, TokenTiming, WorksIn};
pub use request::{
    Choice, Completion, EngineMemory, FinishReason, MemorySample, Phase, Prompt, Request, Served, Span, Speculation,
    TokenLogprob,
};
pub use sampling::Sampling;
pub use toggle::{Scope, ToggleSpec};
pub use value::{Kind, Settings, Value};

/// Environment variable with the harness's process id, so that a host can end with the harness.
pub const PARENT_VARIABLE: &str = "INFEROMETER_PARENT";
