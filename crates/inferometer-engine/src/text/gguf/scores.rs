//! SentencePiece BPE, as in Llama 2 and Gemma: neighbours whose text together is a token merge, the
//! best score first. Characters without a token become byte tokens.
//!
//! The library `tokenizers` cannot do this exactly: its merges name pairs, while here any pair that
//! makes a token counts, and equal scores go from left to right.

use super::merge::{Merge, Symbol, merge};
use super::{Tokens, unequal};
use crate::gguf::Metadata;
use inferometer_protocol::EngineError;

const SCORES: &str = "tokenizer.ggml.scores";

/// Stands for a space.
pub(super) const SPACE: &str = "▁";

#[derive(Debug)]
pub(super) struct Scores {
    /// Rank of each token: the higher the score, the lower.
    ranks: Vec<u32>,
    bytes: [Option<u32>; 256],
    /// Whether text gets a space in front, at its start and after special tokens.
    pub adds_space: bool,
}

impl Scores {
    pub fn new(metadata: &Metadata, tokens: &Tokens) -> Result<Self, EngineError> {
        let scores = metadata.floats(SCORES)?.ok_or_else(|| metadata.missing(SCORES))?;
        if scores.len() != tokens.len() {
            return Err(unequal(metadata, SCORES, scores.len(), tokens.len()));
        }
        let rank = |(id, score): (usize, f64)| match score.is_nan() {
            true => Err(metadata.wrong(SCORES, format!("has no number for token {id}"))),
            false => Ok(rank(score as f32)),
        };
        let ranks = scores.enumerate().map(rank).collect::<Result<_, EngineError>>()?;
        let byte = |byte: usize| tokens.id(&format!("<0x{byte:02X}>"));
        let adds_space = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        Ok(Self { ranks, bytes: std::array::from_fn(byte), adds_space })
    }

    /// Appends the ids of `text`, which has no special tokens; `after_special` is whether it stands
    /// at the start or after a special token.
    pub fn encode(&self, text: &str, after_special: bool, tokens: &Tokens, ids: &mut Vec<u32>) -> Result<(), String> {
        let mut escaped = String::with_capacity(text.len() + SPACE.len());
        if self.adds_space && after_special {
            escaped.push_str(SPACE);
        }
        escaped.push_str(&text.replace(' ', SPACE));
        let symbol = |(start, c): (usize, char)| {
            let end = start + c.len_utf8();
            Symbol { start, end, id: tokens.id(&escaped[start..end]) }
        };
        let symbols = escaped.char_indices().map(symbol).collect();
        let merged = merge(symbols, |left, right| {
            let id = tokens.id(&escaped[left.start..right.end])?;
            Some(Merge { rank: self.ranks[id as usize], id })
        });
        for symbol in merged {
            match symbol.id {
                Some(id) => ids.push(id),
                None => self.fall_back(&escaped[symbol.start..symbol.end], tokens, ids)?,
            }
        }
        Ok(())
    }

    /// Appends the byte tokens of a character.
    fn fall_back(&self, character: &str, tokens: &Tokens, ids: &mut Vec<u32>) -> Result<(), String> {
        for byte in character.bytes() {
            let ascii = || byte.is_ascii().then(|| tokens.id(char::from(byte).encode_utf8(&mut [0; 4]))).flatten();
            let id = self.bytes[usize::from(byte)].or_else(ascii);
            ids.push(id.ok_or_else(|| {
                format!("the vocabulary has neither a token for {character:?} nor one for its byte {byte:#04x}")
            })?);
        }
        Ok(())
    }
}

/// Orders scores downwards. Zeros of both signs are equal.
fn rank(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    match bits >> 31 {
        0 => !(bits | 1 << 31),
        _ => bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_go_down_as_scores_go_up() {
        let scores = [f32::INFINITY, 1000.0, 1.0, 1e-30, 0.0, -1e-30, -1.0, -2.0, -1e9, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])));
        assert_eq!(rank(0.0), rank(-0.0));
    }
}
