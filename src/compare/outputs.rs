//! Did two runs of the same work give the same tokens? This comes before any speed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cells::Measured;
use crate::record::metric::iterations;
use crate::record::{TokenIndex, first_difference};

/// What the token hashes of a cell's valid iterations say of both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outputs", rename_all = "snake_case")]
pub enum Outputs {
    /// All iterations of both sides gave the same tokens.
    Same,
    /// Each side agrees with itself, and not with the other.
    Differ {
        /// First differing token; null where the tokens are not in both records.
        index: Option<u32>,
        /// In a conversation the turn of that token; null otherwise.
        turn: Option<u32>,
    },
    /// A side gave more than one output over its iterations.
    Several {
        /// Different outputs of each side.
        a: usize,
        b: usize,
        /// Outputs that both sides gave.
        common: usize,
    },
    /// A side has no token hash.
    Unknown,
}

impl Outputs {
    /// Whether tokens of one side are not those of the other.
    #[must_use]
    pub fn differ(&self) -> bool {
        match self {
            Outputs::Same | Outputs::Unknown => false,
            Outputs::Differ { .. } => true,
            Outputs::Several { a, b, common } => common != a || common != b,
        }
    }
}

/// Request number of each turn by the turns' token hashes, for the first iteration that gave them.
type ByHash<'a> = BTreeMap<Vec<&'a str>, Vec<(u32, u64)>>;

fn by_hash<'a>(side: &Measured<'a>) -> ByHash<'a> {
    let mut found = ByHash::new();
    for turns in iterations(&side.valid) {
        let hashes: Option<Vec<&str>> = turns.iter().map(|row| row.token_hash.as_deref()).collect();
        if let Some(hashes) = hashes {
            found.entry(hashes).or_insert_with(|| turns.iter().map(|row| (row.turn, row.request)).collect());
        }
    }
    found
}

/// Compares the tokens of a cell's two sides, given where each record has its tokens.
#[must_use]
pub fn compare(a: (&Measured<'_>, &TokenIndex<'_>), b: (&Measured<'_>, &TokenIndex<'_>)) -> Outputs {
    let (hashes_a, hashes_b) = (by_hash(a.0), by_hash(b.0));
    match (hashes_a.len(), hashes_b.len()) {
        (0, _) | (_, 0) => Outputs::Unknown,
        (1, 1) => {
            let (only_a, only_b) = (hashes_a.first_key_value(), hashes_b.first_key_value());
            let ((a_hashes, a_turns), (b_hashes, b_turns)) = only_a.zip(only_b).expect("each has one");
            if a_hashes == b_hashes {
                return Outputs::Same;
            }
            let differing = a_hashes.iter().zip(b_hashes).position(|(a, b)| a != b);
            let turns = differing.map(|at| (a_turns[at], b_turns[at]));
            Outputs::Differ {
                index: turns.and_then(|((_, x), (_, y))| first_difference(a.1.of(x), b.1.of(y))),
                turn: turns.filter(|_| a_turns.len() > 1).map(|((turn, _), _)| turn),
            }
        }
        (a, b) => {
            let common = hashes_a.keys().filter(|hashes| hashes_b.contains_key(*hashes)).count();
            Outputs::Several { a, b, common }
        }
    }
}
