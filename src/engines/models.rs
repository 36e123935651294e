//! Resolves the model that a scenario names to a folder on disk.

use std::env;
use std::path::{Path, PathBuf};

use inferometer_protocol::{EngineError, ModelSpec};

/// The folder (or file) of `model`. A synthetic model is created in the cache folder on first use,
/// which is reported to `note`.
///
/// Does not check whether an engine can load it.
///
/// # Errors
/// When the path does not exist, the preset is unknown, or the synthetic model cannot be written.
pub fn resolve(model: &ModelSpec, note: &mut dyn FnMut(&str)) -> Result<PathBuf, EngineError> {
    match model {
        ModelSpec::Path(path) => existing(path),
        ModelSpec::Synthetic { .. } => super::own::synthetic(model, &cache_folder()?, note),
    }
}

fn existing(path: &Path) -> Result<PathBuf, EngineError> {
    let path = expand(path)?;
    match fs_err::metadata(&path) {
        Ok(_) => Ok(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(EngineError::model(format!(
            "no model at {}: give the path of a model's folder, or a synthetic model such as {}",
            path.display(),
            "{ arch = \"qwen3\", preset = \"small\", seed = 1 }",
        ))),
        Err(e) => Err(EngineError::model(e.to_string())),
    }
}

/// Replaces a leading `~` with the home folder, as a shell does.
fn expand(path: &Path) -> Result<PathBuf, EngineError> {
    match path.strip_prefix("~") {
        Ok(rest) => Ok(home()?.join(rest)),
        Err(_) => Ok(path.to_owned()),
    }
}

fn home() -> Result<PathBuf, EngineError> {
    env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .ok_or_else(|| EngineError::model("the home folder is unknown: set HOME, or write the path in full"))
}

/// `$INFEROMETER_CACHE`, or this program's folder in the platform's cache location.
///
/// # Errors
/// When neither that variable nor the home folder is known.
pub fn cache_folder() -> Result<PathBuf, EngineError> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("INFEROMETER_CACHE") {
        return expand(&folder);
    }
    if cfg!(target_os = "macos") {
        return Ok(home()?.join("Library/Caches/inferometer"));
    }
    let platform = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    Ok(platform.map_or_else(|| home().map(|home| home.join(".cache")), Ok)?.join("inferometer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_a_shell_takes_them() {
        let home = env::home_dir().unwrap();
        assert_eq!(expand(Path::new("~/models/x")).unwrap(), home.join("models/x"));
        assert_eq!(expand(Path::new("~")).unwrap(), home);
        assert_eq!(expand(Path::new("a/~/b")).unwrap(), Path::new("a/~/b"));
    }

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
