//! The simulated engine: cost law, noise, memory pattern and faults, all given by its options and
//! seed.
//!
//! It has no model. It tests the harness, because the right result is known beforehand
//! (docs/explanation/engines/simulated.md).

pub mod faults;
pub mod law;
pub mod memory;
pub mod noise;
pub mod options;
mod session;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use options::{OPTIONS, Options};
use session::{SimulatedSession, VOCABULARY};

use crate::{Engine, Load, Result, Session};
use inferometer_protocol::{Capabilities, EngineError, Honours, ModelIdentity, Offer, Receipt, Settings, TokenTiming};

pub const NAME: &str = "simulated";
/// Most requests that wait for each other.
const SESSIONS: u32 = 256;

/// The engine's registry entry.
pub struct Simulated;

impl Engine for Simulated {
    fn name(&self) -> &'static str {
        NAME
    }

    fn offer(&self) -> Offer {
        Offer {
            name: NAME,
            label: NAME,
            meaning: "no model: spends time, reports memory and fails as its options say; for testing the harness",
            options: OPTIONS.into(),
            required: &[],
            serves: false,
            honours: Honours { toggles: Some(Vec::new()), sampling: Some(&[]), ..Honours::default() },
            variants: Vec::new(),
            built_in: true,
        }
    }

    fn open(&self, load: &Load) -> Result<Box<dyn Session>> {
        if let Some(name) = load.toggles.keys().next() {
            return Err(EngineError::unsupported(format!("toggle {name} is not honoured; this engine has none")));
        }
        let options = Options::of(&load.engine.options)?;
        let receipt = receipt(&options, load.engine.options.clone(), load.model.as_deref());
        Ok(Box::new(SimulatedSession::open(options, receipt)))
    }
}

/// `given`: the options as in the scenario.
fn receipt(options: &Options, given: Settings, model: Option<&Path>) -> Receipt {
    let text = |setting: (String, inferometer_protocol::Value)| (setting.0, setting.1.to_string());
    Receipt {
        engine: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: None,
        backend: Some("none: a formula".to_owned()),
        device: Some("cpu".to_owned()),
        model: ModelIdentity {
            name: "simulated (no model)".to_owned(),
            path: model.map(|path| path.display().to_string()).unwrap_or_default(),
            vocabulary: Some(VOCABULARY),
            weight_bytes: Some(options.memory.base_bytes),
            synthetic: true,
            ..ModelIdentity::default()
        },
        capabilities: Capabilities {
            tokens: true,
            text: true,
            messages: true,
            forced_tokens: true,
            cancel: true,
            reset: true,
            memory: true,
            concurrent: SESSIONS,
            ..Capabilities::default()
        },
        toggles: Vec::new(),
        sampling: Vec::new(),
        not_honoured: BTreeMap::new(),
        token_timing: TokenTiming::Exact,
        works_in: None,
        deterministic: true,
        includes: Vec::new(),
        settings: Settings::new(),
        details: given.into_iter().map(text).collect(),
    }
}
