//! From the model that a scenario names to a folder on disk.

use std::env;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use super::Result;
use super::synthetic::{self, Recipe};
use crate::spec::{EngineError, ModelSpec};
use crate::units::bytes;

/// The folder (or file) of `model`. A synthetic model is made on first use and kept in the cache folder; `note` is told
/// when that begins.
///
/// Whether an engine can load what is there is the engine's to say.
///
/// # Errors
/// When nothing is at the path, there is no such preset, or the synthetic model cannot be written.
pub fn resolve(model: &ModelSpec, note: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    match model {
        ModelSpec::Path(path) => existing(path),
        ModelSpec::Synthetic { arch, preset, seed } => {
            made(&Recipe::find(*arch, preset, *seed)?, &cache_folder()?, note)
        }
    }
}

fn existing(path: &Path) -> Result<PathBuf> {
    let path = expand(path)?;
    match fs_err::metadata(&path) {
        Ok(_) => Ok(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(EngineError::model(format!(
            "there is no model at {}: give the path of a model's folder, or a synthetic model such as {}",
            path.display(),
            "{ arch = \"qwen3\", preset = \"small\", seed = 1 }",
        ))),
        Err(e) => Err(EngineError::model(e.to_string())),
    }
}

/// Replaces a leading `~` by the home folder, as a shell does.
fn expand(path: &Path) -> Result<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => Ok(home()?.join(rest)),
        Err(_) => Ok(path.to_owned()),
    }
}

fn home() -> Result<PathBuf> {
    env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .ok_or_else(|| EngineError::model("the home folder is not known: set HOME, or write the path in full"))
}

/// `$INFEROMETER_CACHE`, or a folder of this program's in the place that the platform has for caches.
///
/// # Errors
/// When neither that variable nor the home folder is known.
pub fn cache_folder() -> Result<PathBuf> {
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

/// Where a synthetic model is kept.
#[must_use]
pub fn cached(cache: &Path, recipe: &Recipe) -> PathBuf {
    cache.join("models").join(recipe.folder_name())
}

/// The cached model, made now if it is not there. Processes that want the same one wait for the one that makes it.
fn made(recipe: &Recipe, cache: &Path, note: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let folder = cached(cache, recipe);
    if folder.is_dir() {
        return Ok(folder);
    }
    let models = cache.join("models");
    let io = |e: std::io::Error| {
        EngineError::model(format!("{e}; INFEROMETER_CACHE names another folder for models that are made on first use"))
    };
    fs_err::create_dir_all(&models).map_err(io)?;
    let name = recipe.folder_name();
    let lock = fs_err::File::create(models.join(format!("{name}.lock"))).map_err(io)?;
    match lock.file().try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            note(&format!("waiting for another process that makes the synthetic model {name}"));
            lock.file().lock().map_err(io)?;
        }
        Err(TryLockError::Error(e)) => return Err(io(e)),
    }
    // Another process may have made it before the lock was ours.
    if folder.is_dir() {
        return Ok(folder);
    }
    remove_partial(&folder, &models).map_err(io)?;
    let preset = recipe.preset;
    note(&format!(
        "making the synthetic model {} {} ({} on disk) in {}",
        preset.arch,
        preset.name,
        bytes(preset.disk_bytes()),
        folder.display()
    ));
    synthetic::create(recipe, &folder)?;
    Ok(folder)
}

/// Removes what a killed process left half made. Called with the lock held: nobody is making this model now.
fn remove_partial(folder: &Path, models: &Path) -> std::io::Result<()> {
    let prefix = synthetic::partial_prefix(folder);
    for entry in fs_err::read_dir(models)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(synthetic::PARTIAL) {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
