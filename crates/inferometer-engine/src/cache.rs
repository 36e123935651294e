//! The cache of synthetic models, which are made on first use.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use inferometer_host::Result;
use inferometer_protocol::EngineError;
use inferometer_protocol::units::bytes;

use crate::synthetic::{self, Recipe};

/// The folder of a synthetic model in the cache.
#[must_use]
pub fn cached(cache: &Path, recipe: &Recipe) -> PathBuf {
    cache.join("models").join(recipe.folder_name())
}

/// The folder of the cached model, which is made now if it is missing; `note` is called before
/// that. Processes that want the same model wait for the one that makes it.
///
/// # Errors
/// When the model cannot be written.
pub fn made(recipe: &Recipe, cache: &Path, note: &mut dyn FnMut(&str)) -> Result<PathBuf> {
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
    // Another process may have made it before this one got the lock.
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

/// Removes what a killed process left unfinished. Called with the lock held: no process is making
/// this model now.
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
    use inferometer_protocol::Architecture;

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
    fn a_cache_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs_err::write(&file, "").unwrap();
        let error = made(&recipe(), &file, &mut |_| {}).unwrap_err().message;
        assert!(error.contains("INFEROMETER_CACHE") && error.contains("file"), "{error}");
    }
}
