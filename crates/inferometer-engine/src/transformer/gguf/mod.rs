//! Models in GGUF files: their metadata as a configuration, their tensors by the names of a plan.
//!
//! Source: the GGUF specification and the `gguf` Python package, which has the names of keys and
//! tensors, and `llama.cpp` for what a file does not say.

#[cfg(test)]
pub mod fixture;
mod metadata;
mod names;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::Arc;

use crate::gguf::Gguf;
use inferometer_host::Result;

pub use metadata::config;
pub use weights::{GgmlTensor, GgufWeights, form};

/// Whether this engine can open the model: its metadata, and names, shapes and types of its
/// tensors.
///
/// # Errors
/// Why it cannot; the message names file and key or tensor.
pub fn checked(gguf: &Arc<Gguf>) -> Result<()> {
    GgufWeights::new(gguf.clone(), &config(gguf)?).map(drop)
}
