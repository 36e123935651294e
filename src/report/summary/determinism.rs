//! Whether equal work gave equal tokens: decided per cell from token hashes; the tokens give the
//! first differing index.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::{RequestRow, TokenIndex};
use crate::spec::Cell;

/// How the token hashes of a cell's valid iterations compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Determinism {
    /// Every iteration gave the same tokens.
    Deterministic,
    /// Tokens differ although they should not: temperature 0, or a seed on an engine that declares
    /// itself deterministic.
    Nondeterministic,
    /// Tokens differ, as they may: they are sampled, and the engine does not declare itself
    /// deterministic.
    Varies,
    /// Fewer than two iterations with a token hash.
    Unknown,
}

/// Iterations of a cell that gave the same tokens, in every turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashGroup {
    /// The token hash of the iterations; for a conversation, the hash over the turns' hashes.
    pub hash: String,
    pub iterations: Vec<u32>,
    /// First token index at which this group differs from the largest one; absent for the largest
    /// one itself, and where the tokens are not in the record.
    pub first_differing_index: Option<u32>,
    /// The turn of that index in a conversation; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_differing_turn: Option<u32>,
}

/// Groups the cell's valid iterations by their turns' token hashes. The largest group comes first;
/// of equal groups, the earliest.
#[must_use]
pub fn groups(rows: &[&RequestRow], tokens: &TokenIndex<'_>) -> Vec<HashGroup> {
    type Turns<'r, 'a> = &'r [&'a RequestRow];
    let mut by_hash: BTreeMap<Vec<&str>, Vec<Turns>> = BTreeMap::new();
    // Under load every request has the same prompt, and each stands for itself.
    let alone = rows.iter().any(|row| row.is_under_load());
    for turns in rows.chunk_by(|a, b| !alone && a.iteration == b.iteration) {
        let hashes: Option<Vec<&str>> = turns.iter().map(|row| row.token_hash.as_deref()).collect();
        if let Some(hashes) = hashes {
            by_hash.entry(hashes).or_default().push(turns);
        }
    }
    let mut ordered: Vec<(Vec<&str>, Vec<Turns>)> = by_hash.into_iter().collect();
    ordered.sort_by_key(|(_, all)| (std::cmp::Reverse(all.len()), all[0][0].request));
    let reference = ordered.first().map(|(_, all)| all[0]);
    ordered
        .iter()
        .enumerate()
        .map(|(i, (hashes, all))| {
            let differing = reference.filter(|_| i > 0).and_then(|reference| {
                let pairs = reference.iter().zip(all[0]);
                pairs.into_iter().find(|(a, b)| a.token_hash != b.token_hash)
            });
            HashGroup {
                hash: joined(hashes),
                iterations: {
                    let mut numbers: Vec<u32> = all.iter().map(|turns| turns[0].iteration).collect();
                    numbers.dedup();
                    numbers
                },
                first_differing_index: differing.and_then(|(a, b)| tokens.first_difference(a.request, b.request)),
                first_differing_turn: differing.filter(|_| hashes.len() > 1).map(|(_, row)| row.turn),
            }
        })
        .collect()
}

/// One hash for an iteration: that of its request, or the first 16 hex digits of SHA-256 over its
/// turns' hashes joined together.
fn joined(hashes: &[&str]) -> String {
    match hashes {
        [one] => (*one).to_owned(),
        all => Sha256::digest(all.concat())[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Judges the groups of a cell.
#[must_use]
pub fn judge(groups: &[HashGroup], cell: &Cell, declared: bool) -> Determinism {
    let hashed: usize = groups.iter().map(|g| g.iterations.len()).sum();
    match groups.len() {
        _ if hashed < 2 && cell.level.is_none() => Determinism::Unknown,
        0 => Determinism::Unknown,
        1 => Determinism::Deterministic,
        _ if cell.sampling.temperature == 0.0 || declared => Determinism::Nondeterministic,
        _ => Determinism::Varies,
    }
}
