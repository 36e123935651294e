//! Checks that the simulated noise is as harmful as real noise, with three designs on identical
//! builds (docs/explanation/selftest.md).
//!
//! Ten runs per side on a shared VM, no smallest effect, two-sided test at 5 %. If the simulator
//! flagged identical builds far less often in the bad designs, the good one would look better than
//! it is.

use rand::Rng;
use rayon::prelude::*;

use super::rate::Rate;
use super::sessions::runs;
use crate::run::ab::order::orders;
use crate::spec::Side;
use inferometer_host::rng::seeded;
use inferometer_host::simulated::noise::{Noise, Profile};
use inferometer_stats::{rank, two_sample};

/// Runs per side.
const RUNS: usize = 10;
const ALPHA: f64 = 0.05;

/// How two identical builds are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    /// Against a baseline from another session, by Mann-Whitney. Each session has a level, which
    /// the noise of docs/explanation/selftest.md does not include.
    Stored,
    /// The same without the level: only drift separates the sessions.
    StoredSameLevel,
    /// All runs of A, then all of B, by Welch's t-test.
    Blocks,
    /// Pairs in random order, by the signed-rank test.
    Pairs,
}

/// How often identical builds are flagged as different.
#[must_use]
pub fn flagged(design: Design, profile: Profile, sessions: u64, seed: u64) -> Rate {
    let flags = |number: &u64| {
        let seeds = seeded(seed, &format!("calibration {design:?} {number}"));
        p_value(design, profile, seeds) <= ALPHA
    };
    Rate::new((0..sessions).into_par_iter().filter(flags).count() as u64, sessions)
}

fn p_value(design: Design, profile: Profile, mut seeds: impl Rng) -> f64 {
    let told = "twenty finite values that differ have a p-value";
    match design {
        Design::Stored | Design::StoredSameLevel => {
            let mut session = || {
                let level = if design == Design::Stored { level(profile, seeds.next_u64()) } else { 0.0 };
                let mut runs = runs(profile, 0.0, seeds.next_u64());
                (0..RUNS).map(|_| level + runs()).collect::<Vec<f64>>()
            };
            two_sample::mann_whitney(&session(), &session()).expect(told).p_value
        }
        Design::Blocks => {
            let mut runs = runs(profile, 0.0, seeds.next_u64());
            let mut block = || (0..RUNS).map(|_| runs()).collect::<Vec<f64>>();
            two_sample::welch(&block(), &block()).expect(told).p_value
        }
        Design::Pairs => {
            let order = orders(seeds.next_u64(), RUNS);
            let mut runs = runs(profile, 0.0, seeds.next_u64());
            let mut pair = |first: &Side| {
                let (one, two) = (runs(), runs());
                if *first == Side::A { two - one } else { one - two }
            };
            rank::signed_rank(&order.iter().map(&mut pair).collect::<Vec<f64>>()).expect(told).p_value
        }
    }
}

/// The level of a session relative to another day, with another machine or other neighbours. Its
/// spread is that of the drift. It is the same for both sides of one session, so pairs and blocks
/// are not affected.
fn level(profile: Profile, seed: u64) -> f64 {
    let drift_alone = Profile { white: 0.0, burst: 0.0, ..profile };
    Noise::new(drift_alone, seed).next().expect("the noise never ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without drift and bursts, every design keeps its 5 %.
    #[test]
    fn white_noise_alone_fools_no_design() {
        let white = Profile { name: "white", white: 0.02, drift: 0.0, burst: 0.0 };
        for design in [Design::Stored, Design::Blocks, Design::Pairs] {
            let rate = flagged(design, white, 1500, 1);
            assert!((0.025..=0.07).contains(&rate.share), "{design:?} {rate:?}");
        }
    }
}
