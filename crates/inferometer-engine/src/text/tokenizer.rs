//! A model's tokenizer, from Hugging Face's `tokenizer.json` or from a GGUF file.

mod added;

use std::path::{Path, PathBuf};

use super::TextError;
use super::gguf::{self, SpecialTokens, Vocabulary};
use crate::folder;
use crate::gguf::{Gguf, Metadata};
use inferometer_host::guard::catch;
use inferometer_protocol::bounded::read_limited;

/// Longest `tokenizer.json` that is read: real ones have up to some thirty megabytes.
pub const LONGEST_TOKENIZER: u64 = 256 << 20;
/// Most bytes of repeated text that are tokenized to fill a prompt.
const LONGEST_REPEATED: usize = 64 << 20;

/// Turns text into token ids and back. Can be shared between threads.
pub struct Tokenizer {
    inner: Kind,
    path: PathBuf,
}

/// What does the work.
enum Kind {
    /// The library, with a `tokenizer.json`.
    Library(Box<tokenizers::Tokenizer>),
    /// The vocabulary of a GGUF file.
    Gguf(Box<Vocabulary>),
}

impl Tokenizer {
    /// Reads `tokenizer.json` in a model's folder and the further tokens that
    /// `tokenizer_config.json` names, or the tokenizer in a GGUF file.
    ///
    /// # Errors
    /// When the file is missing or is no tokenizer; the message names it.
    pub fn from_model(path: &Path) -> Result<Self, TextError> {
        match folder::gguf(path) {
            Some(file) => {
                let gguf = Gguf::open(&file).map_err(|error| TextError::Model(error.message))?;
                Self::from_gguf(gguf.metadata())
            }
            None => Self::from_folder(path),
        }
    }

    fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let file = folder.join("tokenizer.json");
        if !file.is_file() {
            let missing = || format!("{} has no tokenizer.json", folder.display());
            let fault = folder::fault(folder).unwrap_or_else(missing);
            return Err(TextError::Model(format!("{fault}; text and prompts of a given length need tokenizer.json")));
        }
        let mut tokenizer = Self::from_file(&file)?;
        let config = super::chat::read_config(folder)?;
        let fault = |problem| TextError::File { path: folder.join(super::chat::CONFIG), problem };
        if let Kind::Library(inner) = &mut tokenizer.inner {
            added::add(inner, &config).map_err(fault)?;
        }
        Ok(tokenizer)
    }

    /// Reads one tokenizer file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_model`].
    pub fn from_file(path: &Path) -> Result<Self, TextError> {
        Self::from_bytes(&read_limited(path, LONGEST_TOKENIZER)?, path)
    }

    /// Reads the bytes of a tokenizer file; `path` is what error messages name.
    ///
    /// # Errors
    /// As [`Tokenizer::from_model`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, TextError> {
        let inner = called(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(|problem| TextError::File {
            path: path.to_owned(),
            problem: format!("not a tokenizer file of the Hugging Face tokenizers library: {problem}"),
        })?;
        Ok(Self::new(inner, path))
    }

    /// Makes the tokenizer inside a GGUF file.
    ///
    /// # Errors
    /// When the file has none, or one of a kind that is not supported; the message names file and
    /// key.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TextError> {
        let vocabulary = Vocabulary::new(metadata).map_err(|error| TextError::Model(error.message))?;
        Ok(Self { inner: Kind::Gguf(Box::new(vocabulary)), path: metadata.path().to_owned() })
    }

    /// The tokens with a role of their own, if this is the tokenizer of a GGUF file.
    #[must_use]
    pub fn special_tokens(&self) -> Option<&SpecialTokens> {
        match &self.inner {
            Kind::Library(_) => None,
            Kind::Gguf(vocabulary) => Some(vocabulary.special()),
        }
    }

    /// Wraps a tokenizer; `path` is what its error messages name.
    fn new(mut inner: tokenizers::Tokenizer, path: &Path) -> Self {
        // A file may ask for truncation or padding, which serve training batches and would change
        // prompt lengths.
        inner.with_truncation(None).expect("removing truncation cannot fail");
        inner.with_padding(None);
        Self { inner: Kind::Library(Box::new(inner)), path: path.to_owned() }
    }

    /// The token ids of `text`. With `add_special_tokens` the tokenizer adds its own (such as a BOS
    /// in front). Names of special tokens in the text become these tokens in any case.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        match &self.inner {
            Kind::Library(library) => Ok(self.encoding(library, text, add_special_tokens)?.get_ids().to_vec()),
            Kind::Gguf(vocabulary) => {
                vocabulary.encode(text, add_special_tokens).map_err(|problem| self.encode_fault(problem))
            }
        }
    }

    /// The text of `ids`, special tokens written out. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// When an id is outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        ids.iter().try_for_each(|id| self.check(*id))?;
        match &self.inner {
            Kind::Library(library) => {
                called(|| library.decode(ids, false)).map_err(|problem| self.decode_fault(problem))
            }
            Kind::Gguf(vocabulary) => Ok(vocabulary.decode(ids)),
        }
    }

    /// That there is a token with this id.
    fn check(&self, id: u32) -> Result<(), TextError> {
        match self.token(id) {
            Some(_) => Ok(()),
            None => Err(self.decode_fault(format!("there is no token with id {id}"))),
        }
    }

    fn encode_fault(&self, problem: String) -> TextError {
        TextError::Encode { path: self.path.clone(), problem }
    }

    fn decode_fault(&self, problem: String) -> TextError {
        TextError::Decode { path: self.path.clone(), problem }
    }

    /// Decodes token by token, as they come.
    #[must_use]
    pub fn stream(&self) -> TextStream<'_> {
        let inner = match &self.inner {
            Kind::Library(library) => Inner::Library(Box::new(library.decode_stream(false))),
            Kind::Gguf(vocabulary) => Inner::Gguf(vocabulary, gguf::Stream::default()),
        };
        TextStream { inner, tokenizer: self }
    }

    /// Exactly `length` ids: `text` repeated with a blank line between, cut to length.
    ///
    /// The repeated text is tokenized at once, so that its joins tokenize like any text, and a
    /// shorter result is a prefix of a longer one. Special tokens that the tokenizer puts in front
    /// (BOS) are included in `length`. Those it puts at the end are left out, since the model
    /// continues the prompt.
    ///
    /// # Errors
    /// When `length` is zero, the text has no tokens to repeat, or so few that the text would have
    /// to be repeated to more than 64 MiB.
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
        // One copy more than needed: the cut is then never near the end, where tokens differ
        // because nothing follows. Joins may merge tokens, so the count is checked.
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
        let library = match &self.inner {
            Kind::Library(library) => library,
            Kind::Gguf(vocabulary) => {
                let special = vocabulary.special();
                return Ok(special.begin.filter(|_| special.adds_begin).into_iter().collect());
            }
        };
        let encoding = self.encoding(library, "a", true)?;
        let mask = encoding.get_special_tokens_mask();
        Ok(encoding.get_ids().iter().zip(mask).take_while(|(_, special)| **special == 1).map(|(id, _)| *id).collect())
    }

    /// Number of tokens, including special and added ones.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        match &self.inner {
            Kind::Library(library) => library.get_vocab_size(true),
            Kind::Gguf(vocabulary) => vocabulary.len(),
        }
    }

    /// The id of a token by its name in the vocabulary.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        match &self.inner {
            Kind::Library(library) => library.token_to_id(token),
            Kind::Gguf(vocabulary) => vocabulary.id(token),
        }
    }

    /// The name of a token in the vocabulary.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.inner {
            Kind::Library(library) => library.id_to_token(id),
            Kind::Gguf(vocabulary) => vocabulary.token(id).map(str::to_owned),
        }
    }

    fn encoding(
        &self,
        library: &tokenizers::Tokenizer,
        text: &str,
        add_special_tokens: bool,
    ) -> Result<tokenizers::Encoding, TextError> {
        called(|| library.encode_fast(text, add_special_tokens)).map_err(|problem| self.encode_fault(problem))
    }
}

type Library<'a> = tokenizers::DecodeStream<
    'a,
    tokenizers::ModelWrapper,
    tokenizers::NormalizerWrapper,
    tokenizers::PreTokenizerWrapper,
    tokenizers::PostProcessorWrapper,
    tokenizers::DecoderWrapper,
>;

enum Inner<'a> {
    Library(Box<Library<'a>>),
    Gguf(&'a Vocabulary, gguf::Stream),
}

/// Text of tokens that come one by one.
pub struct TextStream<'a> {
    inner: Inner<'a>,
    tokenizer: &'a Tokenizer,
}

impl TextStream<'_> {
    /// The text that one more token completes; `None` while its bytes are only part of a character.
    ///
    /// # Errors
    /// When the id is outside the vocabulary, or the tokenizer changes text that it returned
    /// before.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TextError> {
        self.tokenizer.check(id)?;
        match &mut self.inner {
            Inner::Library(library) => {
                called(|| library.step(id)).map_err(|problem| self.tokenizer.decode_fault(problem))
            }
            Inner::Gguf(vocabulary, stream) => Ok(stream.push(id, vocabulary)),
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a call of the library gives. It panics on some files that are no tokenizers.
fn called<R>(call: impl FnOnce() -> tokenizers::Result<R>) -> Result<R, String> {
    catch(call).map_err(|stopped| shortened(&stopped))?.map_err(|e| shortened(&e))
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
mod tests;
