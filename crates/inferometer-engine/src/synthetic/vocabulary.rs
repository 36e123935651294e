//! The tokenizer of a synthetic model: byte-level BPE trained on the shipped prompts, padded to the
//! vocabulary's size.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::preset::{Preset, Special};
use inferometer_host::Result;
use inferometer_protocol::EngineError;

/// What the tokenizer is trained on.
pub const CORPUS: [&str; 3] = [
    include_str!("../../../../scenarios/prompts/essay.txt"),
    include_str!("../../../../scenarios/prompts/code.py.txt"),
    include_str!("../../../../scenarios/prompts/dialogue.txt"),
];

/// Most merges to learn; larger vocabularies are padded. More merges would overfit the prompts.
const MERGES: usize = 3840;

/// How text is split into words before merging: the pattern of Qwen 2 and 3.
const WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub const BEGIN: &str = "<|begin_of_text|>";
pub const END_OF_TEXT: &str = "<|endoftext|>";
pub const MESSAGE_START: &str = "<|im_start|>";
pub const MESSAGE_END: &str = "<|im_end|>";

/// ChatML, with the begin-of-text token in front where the model has one.
const CHAT_TEMPLATE: &str = "\
{%- if bos_token %}{{ bos_token }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}";

/// `tokenizer.json`.
///
/// # Errors
/// When training fails, which would be a defect.
pub fn tokenizer(preset: &Preset) -> Result<Value> {
    let special = preset.special();
    let names = special_tokens(special);
    let ordinary = preset.vocabulary as usize - names.len();
    let alphabet = alphabet();
    let mut merges = learn(alphabet.len() + MERGES)?;
    merges.truncate(ordinary - alphabet.len());

    let mut tokens = alphabet;
    tokens.extend(merges.iter().map(|[left, right]| format!("{left}{right}")));
    fill(&mut tokens, ordinary);
    let vocabulary: Map<_, _> = tokens.into_iter().zip(0u32..).map(|(token, id)| (token, json!(id))).collect();
    if vocabulary.len() != ordinary {
        return Err(EngineError::internal("the trained vocabulary holds a token twice"));
    }

    let mut file = skeleton();
    file["added_tokens"] = names
        .iter()
        .map(|(id, name)| {
            json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    if let Some(begin) = special.begin {
        file["post_processor"] = with_begin(begin);
    }
    file["model"]["vocab"] = Value::Object(vocabulary);
    file["model"]["merges"] = json!(merges);
    Ok(file)
}

/// `tokenizer_config.json`.
#[must_use]
pub fn tokenizer_config(preset: &Preset) -> Value {
    let special = preset.special();
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special.begin.map(|_| BEGIN),
        "eos_token": MESSAGE_END,
        "pad_token": END_OF_TEXT,
        "unk_token": null,
        "model_max_length": preset.context,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    })
}

fn special_tokens(special: Special) -> Vec<(u32, &'static str)> {
    let begin = special.begin.map(|id| (id, BEGIN));
    let others = [
        (special.end_of_text, END_OF_TEXT),
        (special.message_start, MESSAGE_START),
        (special.message_end, MESSAGE_END),
    ];
    begin.into_iter().chain(others).collect()
}

/// A tokenizer file without tokens.
fn skeleton() -> Value {
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
            bytes.clone(),
        ]},
        "post_processor": bytes.clone(),
        "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": {}, "merges": []},
    })
}

/// The post-processor that puts the begin-of-text token in front.
fn with_begin(id: u32) -> Value {
    let begin = json!({"SpecialToken": {"id": BEGIN, "type_id": 0}});
    let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [begin.clone(), text("A", 0)],
        "pair": [begin, text("A", 0), text("B", 1)],
        "special_tokens": {BEGIN: {"id": BEGIN, "ids": [id], "tokens": [BEGIN]}},
    })
}

/// The 256 characters that stand for bytes, in order.
fn alphabet() -> Vec<String> {
    let mut characters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    characters.sort_unstable();
    characters.into_iter().map(String::from).collect()
}

