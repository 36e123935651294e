//! Records how llama.cpp was compiled, for the receipt: what CMake decided is in its cache, beside
//! the package files that llama-cpp-sys-2 names.

use std::env::var;
use std::path::Path;

/// Entries of CMake's cache that decide the speed.
const ENTRIES: [&str; 9] = [
    "CMAKE_BUILD_TYPE",
    "CMAKE_CXX_FLAGS_RELEASE",
    "GGML_NATIVE",
    "GGML_OPENMP",
    "GGML_BLAS",
    "GGML_METAL",
    "GGML_CUDA",
    "GGML_VULKAN",
    "GGML_HIP",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let facts = var("DEP_LLAMA_GGML_CMAKE_DIR").ok().and_then(|folder| facts(Path::new(&folder)));
    println!("cargo::rustc-env=LLAMA_CPP_BUILD={}", facts.unwrap_or_default());
}

/// `OUT/lib/cmake` is the folder, `OUT/build/CMakeCache.txt` the cache.
#[expect(clippy::disallowed_methods, reason = "fs_err is no dependency of this script")]
fn facts(folder: &Path) -> Option<String> {
    let cache = std::fs::read_to_string(folder.parent()?.parent()?.join("build/CMakeCache.txt")).ok()?;
    let entry = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let value = value.split_once('=')?.1.trim();
        (ENTRIES.contains(&name) && !value.is_empty()).then(|| format!("{name}={value}"))
    };
    Some(cache.lines().filter_map(entry).collect::<Vec<_>>().join("; "))
}
