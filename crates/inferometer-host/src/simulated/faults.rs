//! What goes wrong on purpose, and in which request.

use rand::Rng;

use crate::rng::seeded;

/// A way to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process aborts.
    Crash,
    /// The process is killed by SIGKILL in the middle of decoding: what the kernel does when memory runs out. No memory is
    /// really taken, since that would hit whoever else is on the machine.
    OutOfMemory,
    /// It never answers, and does not hear `cancel`.
    Hang,
    /// It answers with an error; the process lives on.
    Error,
    /// It says it is done and has no token.
    NoTokens,
    /// Tokens are stamped when the work is handed in, and the work is done afterwards.
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

/// When which fault strikes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    pub fault: Option<Fault>,
    /// The request that it strikes, from 1; 0 = none.
    pub at: u64,
    /// The probability that it strikes a request, 0 to 1.
    pub probability: f64,
    pub seed: u64,
}

impl Faults {
    /// The fault that strikes the request in `slot` (from 0).
    #[must_use]
    pub fn strike(&self, slot: u64) -> Option<Fault> {
        let chosen = slot.checked_add(1) == Some(self.at);
        // Drawn for this slot alone: which requests are struck does not depend on which process they come to.
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
