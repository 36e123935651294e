//! Scenario files: what to measure. Parsing, defaults, diagnostics with source spans, `--set`, the plan.
//!
//! What the build offers is handed in as [`Offers`]; this floor imports no engine. The resolved shapes are
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
pub use keys::{BITS, DTYPES, GROUP_SIZES};
pub use outline::{Merge, Outline, outline};
pub use plan::{PlanError, plan, plan_unmerged, short};
pub use schema::schema;

use crate::spec::Scenario;
use inferometer_protocol::{Architecture, Offer};

/// What this build has to offer to scenarios.
#[derive(Debug, Clone, Default)]
pub struct Offers {
    pub engines: Vec<Offer>,
    /// Synthetic models that it can make: architecture and name of the preset.
    pub presets: Vec<(Architecture, &'static str)>,
}

/// Reads, overrides, completes and checks the scenario file `path`.
///
/// Relative files are those beside the scenario; in an override they are relative to the working folder.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn load(path: &Path, overrides: &[String], offers: &Offers) -> Result<Scenario, ScenarioError> {
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
    offers: &Offers,
) -> Result<Scenario, ScenarioError> {
    parse::scenario(name, text, base, overrides, offers)
}
