//! `tokenizer.json`: what opens encodes and decodes.
#![no_main]

use std::sync::LazyLock;

use inferometer_engine::text::Tokenizer;

#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let path = FOLDER.path().join("tokenizer.json");
    std::fs::write(&path, json).expect("a file");
    let Ok(tokenizer) = Tokenizer::from_file(&path) else { return };
    if let Ok(ids) = tokenizer.encode("ab <s> \u{e9}\u{1f600}", true) {
        let _ = tokenizer.decode(&ids);
        let mut stream = tokenizer.stream();
        for id in ids.into_iter().chain([u32::MAX]) {
            let _ = stream.push(id);
        }
    }
    let _ = tokenizer.exact("ab", 5);
});
