//! The header of a safetensors file, of a model that needs one tensor.
#![no_main]

use std::sync::LazyLock;

use inferometer_engine::transformer::weights::{Expected, WeightFolder};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

libfuzzer_sys::fuzz_target!(|header: &[u8]| {
    // The length of the header and eight bytes of tensors are made here: else few inputs get far.
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(&[0; 8]);
    std::fs::write(FOLDER.path().join("model.safetensors"), &file).expect("a file");
    let expected = [Expected { name: "a".to_owned(), shape: vec![2, 1], quantized: None }];
    if let Ok(weights) = WeightFolder::open(FOLDER.path(), &expected, &[]) {
        let tensor = weights.read("a").expect("a checked tensor can be read");
        assert_eq!(tensor.to_f32().len(), 2);
    }
});
