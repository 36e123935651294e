//! Inferometer: a benchmark and profiling harness for LLM inference.
//!
//! Modules have floors; a file imports only from lower ones, and sibling folders of a floor do not
//! import each other (`tests/it/floors.rs` checks it): `cli` 5, `report` 4, `run` 3, `compare`,
//! `engines` and `import` 2, `scenario`, `record`, `telemetry`, `profile` and `models` 1, `spec`,
//! `origin`, `fs`, `secret`, `series` and `spreadsheet` 0.

pub mod cli;
pub mod compare;
pub mod engines;
pub mod fs;
pub mod import;
pub mod models;
pub mod origin;
pub mod profile;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod secret;
pub mod series;
pub mod spec;
pub mod spreadsheet;
pub mod telemetry;
