//! Seeded randomness with a stable stream, so that an interval is the same on every platform and in
//! every release.
//!
//! `inferometer-host` has the same few lines for engines; neither crate depends on the other.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A generator for `seed`; different `purpose`s give independent streams for the same seed.
pub fn seeded(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}
