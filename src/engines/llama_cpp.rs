//! The `llama-cpp` engine: llama.cpp in a host of its own, so that this program compiles no C++.

use std::path::{Path, PathBuf};

use super::program::Program;
use crate::models::programs;
use inferometer_protocol::{EngineSpec, Honours, Kind, Offer, OptionSpec};

pub const PROGRAM: Program = Program { name: "llama-cpp", receipt_name: "llama-cpp", offer, command };

const HOST: &str = "inferometer-llama-cpp";

fn offer() -> Offer {
    Offer {
        name: PROGRAM.name,
        label: PROGRAM.name,
        meaning: "llama.cpp, for GGUF files",
        options: vec![
            option("context", Kind::Count, &[], "tokens of the context; default: the model's"),
            option("batch", Kind::Count, &[], "logical batch: tokens in one call of llama_decode"),
            option("gpu_layers", Kind::Count, &[], "layers on the GPU; 0 = none"),
            option("flash_attention", Kind::Text, &["auto", "on", "off"], "fused attention"),
            option(
                "kv_dtype",
                Kind::Text,
                &["f32", "f16", "q8_0", "q4_0"],
                "format of keys and values in the KV cache",
            ),
        ],
        // Only the running engine knows.
        honours: Honours::default(),
        ..Offer::default()
    }
}

fn option(name: &'static str, kind: Kind, choices: &'static [&'static str], meaning: &'static str) -> OptionSpec {
    OptionSpec { name, kind, choices, paths: false, meaning }
}

/// The host beside this program, else the one on the PATH.
fn command(_: &EngineSpec) -> Result<Vec<String>, String> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|folder| folder.join(HOST)).filter(|file| file.is_file());
    let found = beside.or_else(|| programs::on_path(HOST)).map(PathBuf::into_os_string);
    found.and_then(|path| path.into_string().ok()).map(|path| vec![path]).ok_or_else(|| {
        format!(
            "its host `{HOST}` is neither beside this program nor in PATH; \
             `cargo build --release -p {HOST} --features llama-cpp` makes it"
        )
    })
}
