//! llama.cpp as an engine that Inferometer measures.
//!
//! The binary of this crate is an engine host on the crate `llama-cpp-2`. It exists only with the
//! feature `llama-cpp`, because llama.cpp is compiled with it, which needs cmake, libclang, a C++
//! compiler and some minutes. Without the feature this library has what others need to know about
//! the engine ([`offer()`]) and everything that computes without llama.cpp.
//!
//! # Building
//!
//! ```sh
//! RUSTFLAGS="-C target-cpu=native" cargo build --release -p inferometer-llama-cpp \
//!     --features llama-cpp --target-dir target/llama-host
//! ```
//!
//! Three things decide whether llama.cpp is fast:
//!
//! - `-C target-cpu=native`. Without it the crate switches `GGML_NATIVE` off, and on x86 llama.cpp
//!   gets SSE2 only.
//! - A release profile without debug information. With `debug = 1` or more, CMake's build type is
//!   `RelWithDebInfo`, which is -O2 instead of -O3.
//! - A target folder of its own. A build folder that has seen another `GGML_NATIVE` keeps the old
//!   processor features without a word.
//!
//! The receipt tells what CMake was given and which instructions llama.cpp reports.
//!
//! The features `cuda`, `vulkan` and `rocm` are those of `llama-cpp-2`, and need what it needs for
//! them. On Apple Silicon Metal is always built.

pub mod file;
pub mod logits;
mod offer;
pub mod options;
pub mod printed;
pub mod request;
pub mod sampling;

#[cfg(feature = "llama-cpp")]
mod engine;
#[cfg(feature = "llama-cpp")]
mod generation;
#[cfg(feature = "llama-cpp")]
mod identity;
#[cfg(feature = "llama-cpp")]
mod loaded;
#[cfg(feature = "llama-cpp")]
mod log;
#[cfg(feature = "llama-cpp")]
mod sampler;
#[cfg(feature = "llama-cpp")]
mod session;

pub use offer::{NAME, offer};

#[cfg(feature = "llama-cpp")]
pub use engine::LlamaCpp;
