//! Byte-level BPE, as in GPT-2: each byte is a character, and merges have ranks.

use std::collections::HashMap;

use super::Tokens;
use super::merge::{Merge, Symbol, merge};
use super::pre::{PreTokenizer, known};
use crate::gguf::Metadata;
use inferometer_protocol::EngineError;
use inferometer_protocol::bounded::brief;

const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

#[derive(Debug)]
pub(super) struct ByteLevel {
    pre: PreTokenizer,
    /// Tokens of single bytes. Real vocabularies lack some control characters, which are then
    /// dropped from texts, as in llama.cpp.
    bytes: [Option<u32>; 256],
    merges: HashMap<(u32, u32), Merge>,
}

impl ByteLevel {
    /// The model, and whether a BOS is put in front if the file does not say.
    pub fn new(metadata: &Metadata, tokens: &Tokens) -> Result<(Self, bool), EngineError> {
        let name = metadata.text(PRE)?.ok_or_else(|| {
            let problem = "is missing: without it, text is cut into other words than the model was trained with; convert \
                           the model again with a newer convert_hf_to_gguf.py";
            metadata.wrong(PRE, format!("{problem} (known: {})", known().join(", ")))
        })?;
        let pre =
            PreTokenizer::named(name).map_err(|problem| metadata.wrong(PRE, format!("cannot be used: {problem}")))?;
        let adds_begin = pre.adds_begin;
        let merges = metadata.texts(MERGES)?.ok_or_else(|| metadata.missing(MERGES))?;
        let mut table = HashMap::with_capacity(merges.len());
        let mut joined = String::new();
        for (rank, pair) in merges.iter().enumerate() {
            // The first part has at least one character, which may be a space.
            let cut = pair.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
            let wrong = |problem: &str| metadata.wrong(MERGES, format!("{rank}, {:?}, {problem}", brief(pair)));
            let Some(cut) = cut else { return Err(wrong("is no pair of tokens")) };
            let (left, right) = (&pair[..cut], &pair[cut + 1..]);
            joined.clear();
            joined.extend([left, right]);
            let (Some(first), Some(second), Some(id)) = (tokens.id(left), tokens.id(right), tokens.id(&joined)) else {
                return Err(wrong("names or makes something that is no token"));
            };
            table.entry((first, second)).or_insert(Merge { rank: rank as u32, id });
        }
        let bytes = std::array::from_fn(|byte| tokens.id(character(byte as u8).encode_utf8(&mut [0; 4])));
        Ok((Self { pre, bytes, merges: table }, adds_begin))
    }

    /// Appends the ids of `text`, which has no special tokens.
    pub fn encode(&self, text: &str, tokens: &Tokens, ids: &mut Vec<u32>) -> Result<(), String> {
        for word in self.pre.words(text)? {
            let whole = || tokens.id(&word.bytes().map(character).collect::<String>());
            match self.pre.whole_words.then(whole).flatten() {
                Some(id) => ids.push(id),
                None => self.encode_word(word, ids),
            }
        }
        Ok(())
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let symbol = |(at, byte): (usize, u8)| Symbol { start: at, end: at + 1, id: self.bytes[usize::from(byte)] };
        let symbols = word.bytes().enumerate().map(symbol).collect();
        let merged = merge(symbols, |left, right| self.merges.get(&(left.id?, right.id?)).copied());
        ids.extend(merged.iter().filter_map(|symbol| symbol.id));
    }
}

/// The character that stands for a byte: itself if it is visible in Latin-1, else the next one from
/// U+0100 on. Source: `bytes_to_unicode` of GPT-2's `encoder.py`.
pub(super) fn character(byte: u8) -> char {
    let next = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => return char::from(byte),
        0..=0x20 => u32::from(byte),
        0x7f..=0xa0 => u32::from(byte) - 0x7f + 0x21,
        0xad => 0x43,
    };
    char::from_u32(0x100 + next).unwrap_or_default()
}

/// The byte that a character stands for.
fn byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Appends the bytes that a token stands for. Characters that stand for none are themselves.
pub(super) fn write(token: &str, bytes: &mut Vec<u8>) {
    for c in token.chars() {
        match byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let characters: std::collections::BTreeSet<char> = (0..=255).map(character).collect();
        assert_eq!(characters, alphabet.into_iter().collect());
        assert!((0..=255).all(|value| byte(character(value)) == Some(value)));
        assert_eq!((character(b' '), character(b'\n'), character(0xad)), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!(byte('▁'), None);
    }
}
