//! Whether two runs of the same work generated the same tokens; checked before any speed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::cells::Measured;
use crate::record::{TokenIndex, first_difference};

/// Comparison of the token hashes of a cell's valid iterations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outputs", rename_all = "snake_case")]
pub enum Outputs {
    /// All iterations of both sides gave the same tokens.
    Same,
    /// Each side is consistent, but they differ from each other.
    Differ {
        /// First differing token; null unless both records have the tokens.
        index: Option<u32>,
        /// Turn of that token in a conversation; otherwise null.
        turn: Option<u32>,
    },
    /// The iterations of a side gave several outputs.
    Several {
        /// Distinct outputs of each side.
        a: usize,
        b: usize,
        /// Outputs that both sides gave.
        common: usize,
    },
    /// A side has no token hash.
    Unknown,
}

impl Outputs {
    /// Compares the token hashes of each side's distinct outputs, one hash per turn. Finding the
    /// first differing token needs the tokens themselves.
    #[must_use]
    pub fn of<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> Self {
        match (a.len(), b.len()) {
            (0, _) | (_, 0) => Outputs::Unknown,
            (1, 1) if a == b => Outputs::Same,
            (1, 1) => Outputs::Differ { index: None, turn: None },
            (of_a, of_b) => Outputs::Several { a: of_a, b: of_b, common: a.intersection(b).count() },
        }
    }

    /// Whether the sides generated different tokens.
    #[must_use]
    pub fn differ(&self) -> bool {
        match self {
            Outputs::Same | Outputs::Unknown => false,
            Outputs::Differ { .. } => true,
            Outputs::Several { a, b, common } => common != a || common != b,
        }
    }
}

/// Request number of each turn by the turns' token hashes, for the first iteration with that
/// output.
type ByHash<'a> = BTreeMap<Vec<&'a str>, Vec<(u32, u64)>>;

fn by_hash<'a>(side: &Measured<'a>) -> ByHash<'a> {
    let mut found = ByHash::new();
    // Under load every request has the same prompt, and each stands for itself.
    let alone = side.cell.level.is_some();
    for turns in side.valid.chunk_by(|a, b| !alone && a.iteration == b.iteration) {
        let hashes: Option<Vec<&str>> = turns.iter().map(|row| row.token_hash.as_deref()).collect();
        if let Some(hashes) = hashes {
            found.entry(hashes).or_insert_with(|| turns.iter().map(|row| (row.turn, row.request)).collect());
        }
    }
    found
}

/// Token hashes of each distinct output of a cell, one per turn.
#[must_use]
pub fn hashes(side: &Measured<'_>) -> BTreeSet<Vec<String>> {
    by_hash(side).keys().map(|turns| turns.iter().map(|hash| (*hash).to_owned()).collect()).collect()
}

/// Compares the tokens of a cell's two sides, given each record's token index.
#[must_use]
pub fn compare(a: (&Measured<'_>, &TokenIndex<'_>), b: (&Measured<'_>, &TokenIndex<'_>)) -> Outputs {
    let (of_a, of_b) = (by_hash(a.0), by_hash(b.0));
    let outputs = Outputs::of(&of_a.keys().collect(), &of_b.keys().collect());
    let only = of_a.first_key_value().zip(of_b.first_key_value());
    let (Outputs::Differ { .. }, Some(((hashes_a, turns_a), (hashes_b, turns_b)))) = (&outputs, only) else {
        return outputs;
    };
    let differing = hashes_a.iter().zip(hashes_b).position(|(a, b)| a != b);
    let requests = differing.map(|at| (turns_a[at], turns_b[at]));
    Outputs::Differ {
        index: requests.and_then(|((_, x), (_, y))| first_difference(a.1.of(x), b.1.of(y))),
        turn: requests.filter(|_| turns_a.len() > 1).map(|((turn, _), _)| turn),
    }
}
