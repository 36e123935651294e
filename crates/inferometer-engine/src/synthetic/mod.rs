//! Synthetic models: real shapes, seeded random weights, a tokenizer trained on the spot.
//!
//! They serve to measure speed and memory without a download. Their text is noise. The same recipe
//! gives the same bytes on every machine.

mod configuration;
pub mod preset;
pub mod vocabulary;
pub mod weights;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::preset::Preset;
use self::weights::Tensor;
use inferometer_host::Result;
use inferometer_protocol::{Architecture, EngineError, Precision, Quantization};

/// Increased whenever the bytes of a recipe change.
pub const GENERATOR_VERSION: u32 = 1;

/// The key in `config.json` that marks a synthetic model and holds its recipe.
pub const MARKER: &str = "inferometer_synthetic";

/// Weight files hold at most this many bytes of tensors, as published models do.
const SHARD_BYTES: u64 = 5_000_000_000;

/// What determines every byte of a synthetic model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    pub preset: &'static Preset,
    pub seed: u64,
    /// Format of the weights; for a quantized model, of its scales, biases and norms.
    pub precision: Precision,
    /// The quantization of the stored matrices; `None`: they are not quantized.
    pub quantization: Option<Quantization>,
}

impl Recipe {
    /// # Errors
    /// When the architecture has no preset of that name; the message lists those it has.
    pub fn find(arch: Architecture, preset: &str, seed: u64) -> Result<Self> {
        let found = preset::find(arch, preset).ok_or_else(|| {
            EngineError::model(format!(
                "there is no preset `{preset}` for {arch} models; presets: {}",
                preset::names(arch).join(", ")
            ))
        })?;
        Ok(Self { preset: found, seed, precision: found.precision, quantization: None })
    }

    /// The same model in another format; `None` for the preset's own precision.
    #[must_use]
    pub fn stored(self, precision: Option<Precision>, quantization: Option<Quantization>) -> Self {
        Self { precision: precision.unwrap_or(self.preset.precision), quantization, ..self }
    }

    /// `config.json`.
    #[must_use]
    pub fn config(&self) -> Value {
        let mut config = self.preset.config(self.seed);
        // Only what differs from the preset, so that folders in the preset's own format do not
        // change.
        if self.precision != self.preset.precision {
            config["torch_dtype"] = json!(preset::torch_name(self.precision));
            config[MARKER]["dtype"] = json!(self.precision);
        }
        if let Some(quantization) = self.quantization {
            let (bits, group_size) = (quantization.bits(), quantization.group_size());
            // The same keys that mlx_lm.convert writes.
            for key in ["quantization", "quantization_config"] {
                config[key] = json!({"group_size": group_size, "bits": bits, "mode": "affine"});
            }
            config[MARKER]["bits"] = json!(bits);
            config[MARKER]["group_size"] = json!(group_size);
        }
        config
    }

    /// Bytes of its tensors.
    ///
    /// # Errors
    /// As [`Recipe::tensors`].
    pub fn disk_bytes(&self) -> Result<u64> {
        Ok(self.tensors()?.iter().map(Tensor::size).sum())
    }

    /// A folder name that no other recipe has, and no other version of the generator.
    #[must_use]
    pub fn folder_name(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.config().to_string());
        vocabulary::CORPUS.iter().for_each(|text| hash.update(text));
        let hash: String = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let Self { preset, seed, precision, quantization } = self;
        let dtype = if *precision == preset.precision { String::new() } else { format!("-{}", precision.name()) };
        let bits = quantization.map(|q| format!("-{}bit-g{}", q.bits(), q.group_size())).unwrap_or_default();
        format!("{}-{}{dtype}{bits}-s{seed}-{hash}", preset.arch, preset.name)
    }

    /// Writes the model's files into the empty folder `folder`.
    ///
    /// # Errors
    /// When a file cannot be written; the message names it.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_weights(&self.tensors()?, folder, SHARD_BYTES)?;
        for (name, text) in self.small_files()? {
            let path = folder.join(name);
            fs_err::write(&path, text).map_err(io)?;
            sync(&path)?;
        }
        fs_err::File::open(folder).and_then(|names| names.sync_all()).map_err(io)
    }

    /// Its tensors; their bytes are generated on demand.
    ///
    /// # Errors
    /// When the engine refuses the preset's configuration, which would be a defect.
    pub fn tensors(&self) -> Result<Vec<Tensor>> {
        weights::tensors(self.preset, self.precision, &self.config(), self.seed)
    }

    /// Every file but the weights.
    pub(crate) fn small_files(&self) -> Result<[(&'static str, String); 4]> {
        Ok([
            ("config.json", pretty(&self.config())),
            ("generation_config.json", pretty(&self.preset.generation_config())),
            ("tokenizer.json", vocabulary::tokenizer(self.preset)?.to_string()),
            ("tokenizer_config.json", pretty(&vocabulary::tokenizer_config(self.preset))),
        ])
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, seed {}", self.preset.arch, self.preset.name, self.seed)?;
        if self.precision != self.preset.precision {
            write!(f, ", {}", self.precision.name())?;
        }
        self.quantization.map_or(Ok(()), |quantization| write!(f, ", {quantization}"))
    }
}

