//! Order of the sides in each pair, and of the cells.

use rand_chacha::rand_core::Rng;

use crate::spec::Side;
use inferometer_host::rng::seeded;

/// Pairs in a block; A runs first in half of them.
pub const BLOCK: usize = 4;

/// The side that runs first in each of `pairs` pairs: blocks of four with two of each, shuffled
/// (docs/explanation/method.md#verdicts).
#[must_use]
pub fn orders(seed: u64, pairs: usize) -> Vec<Side> {
    let mut rng = seeded(seed, "ab order");
    let mut below = |n: usize| ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize;
    let mut all = Vec::new();
    while all.len() < pairs {
        let mut block = [Side::A, Side::A, Side::B, Side::B];
        for i in (1..BLOCK).rev() {
            block.swap(i, below(i + 1));
        }
        all.extend(block);
    }
    all.truncate(pairs);
    all
}

/// The cells' order in a pair, shuffled anew for each pair and the same on both sides.
#[must_use]
pub fn cells(seed: u64, pair: u32, cells: usize) -> Vec<u32> {
    let mut rng = seeded(seed, &format!("ab cells {pair}"));
    let mut below = |n: usize| ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize;
    let mut ids: Vec<u32> = (0..cells as u32).collect();
    for i in (1..ids.len()).rev() {
        ids.swap(i, below(i + 1));
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_balanced_and_the_seed_decides() {
        let all = orders(7, 30);
        assert_eq!(all.len(), 30);
        for block in all.chunks_exact(BLOCK) {
            assert_eq!(block.iter().filter(|side| **side == Side::A).count(), 2);
        }
        assert_eq!(all, orders(7, 30));
        assert_eq!(all[..10], orders(7, 10)[..], "a longer session starts with the same order");
        let first: Vec<Vec<Side>> = (0..50).map(|seed| orders(seed, BLOCK)).collect();
        assert!(first.iter().any(|block| *block != first[0]));
    }

    #[test]
    fn cells_are_all_there_in_another_order_each_pair() {
        let mut sorted = cells(1, 3, 5);
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4]);
        assert!((1..20).any(|pair| cells(1, pair, 5) != cells(1, 0, 5)));
    }
}
