//! The content of a model's folder, and whether it is complete.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::folder;
use crate::gguf::Gguf;
use crate::synthetic::{self, Recipe, weights::Tensor};
use crate::text::tokenizer::LONGEST_TOKENIZER;
use crate::text::{ChatTemplate, Tokenizer};
use crate::transformer::checkpoint::{Checkpoint, Opened};
use crate::transformer::config::{Config, LONGEST, read_json};
use crate::transformer::expected::parameters;
use crate::transformer::finite::all_finite;
use crate::transformer::gguf;
use crate::transformer::identity::fingerprint;
use crate::transformer::session::Text;
use inferometer_host::Result;
use inferometer_protocol::bounded::read_limited;
use inferometer_protocol::{Architecture, EngineError};

/// The facts that `model show` prints. Names match those of the record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    pub path: String,
    pub architecture: Architecture,
    pub parameters: u64,
    /// Formats of its matrices, such as `bf16`, or `MLX affine, 4 bits, groups of 64`.
    pub weight_formats: Vec<String>,
    /// Tensors in its files; a quantized matrix has three.
    pub tensors: usize,
    pub weight_files: usize,
    pub disk_bytes: u64,
    pub fingerprint: String,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub intermediate: usize,
    pub vocabulary: usize,
    pub context_length: usize,
    /// The output projection is the embedding.
    pub tied: bool,
    pub end_tokens: Vec<u32>,
    /// Tokens of its tokenizer; absent without one.
    pub tokenizer_tokens: Option<usize>,
    pub chat_template: bool,
    /// The recipe of a synthetic model, from its `config.json`.
    pub synthetic: Option<Value>,
}

/// Whether a model's configuration marks it as synthetic; `None` without a readable
/// configuration.
#[must_use]
pub fn is_synthetic(folder: &Path) -> Option<bool> {
    config_of(folder).map(|config| config.synthetic)
}

/// The longest context of a model, in tokens; `None` without a readable configuration.
#[must_use]
pub fn context_length(folder: &Path) -> Option<usize> {
    config_of(folder).map(|config| config.shape.context)
}

fn config_of(path: &Path) -> Option<Config> {
    match folder::gguf(path) {
        Some(file) => gguf::config(&Gguf::open(&file).ok()?).ok(),
        None => Config::from_folder(path).ok(),
    }
}

/// The fingerprint of a model's folder; `None` if its weight files do not fit its configuration.
#[must_use]
pub fn folder_fingerprint(folder: &Path) -> Option<String> {
    let Opened { weights, .. } = Opened::open(folder).ok()?;
    fingerprint(folder, &*weights).ok()
}

/// A model whose files fit together.
struct Whole {
    config: Config,
    weights: Box<dyn Checkpoint>,
    /// `config.json`; null for a GGUF file.
    json: Value,
    text: Text,
}

impl Whole {
    fn open(path: &Path) -> Result<Self> {
        let (config, weights, text) = Opened::open(path)?.parts(path)?;
        let tokens = text.tokenizer.as_ref().map(Tokenizer::vocabulary_size);
        if let Some(tokens) = tokens
            && tokens > config.shape.vocabulary
        {
            return Err(EngineError::model(format!(
                "{}: {tokens} tokens in its tokenizer, but the embedding has {} rows",
                path.display(),
                config.shape.vocabulary
            )));
        }
        let json = if path.join("config.json").is_file() {
            read_json(&path.join("config.json"), LONGEST)?
        } else {
            Value::Null
        };
        if path.is_dir()
            && let Err(problem) = &text.template
            && ChatTemplate::exists(path).map_err(|e| EngineError::model(e.to_string()))?
        {
            return Err(EngineError::model(problem.clone()));
        }
        Ok(Self { config, weights, json, text })
    }
}

