//! Inferometer: a benchmark and profiling harness for LLM inference.
//!
//! The house has floors; a file imports only from lower ones, and sibling folders of a floor do not import each other
//! (`tests/it/floors.rs` holds it): `cli` 6, `report` 5, `run` 4, `compare` and `engine` 3, `scenario`, `record`,
//! `telemetry` and `profile` 2, `text` and `stats` 1, `spec`, `units`, `clock`, `rng`, `fs` and `alloc` 0.

pub mod alloc;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod engine;
pub mod fs;
pub mod profile;
pub mod record;
pub mod report;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod spec;
pub mod stats;
pub mod telemetry;
pub mod text;
pub mod units;
