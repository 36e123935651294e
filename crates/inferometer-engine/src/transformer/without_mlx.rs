//! In place of `on_mlx.rs` where this build has no MLX.

use std::path::Path;

use super::LoadSettings;
use inferometer_host::{Result, Session};
use inferometer_protocol::{EngineError, Honours};

/// How to get it.
const MISSING: &str = if cfg!(target_os = "linux") {
    "this build has no MLX: run scripts/mlx-linux, then the command it prints"
} else {
    "this build has no MLX: it needs Apple Silicon, or Linux and scripts/mlx-linux"
};

pub fn missing() -> Option<String> {
    Some(MISSING.to_owned())
}

pub fn place() -> Option<String> {
    None
}

/// Unknown: nothing is promised, and nothing is held against a scenario beside that MLX is missing.
pub fn honours() -> Honours {
    Honours::default()
}

pub fn open(_folder: &Path, _settings: &LoadSettings) -> Result<Box<dyn Session>> {
    Err(EngineError::unsupported(MISSING))
}
