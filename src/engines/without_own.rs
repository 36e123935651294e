//! Replaces `own.rs` in a build without the project's own engine crate.

use std::path::{Path, PathBuf};

use inferometer_host::Engine;
use inferometer_protocol::{Architecture, Chat, EngineError, ModelSpec};

pub const ENGINES: [&dyn Engine; 0] = [];

const MISSING: &str = "this build of inferometer has no engine crate (feature `engine`)";

pub fn presets() -> Vec<(Architecture, &'static str)> {
    Vec::new()
}

pub fn synthetic(_: &ModelSpec, _: &Path, _: &mut dyn FnMut(&str)) -> Result<PathBuf, EngineError> {
    Err(EngineError::unsupported(format!("{MISSING}, so it cannot create synthetic models; give the path of a model")))
}

#[must_use]
pub fn model_fault(_: &Path) -> Option<String> {
    None
}

#[must_use]
pub fn context_length(_: &ModelSpec) -> Option<usize> {
    None
}

#[must_use]
pub fn ignored_by_template(_: &Path, _: &Chat) -> Vec<String> {
    Vec::new()
}

#[must_use]
pub fn is_synthetic(_: &Path) -> Option<bool> {
    None
}

#[must_use]
pub fn folder_fingerprint(_: &Path) -> Option<String> {
    None
}

/// Why a prompt cannot be tokenized.
#[derive(Debug, thiserror::Error)]
#[error("{MISSING}, so it cannot count tokens; remove `lengths` to send the text unchanged, and `[quality]`")]
pub struct TextError;

/// Has no values: this build has no tokenizer.
#[derive(Debug)]
pub enum Tokenizer {}

impl Tokenizer {
    pub fn from_model(_: &Path) -> Result<Self, TextError> {
        Err(TextError)
    }

    pub fn encode(&self, _: &str, _: bool) -> Result<Vec<u32>, TextError> {
        match *self {}
    }

    pub fn decode(&self, _: &[u32]) -> Result<String, TextError> {
        match *self {}
    }

    pub fn exact(&self, _: &str, _: u32) -> Result<Vec<u32>, TextError> {
        match *self {}
    }
}
