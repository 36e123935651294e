//! The tokenizer inside a GGUF file.
//!
//! Two kinds are read: byte-level BPE (`tokenizer.ggml.model` = `gpt2`) and SentencePiece BPE
//! (`llama`). Token ids are those of llama.cpp, whose `llama-vocab.cpp` defines what the keys mean;
//! `scripts/check-gguf-tokenizers` compares them. As there, the names of special tokens in a text
//! become these tokens.

mod bytes;
mod merge;
mod partition;
mod pre;
mod scores;
mod special;
mod stream;

use std::collections::HashMap;

use crate::gguf::{Metadata, Texts};
use inferometer_protocol::EngineError;
use inferometer_protocol::bounded::brief;

use bytes::ByteLevel;
use partition::{Fragment, Partition};
use scores::Scores;
use special::Defaults;
pub use special::SpecialTokens;
pub(super) use stream::Stream;

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// The chat template in the metadata; with a name, one of the further templates.
///
/// # Errors
/// When the value is no text.
pub fn chat_template<'a>(metadata: &'a Metadata, name: Option<&str>) -> Result<Option<&'a str>, EngineError> {
    match name {
        None => metadata.text(CHAT_TEMPLATE),
        Some(name) => metadata.text(&format!("{CHAT_TEMPLATE}.{name}")),
    }
}

/// A vocabulary that turns text into token ids and back.
#[derive(Debug)]
pub(super) struct Vocabulary {
    tokens: Tokens,
    special: SpecialTokens,
    model: Model,
    partition: Partition,
}

#[derive(Debug)]
enum Model {
    Bytes(ByteLevel),
    Scores(Scores),
}

/// The tokens of a vocabulary.
#[derive(Debug)]
struct Tokens {
    texts: Texts,
    kinds: Vec<Kind>,
    ids: HashMap<Box<str>, u32>,
}

/// What a token stands for (`enum llama_token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    /// Never produced, and written out by its name.
    Unused,
    /// One byte, called `<0x0A>`.
    Byte,
}

impl Vocabulary {
    /// # Errors
    /// When the vocabulary is of a kind that is not supported, or contradicts itself.
    pub fn new(metadata: &Metadata) -> Result<Self, EngineError> {
        let model = metadata.text(MODEL)?.ok_or_else(|| {
            metadata.wrong(MODEL, "is missing: the file has no tokenizer; take one made with convert_hf_to_gguf.py")
        })?;
        let mut tokens = Tokens::new(metadata)?;
        let (model, defaults) = match model {
            "gpt2" => {
                let (model, adds_begin) = ByteLevel::new(metadata, &tokens)?;
                (Model::Bytes(model), Defaults { adds_begin, ..Defaults::default() })
            }
            "llama" => {
                let defaults = Defaults { begin: Some(1), end: Some(2), unknown: Some(0), adds_begin: true };
                (Model::Scores(Scores::new(metadata, &tokens)?), defaults)
            }
            other => {
                let problem = format!(
                    "is {:?}, which this program does not support; it reads gpt2 (byte-level BPE) and llama \
                     (SentencePiece BPE)",
                    brief(other)
                );
                return Err(metadata.wrong(MODEL, problem));
            }
        };
        let special = special::read(metadata, &mut tokens, defaults)?;
        let partition = Partition::new(metadata, &tokens)?;
        Ok(Self { tokens, special, model, partition })
    }

    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The id of a token by its text in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokens.id(token)
    }

    /// The text of a token in the vocabulary.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.text(id)
    }

    /// The token ids of `text`.
    ///
    /// # Errors
    /// When there is no token for a character.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, String> {
        let mut ids = Vec::new();
        if add_special_tokens && self.special.adds_begin {
            ids.extend(self.special.begin);
        }
        let mut after_special = true;
        for fragment in self.partition.of(text, &self.tokens) {
            match (fragment, &self.model) {
                (Fragment::Token(id), _) => ids.push(id),
                (Fragment::Text(text), Model::Bytes(model)) => model.encode(text, &self.tokens, &mut ids)?,
                (Fragment::Text(text), Model::Scores(model)) => {
                    model.encode(text, after_special, &self.tokens, &mut ids)?;
                }
            }
            after_special = matches!(fragment, Fragment::Token(_));
        }
        if add_special_tokens && self.special.adds_end {
            ids.extend(self.special.end);
        }
        Ok(ids)
    }

    /// Appends the bytes of one token to `bytes`; `first` is whether no token went before. Names of
    /// special tokens are written out. Nothing for an id outside of the vocabulary.
    fn write(&self, id: u32, first: bool, bytes: &mut Vec<u8>) {
        let Some(text) = self.tokens.text(id) else { return };
        let start = bytes.len();
        match (self.tokens.kinds[id as usize], &self.model) {
            (Kind::Byte, _) => match byte_of(text) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend(text.as_bytes()),
            },
            (Kind::Normal, Model::Bytes(_)) => bytes::write(text, bytes),
            (Kind::Normal, Model::Scores(_)) => bytes.extend(text.replace(scores::SPACE, " ").as_bytes()),
            _ => bytes.extend(text.as_bytes()),
        }
        let prefixed = matches!(&self.model, Model::Scores(model) if model.adds_space);
        if first && prefixed && bytes.get(start) == Some(&b' ') {
            bytes.remove(start);
        }
    }

    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            self.write(*id, at == 0, &mut bytes);
        }
        String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

impl Tokens {
    fn new(metadata: &Metadata) -> Result<Self, EngineError> {
        let texts = metadata.texts(TOKENS)?.ok_or_else(|| metadata.missing(TOKENS))?;
        if u32::try_from(texts.len()).is_err() {
            return Err(metadata.wrong(TOKENS, "has more tokens than ids"));
        }
        let mut ids = HashMap::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            if let Some(before) = ids.insert(Box::from(text), id as u32) {
                let problem = format!("has the text {:?} twice, as tokens {before} and {id}", brief(text));
                return Err(metadata.wrong(TOKENS, problem));
            }
        }
        let kinds = match metadata.integers(KINDS)? {
            None => vec![Kind::Normal; texts.len()],
            Some(kinds) if kinds.len() != texts.len() => {
                return Err(unequal(metadata, KINDS, kinds.len(), texts.len()));
            }
            Some(kinds) => kinds.map(Kind::from_number).collect(),
        };
        Ok(Self { texts: texts.clone(), kinds, ids })
    }

    fn len(&self) -> usize {
        self.texts.len()
    }

    fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)
    }

    fn set_kind(&mut self, id: u32, kind: Kind) {
        if let Some(place) = self.kinds.get_mut(id as usize) {
            *place = kind;
        }
    }
}

impl Kind {
    fn from_number(number: i128) -> Self {
        match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            6 => Self::Byte,
            _ => Self::Unused,
        }
    }
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

/// The error for an array that must have one value for each token.
fn unequal(metadata: &Metadata, key: &str, values: usize, tokens: usize) -> EngineError {
    metadata.wrong(key, format!("has {values} values, but {TOKENS} has {tokens}"))
}

#[cfg(test)]
mod tests;
