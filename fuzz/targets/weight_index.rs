//! `model.safetensors.index.json` beside two weight files.
#![no_main]

#[path = "../tiny.rs"]
mod tiny;

use std::sync::LazyLock;

use inferometer_engine::transformer::checkpoint::Checkpoint;
use inferometer_engine::transformer::weights::WeightFolder;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = tiny::TENSORS.split_at(5);
    for (name, tensors) in [("x.safetensors", first), ("y.safetensors", second)] {
        let header = format!("{{{}}}", tiny::entries(tensors, 0));
        std::fs::write(folder.path().join(name), tiny::file(header.as_bytes(), tiny::bytes(tensors))).expect("a file");
    }
    folder
});

libfuzzer_sys::fuzz_target!(|index: &[u8]| {
    std::fs::write(FOLDER.path().join("model.safetensors.index.json"), index).expect("a file");
    if let Ok(weights) = WeightFolder::open(FOLDER.path(), &tiny::CONFIG) {
        weights.read("model.norm.weight").expect("a checked tensor can be read");
    }
});
