//! The text of the quality pass as token ids.

use std::path::Path;

use super::error::RunError;
use crate::engines::{TextError, Tokenizer};
use crate::record::quality::text_hash;
use crate::spec::QualitySettings;
use inferometer_protocol::EngineError;

/// The ids of a text: those sent as the prompt, and those that are scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedText {
    pub context: Vec<u32>,
    pub scored: Vec<u32>,
    /// Length of the scored text, if the tokenizer reproduces the text.
    pub bytes: Option<u64>,
}

impl FixedText {
    /// Tokenizes a text with the model's tokenizer, its special tokens included.
    ///
    /// # Errors
    /// When the model has no usable tokenizer, or the text is too short.
    pub fn of(quality: &QualitySettings, model: &Path) -> Result<Self, RunError> {
        let tokenizer = Tokenizer::from_model(model).map_err(RunError::QualityText)?;
        let ids = tokenizer.encode(&quality.text, true).map_err(RunError::QualityText)?;
        let (context, scored) = (quality.context as usize, quality.tokens as usize);
        if ids.len() < context + scored {
            let name = quality.text_file.as_deref().unwrap_or("quality.text");
            return Err(RunError::Engine(EngineError::bad_request(format!(
                "the quality text {name} has {} tokens by the model's tokenizer, but `quality.context` = {context} and \
                 `quality.tokens` = {scored} need {}: give a longer text, or lower one of them",
                ids.len(),
                context + scored
            ))));
        }
        let (before, all) = (&ids[..context], &ids[..context + scored]);
        let bytes = length(&tokenizer, &quality.text, before, all).map_err(RunError::QualityText)?;
        Ok(Self { context: before.to_vec(), scored: all[context..].to_vec(), bytes })
    }

    /// Hash of all its ids.
    #[must_use]
    pub fn hash(&self) -> String {
        text_hash(&self.context, &self.scored)
    }
}

/// Bytes of `text` that the ids of `all` after those of `before` stand for; `None` if the decoded
/// ids are not in the text.
fn length(tokenizer: &Tokenizer, text: &str, before: &[u32], all: &[u32]) -> Result<Option<u64>, TextError> {
    // A character may be cut in two.
    let decoded = |ids: &[u32]| Ok::<_, TextError>(tokenizer.decode(ids)?.trim_end_matches('\u{fffd}').to_owned());
    let (before, all) = (decoded(before)?, decoded(all)?);
    let Some(scored) = all.strip_prefix(&before) else { return Ok(None) };
    Ok(text.contains(scored).then_some(scored.len() as u64))
}
