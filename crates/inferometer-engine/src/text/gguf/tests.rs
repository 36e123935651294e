use proptest::prelude::*;

use super::*;
use crate::gguf::Gguf;
use crate::gguf::writer::Writer;
use crate::text::Tokenizer;

/// A file with this vocabulary, opened.
fn open(file: &Writer) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    file.write(&path);
    let model = Gguf::open(&path).unwrap();
    Tokenizer::from_gguf(model.metadata()).map_err(|error| error.to_string())
}

/// A byte-level vocabulary: 256 bytes, then what `merges` make, then control tokens, then one that
/// is defined by its user.
fn byte_level(pre: &str, merges: &[&str], control: &[&str]) -> Writer {
    let mut tokens: Vec<String> = (0..=255).map(|byte| bytes::character(byte).to_string()).collect();
    tokens.extend(merges.iter().map(|pair| pair.replacen(' ', "", 1)));
    tokens.extend(control.iter().map(|name| (*name).to_owned()));
    tokens.push("<table>".to_owned());
    let mut kinds = vec![1; 256 + merges.len()];
    kinds.extend(vec![3; control.len()]);
    kinds.push(4);
    let mut file = Writer::default();
    file.text(MODEL, "gpt2").text("tokenizer.ggml.pre", pre).texts(TOKENS, &tokens).i32s(KINDS, &kinds);
    file.texts("tokenizer.ggml.merges", merges);
    file
}

/// A vocabulary with scores: three special tokens, 256 bytes, then `words`.
fn scored(words: &[(&str, f32, i32)]) -> Writer {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(words.iter().map(|(word, ..)| (*word).to_owned()));
    let mut kinds = vec![2, 3, 3];
    kinds.extend([6; 256]);
    kinds.extend(words.iter().map(|(.., kind)| *kind));
    let mut scores = vec![0.0; 259];
    scores.extend(words.iter().map(|(_, score, _)| *score));
    let mut file = Writer::default();
    file.text(MODEL, "llama").texts(TOKENS, &tokens).i32s(KINDS, &kinds).f32s("tokenizer.ggml.scores", &scores);
    file
}

const WORDS: [(&str, f32, i32); 11] = [
    ("▁", -1.0, 1),
    ("a", -2.0, 1),
    ("b", -2.0, 1),
    ("c", -2.0, 1),
    ("ab", -3.0, 1),
    ("bc", -3.0, 1),
    ("▁a", -4.0, 1),
    ("abc", -9.0, 1),
    ("<end_of_turn>", 0.0, 3),
    ("\n\n", 0.0, 4),
    ("\n\n\n", 0.0, 4),
];

/// The tokens of a text by their names.
fn names(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.encode(text, false).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect()
}

fn words(pre: &str, text: &str) -> Vec<String> {
    pre::PreTokenizer::named(pre).unwrap().words(text).unwrap().into_iter().map(str::to_owned).collect()
}

#[test]
fn every_pre_tokenizer_cuts_text_into_words_that_are_the_text() {
    let text = "It'S  12345 naïve\n\n x_y ǅABc IMGIMGABZ中文、ひら\u{3000}e\u{301}\u{85}\t🙂'll (a)\r\n ";
    for name in pre::known() {
        assert_eq!(words(name, text).concat(), text, "{name}");
        assert!(words(name, "").is_empty());
    }
}

#[test]
fn words_are_those_of_llama_cpp() {
    // What differs between them. scripts/check-gguf-tokenizers compares the ids of all.
    let text = "Don'T HTTPServer 1234  x";
    let cut = |pre| words(pre, text).join("|");
    assert_eq!(cut("gpt-2"), "Don|'|T| HTTPServer| 1234| | x");
    assert_eq!(cut("smollm"), "Don|'|T| HTTPServer| |1|2|3|4| | x");
    assert_eq!(cut("llama-bpe"), "Don|'T| HTTPServer| |123|4| | x");
    assert_eq!(cut("qwen2"), "Don|'T| HTTPServer| |1|2|3|4| | x");
    assert_eq!(cut("gpt-4o"), "Don'T| HTTPServer| |123|4| | x");
    assert_eq!(cut("tekken"), "Don|'T| HTTPServer| |1|2|3|4| | x");
    assert_eq!(cut("deepseek-v3"), "Don|'T| HTTPServer| |123|4| | x");
    assert_eq!(words("tiny_aya", "a1234567"), ["a", "1", "234", "567"]);
    // The full-width comma is one of the signs and, after them, one of the characters of East Asia.
    assert_eq!(words("deepseek-llm", "a\u{3000}、 b"), ["a", "\u{3000}", "、", " b"]);
}

