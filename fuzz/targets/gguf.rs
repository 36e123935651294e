//! A GGUF file: what opens is read completely, and its tokenizer encodes and decodes.
#![no_main]

use std::path::Path;

use inferometer_engine::gguf::Gguf;
use inferometer_engine::text::Tokenizer;

#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let model = match Gguf::from_bytes(bytes.to_vec(), Path::new("m.gguf")) {
        Ok(model) => model,
        Err(error) => {
            assert!(error.message.contains("m.gguf"), "{error}");
            return;
        }
    };
    for info in model.tensors() {
        let stored = model.tensor(&info.name).expect("a tensor that is listed");
        assert_eq!(stored.bytes.len(), info.length);
        let _ = (stored.floats(), stored.candle());
    }
    let metadata = model.metadata();
    for key in metadata.keys() {
        let _ = (metadata.text(key), metadata.integer(key), metadata.count(key), metadata.float(key));
        let _ = (metadata.flag(key), metadata.counts_by_layer(key, 2), metadata.flags_by_layer(key, 2));
        let _ = metadata.texts(key).map(|texts| texts.map(|texts| texts.iter().count()));
        let _ = metadata.integers(key).map(|found| found.map(Iterator::count));
        let _ = metadata.floats(key).map(|found| found.map(Iterator::count));
    }
    let Ok(tokenizer) = Tokenizer::from_gguf(metadata) else { return };
    if let Ok(ids) = tokenizer.encode("ab <s> \u{e9}\u{1f600}", true) {
        let text = tokenizer.decode(&ids).expect("ids that it made");
        let mut stream = tokenizer.stream();
        let streamed: String = ids.iter().filter_map(|id| stream.push(*id).expect("ids that it made")).collect();
        assert!(text.starts_with(&streamed), "{text:?} {streamed:?}");
    }
    let _ = tokenizer.exact("ab", 5);
});
