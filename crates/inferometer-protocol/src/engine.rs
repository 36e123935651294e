//! Engines as a scenario names them, and what each offers before it is started.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, Settings, Value};

/// An engine with its options, as a scenario's `[[engine]]` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineSpec {
    /// Name in the registry, such as `transformer` or `exec`.
    pub name: String,
    /// Name in tables and charts; unique within a scenario. Default: the engine's name.
    pub label: String,
    /// Engine options, checked against the engine's [`Offer`].
    pub options: Settings,
}

/// One option of an engine, given in `[[engine]] options`.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionSpec {
    pub name: &'static str,
    pub kind: Kind,
    /// The values allowed, if they are a fixed set of texts.
    pub choices: &'static [&'static str],
    /// Whether it is a path, or a command, whose program (with a slash) and arguments that begin
    /// with `./`, `../` or `~/` are paths: relative ones are relative to the scenario's folder.
    pub paths: bool,
    pub meaning: &'static str,
}

/// What an engine offers, known without starting it. The scenario code receives these values and
/// imports no engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    pub name: &'static str,
    /// Name in tables if the scenario gives no label.
    pub label: &'static str,
    pub meaning: &'static str,
    pub options: Vec<OptionSpec>,
    /// Options that must be given.
    pub required: &'static [&'static str],
    /// Whether it may have a model already, so that a scenario need not name one.
    pub serves: bool,
    /// Which toggles the engine honours, unless a variant says otherwise.
    pub honours: Honours,
    /// Option values that change `honours`, or decide whether the engine runs on this machine.
    pub variants: Vec<Variant>,
    /// Whether `inferometer` itself hosts it; the harness fills this in.
    pub built_in: bool,
}

/// Which toggles and sampling fields an engine honours.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Honours {
    /// Names of the honoured toggles, possibly none; `None` if only the running engine knows (its
    /// receipt is checked then).
    pub toggles: Option<Vec<&'static str>>,
    /// Values accepted for a toggle, if the engine accepts only some of the toggle's choices.
    pub choices: &'static [(&'static str, &'static [&'static str])],
    /// Names of the honoured sampling fields (see [`crate::sampling::FIELDS`]); `None` if only the
    /// running engine knows. A toggle of the same name counts too.
    pub sampling: Option<&'static [&'static str]>,
    /// Toggles that are not honoured, with the reason if known.
    pub refused: Vec<(&'static str, &'static str)>,
}

/// An option value that selects another implementation, such as another tensor library.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    pub option: &'static str,
    pub value: &'static str,
    /// Why it is unavailable in this build or on this machine, and how to get it.
    pub missing: Option<String>,
    pub honours: Honours,
}

impl Offer {
    /// Which toggles the engine honours with these options.
    #[must_use]
    pub fn honours(&self, options: &Settings) -> &Honours {
        let given = |v: &&Variant| options.get(v.option).and_then(Value::as_text) == Some(v.value);
        self.variants.iter().find(given).map_or(&self.honours, |variant| &variant.honours)
    }
}

impl Honours {
    /// The values accepted for `toggle`, if they are fewer than the toggle's own choices.
    #[must_use]
    pub fn choices_of(&self, toggle: &str) -> Option<&'static [&'static str]> {
        self.choices.iter().find(|(name, _)| *name == toggle).map(|(_, texts)| *texts)
    }

    /// Whether the engine honours `toggle`; `None` if only the running engine knows.
    #[must_use]
    pub fn honours(&self, toggle: &str) -> Option<bool> {
        self.toggles.as_ref().map(|names| names.contains(&toggle))
    }

    /// Whether the engine honours this sampling field; `None` if only the running engine knows.
    #[must_use]
    pub fn samples_with(&self, field: &str) -> Option<bool> {
        self.sampling.map(|names| names.contains(&field) || self.honours(field) == Some(true))
    }

    /// Why the engine does not honour `toggle`, if a reason is known.
    #[must_use]
    pub fn reason(&self, toggle: &str) -> Option<&'static str> {
        self.refused.iter().find(|(name, _)| *name == toggle).map(|(_, reason)| *reason)
    }
}