#[test]
fn merges_go_by_rank_and_then_from_the_left() {
    let tokenizer = open(&byte_level("gpt-2", &["b c", "a b", "a a", "Ġ a"], &[])).unwrap();
    assert_eq!(names(&tokenizer, "abc"), ["a", "bc"]);
    assert_eq!(names(&tokenizer, "aaaaa a"), ["aa", "aa", "a", "Ġa"]);
    assert_eq!(names(&tokenizer, "é"), ["Ã", "©"]);
}

#[test]
fn a_word_that_is_a_token_is_not_merged_where_the_pre_tokenizer_says_so() {
    let merges = ["b c", "a b", "ab c"];
    let ignoring = byte_level("llama-bpe", &merges, &[]).flag("tokenizer.ggml.add_bos_token", false).clone();
    assert_eq!(names(&open(&ignoring).unwrap(), "abc"), ["abc"]);
    assert_eq!(names(&open(&byte_level("qwen2", &merges, &[])).unwrap(), "abc"), ["a", "bc"]);
}

#[test]
fn a_byte_without_a_token_is_dropped_as_in_llama_cpp() {
    let mut tokens: Vec<String> = (0..=255).map(|byte| bytes::character(byte).to_string()).collect();
    tokens[4] = "four".to_owned();
    let mut file = Writer::default();
    file.text(MODEL, "gpt2").text("tokenizer.ggml.pre", "gpt-2").texts(TOKENS, &tokens);
    let tokenizer = open(file.texts::<&str>("tokenizer.ggml.merges", &[])).unwrap();
    assert_eq!(tokenizer.encode("a\u{4}b", false).unwrap(), [97, 98]);
}

#[test]
fn names_of_special_tokens_become_these_tokens_the_longest_first() {
    let tokenizer = open(&byte_level("gpt-2", &[], &["<|im_end|>", "<|im", "m_end|>x"])).unwrap();
    assert_eq!(names(&tokenizer, "a<|im_end|>b<table><|im"), ["a", "<|im_end|>", "b", "<table>", "<|im"]);
    // The longer name is taken although the other begins before it.
    assert_eq!(names(&tokenizer, "<|im_end|>x"), ["<|im_end|>", "x"]);
    let ids = tokenizer.encode("a<|im_end|>\n", false).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "a<|im_end|>\n");
}

#[test]
fn begin_and_end_are_added_as_the_file_or_the_pre_tokenizer_says() {
    let file = |pre| {
        let mut file = byte_level(pre, &[], &["<b>", "<e>"]);
        file.u32("tokenizer.ggml.bos_token_id", 256).u32("tokenizer.ggml.eos_token_id", 257);
        file
    };
    let added = |file: &Writer| open(file).unwrap().encode("a", true).unwrap();
    assert_eq!(added(&file("gpt-2")), [97]);
    assert_eq!(added(&file("llama-bpe")), [256, 97]);
    let both =
        file("gpt-2").flag("tokenizer.ggml.add_bos_token", true).flag("tokenizer.ggml.add_eos_token", true).clone();
    assert_eq!(added(&both), [256, 97, 257]);
    let tokenizer = open(&both).unwrap();
    assert_eq!(tokenizer.exact("ab", 4).unwrap(), [256, 97, 98, 10]);
    assert_eq!(added(file("tekken").flag("tokenizer.ggml.add_bos_token", false)), [97]);
    let missing = open(byte_level("gpt-2", &[], &[]).flag("tokenizer.ggml.add_bos_token", true)).unwrap_err();
    assert!(missing.contains("m.gguf: tokenizer.ggml.bos_token_id is missing"), "{missing}");
}

#[test]
fn scores_decide_and_equal_ones_go_from_the_left() {
    let tokenizer = open(scored(&WORDS).flag("tokenizer.ggml.add_space_prefix", false)).unwrap();
    assert_eq!(names(&tokenizer, "abc"), ["abc"]);
    assert_eq!(names(&tokenizer, "bcab"), ["bc", "ab"]);
    // `ab` and `bc` have one score; with a merge table `bc` could come first.
    assert_eq!(names(&tokenizer, "babc"), ["b", "abc"]);
    assert_eq!(names(&tokenizer, "xa"), ["<0x78>", "a"]);
    assert_eq!(names(&tokenizer, "é"), ["<0xC3>", "<0xA9>"]);
    assert_eq!(names(&tokenizer, "a\n\n\n\n\nb"), ["a", "\n\n\n", "\n\n", "b"]);
}

