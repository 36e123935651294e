//! The merge loop that both kinds of vocabularies share.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A part of the text that is one token, or a character that is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// Place in the text, in bytes.
    pub start: usize,
    pub end: usize,
    pub id: Option<u32>,
}

/// What a pair of neighbours becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    /// Lower goes first; of equal ones, the left one.
    pub rank: u32,
    pub id: u32,
}

/// A pair that may be merged. In order of rank, then of place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    right: usize,
    /// End of the right symbol. If it has moved, the pair is out of date.
    end: usize,
    id: u32,
}

/// Merges neighbours until `pair` has nothing for any of them. `symbols` follow one another in the
/// text.
pub(super) fn merge(symbols: Vec<Symbol>, pair: impl Fn(&Symbol, &Symbol) -> Option<Merge>) -> Vec<Symbol> {
    let mut chain = Chain::new(symbols);
    let mut queue = BinaryHeap::new();
    let candidate = |chain: &Chain, left: usize, right: usize| {
        let second = chain.symbols.get(right)?;
        let Merge { rank, id } = pair(chain.symbols.get(left)?, second)?;
        Some(Reverse(Candidate { rank, left, right, end: second.end, id }))
    };
    queue.extend((1..chain.symbols.len()).filter_map(|right| candidate(&chain, right - 1, right)));
    while let Some(Reverse(Candidate { left, right, end, id, .. })) = queue.pop() {
        // Out of date: one of them was merged with its other neighbour meanwhile.
        if chain.next[left] != right || chain.symbols[right].end != end {
            continue;
        }
        chain.join(left, right, id);
        queue.extend(candidate(&chain, chain.previous[left], left));
        queue.extend(candidate(&chain, left, chain.next[left]));
    }
    chain.left()
}

/// No neighbour.
const NONE: usize = usize::MAX;
/// The `next` of a symbol that was joined to its left neighbour.
const JOINED: usize = usize::MAX - 1;

/// Symbols, linked to their neighbours.
struct Chain {
    symbols: Vec<Symbol>,
    previous: Vec<usize>,
    next: Vec<usize>,
}

impl Chain {
    fn new(symbols: Vec<Symbol>) -> Self {
        let length = symbols.len();
        let previous = (0..length).map(|at| at.checked_sub(1).unwrap_or(NONE)).collect();
        let next = (1..=length).map(|at| if at == length { NONE } else { at }).collect();
        Self { symbols, previous, next }
    }

    /// The left one becomes both.
    fn join(&mut self, left: usize, right: usize, id: u32) {
        self.symbols[left].end = self.symbols[right].end;
        self.symbols[left].id = Some(id);
        let after = self.next[right];
        self.next[left] = after;
        self.next[right] = JOINED;
        if let Some(previous) = self.previous.get_mut(after) {
            *previous = left;
        }
    }

    /// The symbols that are left.
    fn left(self) -> Vec<Symbol> {
        self.symbols.into_iter().zip(self.next).filter(|(_, next)| *next != JOINED).map(|(symbol, _)| symbol).collect()
    }
}
