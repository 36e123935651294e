//! Texts and ids for tokenizers that are built once, small ones of each kind.
//!
//! The first byte chooses the tokenizer, the second the length of `exact`. The rest is a text, and
//! token ids.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use inferometer_engine::gguf::Gguf;
use inferometer_engine::text::Tokenizer;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

/// Pairs that byte-level tokenizers merge, as they write bytes.
const PAIRS: [[&str; 2]; 8] = [
    ["a", "b"],
    ["\u{120}", "a"],
    ["\u{120}a", "b"],
    ["1", "2"],
    ["12", "3"],
    ["\u{c3}", "\u{a9}"],
    ["\u{120}", "\u{120}"],
    ["'", "s"],
];

static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let from_json = |json: Value| Tokenizer::from_bytes(json.to_string().as_bytes(), Path::new("t.json"));
    let library = [byte_level(), unigram(), word_pieces()].map(from_json);
    let from_gguf = |bytes| {
        let model = Gguf::from_bytes(bytes, Path::new("t.gguf")).expect("a model");
        Tokenizer::from_gguf(model.metadata())
    };
    let own = ["gpt-2", "llama-bpe", "deepseek-v3"].map(merges).into_iter().chain([scores()]).map(from_gguf);
    library.into_iter().chain(own).map(|tokenizer| tokenizer.expect("a tokenizer")).collect()
});

/// The first of [`TOKENIZERS`] that is this project's own code; the others are the library's.
const OWN: usize = 3;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&[which, length], rest)) = input.split_first_chunk::<2>() else { return };
    let which = usize::from(which) % TOKENIZERS.len();
    let tokenizer = &TOKENIZERS[which];
    let text = String::from_utf8_lossy(rest);
    if let Ok(ids) = tokenizer.encode(&text, length % 2 == 0) {
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocabulary_size()), "{ids:?}");
        read_back(tokenizer, &ids, which >= OWN);
    }
    let length = u32::from(length % 32);
    if let Ok(ids) = tokenizer.exact(&text, length) {
        assert_eq!(ids.len(), length as usize);
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let ids: Vec<u32> = rest.chunks(4).map(number).collect();
    if ids.iter().all(|id| tokenizer.token(*id).is_some()) {
        read_back(tokenizer, &ids, which >= OWN);
    } else {
        tokenizer.decode(&ids).expect_err("an id that is none");
    }
    let near: Vec<u32> = rest.iter().map(|byte| u32::from(*byte) % tokenizer.vocabulary_size() as u32).collect();
    read_back(tokenizer, &near, which >= OWN);
});

/// Decodes at once and token by token. The one begins with the other; the library's may also say
/// that it cannot, because a later token changes what it returned.
fn read_back(tokenizer: &Tokenizer, ids: &[u32], own: bool) {
    let whole = tokenizer.decode(ids).expect("ids of the vocabulary");
    let mut stream = tokenizer.stream();
    let mut streamed = String::new();
    for id in ids {
        match stream.push(*id) {
            Ok(text) => streamed.extend(text),
            Err(error) => {
                assert!(!own, "{ids:?}: {error}");
                return;
            }
        }
    }
    assert!(!own || whole.starts_with(&streamed), "{ids:?} is {whole:?}, but {streamed:?} in pieces");
}

/// The characters that stand for bytes, and what [`PAIRS`] make of them.
fn byte_tokens() -> Vec<String> {
    let shown = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let hidden = (0..=255).filter(|byte| !shown(byte)).zip(256..);
    let mut characters: Vec<(u8, u32)> =
        (0..=255).filter(shown).map(|byte| (byte, byte.into())).chain(hidden).collect();
    characters.sort_unstable();
    let text = |(_, character)| char::from_u32(character).expect("a character").to_string();
    characters.into_iter().map(text).chain(PAIRS.map(|pair| pair.concat())).collect()
}

