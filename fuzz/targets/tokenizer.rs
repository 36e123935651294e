//! `tokenizer.json`: what opens encodes and decodes.
#![no_main]

use std::path::Path;

use inferometer_engine::text::Tokenizer;

#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let tokenizer = match Tokenizer::from_bytes(json, Path::new("t.json")) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            assert!(error.to_string().starts_with("t.json"), "{error}");
            return;
        }
    };
    if let Ok(ids) = tokenizer.encode("ab <s> \u{e9}\u{1f600}", true) {
        let _ = tokenizer.decode(&ids);
        let mut stream = tokenizer.stream();
        for id in ids.into_iter().chain([u32::MAX]) {
            let _ = stream.push(id);
        }
    }
    let _ = tokenizer.exact("ab", 5);
});
