//! Which engine a scenario means, and what an engine offers before it is started.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, Settings, Value};

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

/// What an engine offers, known without starting it. The scenario floor is handed these; it imports no engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    pub name: &'static str,
    /// What tables call it where the scenario gives it no label: the name, or what stands behind it.
    pub label: &'static str,
    pub meaning: &'static str,
    pub options: Vec<OptionSpec>,
    /// Options that must be given.
    pub required: &'static [&'static str],
    /// What it does with toggles, where no variant says otherwise.
    pub honours: Honours,
    /// Option values on which that, or whether it runs here at all, depends.
    pub variants: Vec<Variant>,
    /// Whether `inferometer` itself hosts it; the harness fills this in.
    pub built_in: bool,
}

/// What an engine does with toggles.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Honours {
    /// Names of the toggles it honours; `None` when only the running engine can say (its receipt is checked then).
    pub toggles: Option<Vec<&'static str>>,
    /// Texts that it takes for a toggle, where these are fewer than the toggle's own.
    pub choices: &'static [(&'static str, &'static [&'static str])],
    /// Toggles that it does not honour, with the reason where one can be given.
    pub refused: Vec<(&'static str, &'static str)>,
}

/// An option's value that makes an engine another one, such as its tensor library.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    pub option: &'static str,
    pub value: &'static str,
    /// Why it cannot be had in this build or on this machine, and how to get it.
    pub missing: Option<String>,
    pub honours: Honours,
}

impl Offer {
    /// What the engine does with toggles under these options.
    #[must_use]
    pub fn honours(&self, options: &Settings) -> &Honours {
        let given = |v: &&Variant| options.get(v.option).and_then(Value::as_text) == Some(v.value);
        self.variants.iter().find(given).map_or(&self.honours, |variant| &variant.honours)
    }
}

impl Honours {
    /// The texts that it takes for that toggle, where they are not all of the toggle's own.
    #[must_use]
    pub fn choices_of(&self, toggle: &str) -> Option<&'static [&'static str]> {
        self.choices.iter().find(|(name, _)| *name == toggle).map(|(_, texts)| *texts)
    }

    /// Whether it honours that toggle; `None` when only the running engine can say.
    #[must_use]
    pub fn honours(&self, toggle: &str) -> Option<bool> {
        self.toggles.as_ref().map(|names| names.contains(&toggle))
    }

    /// Why it does not honour that toggle, where a reason can be given.
    #[must_use]
    pub fn reason(&self, toggle: &str) -> Option<&'static str> {
        self.refused.iter().find(|(name, _)| *name == toggle).map(|(_, reason)| *reason)
    }
}
