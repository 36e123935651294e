//! Checks during the run that a cell's iterations generate the same tokens.

use std::collections::BTreeMap;

use crate::record::{Record, Status};

/// The tokens of each cell's first `ok` iteration, by cell and turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs(BTreeMap<(u32, u32), Vec<u32>>);

impl Outputs {
    /// The tokens of the iterations in a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut firsts = BTreeMap::new();
        for row in record.requests.iter().filter(|row| !row.warmup && row.status == Status::Ok) {
            firsts.entry((row.cell, row.turn)).or_insert(row.request);
        }
        let tokens_of =
            |request| record.tokens.iter().filter(move |t| t.request == request).filter_map(|t| t.id).collect();
        Self(firsts.into_iter().map(|(place, request)| (place, tokens_of(request))).collect())
    }

    /// Compares a turn with the same turn of the cell's first iteration; returns the first index at
    /// which they differ.
    pub fn compare(&mut self, cell: u32, turn: u32, ids: &[u32]) -> Option<usize> {
        let Some(first) = self.0.get(&(cell, turn)) else {
            self.0.insert((cell, turn), ids.to_vec());
            return None;
        };
        (first != ids).then(|| first.iter().zip(ids).take_while(|(a, b)| a == b).count())
    }
}

/// Fewest tokens of which one may be repeated throughout before that says something.
const FEWEST: usize = 16;

/// The only token of a generation of 16 or more: the output is degenerate.
#[must_use]
pub fn repeated(ids: &[u32]) -> Option<u32> {
    let first = *ids.first()?;
    (ids.len() >= FEWEST && ids.iter().all(|id| *id == first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_repeated_throughout_is_degenerate() {
        assert_eq!(repeated(&[7; 16]), Some(7));
        assert_eq!(repeated(&[7; 15]), None, "too few");
        let mut ids = [7; 40];
        ids[39] = 8;
        assert_eq!(repeated(&ids), None);
        assert_eq!(repeated(&[]), None);
    }

    #[test]
    fn the_first_difference_is_found() {
        let mut outputs = Outputs::default();
        assert_eq!(outputs.compare(0, 0, &[1, 2, 3]), None, "nothing to compare with");
        assert_eq!(outputs.compare(0, 0, &[1, 2, 3]), None);
        assert_eq!(outputs.compare(0, 0, &[1, 9, 3]), Some(1));
        assert_eq!(outputs.compare(0, 0, &[1, 2]), Some(2), "one is a prefix of the other");
        assert_eq!(outputs.compare(1, 0, &[7]), None, "cells are not compared with one another");
        assert_eq!(outputs.compare(0, 1, &[7]), None, "nor are turns");
    }
}