#[test]
fn a_space_goes_in_front_of_text_at_the_start_and_after_special_tokens() {
    let tokenizer = open(&scored(&WORDS)).unwrap();
    assert_eq!(names(&tokenizer, "ab a"), ["▁", "ab", "▁a"]);
    assert_eq!(names(&tokenizer, "c<end_of_turn>c<s>"), ["▁", "c", "<end_of_turn>", "▁", "c", "<s>"]);
    assert_eq!(tokenizer.encode("", true).unwrap(), [1]);
    let ids = tokenizer.encode("ab  a\té🙂", false).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "ab  a\té🙂");
    // The space of a text that begins with one is kept.
    assert_eq!(tokenizer.decode(&tokenizer.encode(" a", false).unwrap()).unwrap(), " a");
    assert_eq!(tokenizer.exact("c", 4).unwrap()[0], 1);
}

#[test]
fn phi_3_drops_white_space_after_special_tokens() {
    let mut file = scored(&WORDS);
    file.text("general.name", "Phi-3 Mini").flag("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = open(&file).unwrap();
    assert_eq!(names(&tokenizer, "a<end_of_turn> \n b<s> a"), ["a", "<end_of_turn>", "b", "<s>", "▁a"]);
}

#[test]
fn roles_and_stops_come_from_keys_and_well_known_names() {
    let control = ["<|start|>", "<|end|>", "<|return|>", "<|call|>", "<|channel|>", "<|fim_pad|>"];
    let mut file = byte_level("gpt-4o", &[], &control);
    file.u32("tokenizer.ggml.eos_token_id", 258).i32("tokenizer.ggml.padding_token_id", -1);
    let tokenizer = open(&file).unwrap();
    let special = tokenizer.special_tokens().unwrap();
    // `<|end|>` ends a message, since there are `<|return|>` and `<|call|>`.
    assert_eq!(special.stop.iter().copied().collect::<Vec<_>>(), [258, 259, 261]);
    assert_eq!((special.begin, special.end, special.padding), (None, Some(258), None));
    assert_eq!(special.end_of_turn, Some(257));

    let mut file = byte_level("llama-bpe", &[], &["<|begin_of_text|>", "<|eom_id|>", "<|eot_id|>", "<|end_of_text|>"]);
    file.u32("tokenizer.ggml.bos_token_id", 256).u32("tokenizer.ggml.eos_token_id", 258);
    let tokenizer = open(&file).unwrap();
    let special = tokenizer.special_tokens().unwrap();
    assert_eq!((special.end_of_turn, special.end_of_message, special.adds_begin), (Some(258), Some(257), true));
    assert_eq!(special.stop.iter().copied().collect::<Vec<_>>(), [257, 258, 259]);

    let scored = open(&scored(&WORDS)).unwrap();
    let special = scored.special_tokens().unwrap();
    assert_eq!((special.begin, special.end, special.unknown), (Some(1), Some(2), Some(0)));
    let beyond = open(file.u32("tokenizer.ggml.eot_token_id", 9999)).unwrap_err();
    assert!(beyond.contains("tokenizer.ggml.eot_token_id is 9999, but the vocabulary has 261 tokens"), "{beyond}");
}

#[test]
fn chat_templates_are_found_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut file = Writer::default();
    file.text("tokenizer.chat_template", "plain").text("tokenizer.chat_template.tool_use", "tools");
    file.texts("tokenizer.chat_templates", &["tool_use"]).write(&path);
    let model = Gguf::open(&path).unwrap();
    let metadata = model.metadata();
    assert_eq!(chat_template(metadata, None).unwrap(), Some("plain"));
    assert_eq!(chat_template(metadata, Some("tool_use")).unwrap(), Some("tools"));
    assert_eq!(chat_template(metadata, Some("rag")).unwrap(), None);
}

