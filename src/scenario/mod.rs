//! Scenario files: what to measure. Parsing, defaults, diagnostics with source spans, `--set`, the
//! plan.
//!
//! The build's engines and presets are passed in as [`Offers`]; this module imports no engine. It
//! produces [`crate::spec::Scenario`] and [`crate::spec::Plan`].

mod ab;
mod chats;
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
mod quality;
mod read;
mod sampling;
mod schema;
mod toggles;
mod traffic;
mod tree;
mod workload;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use chats::chat_file;
pub use diagnose::{Problem, ScenarioError, nearest};
pub use keys::{BITS, DTYPES, GROUP_SIZES};
pub use outline::{Merge, Outline, outline};
pub use plan::{PlanError, plan, plan_unmerged, short};
pub use schema::schema;

use crate::spec::Scenario;
use inferometer_protocol::{Architecture, Offer};

/// What this build offers to scenarios.
#[derive(Debug, Clone)]
pub struct Offers {
    pub engines: Vec<Offer>,
    /// Synthetic models that it can create: architecture and name of the preset.
    pub presets: Vec<(Architecture, &'static str)>,
    /// Finds a model on this machine by its name.
    pub model: fn(&str) -> Result<PathBuf, Unnamed>,
}

/// Why a name is not that of one model, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnamed {
    pub problem: String,
    pub help: Vec<String>,
}

/// Reads the scenario file `path`, applies overrides and defaults, and checks it.
///
/// Relative file names are resolved against the scenario's folder; in an override, against the
/// working folder.
///
/// # Errors
/// All problems, each with its place.
pub fn load(path: &Path, overrides: &[String], offers: &Offers) -> Result<Scenario, ScenarioError> {
    let text = read::scenario(path)?;
    let base = path.parent().unwrap_or(Path::new(""));
    from_text(&path.display().to_string(), &text, base, overrides, offers)
}

/// [`load`] for a text: `name` is its name in diagnostics, `base` the folder for relative files.
///
/// # Errors
/// All problems, each with its place.
pub fn from_text(
    name: &str,
    text: &str,
    base: &Path,
    overrides: &[String],
    offers: &Offers,
) -> Result<Scenario, ScenarioError> {
    parse::scenario(name, text, base, overrides, offers)
}
