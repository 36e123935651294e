//! Lateness of samples, in bounded memory: a run segment may take hours at 200 samples per second.

/// Bins per doubling: a quantile is exact to 1/32.
const STEPS: u64 = 16;

/// A histogram of durations whose bins widen with the duration.
#[derive(Debug, Clone)]
pub(super) struct Lateness {
    bins: Vec<u64>,
    count: u64,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { bins: vec![0; bin(u64::MAX) + 1], count: 0 }
    }
}

impl Lateness {
    pub fn add(&mut self, ns: u64) {
        self.bins[bin(ns)] += 1;
        self.count += 1;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The `q`-quantile of the durations, as the middle of its bin; `None` without any.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = ((q * self.count as f64).ceil() as u64).max(1);
        let mut below = 0;
        let bin = self.bins.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(middle(bin))
    }
}

/// Below [`STEPS`] one bin per nanosecond, then [`STEPS`] bins per doubling.
fn bin(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let doublings = ns.ilog2() - STEPS.ilog2();
    (u64::from(doublings) * STEPS + (ns >> doublings)) as usize
}

fn middle(bin: usize) -> f64 {
    let bin = bin as u64;
    if bin < STEPS {
        return bin as f64;
    }
    let doublings = bin / STEPS - 1;
    let width = (1_u64 << doublings) as f64;
    (STEPS + bin % STEPS) as f64 * width + (width - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_follow_one_another_and_hold_what_they_stand_for() {
        let mut last = 0;
        for ns in (0..5000).chain((13..64).flat_map(|bits| [1 << bits, (1 << bits) + (1 << (bits - 1))])) {
            let at = bin(ns);
            assert!(at >= last && (at - last <= 1 || ns > 5000), "{ns}");
            last = at;
            assert!((middle(at) - ns as f64).abs() <= ns as f64 / 32.0 + 0.5, "{ns}: {}", middle(at));
        }
        assert!(bin(u64::MAX) < 1000);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut late = Lateness::default();
        assert_eq!(late.quantile(0.5), None);
        (1..=1000).for_each(|us| late.add(us * 1000));
        assert_eq!(late.count(), 1000);
        for (q, ns) in [(0.0, 1e3), (0.5, 5e5), (0.99, 9.9e5), (1.0, 1e6)] {
            let found = late.quantile(q).unwrap();
            assert!((found / ns - 1.0).abs() < 1.0 / 32.0, "{q}: {found}");
        }
    }
}
