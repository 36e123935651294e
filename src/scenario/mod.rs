//! Scenario files: what to measure. Parsing, defaults, diagnostics with source spans, `--set`, the plan.
//!
//! What engines offer is handed in as [`crate::spec::Offer`]s; this floor imports no engine. The resolved shapes are
//! [`crate::spec::Scenario`] and [`crate::spec::Plan`]; this floor makes them.

mod ab;
mod cursor;
mod diagnose;
mod engines;
mod gates;
mod keys;
mod outline;
mod overrides;
mod parse;
mod plan;
mod profile;
mod read;
mod schema;
mod toggles;
mod tree;
mod workload;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use diagnose::{Problem, ScenarioError};
pub use keys::{BITS, DTYPES, GROUP_SIZES, PRESETS};
pub use outline::{Merge, Outline, outline};
pub use plan::{PlanError, plan, plan_unmerged, short};
pub use schema::schema;

use crate::spec::{Offer, Scenario};

/// Reads, overrides, completes and checks the scenario file `path`.
///
/// Relative files are those beside the scenario; in an override they are relative to the working folder.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn load(path: &Path, overrides: &[String], offers: &[Offer]) -> Result<Scenario, ScenarioError> {
    let text = read::scenario(path)?;
    let base = path.parent().unwrap_or(Path::new(""));
    from_text(&path.display().to_string(), &text, base, overrides, offers)
}

/// [`load`] for a text: `name` is what diagnostics call it, `base` the folder of relative files.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn from_text(
    name: &str,
    text: &str,
    base: &Path,
    overrides: &[String],
    offers: &[Offer],
) -> Result<Scenario, ScenarioError> {
    parse::scenario(name, text, base, overrides, offers)
}
