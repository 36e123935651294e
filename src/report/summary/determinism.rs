//! Did equal work give equal tokens? Per cell, from the token hashes, with the first differing index from the tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tokens::TokenIndex;
use crate::record::RequestRow;
use crate::spec::Cell;

/// What the hashes of a cell's valid iterations say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Determinism {
    /// Every iteration gave the same tokens.
    Deterministic,
    /// Tokens differ although they should not: temperature 0, or a seed on an engine that declares itself deterministic.
    Nondeterministic,
    /// Tokens differ, as they may: sampled, on an engine that does not promise to repeat itself.
    Varies,
    /// Fewer than two iterations with a token hash.
    Unknown,
}

/// Iterations of a cell that gave the same tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashGroup {
    pub hash: String,
    pub iterations: Vec<u32>,
    /// First token index at which this group differs from the largest one; absent for the largest one itself, and
    /// where the tokens are not in the record.
    pub first_differing_index: Option<u32>,
}

/// Groups the cell's valid rows by token hash, the largest group (of equal ones the earliest) first.
#[must_use]
pub fn groups(rows: &[&RequestRow], tokens: &TokenIndex<'_>) -> Vec<HashGroup> {
    let mut by_hash: BTreeMap<&str, Vec<&RequestRow>> = BTreeMap::new();
    for row in rows {
        if let Some(hash) = &row.token_hash {
            by_hash.entry(hash).or_default().push(row);
        }
    }
    let mut ordered: Vec<(&str, Vec<&RequestRow>)> = by_hash.into_iter().collect();
    ordered.sort_by_key(|(_, rows)| (std::cmp::Reverse(rows.len()), rows[0].request));
    let reference = ordered.first().map(|(_, rows)| rows[0].request);
    ordered
        .iter()
        .enumerate()
        .map(|(i, (hash, rows))| HashGroup {
            hash: (*hash).to_owned(),
            iterations: rows.iter().map(|r| r.iteration).collect(),
            first_differing_index: match (i, reference) {
                (1.., Some(reference)) => tokens.first_difference(reference, rows[0].request),
                _ => None,
            },
        })
        .collect()
}

/// Judges the groups of a cell.
#[must_use]
pub fn judge(groups: &[HashGroup], cell: &Cell, declared: bool) -> Determinism {
    let hashed: usize = groups.iter().map(|g| g.iterations.len()).sum();
    match groups.len() {
        _ if hashed < 2 => Determinism::Unknown,
        1 => Determinism::Deterministic,
        _ if cell.sampling.temperature == 0.0 || declared => Determinism::Nondeterministic,
        _ => Determinism::Varies,
    }
}
