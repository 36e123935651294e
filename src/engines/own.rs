//! What the harness uses of the project's own engine crate besides its engines: model folders and
//! synthetic models.

use std::path::{Path, PathBuf};

use inferometer_engine::cache;
use inferometer_engine::synthetic::Recipe;
use inferometer_engine::synthetic::preset::PRESETS;
use inferometer_protocol::{Architecture, EngineError, ModelSpec};

pub use inferometer_engine::ENGINES;
pub use inferometer_engine::inspect::{folder_fingerprint, is_synthetic};
pub use inferometer_engine::text::{TextError, Tokenizer};

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