/// As Transformers does, if a chat has tools.
#[test]
fn chats_with_tools_have_a_template_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut file = byte_level("gpt-2", &[], &[]);
    file.text("tokenizer.chat_template", "plain").text("tokenizer.chat_template.tool_use", "tools").write(&path);
    let template = crate::text::ChatTemplate::from_model(&path).unwrap();
    let tools = Some(Vec::new());
    let render = |chat: &inferometer_protocol::Chat| template.render(chat, true).unwrap();
    assert_eq!(render(&inferometer_protocol::Chat { tools, ..Default::default() }), "tools");
    assert_eq!(render(&inferometer_protocol::Chat::default()), "plain");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let refusal = |file: &Writer| {
        let error = open(file).unwrap_err();
        assert!(error.contains("m.gguf: tokenizer.ggml."), "{error}");
        error
    };
    for model in ["bert", "t5", "rwkv", "gemma4", "plamo2"] {
        let error = refusal(Writer::default().text(MODEL, model).texts(TOKENS, &["a"]));
        assert!(error.contains(&format!("is {model:?}")) && error.contains("gpt2"), "{error}");
    }
    let unknown = refusal(&byte_level("martian", &[], &[]));
    assert!(unknown.contains("does not know the pre-tokenizer \"martian\"") && unknown.contains("qwen2"), "{unknown}");
    assert!(refusal(&byte_level("kimi-k2", &[], &[])).contains("kimi-k2"));
    let mut without = Writer::default();
    without.text(MODEL, "gpt2").texts(TOKENS, &["a"]).texts::<&str>("tokenizer.ggml.merges", &[]);
    assert!(refusal(&without).contains("tokenizer.ggml.pre is missing"));
    assert!(refusal(&Writer::default()).contains("tokenizer.ggml.model is missing: the file has no tokenizer"));
    assert!(refusal(Writer::default().text(MODEL, "llama")).contains("tokenizer.ggml.tokens is missing"));
    let twice = refusal(Writer::default().text(MODEL, "llama").texts(TOKENS, &["a", "b", "a"]));
    assert!(twice.contains("has the text \"a\" twice, as tokens 0 and 2"), "{twice}");
    let short = refusal(Writer::default().text(MODEL, "llama").texts(TOKENS, &["a", "b"]).i32s(KINDS, &[1]));
    assert!(short.contains("token_type has 1 values, but tokenizer.ggml.tokens has 2"));
    let scores = |values: &[f32]| {
        refusal(Writer::default().text(MODEL, "llama").texts(TOKENS, &["a", "b"]).f32s("tokenizer.ggml.scores", values))
    };
    assert!(scores(&[0.0]).contains("scores has 1 values"));
    assert!(scores(&[0.0, f32::NAN]).contains("scores has no number for token 1"));
    for pair in ["ab", "a", "", " b"] {
        let mut file = Writer::default();
        file.text(MODEL, "gpt2").text("tokenizer.ggml.pre", "gpt-2").texts(TOKENS, &["a", "b", "ab"]);
        let error = refusal(file.texts("tokenizer.ggml.merges", &["a b", pair]));
        assert!(error.contains("merges 1,") && error.contains("no pair of tokens"), "{error}");
    }
    let error = refusal(
        Writer::default()
            .text(MODEL, "gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts(TOKENS, &["a", "b"])
            .texts("tokenizer.ggml.merges", &["a b"]),
    );
    assert!(error.contains("merges 0, \"a b\", names or makes something that is no token"), "{error}");
}

#[test]
fn a_stream_gives_characters_when_they_are_complete() {
    let tokenizer = open(&scored(&WORDS)).unwrap();
    let id = |name: &str| tokenizer.id(name).unwrap();
    let mut stream = tokenizer.stream();
    let mut push = |name: &str| stream.push(id(name)).unwrap();
    assert_eq!(push("▁a"), Some("a".to_owned()));
    assert_eq!(push("<0xC3>"), None);
    assert_eq!(push("<0xA9>"), Some("é".to_owned()));
    assert_eq!(push("▁a"), Some(" a".to_owned()));
    assert_eq!(push("<0xF0>"), None);
    assert_eq!(push("<0x9F>"), None);
    // The character is never completed.
    assert_eq!(push("b"), Some("\u{fffd}b".to_owned()));
    assert_eq!(push("<s>"), Some("<s>".to_owned()));
    assert!(tokenizer.stream().push(9999).unwrap_err().to_string().contains("no token with id 9999"));
    assert!(tokenizer.decode(&[9999]).unwrap_err().to_string().contains("9999"));
}

proptest! {
    #[test]
    fn text_goes_in_and_comes_out(text in "\\PC{0,40}|[ab c\\n\\t'1é🙂]{0,40}") {
        // With a space in front, the ones after special tokens stay in the decoded text.
        let bare = scored(&WORDS).flag("tokenizer.ggml.add_space_prefix", false).clone();
        let vocabularies =
            [bare, byte_level("qwen2", &["a b", "Ġ a", "ab c"], &["<|x|>"]), byte_level("gpt-4o", &["Ġ Ġ"], &[])];
        for file in vocabularies {
            let tokenizer = open(&file).unwrap();
            let ids = tokenizer.encode(&text, false).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.clone());
            let mut stream = tokenizer.stream();
            let streamed: String = ids.iter().filter_map(|id| stream.push(*id).unwrap()).collect();
            prop_assert_eq!(&streamed, &text);
        }
    }

    #[test]
    fn any_tokens_decode(ids in prop::collection::vec(0u32..270, 0..20)) {
        let tokenizer = open(&scored(&WORDS)).unwrap();
        let mut stream = tokenizer.stream();
        let streamed: String = ids.iter().filter_map(|id| stream.push(*id).unwrap()).collect();
        // All but bytes that wait for more.
        let decoded = tokenizer.decode(&ids).unwrap();
        let rest = decoded.strip_prefix(&streamed).expect("the stream is the text's beginning");
        prop_assert_eq!(rest.trim_matches(char::REPLACEMENT_CHARACTER), "");
    }
}
