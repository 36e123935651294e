//! `tokenizer.json`: what opens encodes and decodes.
//!
//! An input that begins with `{` is the whole file. The first byte of any other one chooses a part
//! of a sound file that the rest stands for, so that short inputs reach every part.
#![no_main]

use std::path::Path;

use inferometer_engine::text::Tokenizer;

#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

/// The parts of a file, and what they are where an input does not say.
const PARTS: [(&str, &str); 6] = [
    (
        "added_tokens",
        r#"[{"id":3,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}]"#,
    ),
    ("normalizer", "null"),
    ("pre_tokenizer", r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}"#),
    ("post_processor", "null"),
    ("decoder", r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#),
    ("model", r#"{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}"#),
];

/// The file that an input stands for.
fn file(input: &[u8]) -> Option<Vec<u8>> {
    let (which, rest) = match input.split_first()? {
        (b'{', _) => return Some(input.to_vec()),
        (which, rest) => (usize::from(*which) % PARTS.len(), rest),
    };
    let mut json = br#"{"version":"1.0""#.to_vec();
    for (at, (name, sound)) in PARTS.iter().enumerate() {
        let part = if at == which { rest } else { sound.as_bytes() };
        json.extend([b",\"", name.as_bytes(), b"\":", part].concat());
    }
    json.push(b'}');
    Some(json)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(json) = file(input) else { return };
    let tokenizer = match Tokenizer::from_bytes(&json, Path::new("t.json")) {
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
