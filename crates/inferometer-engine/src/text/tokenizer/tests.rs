use super::*;
use crate::synthetic::preset::find;
use inferometer_protocol::Architecture;
use serde_json::json;

/// A byte-level tokenizer without merges; with `bos` it puts token 256 in front and 257 at the end.
fn tokenizer(bos: bool) -> Tokenizer {
    normalizing(bos, json!(null))
}

fn normalizing(bos: bool, normalizer: serde_json::Value) -> Tokenizer {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocabulary: serde_json::Map<_, _> =
        alphabet.iter().enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    let special = |id: u32, name: &str| {
        json!({"id": id, "content": name, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    let sandwich = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]},
                           "</s>": {"id": "</s>", "ids": [257], "tokens": ["</s>"]}},
    });
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let file = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "normalizer": normalizer, "pre_tokenizer": byte_level, "decoder": byte_level,
        "added_tokens": [special(256, "<s>"), special(257, "</s>")],
        "post_processor": if bos { sandwich } else { json!(null) },
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    Tokenizer::from_model(folder.path()).unwrap()
}

#[test]
fn text_goes_in_and_comes_out() {
    let tokenizer = tokenizer(false);
    let text = "naïve 😀 \r\n\t\u{0} end";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text, true).unwrap()).unwrap(), text);
    assert_eq!(tokenizer.vocabulary_size(), 258);
    assert_eq!(tokenizer.id("</s>"), Some(257));
}

#[test]
fn tokens_that_come_one_by_one_give_the_text_as_its_characters_are_complete() {
    let tokenizer = tokenizer(false);
    let text = "naïve 😀 end";
    let mut stream = tokenizer.stream();
    let parts: Vec<Option<String>> =
        tokenizer.encode(text, false).unwrap().into_iter().map(|id| stream.push(id).unwrap()).collect();
    assert_eq!(parts.iter().flatten().cloned().collect::<String>(), text);
    // A character comes with its last byte.
    assert_eq!(parts.iter().filter(|part| part.is_none()).count(), text.len() - text.chars().count());
    assert!(stream.push(999).unwrap_err().to_string().contains("999"));
}

#[test]
fn truncation_asked_for_by_the_file_is_off() {
    assert_eq!(tokenizer(false).encode("abcdefgh", true).unwrap().len(), 8);
}

#[test]
fn exact_lengths_repeat_the_text_after_a_blank_line_and_nest() {
    for bos in [false, true] {
        let tokenizer = tokenizer(bos);
        let long = tokenizer.exact("one two", 40).unwrap();
        assert_eq!(long.len(), 40);
        let front = usize::from(bos);
        assert_eq!(tokenizer.decode(&long[front..22 + front]).unwrap(), "one two\n\none two\n\none ");
        for length in 1..40 {
            assert_eq!(tokenizer.exact("one two", length).unwrap(), long[..length as usize]);
        }
        assert_eq!(long[0] == 256, bos);
        assert!(!long.contains(&257), "a special token behind the text does not belong into a prompt");
    }
    let ended = tokenizer(false);
    assert_eq!(ended.decode(&ended.exact("a\n", 7).unwrap()).unwrap(), "a\n\na\n\na");
}

#[test]
fn nothing_cannot_be_repeated() {
    let tokenizer = tokenizer(true);
    assert!(tokenizer.exact("", 5).unwrap_err().to_string().contains("empty"));
    assert!(tokenizer.exact("a", 0).unwrap_err().to_string().contains("at least one"));
}

#[test]
fn text_that_gives_too_few_tokens_is_refused_before_it_fills_the_memory() {
    let refused = |tokenizer: &Tokenizer, length| {
        let error = tokenizer.exact("one", length).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("64 MiB"), "{error}");
    };
    // Whatever follows the first line is dropped, so repetition adds nothing.
    let first_line = json!({"type": "Replace", "pattern": {"Regex": "\\n[\\s\\S]*"}, "content": ""});
    let hostile = normalizing(false, first_line);
    assert_eq!(hostile.exact("one", 3).unwrap().len(), 3);
    refused(&hostile, 10);
    refused(&tokenizer(false), u32::MAX);
}

#[test]
fn an_id_outside_the_vocabulary_is_named() {
    let error = tokenizer(false).decode(&[3, 999]).unwrap_err().to_string();
    assert!(error.contains("999") && error.contains("tokenizer.json"), "{error}");
}

/// The library panics on many of these, most of those cut inside `decoder`.
#[test]
fn a_file_cut_anywhere_is_an_error_that_names_it() {
    let preset = find(Architecture::Llama, "tiny").unwrap();
    let whole = crate::synthetic::vocabulary::tokenizer(preset).unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    let decoder = whole.find("\"decoder\"").unwrap();
    for length in (0..whole.len()).step_by(50).chain(decoder..decoder + 150) {
        fs_err::write(&file, &whole.as_bytes()[..length]).unwrap();
        let error = Tokenizer::from_model(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: not a tokenizer file") && error.len() < 700, "{length}: {error}");
    }
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_model(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    for garbage in
        ["", "{", "[]", "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[\"a b\"]}}"]
    {
        fs_err::write(folder.path().join("tokenizer.json"), garbage).unwrap();
        let error = Tokenizer::from_model(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: not a tokenizer file"), "{garbage}: {error}");
    }
}

/// The ids were made with Python's `tokenizers` 0.23.2: `Tokenizer.from_file`, then `add_tokens`
/// of `AddedToken`s with these flags.
#[test]
fn tokens_of_the_configuration_are_added_with_their_flags() {
    let folder = tempfile::tempdir().unwrap();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": null, "post_processor": null,
        "added_tokens": [{"id": 0, "content": "<unk>", "special": true, "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false}],
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1, "b": 2, "<c>": 3}},
    });
    let config = json!({
        "eos_token": "<end>",
        "added_tokens_decoder": {
            "6": {"content": "<end>", "special": false, "normalized": false},
            "0": {"content": "<unk>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
            "4": {"content": "<L>", "lstrip": true, "rstrip": true, "normalized": false, "special": true},
            "5": {"content": "Word", "single_word": true, "normalized": true, "special": false},
        },
    });
    fs_err::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let plain = Tokenizer::from_model(folder.path()).unwrap();
    assert_eq!((plain.vocabulary_size(), plain.id("<end>")), (4, None));
    fs_err::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::from_model(folder.path()).unwrap();
    assert_eq!((tokenizer.id("<L>"), tokenizer.id("Word"), tokenizer.id("<end>")), (Some(4), Some(5), Some(6)));
    for (text, ids) in [
        ("a  <L>  b", vec![1, 4, 2]),
        ("a<L>b", vec![1, 4, 2]),
        ("a word b", vec![1, 5, 2]),
        ("sword words", vec![0, 0]),
        ("WORD a", vec![5, 1]),
        ("a<end>b <END>", vec![1, 6, 2, 0]),
        ("b <unk> a", vec![2, 0, 1]),
    ] {
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids, "{text}");
    }
    fs_err::write(folder.path().join("tokenizer_config.json"), r#"{"added_tokens_decoder": {"9": {"special": 1}}}"#)
        .unwrap();
    let error = Tokenizer::from_model(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json: added_tokens_decoder, token \"9\""), "{error}");
}
