//! Scenario files: what to measure. Parsing, defaults, diagnostics with source spans, `--set`, the plan.
//!
//! What engines offer is handed in as [`crate::spec::Offer`]s; this floor imports no engine.

//
// The resolved shapes are `spec::Scenario` and `spec::Plan`; this floor makes them.
