//! Finds the names of special tokens in a text.
//!
//! Source: `tokenizer_st_partition` in llama.cpp: the longest name is looked for first, in the
//! whole text, then the next one in what is left.

use aho_corasick::AhoCorasick;

use super::{Kind, Tokens};
use crate::gguf::Metadata;
use inferometer_protocol::EngineError;

/// Special tokens of Phi-3 that keep the white space after them.
const KEEP_SPACE: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

#[derive(Debug)]
pub(super) struct Partition {
    /// Ids of special tokens, the longest names first.
    order: Vec<u32>,
    /// Finds which of them a text has at all.
    present: AhoCorasick,
    /// Whether white space after them is dropped, as in Phi-3.
    drops_space: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    Text(&'a str),
    Token(u32),
}

impl Partition {
    pub fn new(metadata: &Metadata, tokens: &Tokens) -> Result<Self, EngineError> {
        let special = |kind: &Kind| matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown);
        let named = |id: &u32| tokens.text(*id).is_some_and(|text| !text.is_empty());
        let ids = tokens.kinds.iter().enumerate().filter(|(_, kind)| special(kind)).map(|(id, _)| id as u32);
        let mut order: Vec<u32> = ids.filter(named).collect();
        let name = |id: u32| tokens.text(id).unwrap_or_default();
        order.sort_by_key(|id| std::cmp::Reverse(name(*id).len()));
        let present = AhoCorasick::new(order.iter().map(|id| name(*id)))
            .map_err(|e| EngineError::internal(format!("the names of special tokens cannot be searched for: {e}")))?;
        // llama.cpp knows the model by its name too.
        let model = metadata.text("general.name")?.unwrap_or_default().to_lowercase();
        let drops_space = ["phi-3", "phi3"].iter().any(|name| model.contains(name));
        Ok(Self { order, present, drops_space })
    }

    /// The text in parts: special tokens and what stands between them.
    pub fn of<'a>(&self, text: &'a str, tokens: &Tokens) -> Vec<Fragment<'a>> {
        if text.is_empty() {
            return Vec::new();
        }
        let mut present = vec![false; self.order.len()];
        for found in self.present.find_overlapping_iter(text) {
            present[found.pattern().as_usize()] = true;
        }
        let mut fragments = vec![Fragment::Text(text)];
        for (id, _) in self.order.iter().copied().zip(present).filter(|(_, present)| *present) {
            let name = tokens.text(id).unwrap_or_default();
            let drops_space = self.drops_space && !KEEP_SPACE.contains(&name);
            let cut = |fragment| match fragment {
                Fragment::Text(text) => cut(text, name, id, drops_space),
                token => vec![token],
            };
            fragments = fragments.into_iter().flat_map(cut).collect();
        }
        fragments
    }
}

/// Cuts `text` at every `name`.
fn cut<'a>(text: &'a str, name: &str, id: u32, drops_space: bool) -> Vec<Fragment<'a>> {
    let mut fragments = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(name) {
        fragments.extend([Fragment::Text(before), Fragment::Token(id)]);
        // The white space of C: of Unicode's, ASCII's alone.
        let space = |c: char| matches!(c, '\t'..='\r' | ' ');
        rest = if drops_space { after.trim_start_matches(space) } else { after };
    }
    fragments.push(Fragment::Text(rest));
    fragments.retain(|fragment| *fragment != Fragment::Text(""));
    fragments
}
