//! What the harness takes from the project's own engine crate besides its engines: model folders, synthetic models.

use std::path::{Path, PathBuf};

use inferometer_engine::synthetic::Recipe;
use inferometer_engine::synthetic::preset::PRESETS;
use inferometer_engine::{cache, inspect};
use inferometer_protocol::{Architecture, EngineError, ModelSpec};

pub use inferometer_engine::ENGINES;
pub use inferometer_engine::inspect::FolderFacts;
pub use inferometer_engine::text::{TextError, Tokenizer};

/// Architecture and name of every synthetic model that can be made.
pub fn presets() -> Vec<(Architecture, &'static str)> {
    PRESETS.iter().map(|preset| (preset.arch, preset.name)).collect()
}

/// The folder of a synthetic model, made in `cache` now unless it is there; `note` is told when that begins.
///
/// # Errors
/// When there is no such preset, or the model cannot be written.
pub fn synthetic(model: &ModelSpec, cache: &Path, note: &mut dyn FnMut(&str)) -> Result<PathBuf, EngineError> {
    let ModelSpec::Synthetic { arch, preset, seed, dtype, quantization } = model else {
        return Err(EngineError::internal("a path is no synthetic model"));
    };
    cache::made(&Recipe::find(*arch, preset, *seed)?.stored(*dtype, *quantization), cache, note)
}

/// What a model's folder says of itself; absent for what this build cannot read.
#[must_use]
pub fn folder_facts(folder: &Path) -> Option<FolderFacts> {
    inspect::folder_facts(folder)
}
