//! Replaces `on_mlx.rs` in builds without MLX.

use std::path::Path;

use super::LoadSettings;
use inferometer_host::{Result, Session};
use inferometer_protocol::{EngineError, Honours};

/// How to get MLX.
const MISSING: &str = if cfg!(target_os = "linux") {
    "this build has no MLX: run scripts/mlx-linux, then the command it prints"
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    "this build has no MLX: build with the default features, which need Xcode's Metal toolchain \
     (`xcodebuild -downloadComponent MetalToolchain`)"
} else {
    "this build has no MLX: it needs Apple Silicon, or Linux and scripts/mlx-linux"
};

pub fn missing() -> Option<String> {
    Some(MISSING.to_owned())
}

pub fn doubt() -> Option<String> {
    None
}

pub fn place() -> Option<String> {
    None
}

/// Unknown without MLX: promises nothing, so that a scenario's only error is that MLX is missing.
pub fn honours() -> Honours {
    Honours::default()
}

pub fn open(_folder: &Path, _settings: &LoadSettings) -> Result<Box<dyn Session>> {
    Err(EngineError::unsupported(MISSING))
}
