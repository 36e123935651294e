//! Deliberate faults, and the requests that they affect.

use rand::Rng;

use crate::rng::seeded;

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process aborts.
    Crash,
    /// SIGKILL in the middle of decoding, as the kernel does when memory runs out. No memory is
    /// really allocated, since other programs on the machine would suffer.
    OutOfMemory,
    /// The engine never answers and ignores `cancel`.
    Hang,
    /// The engine answers with an error; the process lives on.
    Error,
    /// The engine reports success without any token.
    NoTokens,
    /// The engine stamps all tokens when the work is submitted and does the work afterwards.
    EarlyStamps,
}

impl Fault {
    pub const ALL: [Fault; 6] =
        [Fault::Crash, Fault::OutOfMemory, Fault::Hang, Fault::Error, Fault::NoTokens, Fault::EarlyStamps];
    pub const NAMES: [&'static str; 6] = ["crash", "out-of-memory", "hang", "error", "no-tokens", "early-stamps"];

    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|at| Self::ALL[at])
    }
}

/// Which fault affects which requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    pub fault: Option<Fault>,
    /// The affected request, from 1; 0 = none.
    pub at: u64,
    /// Probability that a request is affected, 0 to 1.
    pub probability: f64,
    pub seed: u64,
}

impl Faults {
    /// The fault that affects the request in `slot` (from 0).
    #[must_use]
    pub fn strike(&self, slot: u64) -> Option<Fault> {
        let chosen = slot.checked_add(1) == Some(self.at);
        // Drawn per slot: the affected requests do not depend on which process serves them.
        let drawn = || {
            let draw = seeded(self.seed, &format!("fault in slot {slot}")).next_u64() >> 11;
            (draw as f64) / ((1u64 << 53) as f64) < self.probability
        };
        self.fault.filter(|_| chosen || self.probability > 0.0 && drawn())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_the_request_it_is_given() {
        let faults = Faults { fault: Some(Fault::Hang), at: 3, probability: 0.0, seed: 1 };
        let struck: Vec<u64> = (0..100).filter(|slot| faults.strike(*slot).is_some()).collect();
        assert_eq!(struck, [2]);
        assert_eq!(Faults { at: 0, ..faults }.strike(u64::MAX), None);
        assert_eq!(Faults { fault: None, ..faults }.strike(2), None);
    }

    #[test]
    fn a_probability_is_kept_in_the_long_run_and_a_seed_repeats() {
        let faults = Faults { fault: Some(Fault::Crash), at: 0, probability: 0.2, seed: 5 };
        let struck = |faults: Faults| (0..20_000).filter(|slot| faults.strike(*slot).is_some()).collect::<Vec<_>>();
        assert!((struck(faults).len() as f64 / 20_000.0 - 0.2).abs() < 0.01);
        assert_eq!(struck(faults), struck(faults));
        assert_ne!(struck(faults), struck(Faults { seed: 6, ..faults }));
        assert_eq!(struck(Faults { probability: 1.0, ..faults }).len(), 20_000);
    }

    #[test]
    fn every_fault_has_its_name() {
        assert!(Fault::ALL.iter().zip(Fault::NAMES).all(|(fault, name)| Fault::find(name) == Some(*fault)));
        assert_eq!(Fault::find("none"), None);
    }
}
