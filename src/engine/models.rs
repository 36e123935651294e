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
        ModelSpec::Synthetic { arch, preset, seed, dtype, quantization } => {
            let recipe = Recipe::find(*arch, preset, *seed)?.stored(*dtype, *quantization);
            made(&recipe, &cache_folder()?, note)
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

/// The folder that holds synthetic models made on first use, and the names of those in it.
///
/// # Errors
/// When the folder is not known or cannot be read.
pub fn kept() -> Result<(PathBuf, Vec<String>)> {
    let models = cache_folder()?.join("models");
    let io = |e: std::io::Error| EngineError::model(e.to_string());
    let entries = match fs_err::read_dir(&models) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().map_err(io)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(io(e)),
    };
    let whole = entries.iter().filter(|entry| entry.path().join("config.json").is_file());
    let mut names: Vec<String> = whole.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.ends_with(synthetic::PARTIAL));
    names.sort_unstable();
    Ok((models, names))
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
    note(&format!(
        "making the synthetic model {recipe} ({} on disk) in {}",
        bytes(recipe.disk_bytes()?),
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::spec::Architecture;

    fn recipe() -> Recipe {
        Recipe::find(Architecture::Qwen3, "tiny", 5).unwrap()
    }

    #[test]
    fn a_synthetic_model_is_made_once_however_many_want_it() {
        let cache = tempfile::tempdir().unwrap();
        let notes = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut note = |text: &str| notes.lock().unwrap().push(text.to_owned());
                    let folder = made(&recipe(), cache.path(), &mut note).unwrap();
                    assert!(folder.join("config.json").is_file() && folder.join("model.safetensors").is_file());
                });
            }
        });
        let notes = notes.into_inner().unwrap();
        assert_eq!(
            notes.iter().filter(|n| n.starts_with("making the synthetic model qwen3 tiny")).count(),
            1,
            "{notes:?}"
        );
        let mut silent = |text: &str| panic!("nothing is left to make: {text}");
        made(&recipe(), cache.path(), &mut silent).unwrap();
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_not_taken_for_a_model() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cached(cache.path(), &recipe());
        let half = folder.with_file_name(format!("{}x{}", synthetic::partial_prefix(&folder), synthetic::PARTIAL));
        fs_err::create_dir_all(&half).unwrap();
        fs_err::write(half.join("config.json"), "{}").unwrap();
        let mut noted = 0;
        assert_eq!(made(&recipe(), cache.path(), &mut |_| noted += 1).unwrap(), folder);
        assert_eq!(noted, 1);
        assert!(!half.exists());
    }

    #[test]
    fn names_in_the_cache_differ_with_every_part_of_the_recipe() {
        let name = |arch, preset, seed| Recipe::find(arch, preset, seed).unwrap().folder_name();
        let first = name(Architecture::Qwen3, "tiny", 1);
        assert!(first.starts_with("qwen3-tiny-s1-"), "{first}");
        let hash = |name: &str| name.rsplit('-').next().unwrap().to_owned();
        assert_ne!(hash(&first), hash(&name(Architecture::Qwen3, "tiny", 2)));
        assert_ne!(hash(&first), hash(&name(Architecture::Llama, "tiny", 1)));
    }

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
        let mut silent = |text: &str| panic!("nothing is made for a path: {text}");
        let there = ModelSpec::Path(folder.path().to_owned());
        assert_eq!(resolve(&there, &mut silent).unwrap(), folder.path());
        let gone = ModelSpec::Path(folder.path().join("gone"));
        let error = resolve(&gone, &mut silent).unwrap_err();
        assert!(error.message.contains("there is no model at") && error.message.contains("gone"), "{error}");
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs_err::write(&file, "").unwrap();
        let error = made(&recipe(), &file, &mut |_| {}).unwrap_err().message;
        assert!(error.contains("INFEROMETER_CACHE") && error.contains("file"), "{error}");
    }
}