/// `<0x00>` to `<0xFF>`.
fn named_bytes() -> impl Iterator<Item = String> {
    (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"))
}

fn ids(tokens: Vec<String>) -> Value {
    tokens
        .into_iter()
        .zip(0..)
        .map(|(token, id): (_, u32)| (token, id.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn byte_level() -> Value {
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let end = 256 + PAIRS.len();
    json!({
        "version": "1.0",
        "added_tokens": [{"id": end, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": {"type": "NFC"}, "pre_tokenizer": level, "decoder": level,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [end], "tokens": ["<s>"]}}},
        "model": {"type": "BPE", "vocab": ids(byte_tokens()), "merges": PAIRS},
    })
}

fn unigram() -> Value {
    let pieces = ["<unk>", "\u{2581}", "a", "b", "\u{2581}a", "ab", "\u{2581}ab"].map(str::to_owned);
    let vocabulary: Vec<Value> = pieces.into_iter().chain(named_bytes()).map(|piece| json!([piece, -1.5])).collect();
    json!({
        "version": "1.0", "added_tokens": [],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": true},
    })
}

fn word_pieces() -> Value {
    let pieces = ["[UNK]", "a", "##b", "ab", "##\u{e9}", ".", "1", "##2"].map(str::to_owned);
    json!({
        "version": "1.0", "added_tokens": [], "normalizer": {"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids(pieces.into())},
    })
}

/// A GGUF file without tensors.
#[derive(Default)]
struct Writer {
    keys: u64,
    bytes: Vec<u8>,
}

impl Writer {
    fn string(&mut self, text: &str) {
        self.bytes.extend((text.len() as u64).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    /// Begins an entry of the metadata, with the numbers of its types.
    fn key(&mut self, name: &str, types: &[u32]) {
        self.keys += 1;
        self.string(name);
        self.bytes.extend(types.iter().flat_map(|number| number.to_le_bytes()));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.key(name, &[8]);
        self.string(text);
    }

    fn number(&mut self, name: &str, number: u32) {
        self.key(name, &[4]);
        self.bytes.extend(number.to_le_bytes());
    }

    fn texts(&mut self, name: &str, texts: &[String]) {
        self.key(name, &[9, 8]);
        self.bytes.extend((texts.len() as u64).to_le_bytes());
        texts.iter().for_each(|text| self.string(text));
    }

    /// An array of four-byte numbers: type 5 for integers, 6 for floats.
    fn numbers(&mut self, name: &str, kind: u32, numbers: &[[u8; 4]]) {
        self.key(name, &[9, kind]);
        self.bytes.extend((numbers.len() as u64).to_le_bytes());
        self.bytes.extend(numbers.as_flattened());
    }

    fn file(self) -> Vec<u8> {
        let head = [&b"GGUF"[..], &3_u32.to_le_bytes(), &0_u64.to_le_bytes(), &self.keys.to_le_bytes()];
        [head.concat(), self.bytes].concat()
    }
}

/// A file with byte-level tokens and this pre-tokenizer.
fn merges(pre: &str) -> Vec<u8> {
    let mut tokens = byte_tokens();
    let mut kinds = vec![1_i32; tokens.len()];
    tokens.extend(["<|end|>", "<s>"].map(str::to_owned));
    kinds.extend([3, 4]);
    let mut writer = Writer::default();
    writer.text("tokenizer.ggml.model", "gpt2");
    writer.text("tokenizer.ggml.pre", pre);
    writer.texts("tokenizer.ggml.tokens", &tokens);
    writer.numbers("tokenizer.ggml.token_type", 5, &kinds.iter().map(|kind| kind.to_le_bytes()).collect::<Vec<_>>());
    writer.texts("tokenizer.ggml.merges", &PAIRS.map(|pair| pair.join(" ")));
    // `<|end|>` begins a text, where the pre-tokenizer wants that.
    writer.number("tokenizer.ggml.bos_token_id", tokens.len() as u32 - 2);
    writer.file()
}

/// A file with tokens that have scores, and one for each byte.
fn scores() -> Vec<u8> {
    let mut tokens: Vec<String> =
        ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(named_bytes()).collect();
    let mut kinds: Vec<i32> = [2, 3, 3].into_iter().chain([6; 256]).collect();
    let pieces = ["\u{2581}", "a", "b", "\u{2581}a", "ab", "\u{2581}ab", "\u{e9}"];
    tokens.extend(pieces.map(str::to_owned));
    kinds.extend([1; 7]);
    let numbers: Vec<[u8; 4]> = (0..tokens.len()).map(|id| (-(id as f32)).to_le_bytes()).collect();
    let mut writer = Writer::default();
    writer.text("tokenizer.ggml.model", "llama");
    writer.texts("tokenizer.ggml.tokens", &tokens);
    writer.numbers("tokenizer.ggml.scores", 6, &numbers);
    writer.numbers("tokenizer.ggml.token_type", 5, &kinds.iter().map(|kind| kind.to_le_bytes()).collect::<Vec<_>>());
    writer.file()
}
