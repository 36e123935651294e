//! The engine before a model is loaded.

use inferometer_host::protocol::{Offer, Settings};
use inferometer_host::{Engine, Load, Result, Session};

use crate::loaded::Loaded;
use crate::options::{self, Options};
use crate::session::LlamaSession;
use crate::{NAME, file, log};

/// llama.cpp.
#[derive(Debug, Default)]
pub struct LlamaCpp {
    /// Options of the host's command line, which those of a scenario replace.
    arguments: Settings,
}

impl LlamaCpp {
    /// With options from a command line, each `NAME=VALUE`.
    ///
    /// # Errors
    /// What is wrong with an argument.
    pub fn with_arguments(arguments: impl IntoIterator<Item = String>) -> std::result::Result<Self, String> {
        Ok(Self { arguments: options::from_arguments(arguments)? })
    }
}

impl Engine for LlamaCpp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn offer(&self) -> Offer {
        crate::offer()
    }

    fn open(&self, load: &Load) -> Result<Box<dyn Session>> {
        let mut given = self.arguments.clone();
        given.extend(load.engine.options.clone());
        let options = Options::of(&given, &load.toggles)?;
        let file = file::find(load.model.as_deref())?;
        log::install();
        let loaded = Loaded::open(&file, options)?;
        Ok(Box::new(LlamaSession::new(loaded, &file)?))
    }
}
