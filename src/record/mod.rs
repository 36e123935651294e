//! The files of a run. Everything after them is a pure function of these files.

pub mod ab;
pub mod bytes;
mod cause;
mod consistency;
mod counts;
pub mod csv;
mod error;
mod field;
pub mod figures;
pub mod flat;
pub mod folder;
mod load;
pub mod manifest;
pub mod memory;
pub mod metric;
pub mod profile;
pub mod quality;
mod read;
pub mod redact;
mod rows;
pub mod schema;
mod store;
mod table;
mod timing;
mod tokens;

pub use cause::{Cause, Fault, Status};
pub use consistency::open;
pub use counts::{Counts, of_valid, outcome};
pub use error::RecordError;
pub use load::LoadCheck;
pub use profile::{ProfileStore, Profiled, ProfiledIteration};
pub use read::read;
pub use rows::{RequestRow, SpanRow, TokenRow};
pub use schema::{
    Average, AverageOf, FinishState, GaugeInfo, GitState, HostInfo, Imported, Machine, Manifest, Redacted, Removed,
    TelemetryRow,
};
pub use store::{Iteration, Store};
pub use timing::Timing;
pub use tokens::{TokenIndex, first_difference, token_hash};

/// A whole run, read from disk: committed iterations only.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub manifest: Manifest,
    pub requests: Vec<RequestRow>,
    /// In file order: by request, then index.
    pub tokens: Vec<TokenRow>,
    pub spans: Vec<SpanRow>,
    pub telemetry: Vec<TelemetryRow>,
    /// The profiled pass after the timed iterations.
    pub profile: Profiled,
    /// The quality pass after the timed iterations.
    pub quality: Vec<quality::Scored>,
}
