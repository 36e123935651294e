//! What a run leaves on disk. Everything after it is a pure function of these files.

pub mod schema;

pub use schema::{
    FinishState, GaugeInfo, GitState, HostInfo, Machine, Manifest, RequestRow, SpanRow, Status, TelemetryRow, TokenRow,
};

/// A whole run, read back: committed iterations only.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub manifest: Manifest,
    pub requests: Vec<RequestRow>,
    /// In file order: by request, then index.
    pub tokens: Vec<TokenRow>,
    pub spans: Vec<SpanRow>,
    pub telemetry: Vec<TelemetryRow>,
}
