//! What the harness uses of the project's own engine crate besides its engines: model folders and
//! synthetic models.

use std::path::{Path, PathBuf};

use inferometer_engine::gguf::Gguf;
use inferometer_engine::synthetic::Recipe;
use inferometer_engine::synthetic::preset::PRESETS;
use inferometer_engine::text::ChatTemplate;
use inferometer_engine::{cache, folder};
use inferometer_protocol::{Architecture, Chat, EngineError, ModelSpec};

pub use inferometer_engine::ENGINES;
pub use inferometer_engine::inspect::{folder_fingerprint, is_synthetic};
pub use inferometer_engine::text::{TextError, Tokenizer};

/// Why no engine of this crate can open this path as a model; `None` if it may. The header of a
/// GGUF file is read.
#[must_use]
pub fn model_fault(path: &Path) -> Option<String> {
    let broken = || Gguf::open(&folder::gguf(path)?).err().map(|error| error.message);
    folder::fault(path).or_else(broken)
}

/// The longest context of a model, in tokens, if it is known without making it.
#[must_use]
pub fn context_length(model: &ModelSpec) -> Option<usize> {
    match model {
        ModelSpec::Path(path) => inferometer_engine::inspect::context_length(path),
        ModelSpec::Served => None,
        ModelSpec::Synthetic { arch, preset, .. } => {
            let preset = PRESETS.iter().find(|known| known.arch == *arch && known.name == preset)?;
            usize::try_from(preset.context).ok()
        }
    }
}

/// What the chat template of a model leaves out of a chat; empty if it has no usable template.
#[must_use]
pub fn ignored_by_template(model: &Path, chat: &Chat) -> Vec<String> {
    ChatTemplate::from_model(model).map(|template| template.ignored(chat)).unwrap_or_default()
}

/// Architecture and name of every preset for synthetic models.
pub fn presets() -> Vec<(Architecture, &'static str)> {
    PRESETS.iter().map(|preset| (preset.arch, preset.name)).collect()
}

/// The folder of a synthetic model, created in `cache` if missing, which is reported to `note`.
///
/// # Errors
/// When the preset is unknown, or the model cannot be written.
pub fn synthetic(model: &ModelSpec, cache: &Path, note: &mut dyn FnMut(&str)) -> Result<PathBuf, EngineError> {
    let ModelSpec::Synthetic { arch, preset, seed, dtype, quantization } = model else {
        return Err(EngineError::internal("a path is not a synthetic model"));
    };
    cache::made(&Recipe::find(*arch, preset, *seed)?.stored(*dtype, *quantization), cache, note)
}
