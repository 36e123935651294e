//! When the requests of a load are due.

use super::host::Due;
use crate::spec::{Arrivals, Level, TrafficSettings};
use inferometer_host::rng::seeded;
use rand_chacha::rand_core::Rng;

/// The arrivals of one iteration of a level: other ones in each iteration, so that the figures of
/// several are not about one draw, and the same in every cell and run.
#[must_use]
pub fn due(traffic: &TrafficSettings, level: Level, iteration: u32) -> Due {
    let rate = match level {
        Level::Sessions(sessions) => return Due::Free(sessions as usize),
        Level::PerSecond(rate) => rate,
    };
    let mut rng = seeded(traffic.seed, &format!("arrivals {iteration}"));
    let mut at = 0.0;
    let mut next = || {
        let gap = match traffic.arrivals {
            Arrivals::Constant => 1.0,
            // The inverse of the exponential distribution; the argument is never 0.
            Arrivals::Poisson => {
                // 53 random bits: at least 0 and below 1.
                let uniform = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
                -(1.0 - uniform).ln()
            }
        };
        let this = at;
        at += gap / rate;
        (this * 1e9).round() as u64
    };
    Due::After((0..traffic.requests).map(|_| next()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Limits;

    fn offsets(arrivals: Arrivals, rate: f64) -> Vec<u64> {
        let levels = Vec::new();
        let traffic = TrafficSettings { levels, arrivals, requests: 20_000, seed: 7, limits: Limits::default() };
        match due(&traffic, Level::PerSecond(rate), 1) {
            Due::After(offsets) => offsets,
            Due::Free(_) => panic!("an open loop"),
        }
    }

    #[test]
    fn constant_arrivals_have_equal_gaps() {
        let offsets = offsets(Arrivals::Constant, 4.0);
        assert_eq!(offsets[..4], [0, 250_000_000, 500_000_000, 750_000_000]);
    }

    /// Mean and standard deviation of exponential gaps are 1 / rate.
    #[test]
    fn random_arrivals_have_exponential_gaps() {
        let offsets = offsets(Arrivals::Poisson, 50.0);
        let gaps: Vec<f64> = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean - 0.02).abs() < 0.0005, "{mean}");
        assert!((deviation - 0.02).abs() < 0.001, "{deviation}");
        let short = gaps.iter().filter(|gap| **gap < 0.02 * std::f64::consts::LN_2).count() as f64 / gaps.len() as f64;
        assert!((short - 0.5).abs() < 0.02, "half of them are shorter than ln 2 of the mean: {short}");
    }

    #[test]
    fn a_closed_loop_has_sessions() {
        let traffic = TrafficSettings {
            levels: Vec::new(),
            arrivals: Arrivals::Poisson,
            requests: 3,
            seed: 0,
            limits: Limits::default(),
        };
        assert_eq!(due(&traffic, Level::Sessions(4), 1), Due::Free(4));
    }
}