/// Trains on the corpus until the vocabulary has `size` tokens or no pair occurs twice; the merges
/// in their order.
fn learn(size: usize) -> Result<Vec<[String; 2]>> {
    let fault = |e: &dyn std::fmt::Display| EngineError::internal(format!("cannot train the tokenizer: {e}"));
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(skeleton().to_string()).map_err(|e| fault(&e))?;
    let trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    tokenizer.train(&mut trainer, CORPUS.iter()).map_err(|e| fault(&e))?;
    let ModelWrapper::BPE(model) = tokenizer.get_model() else {
        return Err(fault(&"the trained model is no BPE"));
    };
    let mut model = serde_json::to_value(model).map_err(|e| fault(&e))?;
    let merges: Vec<[String; 2]> = serde_json::from_value(model["merges"].take()).map_err(|e| fault(&e))?;
    // If two merges make the same token, their order in the trainer's queue depends on hashing, and
    // the result differs from run to run. A corpus in which that happens must be changed.
    let made: HashSet<String> = merges.iter().map(|merge| merge.concat()).collect();
    if made.len() != merges.len() {
        return Err(fault(&"the corpus makes a token in two ways, so training is not repeatable"));
    }
    Ok(merges)
}

/// Adds tokens up to `size` that no text is tokenized to: made-up words of syllables, so that
/// output is readable.
fn fill(tokens: &mut Vec<String>, size: usize) {
    const ONSETS: [&str; 16] = ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"];
    const VOWELS: [&str; 5] = ["a", "e", "i", "o", "u"];
    let syllable = |n: usize| format!("{}{}", ONSETS[n / VOWELS.len()], VOWELS[n % VOWELS.len()]);
    let syllables = ONSETS.len() * VOWELS.len();
    let known: HashSet<String> = tokens.iter().cloned().collect();
    let words = (0..syllables.pow(3)).map(|n| {
        // A stride without a common divisor visits each word once, and successive words look
        // different.
        let n = n * 7_919 % syllables.pow(3);
        let parts = [n / syllables.pow(2), n / syllables % syllables, n % syllables].map(syllable);
        // "Ġ" is how byte-level BPE writes a space.
        format!("Ġ{}", parts.concat())
    });
    let missing = size - tokens.len();
    tokens.extend(words.filter(|word| !known.contains(word)).take(missing));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::preset::PRESETS;

    fn loaded(preset: &Preset) -> tokenizers::Tokenizer {
        tokenizers::Tokenizer::from_bytes(tokenizer(preset).unwrap().to_string()).unwrap()
    }

    #[test]
    fn every_id_is_a_token_of_its_own() {
        for preset in PRESETS.iter().filter(|p| ["tiny", "small"].contains(&p.name)) {
            let tokenizer = loaded(preset);
            assert_eq!(tokenizer.get_vocab_size(true), preset.vocabulary as usize, "{} {}", preset.arch, preset.name);
            let texts: HashSet<String> = (0..preset.vocabulary).map(|id| tokenizer.id_to_token(id).unwrap()).collect();
            assert_eq!(texts.len(), preset.vocabulary as usize);
            let special = preset.special();
            assert_eq!(tokenizer.token_to_id(MESSAGE_END), Some(special.message_end));
            assert_eq!(tokenizer.token_to_id(END_OF_TEXT), Some(special.end_of_text));
            assert_eq!(tokenizer.token_to_id(BEGIN), special.begin);
        }
    }

    #[test]
    fn made_up_words_decode_to_themselves_and_are_never_encoded_to() {
        let preset = crate::synthetic::preset::find(inferometer_protocol::Architecture::Qwen3, "small").unwrap();
        let tokenizer = loaded(preset);
        let text = tokenizer.decode(&[20_000], false).unwrap();
        assert!(text.starts_with(' ') && text.len() == 7 && text.is_ascii(), "{text:?}");
        assert!(!tokenizer.encode_fast(text, false).unwrap().get_ids().contains(&20_000));
    }

    #[test]
    fn training_learns_words_and_repeats_itself() {
        let merges = learn(256 + MERGES).unwrap();
        assert!(merges.len() > 1800, "{}", merges.len());
        assert!(merges.iter().any(|merge| merge.concat() == "Ġmeasurement"));
        assert_eq!(merges, learn(256 + MERGES).unwrap());
        assert_eq!(merges[..500], learn(256 + 500).unwrap());
    }
}
