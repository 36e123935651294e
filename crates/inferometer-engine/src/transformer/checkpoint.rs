//! A model's files, whatever their format: the configuration and the weights.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::config::Config;
use super::experts::ExpertWeights;
use super::gguf::GgufWeights;
use super::plan::Experts;
use super::quantized::Weight;
use super::session::Text;
use super::weights::{HostTensor, WeightFolder};
use crate::folder;
use crate::gguf::Gguf;
use crate::text::{ChatTemplate, TextError, Tokenizer};
use inferometer_host::Result;
use inferometer_protocol::EngineError;

/// Weights by the names of a plan.
pub trait Checkpoint {
    /// Whether there is a matrix of that name.
    fn has_matrix(&self, module: &str) -> bool;
    /// Reads a matrix in its stored format; `module` is its name without `.weight`.
    ///
    /// # Errors
    /// When it does not exist or cannot be read; the message names tensor and file.
    fn matrix(&self, module: &str) -> Result<Weight>;
    /// Reads one tensor of floating-point numbers.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    fn read(&self, name: &str) -> Result<HostTensor>;
    /// Reads the experts of a layer.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`].
    fn experts(&self, experts: &Experts) -> Result<ExpertWeights>;
    /// Paths of the weight files, in order.
    fn paths(&self) -> Vec<&Path>;
    /// Formats of the matrices.
    fn formats(&self) -> BTreeSet<String>;
    /// Number of tensors in the files.
    fn tensors(&self) -> usize;
    /// How most of the matrices' values are stored.
    fn mostly(&self) -> Mostly;
    /// Calls `look` with the floating-point numbers of every tensor that has any: name, values. Of
    /// a quantized matrix these are the dequantized values.
    ///
    /// # Errors
    /// As [`Checkpoint::matrix`], or what `look` returns.
    fn values(&self, look: &mut dyn FnMut(&str, Vec<f32>) -> Result<()>) -> Result<()>;
}

/// How matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mostly {
    Floats,
    /// In a quantized form of MLX, or in MXFP4.
    Quantized,
    /// In one of GGML's types, which are computed with as they are.
    Ggml,
}

/// A model's files, opened and checked.
pub struct Opened {
    pub config: Config,
    pub weights: Box<dyn Checkpoint>,
    text: Source,
}

/// Where tokenizer and chat template are.
enum Source {
    Folder,
    Gguf(Arc<Gguf>, Tokenizer),
}

impl Opened {
    /// Opens a folder of Hugging Face, or a GGUF file.
    ///
    /// # Errors
    /// When files are missing or do not fit together; the message names file and key or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(file) = folder::gguf(path) {
            let gguf = Arc::new(Gguf::open(&file)?);
            let mut config = super::gguf::config(&gguf)?;
            let weights = Box::new(GgufWeights::new(gguf.clone(), &config)?);
            let tokenizer = Tokenizer::from_gguf(gguf.metadata()).map_err(fault)?;
            let stops = tokenizer.special_tokens().map(|special| special.stop.iter().copied().collect());
            config.eos = stops.unwrap_or_default();
            return Ok(Self { config, weights, text: Source::Gguf(gguf, tokenizer) });
        }
        let config = Config::from_folder(path)?;
        let weights = Box::new(WeightFolder::open(path, &config)?);
        Ok(Self { config, weights, text: Source::Folder })
    }

    /// Configuration and weights, and the tokenizer, if there is one, and chat template.
    ///
    /// # Errors
    /// When there is a tokenizer that cannot be read.
    pub fn parts(self, path: &Path) -> Result<(Config, Box<dyn Checkpoint>, Text)> {
        let text = match self.text {
            Source::Gguf(gguf, tokenizer) => {
                let template = ChatTemplate::from_gguf(gguf.metadata(), &tokenizer).map_err(|e| e.to_string());
                Text { tokenizer: Some(tokenizer), template }
            }
            Source::Folder => {
                let exists = path.join("tokenizer.json").is_file();
                let tokenizer = exists.then(|| Tokenizer::from_model(path)).transpose().map_err(fault)?;
                Text { tokenizer, template: ChatTemplate::from_model(path).map_err(|e| e.to_string()) }
            }
        };
        Ok((self.config, self.weights, text))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as `map_err(fault)`")]
fn fault(error: TextError) -> EngineError {
    EngineError::model(error.to_string())
}