/// Makes a model in `folder`, which must not exist yet or be empty. A failure leaves no partial
/// model.
///
/// # Errors
/// When the folder is not empty or cannot be written.
pub fn create(recipe: &Recipe, folder: &Path) -> Result<()> {
    match fs_err::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            return Err(EngineError::model(format!(
                "{} is not empty: name a new folder for the model, or empty it",
                folder.display()
            )));
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs_err::create_dir_all(parent).map_err(io)?;
    let partial = tempfile::Builder::new()
        .prefix(&partial_prefix(folder))
        .suffix(PARTIAL)
        .tempdir_in(parent)
        .map_err(|e| EngineError::model(format!("cannot make a folder in {}: {e}", parent.display())))?;
    recipe.write(partial.path())?;
    open_to_all(partial.path())?;
    fs_err::rename(partial.path(), folder).map_err(io)?;
    let _renamed = partial.keep();
    fs_err::File::open(parent).and_then(|names| names.sync_all()).map_err(io)
}

/// Ending of the folder in which a model is being made.
pub(crate) const PARTIAL: &str = ".partial";

/// The prefix of that folder's name.
pub(crate) fn partial_prefix(folder: &Path) -> String {
    format!(".{}-", folder.file_name().unwrap_or_default().to_string_lossy())
}

/// Writes the weights as one safetensors file, or as several with an index if they exceed
/// `shard_bytes`.
fn write_weights(tensors: &[Tensor], folder: &Path, shard_bytes: u64) -> Result<()> {
    let shards = shards(tensors, shard_bytes);
    let count = shards.len();
    if count == 1 {
        return write_shard(tensors, &folder.join("model.safetensors"));
    }
    let mut map = serde_json::Map::new();
    let mut total = 0;
    for (i, shard) in shards.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", i + 1);
        write_shard(shard, &folder.join(&name))?;
        total += shard.iter().map(Tensor::size).sum::<u64>();
        map.extend(shard.iter().map(|tensor| (tensor.name.clone(), json!(name))));
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let path = folder.join("model.safetensors.index.json");
    fs_err::write(&path, pretty(&index)).map_err(io)?;
    sync(&path)
}

/// Splits the tensors, in order, into shards of at most `shard_bytes`; a larger tensor is a shard
/// of its own.
fn shards(tensors: &[Tensor], shard_bytes: u64) -> Vec<&[Tensor]> {
    let mut cuts = vec![0];
    let mut filled = 0;
    for (i, tensor) in tensors.iter().enumerate() {
        if filled > 0 && filled + tensor.size() > shard_bytes {
            cuts.push(i);
            filled = 0;
        }
        filled += tensor.size();
    }
    cuts.push(tensors.len());
    cuts.windows(2).map(|cut| &tensors[cut[0]..cut[1]]).collect()
}

fn write_shard(tensors: &[Tensor], path: &Path) -> Result<()> {
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors.iter().map(|t| (&t.name, t)), Some(about), path)
        .map_err(|e| EngineError::model(format!("cannot write {}: {e}", path.display())))?;
    open_to_all(path)?;
    sync(path)
}

/// Gives files and folders that were made under a temporary name the usual permissions.
fn open_to_all(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(io)?;
    }
    Ok(())
}

fn sync(path: &Path) -> Result<()> {
    fs_err::File::open(path).and_then(|file| file.sync_all()).map_err(io)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[expect(clippy::needless_pass_by_value, reason = "used as `map_err(io)`")]
fn io(error: std::io::Error) -> EngineError {
    EngineError::model(error.to_string())
}

/// The marker in a folder's `config.json`, if it is a synthetic model's.
///
/// # Errors
/// When the marker names a recipe that this version does not have.
pub fn recipe_of(config: &Value) -> Result<Option<Recipe>> {
    let Some(marker) = config.get(MARKER) else {
        return Ok(None);
    };
    let text = |key: &str| marker.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| marker.get(key).and_then(Value::as_u64);
    let fault = |what: &str| EngineError::model(format!("{MARKER}: {what}"));
    let arch = Architecture::from_name(text("arch"))
        .ok_or_else(|| fault(&format!("unknown architecture {:?}", text("arch"))))?;
    let seed = number("seed").ok_or_else(|| fault("`seed` is missing or no whole number"))?;
    let version = number("generator_version").ok_or_else(|| fault("`generator_version` is missing"))?;
    if version != u64::from(GENERATOR_VERSION) {
        return Err(fault(&format!(
            "made by generator version {version}, and this program has version {GENERATOR_VERSION}"
        )));
    }
    let precision = match marker.get("dtype") {
        None => None,
        Some(_) => Some(
            Precision::from_name(text("dtype")).ok_or_else(|| fault(&format!("unknown dtype {:?}", text("dtype"))))?,
        ),
    };
    let quantization = match marker.get("bits") {
        None => None,
        Some(_) => Some(
            serde_json::from_value(json!({"bits": marker["bits"], "group_size": marker["group_size"]}))
                .map_err(|e| fault(&e.to_string()))?,
        ),
    };
    Recipe::find(arch, text("preset"), seed).map(|recipe| Some(recipe.stored(precision, quantization)))
}

#[cfg(test)]
mod tests;
