//! The rules of a run, applied to the replies of the checks: what passes here passes there.

use std::path::{Path, PathBuf};

use super::{Fault, Opened};
use crate::run::host::Exchange;
use crate::run::prompts::counted;
use crate::run::validity::{Asked, judge};
use crate::spec::Cell;
use inferometer_protocol::messages::Generate;
use inferometer_protocol::{Request, Settings};

/// What came before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// The KV cache was reset, if the engine can do that.
    Reset,
    /// Another request, perhaps of the same prompt.
    Request,
}

impl Opened {
    /// Generates, and judges the reply as a run judges a measured one.
    pub(super) fn judged(&mut self, asked: Generate, before: Before) -> Result<Exchange, Fault> {
        if before == Before::Reset && self.ready.receipt.capabilities.reset {
            self.host.reset()?;
        }
        let (request, choices) = (asked.request.clone(), asked.instrumentation.choices);
        let exchange = self.host.generate(asked, &mut |_| {})?;
        let own = |model: &&PathBuf| Path::new(&self.ready.receipt.model.path) == model.as_path();
        let counted = self.model.as_ref().filter(own).and_then(|model| counted(&request.prompt, model));
        let cell = cell(&request);
        let turn = u32::from(before == Before::Request);
        let asked = Asked { cell: &cell, request: &request, choices, turn, allowed: &[], counted };
        // The stamps have a check of their own.
        match judge(&asked, &exchange.generated, &self.ready.receipt, false, Ok(())) {
            None => Ok(exchange),
            Some(fault) => Err(Fault::Fail(fault.reason)),
        }
    }
}

/// The cell of a scenario that would send this request.
fn cell(request: &Request) -> Cell {
    Cell {
        id: 0,
        engine: 0,
        label: String::new(),
        length: None,
        toggles: request.toggles.clone(),
        load: Settings::new(),
        sampling: request.sampling.clone(),
        predicted: Settings::new(),
        level: None,
        merged: Vec::new(),
    }
}
