//! Engines with a name of their own that another program hosts: one that comes with this project
//! or that `inferometer engines install` has made. The program is looked for on this machine.

use inferometer_protocol::{EngineError, Offer};

/// An engine that a program on this machine hosts.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    pub name: &'static str,
    /// The engine's name in its receipts.
    pub receipt_name: &'static str,
    /// What is known before the program is started.
    pub offer: fn() -> Offer,
    /// The program and its arguments, or one sentence: what is missing, and the command that
    /// installs it. The engine's options are sent with `open`.
    pub command: fn() -> Result<Vec<String>, String>,
}

impl Program {
    /// The program and its arguments.
    ///
    /// # Errors
    /// When it is not on this machine.
    pub fn hosting(&self) -> Result<Vec<String>, EngineError> {
        (self.command)()
            .map_err(|missing| EngineError::unsupported(format!("engine `{}` cannot run: {missing}", self.name)))
    }
}

/// Tells engines apart by their names.
impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
