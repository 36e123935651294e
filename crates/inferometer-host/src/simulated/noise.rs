//! Noise of consecutive runs (docs/explanation/selftest.md): white noise, slow drift and bursts,
//! all in log time.
//!
//! Pure: the engine draws one value per generation and really takes that much longer; the self-test
//! draws thousands of sessions in virtual time.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::rng::seeded;

/// Autocorrelation of the drift from one step to the next.
pub const PHI: f64 = 0.9;
/// Probability that a burst continues in the next slot: bursts last two slots on average.
const GOES_ON: f64 = 0.5;
/// Lowest rate during a burst.
const WORST_RATE: f64 = 0.8;
/// Smallest burst as a share of the largest, in log terms.
const LEAST_SHARE: f64 = 0.3;

/// Noise level of a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    pub name: &'static str,
    /// Standard deviation of the white noise, in log time.
    pub white: f64,
    /// Stationary standard deviation of the drift, an AR(1) process.
    pub drift: f64,
    /// Probability that a burst starts in a slot outside of a burst.
    pub burst: f64,
}

impl Profile {
    pub const NONE: Profile = Profile { name: "none", white: 0.0, drift: 0.0, burst: 0.0 };
    pub const QUIET: Profile = Profile { name: "quiet", white: 0.007, drift: 0.005, burst: 0.0 };
    pub const SHARED_VM: Profile = Profile { name: "shared-vm", white: 0.015, drift: 0.03, burst: 0.05 };
    pub const NOISY: Profile = Profile { name: "noisy", white: 0.03, drift: 0.05, burst: 0.10 };
    pub const ALL: [Profile; 4] = [Self::NONE, Self::QUIET, Self::SHARED_VM, Self::NOISY];
    pub const NAMES: [&'static str; 4] = [Self::NONE.name, Self::QUIET.name, Self::SHARED_VM.name, Self::NOISY.name];

    /// The profile of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }

    /// Long-run share of slots inside a burst.
    #[must_use]
    pub fn burst_share(&self) -> f64 {
        self.burst / (self.burst + 1.0 - GOES_ON)
    }
}

/// The noise of one machine over consecutive slots; endless. Each value is added to the logarithm
/// of a run's cost.
#[derive(Debug, Clone)]
pub struct Noise {
    profile: Profile,
    rng: ChaCha8Rng,
    drift: f64,
    in_burst: bool,
    /// The second of a pair of normal values, kept for the next call.
    spare: Option<f64>,
}

impl Noise {
    /// Starts in the stationary state, so that the first slots are like all others.
    #[must_use]
    pub fn new(profile: Profile, seed: u64) -> Self {
        let rng = seeded(seed, "noise of a simulated machine");
        let mut noise = Self { profile, rng, drift: 0.0, in_burst: false, spare: None };
        noise.drift = profile.drift * noise.normal();
        noise.in_burst = noise.uniform() < profile.burst_share();
        noise
    }

    /// Uniform in [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        if let Some(kept) = self.spare.take() {
            return kept;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    fn burst(&mut self) -> f64 {
        if !self.in_burst {
            return 0.0;
        }
        let share = LEAST_SHARE + (1.0 - LEAST_SHARE) * self.uniform();
        -WORST_RATE.ln() * share
    }
}

impl Iterator for Noise {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let now = self.profile.white * self.normal() + self.drift + self.burst();
        self.drift = PHI * self.drift + (1.0 - PHI * PHI).sqrt() * self.profile.drift * self.normal();
        self.in_burst = self.uniform() < if self.in_burst { GOES_ON } else { self.profile.burst };
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: usize = 200_000;

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// Autocorrelation at `lag` slots, and the standard deviation.
    fn correlation(values: &[f64], lag: usize) -> (f64, f64) {
        let mean = mean(values);
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let pairs = values.len() - lag;
        let shared = (0..pairs).map(|i| (values[i] - mean) * (values[i + lag] - mean)).sum::<f64>() / pairs as f64;
        (shared / variance, variance.sqrt())
    }

    /// Without bursts the variance is white + drift, and the autocorrelation is the drift's share
    /// times phi^lag.
    #[test]
    fn white_noise_and_drift_are_as_stated() {
        for profile in [Profile::QUIET, Profile { burst: 0.0, ..Profile::SHARED_VM }] {
            let values: Vec<f64> = Noise::new(profile, 1).take(SLOTS).collect();
            let variance = profile.white.powi(2) + profile.drift.powi(2);
            let part = profile.drift.powi(2) / variance;
            for lag in [1, 5] {
                let (correlation, deviation) = correlation(&values, lag);
                assert!((deviation / variance.sqrt() - 1.0).abs() < 0.03, "{} {deviation}", profile.name);
                assert!((correlation - part * PHI.powi(lag as i32)).abs() < 0.03, "{} {correlation}", profile.name);
            }
            assert!(mean(&values).abs() < 0.002);
        }
    }

    #[test]
    fn bursts_come_last_and_weigh_as_stated() {
        for burst in [Profile::SHARED_VM.burst, Profile::NOISY.burst] {
            let profile = Profile { white: 0.0, drift: 0.0, burst, ..Profile::NOISY };
            let values: Vec<f64> = Noise::new(profile, 3).take(SLOTS).collect();
            let hit: Vec<f64> = values.iter().copied().filter(|v| *v > 0.0).collect();
            let share = hit.len() as f64 / SLOTS as f64;
            assert!((share - profile.burst_share()).abs() < 0.005, "{share}");
            let starts = values.windows(2).filter(|w| w[0] == 0.0 && w[1] > 0.0).count();
            let idle = SLOTS - hit.len();
            assert!((starts as f64 / idle as f64 - burst).abs() < 0.003, "{starts} starts in {idle} idle slots");
            assert!((hit.len() as f64 / starts as f64 - 2.0).abs() < 0.05, "two slots on average");
            let worst = 0.8f64.recip().ln();
            assert!(hit.iter().all(|v| (0.3 * worst..worst).contains(v)));
            assert!((mean(&hit) - 0.65 * worst).abs() < 0.002);
        }
    }

    /// The first slot is like any other: over many seeds it has the long run's spread and share of
    /// bursts.
    #[test]
    fn the_process_begins_in_its_long_run() {
        let profile = Profile { white: 0.0, burst: 0.0, ..Profile::SHARED_VM };
        let first = |profile, seed| Noise::new(profile, seed).next().unwrap();
        let firsts: Vec<f64> = (0..20_000).map(|seed| first(profile, seed)).collect();
        let (_, deviation) = correlation(&firsts, 1);
        assert!((deviation / profile.drift - 1.0).abs() < 0.03, "{deviation}");
        let bursts = Profile { white: 0.0, drift: 0.0, ..Profile::NOISY };
        let hit = (0..20_000).filter(|seed| first(bursts, *seed) > 0.0).count();
        assert!((hit as f64 / 20_000.0 - bursts.burst_share()).abs() < 0.01, "{hit}");
    }

    #[test]
    fn a_seed_gives_the_same_noise_again_and_none_is_none() {
        let of = |seed| Noise::new(Profile::NOISY, seed).take(50).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        assert!(Noise::new(Profile::NONE, 1).take(100).all(|v| v == 0.0));
        assert_eq!(Profile::find("shared-vm"), Some(Profile::SHARED_VM));
        assert_eq!(Profile::find("loud"), None);
    }
}
