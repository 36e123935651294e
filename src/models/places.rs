//! The folders of this program, and how paths are written.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

/// Variable that names the folder of fetched models.
pub const MODELS_VARIABLE: &str = "INFEROMETER_MODELS";
/// Variable that names the folder of installed engines.
pub const ENGINES_VARIABLE: &str = "INFEROMETER_ENGINES";

/// Replaces a leading `~` with the home folder, as a shell does.
///
/// # Errors
/// When the home folder is unknown.
pub fn expand(path: &Path) -> io::Result<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => Ok(home()?.join(rest)),
        Err(_) => Ok(path.to_owned()),
    }
}

/// The user's home folder.
///
/// # Errors
/// When it is unknown.
pub fn home() -> io::Result<PathBuf> {
    env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .ok_or_else(|| io::Error::other("the home folder is unknown: set HOME, or write the path in full"))
}

/// The folder that a variable names; `None` if it is not set or empty.
///
/// # Errors
/// When it begins with `~` and the home folder is unknown.
pub fn named_by(variable: &str) -> io::Result<Option<PathBuf>> {
    let value = env::var_os(variable).filter(|value| !value.is_empty());
    value.map(|value| expand(Path::new(&value))).transpose()
}

/// A folder of the XDG specification: what its variable names, if that is absolute, else `default`
/// in the home folder.
pub(super) fn xdg(variable: &str, default: &str) -> io::Result<PathBuf> {
    match named_by(variable)?.filter(|path| path.is_absolute()) {
        Some(folder) => Ok(folder),
        None => Ok(home()?.join(default)),
    }
}

/// `$INFEROMETER_CACHE`, or this program's folder in the platform's cache location.
///
/// # Errors
/// When neither that variable nor the home folder is known.
pub fn cache_folder() -> io::Result<PathBuf> {
    match named_by("INFEROMETER_CACHE")? {
        Some(folder) => Ok(folder),
        None if cfg!(target_os = "macos") => Ok(home()?.join("Library/Caches/inferometer")),
        None => Ok(xdg("XDG_CACHE_HOME", ".cache")?.join("inferometer")),
    }
}

/// The folder of fetched models: `$INFEROMETER_MODELS`, or `models` in this program's folder in the
/// platform's location for data.
///
/// # Errors
/// When neither that variable nor the home folder is known.
pub fn models_folder() -> io::Result<PathBuf> {
    data_folder(MODELS_VARIABLE, "models")
}

/// The folder of installed engines: `$INFEROMETER_ENGINES`, or `engines` beside that of models.
///
/// # Errors
/// When neither that variable nor the home folder is known.
pub fn engines_folder() -> io::Result<PathBuf> {
    data_folder(ENGINES_VARIABLE, "engines")
}

fn data_folder(variable: &str, name: &str) -> io::Result<PathBuf> {
    match named_by(variable)? {
        Some(folder) => Ok(folder),
        None if cfg!(target_os = "macos") => Ok(home()?.join("Library/Application Support/inferometer").join(name)),
        None => Ok(xdg("XDG_DATA_HOME", ".local/share")?.join("inferometer").join(name)),
    }
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
}
