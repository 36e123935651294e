//! Inferometer's own engine: a transformer written once over a small tensor-backend trait, on
//! candle or MLX; tokenizers and chat templates; synthetic models.
//!
//! It is an engine like any other: the harness uses it only through `inferometer-host`, except to
//! look into model folders.

#[cfg(all(feature = "metal", not(feature = "mlx"), target_os = "macos", target_arch = "aarch64"))]
extern crate inferometer_metal as mlx_rs;

pub mod auto;
pub mod cache;
pub mod folder;
pub mod gguf;
pub mod glance;
pub mod inspect;
pub mod serial;
pub mod synthetic;
pub mod text;
pub mod transformer;

use inferometer_host::Engine;

/// The program's allocator, which enforces the limits of chat templates.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

/// The engines of this crate, in the order that `inferometer engines` lists them.
pub const ENGINES: [&dyn Engine; 2] = [&transformer::Transformer, &auto::Auto];
