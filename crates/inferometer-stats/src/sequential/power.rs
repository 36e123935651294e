//! Sensitivity of a session: the slow-down it would catch nine times in ten, and the sensitivity
//! that a pilot predicts.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Depths, Evidence, LOOKS, Rule, Verdict};
use crate::rank::Walsh;
use crate::rng::seeded;
use crate::robust::summarize;

/// Sessions drawn for [`caught_nine_in_ten`]: the standard error of a share of 0.9 is then about
/// 0.013.
const SESSIONS: usize = 500;
const NINE_IN_TEN: f64 = 0.9;
/// Smallest number of pairs for an estimate of the spread.
pub const PILOT_PAIRS: usize = 5;
/// Standard deviation of a normal distribution over the median of its |z|.
const DEVIATION_OF_MEDIAN: f64 = 1.4826;
/// Mean half-width of the last look's equivalence interval for normal noise of spread 1 (simulated;
/// `scripts/fixtures stats`).
const HALF_WIDTH: f64 = 0.391;
/// Bound at which nine of ten identical builds are called unchanged by the last look for such noise
/// (also simulated).
const SUPPORTED: f64 = 0.696;
/// A pilot stops the session if the expected half-width is this many times the bound. The margin
/// exists because bursts may hit two of five or six A/A pairs, and a suitable machine must not be
/// refused. On the method's "shared VM" at 3 %, one pilot of six pairs in 140 is refused; on "noisy
/// hosted" at 1 %, four in five are.
const REFUSED: f64 = 1.5;

/// The smallest true shift of x, in its unit, that a session with x's spread would have called
/// regressed nine times in ten.
///
/// Sessions with as many pairs as the last look are drawn from x with replacement. x is first
/// centred at its Hodges-Lehmann estimate and widened by sqrt(n / (n - 1)), as the values of a
/// sample lie closer together than those of its source. Each session is shifted and judged look by
/// look as in [`decide`](super::decide); bisection finds the shift. The same seed gives the same
/// result.
///
/// `None` for fewer than [`PILOT_PAIRS`] values or one that is not finite.
///
/// # Panics
/// When the rule has no gates or too many.
#[must_use]
pub fn caught_nine_in_ten(x: &[f64], rule: &Rule, seed: u64) -> Option<f64> {
    if x.len() < PILOT_PAIRS {
        return None;
    }
    let centre = Walsh::of(x)?.estimate();
    let n = x.len() as f64;
    let widened: Vec<f64> = x.iter().map(|v| (v - centre) * (n / (n - 1.0)).sqrt()).collect();
    let depths = std::array::from_fn(|look| Depths::at(look, rule.gates));
    let mut random = seeded(seed, "caught nine in ten");
    let sessions: Vec<Session> = (0..SESSIONS)
        .map(|_| {
            let drawn: Vec<f64> = (0..LOOKS[LOOKS.len() - 1]).map(|_| pick(&widened, &mut random)).collect();
            Session::of(&drawn, &depths)
        })
        .collect();
    let caught = |shift: f64| {
        let regressed = sessions.iter().filter(|s| s.verdict(shift, rule.bound) == Some(Verdict::Regressed)).count();
        regressed as f64 >= NINE_IN_TEN * SESSIONS as f64
    };
    // With the larger of these shifts every session regresses at its first look.
    let certain = sessions.iter().map(|s| s.certain(rule.bound)).fold(0.0, f64::max);
    Some(bisect(0.0, certain, caught))
}

/// The evidence of a session at each look.
struct Session([Evidence; LOOKS.len()]);

impl Session {
    fn of(x: &[f64], depths: &[Depths; LOOKS.len()]) -> Self {
        Self(std::array::from_fn(|look| Evidence::of(&super::walsh(&x[..LOOKS[look]]), &depths[look])))
    }

    /// The first verdict if all x were larger by `shift`.
    fn verdict(&self, shift: f64, bound: f64) -> Option<Verdict> {
        self.0.iter().find_map(|evidence| evidence.moved(shift).verdict(bound))
    }

    /// A shift with which the first look is certain to give regressed.
    fn certain(&self, bound: f64) -> f64 {
        (2.0 * (bound - self.0[0].estimate).max(-self.0[0].interval.lo)).max(f64::MIN_POSITIVE)
    }
}

fn pick(values: &[f64], random: &mut impl Rng) -> f64 {
    values[((u64::from(random.next_u32()) * values.len() as u64) >> 32) as usize]
}

/// The smallest value in `lo..=hi` above which `holds` is true; `holds(hi)` must be true.
fn bisect(mut lo: f64, mut hi: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..40 {
        let middle = f64::midpoint(lo, hi);
        if holds(middle) {
            hi = middle;
        } else {
            lo = middle;
        }
    }
    hi
}

/// What A/A pairs predict. Few pairs estimate a spread only roughly: six are off by
/// a quarter half of the time, and rarely see rare bursts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pilot {
    /// Spread of x about its known centre 0, as a normal standard deviation; robust, and 0 only if
    /// all x are 0.
    pub spread: f64,
    /// Expected half-width of the equivalence interval at the last look.
    pub half_width: f64,
    /// The smallest bound at which nine of ten identical builds would be called unchanged by the
    /// last look.
    pub supported: f64,
    /// Even for identical builds the equivalence interval would not fit into the bound, by a clear
    /// margin.
    pub hopeless: bool,
}

/// Evaluates A/A pairs. `None` for fewer than [`PILOT_PAIRS`] values or one that is not finite.
#[must_use]
pub fn pilot(x: &[f64], rule: &Rule) -> Option<Pilot> {
    if x.len() < PILOT_PAIRS {
        return None;
    }
    let magnitudes: Vec<f64> = x.iter().map(|v| v.abs()).collect();
    let robust = DEVIATION_OF_MEDIAN * summarize(&magnitudes)?.median;
    // Mostly zeros: the others must still count.
    let spread = if robust > 0.0 { robust } else { (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64).sqrt() };
    let half_width = HALF_WIDTH * spread;
    Some(Pilot {
        spread,
        half_width,
        supported: SUPPORTED * spread,
        hopeless: spread > 0.0 && half_width >= REFUSED * rule.bound,
    })
}

#[cfg(test)]
mod tests;
