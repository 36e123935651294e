//! A model's tokenizer, as Hugging Face stores it in `tokenizer.json`.

use std::path::{Path, PathBuf};

use super::TextError;
use inferometer_protocol::bounded::read_limited;

/// Longest `tokenizer.json` that is read: real ones have up to some thirty megabytes.
pub const LONGEST_TOKENIZER: u64 = 256 << 20;
/// Most bytes of repeated text that are tokenized to fill a prompt.
const LONGEST_REPEATED: usize = 64 << 20;

/// Turns text into token ids and back. Made once, used from one or many threads.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in a model's folder.
    ///
    /// # Errors
    /// When the file is missing or is no tokenizer; the message names it.
    pub fn from_folder(folder: &Path) -> Result<Self, TextError> {
        Self::from_file(&folder.join("tokenizer.json"))
    }

    /// Reads one tokenizer file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_folder`].
    pub fn from_file(path: &Path) -> Result<Self, TextError> {
        let bytes = read_limited(path, LONGEST_TOKENIZER)?;
        let inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| TextError::File {
            path: path.to_owned(),
            problem: format!("not a tokenizer file of the Hugging Face tokenizers library: {}", shortened(&e)),
        })?;
        Ok(Self::new(inner, path))
    }

    /// Wraps a tokenizer; `path` is what its error messages name.
    fn new(mut inner: tokenizers::Tokenizer, path: &Path) -> Self {
        // A file may ask for truncation or padding, which suit training batches and would falsify prompt lengths.
        inner.with_truncation(None).expect("removing truncation cannot fail");
        inner.with_padding(None);
        Self { inner, path: path.to_owned() }
    }

    /// The token ids of `text`. With `add_special_tokens` the tokenizer adds its own (such as a BOS in front).
    /// The names of special tokens inside the text become these tokens either way.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        Ok(self.encoding(text, add_special_tokens)?.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens written out. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// When an id is outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        let fault = |problem| TextError::Decode { path: self.path.clone(), problem };
        if let Some(id) = ids.iter().find(|id| self.inner.id_to_token(**id).is_none()) {
            return Err(fault(format!("there is no token with id {id}")));
        }
        self.inner.decode(ids, false).map_err(|e| fault(shortened(&e)))
    }

    /// Decodes token by token, as they come.
    #[must_use]
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { inner: self.inner.decode_stream(false), tokenizer: self }
    }

    /// Exactly `length` ids: `text` again and again, a blank line between, cut to length.
    ///
    /// The whole is tokenized at once, so that the joins tokenize as in any text, and a shorter result is a prefix of
    /// a longer one. If the tokenizer puts special tokens in front (BOS), they are there and count; those it puts
    /// behind are left out, since the prompt is to be continued.
    ///
    /// # Errors
    /// When `length` is zero, the text has no tokens to repeat, or so few that the text would have to be repeated to
    /// more than 64 MiB.
    pub fn exact(&self, text: &str, length: u32) -> Result<Vec<u32>, TextError> {
        if length == 0 {
            return Err(TextError::Text("a prompt needs at least one token, not 0".to_owned()));
        }
        let length = length as usize;
        let once = self.encode(text, false)?.len();
        if once == 0 {
            return Err(TextError::Text("the text is empty: there is nothing to fill a prompt with".to_owned()));
        }
        let join = if text.ends_with('\n') { "\n" } else { "\n\n" };
        // One copy more than fills the length: the cut then never falls near the end, where tokens differ because
        // nothing follows. Joins may merge tokens, so the count is checked and not trusted.
        let front = self.front()?;
        let mut copies = length.div_ceil(once) + 1;
        loop {
            if copies > 2 && copies.saturating_mul(text.len() + join.len()) > LONGEST_REPEATED {
                return Err(self.too_few(length));
            }
            let mut long = String::with_capacity(copies * (text.len() + join.len()));
            for _ in 0..copies {
                long.push_str(text);
                long.push_str(join);
            }
            let mut ids = front.clone();
            ids.extend(self.encode(&long, false)?);
            let at_last = copies > 4 * length;
            if ids.len() >= length + once.min(length) || at_last && ids.len() >= length {
                ids.truncate(length);
                return Ok(ids);
            }
            if at_last {
                return Err(self.too_few(length));
            }
            copies += copies.div_ceil(2);
        }
    }

    fn too_few(&self, length: usize) -> TextError {
        TextError::Text(format!(
            "{} gives so few tokens for this text that {length} of them would take more than {} MiB of it, or any \
             number of repetitions; give a longer or another text",
            self.path.display(),
            LONGEST_REPEATED >> 20
        ))
    }

    /// The special tokens that the tokenizer puts in front of any text.
    fn front(&self) -> Result<Vec<u32>, TextError> {
        let encoding = self.encoding("a", true)?;
        let mask = encoding.get_special_tokens_mask();
        Ok(encoding.get_ids().iter().zip(mask).take_while(|(_, special)| **special == 1).map(|(id, _)| *id).collect())
    }

    /// Number of tokens, special and added ones included.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token by its name in the vocabulary.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    fn encoding(&self, text: &str, add_special_tokens: bool) -> Result<tokenizers::Encoding, TextError> {
        self.inner
            .encode_fast(text, add_special_tokens)
            .map_err(|e| TextError::Encode { path: self.path.clone(), problem: shortened(&e) })
    }
}

type Inner<'a> = tokenizers::DecodeStream<
    'a,
    tokenizers::ModelWrapper,
    tokenizers::NormalizerWrapper,
    tokenizers::PreTokenizerWrapper,
    tokenizers::PostProcessorWrapper,
    tokenizers::DecoderWrapper,
>;

/// Text of tokens that come one by one.
pub struct TextStream<'a> {
    inner: Inner<'a>,
    tokenizer: &'a Tokenizer,
}

impl TextStream<'_> {
    /// The text that one more token completes; `None` while its bytes are part of a character only.
    ///
    /// # Errors
    /// When the id is outside the vocabulary, or the tokenizer takes back what it said before.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TextError> {
        let fault = |problem| TextError::Decode { path: self.tokenizer.path.clone(), problem };
        if self.tokenizer.inner.id_to_token(id).is_none() {
            return Err(fault(format!("there is no token with id {id}")));
        }
        self.inner.step(id).map_err(|e| fault(shortened(&e)))
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The library's error messages may quote the whole offending input.
fn shortened(error: &dyn std::fmt::Display) -> String {
    const MOST: usize = 300;
    let text = error.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A byte-level tokenizer without merges; with `bos` it puts token 256 in front and 257 behind.
    fn tokenizer(bos: bool) -> Tokenizer {
        normalizing(bos, json!(null))
    }

    fn normalizing(bos: bool, normalizer: serde_json::Value) -> Tokenizer {
        let mut alphabet: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
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
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
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
        Tokenizer::from_folder(folder.path()).unwrap()
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
        // Bytes of one character come before it does.
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

    #[test]
    fn a_missing_or_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
        for garbage in
            ["", "{", "[]", "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[\"a b\"]}}"]
        {
            fs_err::write(folder.path().join("tokenizer.json"), garbage).unwrap();
            let error = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
            assert!(error.contains("tokenizer.json: not a tokenizer file"), "{garbage}: {error}");
        }
    }
}
