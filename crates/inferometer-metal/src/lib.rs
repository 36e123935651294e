//! MLX with Metal, in place of the crate `mlx-rs`.
//!
//! A crate of its own because a feature cannot depend on the system: `metal` is a default feature,
//! but on other systems it must not build MLX. There this crate is empty.
#![cfg(all(target_os = "macos", target_arch = "aarch64"))]

pub use mlx_rs::*;
pub use mlx_sys;
