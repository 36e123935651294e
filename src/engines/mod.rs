//! The engines of this program: built-in ones, those that another program hosts, and `exec` for any
//! program.

mod exec;
pub mod install;
pub mod installed;
mod llama_cpp;
mod mlx_lm;
pub mod models;
#[cfg(feature = "engine")]
mod own;
#[cfg(not(feature = "engine"))]
#[path = "without_own.rs"]
mod own;
mod program;

use std::collections::BTreeMap;
use std::path::PathBuf;

use inferometer_host::Engine;
use inferometer_host::simulated::Simulated;
use inferometer_protocol::{EngineError, EngineSpec, Offer, Settings};

pub use own::{
    TextError, Tokenizer, context_length, folder_fingerprint, ignored_by_template, is_synthetic, model_fault,
};

use crate::scenario::{Offers, Unnamed};
use program::Program;

/// An engine that scenarios can name.
#[derive(Clone, Copy)]
pub enum Known {
    /// Hosted by this program: `inferometer host`.
    BuiltIn(&'static dyn Engine),
    /// Hosted by another program, which is looked for on this machine.
    Program(&'static Program),
    /// Hosted by an external program given in the options.
    Exec,
}

/// How an engine's host is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosting {
    /// By this program: `inferometer host`.
    BuiltIn,
    /// By an external program: an argument vector, never a shell string.
    Command(Vec<String>),
}

impl Known {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn(engine) => engine.name(),
            Self::Program(program) => program.name,
            Self::Exec => exec::NAME,
        }
    }

    /// Options and toggles, for scenario checks and `inferometer engines`.
    #[must_use]
    pub fn offer(self) -> Offer {
        match self {
            Self::BuiltIn(engine) => inferometer_host::offer(engine),
            Self::Program(program) => (program.offer)(),
            Self::Exec => exec::offer(),
        }
    }

    /// Whether the engine can run on this machine.
    ///
    /// # Errors
    /// Why not, such as a missing device, library or program.
    pub fn available(self) -> Result<(), String> {
        match self {
            Self::BuiltIn(engine) => engine.available(),
            Self::Program(program) => program.available(),
            Self::Exec => Ok(()),
        }
    }

    /// Notes about the engine on this machine, by name.
    #[must_use]
    pub fn notes(self) -> BTreeMap<String, String> {
        match self {
            Self::BuiltIn(engine) => engine.notes(),
            Self::Program(_) | Self::Exec => BTreeMap::new(),
        }
    }

    /// The engine's name in its receipts.
    #[must_use]
    pub fn receipt_name(self) -> &'static str {
        match self {
            Self::BuiltIn(engine) => engine.receipt_name(),
            Self::Program(program) => program.receipt_name,
            Self::Exec => exec::NAME,
        }
    }

    /// The program that hosts the engine with these options.
    ///
    /// # Errors
    /// When the options give no program, or the engine's program is not on this machine.
    pub fn hosting(self, spec: &EngineSpec) -> Result<Hosting, EngineError> {
        match self {
            Self::BuiltIn(_) => Ok(Hosting::BuiltIn),
            Self::Program(program) => program.hosting(spec).map(Hosting::Command),
            Self::Exec => exec::command(spec).map(Hosting::Command),
        }
    }

    /// Environment variables that the host process needs for these options and load-scope toggles.
    #[must_use]
    pub fn environment(self, spec: &EngineSpec, load: &Settings) -> Vec<(&'static str, String)> {
        match self {
            Self::BuiltIn(engine) => inferometer_host::environment(engine, spec, load),
            Self::Program(_) | Self::Exec => Vec::new(),
        }
    }

    #[must_use]
    pub fn is_built_in(self) -> bool {
        matches!(self, Self::BuiltIn(_))
    }
}

/// The engines that this program hosts.
#[must_use]
pub fn built_in() -> Vec<&'static dyn Engine> {
    own::ENGINES.iter().copied().chain(SERVERS.iter().copied()).chain([&Simulated as &dyn Engine]).collect()
}

/// Engines that drive a server.
const SERVERS: &[&dyn Engine] = &[
    #[cfg(feature = "openai")]
    &inferometer_openai::OpenAi,
];

/// The engines that programs on this machine host.
const PROGRAMS: [&Program; 2] = [&llama_cpp::PROGRAM, &mlx_lm::PROGRAM];

/// Every engine, in the order of `inferometer engines`.
#[must_use]
pub fn all() -> Vec<Known> {
    let own = own::ENGINES.iter().copied().map(Known::BuiltIn);
    let servers = SERVERS.iter().copied().map(Known::BuiltIn);
    let programs = PROGRAMS.into_iter().map(Known::Program);
    own.chain(servers).chain(programs).chain([Known::Exec, Known::BuiltIn(&Simulated)]).collect()
}

/// The engine of that name.
#[must_use]
pub fn find(name: &str) -> Option<Known> {
    all().into_iter().find(|engine| engine.name() == name)
}

/// Whether this program hosts the engine of that name.
#[must_use]
pub fn is_built_in(name: &str) -> bool {
    find(name).is_some_and(Known::is_built_in)
}

/// Whether it is an engine of the project's own engine crate, which opens model folders itself.
#[must_use]
pub fn is_own(name: &str) -> bool {
    own::ENGINES.iter().any(|engine| engine.name() == name)
}

/// What this build offers to scenarios.
#[must_use]
pub fn offers() -> Offers {
    Offers { engines: all().into_iter().map(Known::offer).collect(), presets: own::presets(), model: named }
}

fn named(name: &str) -> Result<PathBuf, Unnamed> {
    crate::models::resolve(name).map_err(|error| Unnamed { problem: error.problem(), help: error.help() })
}
