//! Models in GGUF files: their metadata as a configuration, their tensors by the names of a plan.
//!
//! Source: the GGUF specification and the `gguf` Python package, which has the names of keys and
//! tensors, and `llama.cpp` for what a file does not say.

mod metadata;
mod names;
mod weights;

pub use metadata::config;
pub use weights::{GgmlTensor, GgufWeights, form};
