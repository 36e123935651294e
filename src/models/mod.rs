//! Models on this machine: where they are kept, what is there, by which name it is found, and which
//! ones can be fetched.

pub mod catalogue;
pub mod discover;
pub mod fetch;
mod kept;
mod name;
mod ollama;
pub mod places;
pub mod programs;

use std::io::Read;
use std::path::{Path, PathBuf};

pub use discover::{Found, Place, Survey, survey};
pub use name::{NameError, find, resolve};

/// Why a model cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("there is no program `{0}` in PATH")]
    NoProgram(String),
    #[error("`{command}` failed{how}")]
    Failed { command: String, how: String },
    #[error("{0}")]
    Refused(String),
    #[error("interrupted")]
    Interrupted,
}

/// Whether a file begins as GGUF files do, whatever its name.
#[must_use]
pub fn is_gguf(file: &Path) -> bool {
    let mut magic = [0; 4];
    // A pipe would block.
    let regular = fs_err::metadata(file).is_ok_and(|data| data.is_file());
    regular && fs_err::File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}

/// The file that a path stands for: the blob with the weights where the path is a manifest of
/// Ollama's, otherwise the path itself.
#[must_use]
pub fn opened(path: PathBuf) -> PathBuf {
    ollama::store_of(&path).and_then(|store| ollama::blob(store, &path).ok()).unwrap_or(path)
}
