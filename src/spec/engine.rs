//! Which engine a scenario means, and what an engine offers before it is started.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, Settings};

/// An engine with its options, as a scenario's `[[engine]]` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineSpec {
    /// Name in the registry: `transformer`, `exec`, ...
    pub name: String,
    /// What tables and charts call it; unique within a scenario. Default: the name.
    pub label: String,
    /// Engine options, checked against what the engine offers.
    pub options: Settings,
}

/// One option that an engine takes in `[[engine]] options`.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionSpec {
    pub name: &'static str,
    pub kind: Kind,
    /// The values allowed, where they are a fixed set of texts.
    pub choices: &'static [&'static str],
    pub meaning: &'static str,
}

impl Offer {
    /// The texts that it takes for that toggle, where they are not all of the toggle's own.
    #[must_use]
    pub fn choices_of(&self, toggle: &str) -> Option<&'static [&'static str]> {
        self.choices.iter().find(|(name, _)| *name == toggle).map(|(_, texts)| *texts)
    }
}

/// What an engine offers, known without starting it. The scenario floor is handed these; it imports no engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    pub name: &'static str,
    pub meaning: &'static str,
    pub options: Vec<OptionSpec>,
    /// Options that must be given.
    pub required: &'static [&'static str],
    /// Names of the toggles it honours; `None` when only the running engine can say (its receipt is checked then).
    pub toggles: Option<Vec<&'static str>>,
    /// Texts that it takes for a toggle, where these are fewer than the toggle's own.
    pub choices: &'static [(&'static str, &'static [&'static str])],
    /// Whether it is a built-in engine, hosted by this binary.
    pub built_in: bool,
}
