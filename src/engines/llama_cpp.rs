//! The `llama-cpp` engine: llama.cpp in a host of its own, so that this program compiles no C++.

use std::path::{Path, PathBuf};

use super::program::Program;
use crate::models::programs;
use inferometer_llama_cpp::{NAME, offer};
use inferometer_protocol::EngineSpec;

pub const PROGRAM: Program = Program { name: NAME, receipt_name: NAME, offer, command };

const HOST: &str = "inferometer-llama-cpp";

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
