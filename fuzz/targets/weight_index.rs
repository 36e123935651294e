//! `model.safetensors.index.json` beside two weight files.
#![no_main]

use std::sync::LazyLock;

use inferometer_engine::transformer::weights::{Expected, WeightFolder};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, tensor) in [("x.safetensors", "a"), ("y.safetensors", "b")] {
        let header = format!(r#"{{"{tensor}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(&[0; 4]);
        std::fs::write(folder.path().join(name), &file).expect("a file");
    }
    folder
});

libfuzzer_sys::fuzz_target!(|index: &[u8]| {
    std::fs::write(FOLDER.path().join("model.safetensors.index.json"), index).expect("a file");
    let expected = ["a", "b"].map(|name| Expected { name: name.to_owned(), shape: vec![1], quantized: None });
    if let Ok(weights) = WeightFolder::open(FOLDER.path(), &expected, &[]) {
        weights.read("b").expect("a checked tensor can be read");
    }
});
