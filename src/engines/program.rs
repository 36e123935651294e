//! Engines with a name of their own that another program hosts: one that comes with this project
//! or that `inferometer engines install` has made. The program is looked for on this machine.

use inferometer_protocol::{EngineError, EngineSpec, Offer, Settings};

/// An engine that a program on this machine hosts.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    pub name: &'static str,
    /// The engine's name in its receipts.
    pub receipt_name: &'static str,
    /// What is known before the program is started.
    pub offer: fn() -> Offer,
    /// The program and its arguments for these options, or one sentence: what is missing, and the
    /// command that installs it. The options themselves are sent with `open`.
    pub command: fn(&EngineSpec) -> Result<Vec<String>, String>,
}

impl Program {
    /// The program and its arguments.
    ///
    /// # Errors
    /// When it is not on this machine.
    pub fn hosting(&self, spec: &EngineSpec) -> Result<Vec<String>, EngineError> {
        (self.command)(spec)
            .map_err(|missing| EngineError::unsupported(format!("engine `{}` cannot run: {missing}", self.name)))
    }

    /// Whether the program for the default options is on this machine.
    ///
    /// # Errors
    /// One sentence: what is missing, and the command that installs it.
    pub fn available(&self) -> Result<(), String> {
        let spec = EngineSpec { name: self.name.to_owned(), label: self.name.to_owned(), options: Settings::new() };
        (self.command)(&spec).map(drop)
    }
}
