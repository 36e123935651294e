//! The content of a model's folder, and whether it is complete.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::synthetic::{self, Recipe, weights::Tensor};
use crate::text::tokenizer::LONGEST_TOKENIZER;
use crate::text::{ChatTemplate, TextError, Tokenizer};
use crate::transformer::config::{Config, LONGEST, read_json};
use crate::transformer::finite::all_finite;
use crate::transformer::identity::fingerprint;
use crate::transformer::expected::parameters;
use crate::transformer::weights::{Content, Expected, Part, WeightFolder};
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

/// Whether a model folder's configuration marks it as synthetic; `None` without a readable
/// configuration.
#[must_use]
pub fn is_synthetic(folder: &Path) -> Option<bool> {
    Config::from_folder(folder).ok().map(|config| config.synthetic)
}

/// The longest context of a model, in tokens; `None` without a readable configuration.
#[must_use]
pub fn context_length(folder: &Path) -> Option<usize> {
    Config::from_folder(folder).ok().map(|config| config.shape.context)
}

/// The fingerprint of a model's folder; `None` if its weight files do not fit its configuration.
#[must_use]
pub fn folder_fingerprint(folder: &Path) -> Option<String> {
    let config = Config::from_folder(folder).ok()?;
    let weights = WeightFolder::open(folder, &config).ok()?;
    fingerprint(folder, &weights).ok()
}

/// A folder whose configuration and weight files fit together.
struct Opened {
    config: Config,
    json: Value,
    weights: WeightFolder,
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
}

impl Opened {
    fn open(folder: &Path) -> Result<Self> {
        let config = Config::from_folder(folder)?;
        let json = read_json(&folder.join("config.json"), LONGEST)?;
        let weights = WeightFolder::open(folder, &config)?;
        let text_fault = |e: TextError| EngineError::model(e.to_string());
        let tokenizer = match folder.join("tokenizer.json").exists() {
            true => Some(Tokenizer::from_folder(folder).map_err(text_fault)?),
            false => None,
        };
        if let Some(tokens) = tokenizer.as_ref().map(Tokenizer::vocabulary_size)
            && tokens > config.shape.vocabulary
        {
            return Err(EngineError::model(format!(
                "{}: {tokens} tokens, but vocab_size in config.json is {}",
                folder.join("tokenizer.json").display(),
                config.shape.vocabulary
            )));
        }
        let template = match ChatTemplate::exists(folder).map_err(text_fault)? {
            true => Some(ChatTemplate::from_folder(folder).map_err(text_fault)?),
            false => None,
        };
        Ok(Self { config, json, weights, tokenizer, template })
    }
}

/// Reads the facts about the model in `folder`.
///
/// # Errors
/// When it is not a model of a known architecture, or its files do not fit its configuration.
pub fn inspect(folder: &Path) -> Result<Facts> {
    let Opened { config, json, weights, tokenizer, template } = Opened::open(folder)?;
    let sizes = weights.paths().map(|path| fs_err::metadata(path).map(|m| m.len()));
    let sizes: Vec<u64> = sizes.collect::<std::io::Result<_>>().map_err(|e| EngineError::model(e.to_string()))?;
    Ok(Facts {
        path: folder.display().to_string(),
        architecture: config.architecture,
        parameters: parameters(&config),
        weight_formats: weights.formats().into_iter().collect(),
        tensors: tensors(&weights),
        weight_files: sizes.len(),
        disk_bytes: sizes.iter().sum(),
        fingerprint: fingerprint(folder, &weights)?,
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
        tokenizer_tokens: tokenizer.map(|t| t.vocabulary_size()),
        chat_template: template.is_some(),
        synthetic: json.get(synthetic::MARKER).cloned(),
    })
}

/// How many tensors the weights are stored in.
fn tensors(weights: &WeightFolder) -> usize {
    weights.weights().map(|weight| weight.parts().len()).sum()
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
    let opened = Opened::open(folder)?;
    let tensors = tensors(&opened.weights);
    check_finite(folder, &opened)?;
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
            same(&tensor, &opened.weights).and_then(|same| if same { Ok(()) } else { Err(differs(&tensor.name)) })?;
        }
    }
    Ok(Verified { tensors, recipe })
}

/// That every weight is a finite number. Of a quantized matrix its scales and biases may not be.
fn check_finite(folder: &Path, opened: &Opened) -> Result<()> {
    const MOST: usize = 8;
    let mut found = Vec::new();
    let floats = |part: &Part| !matches!(part.content, Content::Packed | Content::Bytes);
    for part in opened.weights.weights().flat_map(Expected::parts).filter(floats) {
        let values = opened.weights.read(&part.name)?.to_f32();
        if !all_finite(&values) {
            let count = values.iter().filter(|value| !value.is_finite()).count();
            found.push(format!("{} ({count} of {})", part.name, values.len()));
        }
    }
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
fn same(tensor: &Tensor, weights: &WeightFolder) -> Result<bool> {
    let found = weights.read(&tensor.name)?;
    Ok(found.dtype == tensor.dtype() && found.bytes == tensor.bytes())
}
