//! Time by function.

use std::collections::BTreeMap;

use super::rate::ns_per_sample;
use super::{names, parts};
use inferometer_protocol::{Phase, Profile};

/// A function's time. Times are estimates: each sample stands for the achieved time between
/// samples, not the requested one.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionShare {
    pub name: String,
    /// Estimated time in the function itself, in nanoseconds of the profiler's clock (CPU time of
    /// all threads, or wall time).
    pub self_ns: f64,
    /// The same including everything it called; recursion counts once.
    pub total_ns: f64,
    /// Share of the phase's time, 0 to 1.
    pub self_share: f64,
    pub total_share: f64,
    /// Samples with the function at the top of the stack.
    pub self_samples: u64,
    /// Samples with the function anywhere in the stack.
    pub samples: u64,
}

/// The functions of a phase (`None`: of all samples), by own time, then by total time, largest
/// first.
#[must_use]
pub fn functions(profiles: &[&Profile], phase: Option<Phase>) -> Vec<FunctionShare> {
    let mut shares = BTreeMap::<&str, FunctionShare>::new();
    let mut whole_ns = 0.0;
    for (profile, part) in parts(profiles, phase) {
        let each_ns = ns_per_sample(profile, part);
        for stack in &part.stacks {
            let ns = each_ns * stack.count as f64;
            whole_ns += ns;
            let mut called: Vec<&str> = stack.frames.iter().map(|&frame| names::raw(profile, frame)).collect();
            let leaf = called.last().copied().unwrap_or(names::UNKNOWN);
            let itself = shares.entry(leaf).or_insert_with(|| FunctionShare::new(leaf));
            itself.self_ns += ns;
            itself.self_samples = itself.self_samples.saturating_add(stack.count);
            called.sort_unstable();
            called.dedup();
            if called.is_empty() {
                called.push(leaf);
            }
            for name in called {
                let share = shares.entry(name).or_insert_with(|| FunctionShare::new(name));
                share.total_ns += ns;
                share.samples = share.samples.saturating_add(stack.count);
            }
        }
    }
    let mut shares: Vec<FunctionShare> = shares.into_values().filter(|share| share.samples > 0).collect();
    for share in &mut shares {
        share.self_share = share.self_ns / whole_ns;
        share.total_share = share.total_ns / whole_ns;
    }
    shares.sort_by(|a, b| b.self_ns.total_cmp(&a.self_ns).then(b.total_ns.total_cmp(&a.total_ns)));
    shares
}

impl FunctionShare {
    fn new(name: &str) -> Self {
        let name = names::clean(name).into_owned();
        Self { name, self_ns: 0.0, total_ns: 0.0, self_share: 0.0, total_share: 0.0, self_samples: 0, samples: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixtures::{MS, profile};

    fn find<'a>(shares: &'a [FunctionShare], name: &str) -> &'a FunctionShare {
        shares.iter().find(|share| share.name == name).unwrap_or_else(|| panic!("{name} is not in {shares:?}"))
    }

    #[test]
    fn time_follows_the_achieved_rate_and_recursion_counts_once() {
        let profile = profile();
        let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} {b}");
        let prefill = functions(&[&profile], Some(Phase::Prefill));
        let walk = find(&prefill, "walk");
        assert_eq!((walk.self_samples, walk.samples), (6, 6));
        near(walk.total_ns, (60 * MS) as f64);
        near(walk.total_share, 0.6);
        let decode = functions(&[&profile], Some(Phase::Decode));
        assert_eq!(decode[0].name, "copy<a; b>::\"go\" &", "most time of its own first");
        near(decode[0].self_ns, (100 * MS) as f64);
        near(find(&decode, "main").total_share, 1.0);
        near(find(&decode, "main").self_ns, 0.0);
        // The phases were sampled at different rates, so samples cannot simply be added.
        let all = functions(&[&profile], None);
        near(all.iter().map(|share| share.self_ns).sum(), (255 * MS) as f64);
        near(find(&all, "main").total_ns, ((40 + 150 + 5) * MS) as f64);
        assert!(functions(&[], None).is_empty());
    }
}
