//! Resolves the model that a scenario names to a folder on disk.

use std::path::{Path, PathBuf};

use crate::models::places;
use inferometer_protocol::{EngineError, ModelSpec};

/// The folder (or file) of `model`; empty for that of a server. A synthetic model is created in the
/// cache folder on first use, which is reported to `note`.
///
/// Does not check whether an engine can load it.
///
/// # Errors
/// When the path does not exist, the preset is unknown, or the synthetic model cannot be written.
pub fn resolve(model: &ModelSpec, note: &mut dyn FnMut(&str)) -> Result<PathBuf, EngineError> {
    match model {
        ModelSpec::Path(path) => existing(path),
        ModelSpec::Served => Ok(PathBuf::new()),
        ModelSpec::Synthetic { .. } => super::own::synthetic(model, &cache_folder()?, note),
    }
}

fn existing(path: &Path) -> Result<PathBuf, EngineError> {
    let path = places::expand(path).map_err(|error| EngineError::model(error.to_string()))?;
    match fs_err::metadata(&path) {
        Ok(_) => Ok(crate::models::opened(path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(EngineError::model(format!(
            "no model at {}: give the path of a model's folder, or a synthetic model such as {}",
            path.display(),
            "{ arch = \"qwen3\", preset = \"small\", seed = 1 }",
        ))),
        Err(e) => Err(EngineError::model(e.to_string())),
    }
}

/// The folder of what this program makes on first use: see [`places::cache_folder`].
///
/// # Errors
/// When neither its variable nor the home folder is known.
pub fn cache_folder() -> Result<PathBuf, EngineError> {
    places::cache_folder().map_err(|error| EngineError::model(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_where_nothing_is_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut silent = |text: &str| panic!("no model is created for a path: {text}");
        let there = ModelSpec::Path(folder.path().to_owned());
        assert_eq!(resolve(&there, &mut silent).unwrap(), folder.path());
        let gone = ModelSpec::Path(folder.path().join("gone"));
        let error = resolve(&gone, &mut silent).unwrap_err();
        assert!(error.message.contains("no model at") && error.message.contains("gone"), "{error}");
    }
}
