//! The header of a safetensors file, of the smallest model that there can be.
//!
//! An input that begins with `{` is the whole header. Any other one stands in a sound header in
//! place of the entry of one tensor, so that short inputs reach every check.
#![no_main]

#[path = "../tiny.rs"]
mod tiny;

use std::sync::LazyLock;

use inferometer_engine::transformer::checkpoint::Checkpoint;
use inferometer_engine::transformer::weights::WeightFolder;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));
/// The entries after the one that an input stands for.
static REST: LazyLock<String> = LazyLock::new(|| tiny::entries(&tiny::TENSORS[1..], tiny::bytes(&tiny::TENSORS[..1])));

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let spliced;
    let header = match input {
        [b'{', ..] => input,
        _ => {
            spliced = [b"{", input, b",", REST.as_bytes(), b"}"].concat();
            &spliced
        }
    };
    let file = tiny::file(header, tiny::bytes(&tiny::TENSORS));
    std::fs::write(FOLDER.path().join("model.safetensors"), file).expect("a file");
    if let Ok(weights) = WeightFolder::open(FOLDER.path(), &tiny::CONFIG) {
        for (name, shape) in tiny::TENSORS {
            if shape.len() == 1 {
                let tensor = weights.read(name).expect("a checked tensor can be read");
                assert_eq!(tensor.to_f32().len(), 2);
            }
        }
    }
});