/// Reads the facts about the model in `folder`.
///
/// # Errors
/// When it is not a model of a known architecture, or its files do not fit its configuration.
pub fn inspect(folder: &Path) -> Result<Facts> {
    let Whole { config, json, weights, text } = Whole::open(folder)?;
    let sizes = weights.paths().into_iter().map(|path| fs_err::metadata(path).map(|m| m.len()));
    let sizes: Vec<u64> = sizes.collect::<std::io::Result<_>>().map_err(|e| EngineError::model(e.to_string()))?;
    Ok(Facts {
        path: folder.display().to_string(),
        architecture: config.architecture,
        parameters: parameters(&config),
        weight_formats: weights.formats().into_iter().collect(),
        tensors: weights.tensors(),
        weight_files: sizes.len(),
        disk_bytes: sizes.iter().sum(),
        fingerprint: fingerprint(folder, &*weights)?,
        hidden: config.shape.hidden,
        layers: config.shape.layers,
        heads: config.shape.heads,
        kv_heads: config.shape.kv_heads,
        head_dim: config.shape.head_dim,
        intermediate: config.shape.intermediate,
        vocabulary: config.shape.vocabulary,
        context_length: config.shape.context,
        tied: config.shape.tied,
        end_tokens: config.eos,
        tokenizer_tokens: text.tokenizer.map(|t| t.vocabulary_size()),
        chat_template: text.template.is_ok(),
        synthetic: json.get(synthetic::MARKER).cloned(),
    })
}

/// The result of [`verify`] for a folder without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    pub tensors: usize,
    /// The recipe whose bytes the folder holds exactly; `None` for a model that is not synthetic.
    pub recipe: Option<Recipe>,
}

/// Checks that every tensor is there with the shape that the configuration says and no other, that
/// every weight is a finite number, and that tokenizer and chat template can be read. A synthetic
/// model is made again and compared byte by byte.
///
/// # Errors
/// For the first fault, naming file or tensor; `not_finite` names every tensor with such values, up
/// to eight.
pub fn verify(folder: &Path) -> Result<Verified> {
    let opened = Whole::open(folder)?;
    let tensors = opened.weights.tensors();
    check_finite(folder, &*opened.weights)?;
    let recipe = synthetic::recipe_of(&opened.json)
        .map_err(|e| EngineError::model(format!("{}: {}", folder.join("config.json").display(), e.message)))?;
    if let Some(recipe) = recipe {
        let differs = |what: &str| {
            EngineError::model(format!(
                "{}: {what} differs from what the recipe makes ({recipe}); make the model again",
                folder.display()
            ))
        };
        for (name, text) in recipe.small_files()? {
            let path = folder.join(name);
            let longest = if name == "tokenizer.json" { LONGEST_TOKENIZER } else { LONGEST };
            let found = read_limited(&path, longest).map_err(|e| EngineError::model(e.to_string()))?;
            if found != text.as_bytes() {
                return Err(differs(name));
            }
        }
        for tensor in recipe.tensors()? {
            same(&tensor, &*opened.weights).and_then(|same| if same { Ok(()) } else { Err(differs(&tensor.name)) })?;
        }
    }
    Ok(Verified { tensors, recipe })
}

/// That every weight is a finite number. Of a quantized matrix its scales and biases may not be.
fn check_finite(folder: &Path, weights: &dyn Checkpoint) -> Result<()> {
    const MOST: usize = 8;
    let mut found = Vec::new();
    weights.values(&mut |name, values| {
        if !all_finite(&values) {
            let count = values.iter().filter(|value| !value.is_finite()).count();
            found.push(format!("{name} ({count} of {})", values.len()));
        }
        Ok(())
    })?;
    if found.is_empty() {
        return Ok(());
    }
    let more = found.len().saturating_sub(MOST);
    let also = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(EngineError::not_finite(format!(
        "{}: tensors with values that are not finite (NaN or infinity): {}{also}; the model cannot generate: download or \
         convert it again",
        folder.display(),
        found[..found.len() - more].join(", ")
    )))
}

/// Whether the folder's tensor has exactly the bytes that the recipe makes.
fn same(tensor: &Tensor, weights: &dyn Checkpoint) -> Result<bool> {
    let found = weights.read(&tensor.name)?;
    Ok(found.dtype == tensor.dtype() && found.bytes == tensor.bytes())
}
