//! Errors that an engine reports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is wrong: empty prompt, token id out of range, message out of order.
    BadRequest,
    /// The engine does not offer this capability or toggle.
    Unsupported,
    /// The model cannot be loaded: missing file, wrong tensor, unknown architecture.
    Model,
    OutOfMemory,
    /// The model computed values that are not finite: NaN or infinity.
    NotFinite,
    /// The server that the engine drives failed: no connection, an error status, a stream that
    /// breaks off, is late or is not of its API (since 1.7).
    Server,
    /// A protocol version or message that the other side does not understand.
    Protocol,
    /// Anything else that went wrong inside the engine.
    Internal,
    /// A kind this version does not know.
    #[serde(other)]
    Other,
}

/// An engine's error, as sent in the protocol's `error` message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("{message}")]
pub struct EngineError {
    pub kind: ErrorKind,
    /// What happened, where, and what to do.
    pub message: String,
}

impl EngineError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Model, message)
    }
    pub fn not_finite(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFinite, message)
    }
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Server, message)
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}
