//! Finds the tokens of a request through an index made in one pass over the rows, which are grouped
//! by request.

use std::collections::HashMap;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::TokenRow;

/// The position of each request's rows in a record's tokens.
#[derive(Debug)]
pub struct TokenIndex<'a> {
    rows: &'a [TokenRow],
    ranges: HashMap<u64, Range<usize>>,
}

impl<'a> TokenIndex<'a> {
    /// Indexes rows in file order. If a request's rows are in several places, only the first group
    /// is indexed.
    #[must_use]
    pub fn new(rows: &'a [TokenRow]) -> Self {
        let mut ranges = HashMap::new();
        let mut start = 0;
        for chunk in rows.chunk_by(|a, b| a.request == b.request) {
            ranges.entry(chunk[0].request).or_insert(start..start + chunk.len());
            start += chunk.len();
        }
        Self { rows, ranges }
    }

    /// The tokens of a request, in order; empty if the record has none.
    #[must_use]
    pub fn of(&self, request: u64) -> &'a [TokenRow] {
        self.ranges.get(&request).map_or(&[], |range| &self.rows[range.clone()])
    }

    /// [`first_difference`] of two requests.
    #[must_use]
    pub fn first_difference(&self, a: u64, b: u64) -> Option<u32> {
        first_difference(self.of(a), self.of(b))
    }
}

/// First index at which the ids of two requests differ (the shorter length if one is a prefix of
/// the other). `None` if they are equal, or if one of them has no tokens in its record or is
/// redacted.
#[must_use]
pub fn first_difference(a: &[TokenRow], b: &[TokenRow]) -> Option<u32> {
    let unknown = |rows: &[TokenRow]| rows.is_empty() || rows.iter().any(|row| row.id.is_none());
    if unknown(a) || unknown(b) {
        return None;
    }
    let common = a.iter().zip(b).take_while(|(x, y)| x.id == y.id).count();
    (common < a.len().max(b.len())).then_some(common as u32)
}

/// First 16 hex digits of SHA-256 over the ids, each as four little-endian bytes.
#[must_use]
pub fn token_hash(ids: &[u32]) -> String {
    let mut hash = Sha256::new();
    for id in ids {
        hash.update(id.to_le_bytes());
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(request: u64, ids: &[u32]) -> Vec<TokenRow> {
        let row = |(index, id): (usize, &u32)| TokenRow { request, index: index as u32, id: Some(*id), t_ns: 0 };
        ids.iter().enumerate().map(row).collect()
    }

    #[test]
    fn the_first_difference_is_found() {
        let all = [rows(0, &[1, 2, 3]), rows(1, &[1, 2, 4]), rows(2, &[1, 2]), rows(5, &[1, 2, 3])].concat();
        let index = TokenIndex::new(&all);
        assert_eq!(index.of(2).len(), 2);
        assert_eq!(index.of(3), &[]);
        assert_eq!(index.first_difference(0, 1), Some(2));
        assert_eq!(index.first_difference(0, 2), Some(2));
        assert_eq!(index.first_difference(0, 5), None);
        assert_eq!(index.first_difference(0, 3), None);
    }

    /// `hashlib.sha256(struct.pack('<3I', 1, 2, 70000)).hexdigest()[:16]`
    #[test]
    fn the_token_hash_is_of_little_endian_ids() {
        assert_eq!(token_hash(&[1, 2, 70000]), "313a9de55e88265f");
        assert_ne!(token_hash(&[1, 2]), token_hash(&[2, 1]));
    }
}
