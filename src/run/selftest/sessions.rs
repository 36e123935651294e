//! A/B sessions in virtual time: simulated noise instead of runs, with the real decision function.

use rand::Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::run::ab::order::orders;
use crate::spec::Side;
use inferometer_host::rng::seeded;
use inferometer_host::simulated::noise::{Noise, Profile};
use inferometer_stats::sequential::{Decision, LOOKS, Rule, Verdict, decide};

/// Number of pairs up to the last look.
const MOST_PAIRS: usize = LOOKS[LOOKS.len() - 1];

/// The true difference of B, the machine's drift, and the gates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Case {
    /// Number of gates; all have the same slow-down.
    pub gates: usize,
    /// Whether the gates share one noise. Otherwise each has independent noise, which maximizes the
    /// false alarms of several gates (in reality, metrics of one run share part of their noise).
    pub one_noise: bool,
    /// True slow-down of B.
    pub slower_percent: f64,
    /// Slow-down of each run relative to the previous one, on both sides.
    pub drift_percent: f64,
    /// The smallest change that matters (delta), as a share.
    pub delta: f64,
}

/// The outcomes of many sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Tally {
    pub sessions: u64,
    pub regressed: u64,
    pub improved: u64,
    pub unchanged: u64,
    pub inconclusive: u64,
    /// Mean number of pairs until the verdict.
    pub mean_pairs: f64,
    /// Mean of half the first gate's interval at the end of the session, as a logarithm.
    pub mean_half_width: f64,
}

/// The end of a session.
struct End {
    verdict: Verdict,
    pairs: usize,
    half_width: f64,
}

/// Runs `sessions` sessions. The same seed gives the same tally, with any number of threads.
#[must_use]
pub fn run(case: &Case, profile: Profile, sessions: u64, seed: u64) -> Tally {
    let ends: Vec<End> =
        (0..sessions).into_par_iter().map(|number| session(case, profile, session_seed(seed, case, number))).collect();
    let count = |verdict| ends.iter().filter(|end| end.verdict == verdict).count() as u64;
    let mean = |of: fn(&End) -> f64| ends.iter().map(of).sum::<f64>() / ends.len().max(1) as f64;
    Tally {
        sessions,
        regressed: count(Verdict::Regressed),
        improved: count(Verdict::Improved),
        unchanged: count(Verdict::Unchanged),
        inconclusive: count(Verdict::Inconclusive),
        mean_pairs: mean(|end| end.pairs as f64),
        mean_half_width: mean(|end| end.half_width),
    }
}

fn session_seed(seed: u64, case: &Case, number: u64) -> u64 {
    seeded(seed, &format!("self-test {case:?} {number}")).next_u64()
}

fn session(case: &Case, profile: Profile, seed: u64) -> End {
    let rule = Rule { gates: case.gates, bound: case.delta.ln_1p() };
    let order = orders(seed, MOST_PAIRS);
    let noises = if case.one_noise { 1 } else { case.gates };
    let decisions: Vec<Decision> =
        (0..noises).map(|gate| decide(&pairs(case, profile, &order, gate, seed), &rule)).collect();
    end(&decisions)
}

/// The session ends at the first look at which a gate has regressed or all gates are decided.
fn end(decisions: &[Decision]) -> End {
    let regressed = decisions.iter().filter(|d| d.verdict == Verdict::Regressed).map(|d| d.looks.len()).min();
    let looks = regressed.or_else(|| decisions.iter().map(|d| d.looks.len()).max()).unwrap_or(0);
    let verdict = |d: &Decision| if d.looks.len() <= looks { d.verdict } else { Verdict::NotDecided };
    let last = &decisions[0].looks[decisions[0].looks.len().min(looks) - 1];
    End {
        verdict: Verdict::of_session(decisions.iter().map(verdict)),
        pairs: LOOKS[looks - 1],
        half_width: (last.interval.hi - last.interval.lo) / 2.0,
    }
}

/// x of each pair, as the gate computes it: ln(cost B / cost A). The runs are consecutive values of
/// one noise.
fn pairs(case: &Case, profile: Profile, order: &[Side], gate: usize, seed: u64) -> Vec<f64> {
    let mut runs = runs(profile, case.drift_percent, seeded(seed, &format!("gate {gate}")).next_u64());
    let shift = (case.slower_percent / 100.0).ln_1p();
    let mut pair = |first: &Side| {
        let (one, two) = (runs(), runs());
        shift + if *first == Side::A { two - one } else { one - two }
    };
    order.iter().map(&mut pair).collect()
}

/// Logarithms of the times of consecutive runs of the same work.
pub fn runs(profile: Profile, drift_percent: f64, seed: u64) -> impl FnMut() -> f64 {
    let step = (drift_percent / 100.0).ln_1p();
    let mut noise = Noise::new(profile, seed);
    let mut drift = 0.0;
    move || {
        drift += step;
        drift + noise.next().expect("the noise never ends")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case { gates: 1, one_noise: false, slower_percent: 0.0, drift_percent: 0.0, delta: 0.03 };

    #[test]
    fn without_noise_the_verdict_is_the_truth() {
        for (slower_percent, verdict) in [
            (0.0, Verdict::Unchanged),
            (2.0, Verdict::Unchanged),
            (10.0, Verdict::Regressed),
            (-10.0, Verdict::Improved),
        ] {
            for gates in [1, 3] {
                let end = session(&Case { slower_percent, gates, ..CASE }, Profile::NONE, 1);
                assert_eq!((end.verdict, end.pairs), (verdict, 10), "{slower_percent} {gates}");
                assert!(end.half_width < 1e-12);
            }
        }
    }

    /// The end of a session with several gates follows docs/explanation/method.md#verdicts.
    #[test]
    fn a_session_ends_at_the_first_regressed_gate_or_when_all_are_decided() {
        let decided = |x: &[f64]| decide(x, &Rule { gates: 3, bound: 0.03 });
        let still = decided(&[0.0; 10]);
        let slower = decided(&[0.1; 10]);
        let mut noisy = [0.2, -0.2].repeat(5);
        noisy.extend([0.1; 20]);
        let late = decided(&noisy);
        assert!(late.looks.len() > 1);
        let of = |decisions: &[Decision]| {
            let end = end(decisions);
            (end.verdict, end.pairs)
        };
        assert_eq!(of(&[still.clone(), still.clone()]), (Verdict::Unchanged, 10));
        assert_eq!(of(&[late.clone(), slower, still.clone()]), (Verdict::Regressed, 10));
        assert_eq!(of(&[still, late.clone()]), (late.verdict, LOOKS[late.looks.len() - 1]));
    }

    #[test]
    fn a_seed_repeats_and_drift_alone_cancels_over_a_block() {
        let tally = |seed| run(&CASE, Profile::SHARED_VM, 20, seed);
        assert_eq!(tally(1), tally(1));
        assert_ne!(tally(1), tally(2));
        let drift = Case { drift_percent: 0.3, ..CASE };
        let x = pairs(&drift, Profile::NONE, &orders(3, 8), 0, 3);
        assert!(x.iter().all(|v| (v.abs() - 0.003f64.ln_1p()).abs() < 1e-12), "{x:?}");
        assert!(x.iter().sum::<f64>().abs() < 1e-12, "ups and downs cancel");
    }
}
