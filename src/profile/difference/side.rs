//! The profiles of one side: time per token by function, by call and by stack.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::SideFacts;
use super::names::normalized;
use crate::profile::names::{UNKNOWN, clean, raw};
use crate::profile::parts;
use crate::profile::rate::{achieved_hz_of, ns_per_sample};
use inferometer_protocol::{Phase, Profile, SampleClock};
use inferometer_stats::mean_change::Counted;

/// A profiled iteration with its tokens in the compared phase.
#[derive(Debug, Clone, Copy)]
pub struct Sampled<'a> {
    pub profile: &'a Profile,
    pub tokens: u64,
}

/// A function's number, the same on both sides.
pub(super) type Function = u32;

/// Names of the functions of both sides.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By the names in the profiles.
    seen: HashMap<String, Function>,
    numbers: HashMap<String, Function>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> Function {
        if let Some(number) = self.seen.get(name) {
            return *number;
        }
        let number = self.number_of(normalized(&clean(name)));
        self.seen.insert(name.to_owned(), number);
        number
    }

    fn number_of(&mut self, name: String) -> Function {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = Function::try_from(self.names.len()).expect("profiles number their functions by u32");
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    /// The name common to both sides.
    pub fn name(&self, function: Function) -> &str {
        &self.names[function as usize]
    }
}

/// Samples of one item in an iteration.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    samples: u64,
    /// Milliseconds per token.
    ms: f64,
    /// Sum over samples of the squared time per sample.
    squares: f64,
}

impl Seen {
    /// Adds samples of `each_ms` each.
    fn add(&mut self, samples: u64, each_ms: f64) {
        self.samples = self.samples.saturating_add(samples);
        self.ms += samples as f64 * each_ms;
        self.squares += samples as f64 * each_ms * each_ms;
    }
}

/// One iteration in one phase.
#[derive(Debug, Default)]
pub(super) struct Iteration {
    all: Seen,
    /// Whether samples divide a measured time (otherwise each stands for a nominal time).
    divides: bool,
    /// Own time of each function.
    own: HashMap<Function, Seen>,
    /// Total time of each function; recursion counts once.
    total: HashMap<Function, Seen>,
    /// Time of each call, including everything below it.
    calls: BTreeMap<(Function, Function), Seen>,
    stacks: BTreeMap<Vec<Function>, f64>,
}

impl Iteration {
    /// `None` if the phase has no tokens, or if its time is measured but no sample divides it. With
    /// a nominal time per sample, no sample means no time.
    fn of(sampled: Sampled<'_>, phase: Option<Phase>, names: &mut Names) -> Option<Self> {
        let Sampled { profile, tokens } = sampled;
        let mut iteration = Self { divides: profile.clock == SampleClock::Cpu, ..Self::default() };
        let mut unread = false;
        for (_, part) in parts(&[profile], phase) {
            unread |= profile.clock == SampleClock::Cpu && part.cpu_ns.is_none();
            let each_ms = ns_per_sample(profile, part) / 1e6 / tokens as f64;
            iteration.divides &= part.cpu_ns.is_some();
            for stack in &part.stacks {
                let frames = stack.frames.iter().map(|frame| names.number(raw(profile, *frame)));
                let mut frames: Vec<Function> = frames.collect();
                if frames.is_empty() {
                    frames.push(names.number(UNKNOWN));
                }
                iteration.add(&frames, stack.count, each_ms);
            }
        }
        let counts = iteration.all.ms > 0.0 || (unread && iteration.all.samples == 0);
        (iteration.all.ms.is_finite() && counts).then_some(iteration)
    }

    fn add(&mut self, frames: &[Function], samples: u64, each_ms: f64) {
        let Some(last) = frames.last().filter(|_| samples > 0) else { return };
        self.all.add(samples, each_ms);
        self.own.entry(*last).or_default().add(samples, each_ms);
        // Count a recursive function once.
        for function in frames.iter().collect::<HashSet<_>>() {
            self.total.entry(*function).or_default().add(samples, each_ms);
        }
        for call in frames.windows(2).map(|pair| (pair[0], pair[1])).collect::<HashSet<_>>() {
            self.calls.entry(call).or_default().add(samples, each_ms);
        }
        *self.stacks.entry(frames.to_vec()).or_default() += samples as f64 * each_ms;
    }

    fn seen(&self, what: What, function: Function) -> Seen {
        let of = match what {
            What::Own => &self.own,
            What::Total => &self.total,
        };
        of.get(&function).copied().unwrap_or_default()
    }

    /// Variance due to counting: Bernoulli if samples divide a known time, otherwise Poisson.
    fn counting(&self, seen: Seen) -> f64 {
        let rest = if self.divides { 1.0 - seen.samples as f64 / self.all.samples as f64 } else { 1.0 };
        seen.squares * rest
    }
}

/// Own or total time of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Own,
    Total,
}

/// All iterations of a side in one phase.
#[derive(Debug)]
pub(super) struct Side {
    iterations: Vec<Iteration>,
    /// Milliseconds per token of each stack.
    pub stacks: BTreeMap<Vec<Function>, f64>,
    rate_hz: Option<f64>,
}

impl Side {
    /// `None` if no iteration has samples.
    pub fn of(sampled: &[Sampled<'_>], phase: Option<Phase>, names: &mut Names) -> Option<Self> {
        let iterations: Vec<Iteration> =
            sampled.iter().filter(|one| one.tokens > 0).filter_map(|one| Iteration::of(*one, phase, names)).collect();
        let mut stacks: BTreeMap<Vec<Function>, f64> = BTreeMap::new();
        for (frames, ms) in iterations.iter().flat_map(|iteration| &iteration.stacks) {
            *stacks.entry(frames.clone()).or_default() += ms / iterations.len() as f64;
        }
        let profiles: Vec<&Profile> = sampled.iter().map(|one| one.profile).collect();
        let rate_hz = achieved_hz_of(&profiles, phase);
        iterations.iter().any(|iteration| iteration.all.samples > 0).then_some(Self { iterations, stacks, rate_hz })
    }

    pub fn functions(&self) -> impl Iterator<Item = Function> {
        self.iterations.iter().flat_map(|iteration| iteration.total.keys().copied())
    }

    pub fn facts(&self) -> SideFacts {
        SideFacts {
            iterations: self.iterations.len(),
            samples: self.iterations.iter().map(|iteration| iteration.all.samples).sum(),
            rate_hz: self.rate_hz,
            ms_per_token: self.mean(|iteration| iteration.all.ms),
        }
    }

    /// Milliseconds per token of a call.
    pub fn call_ms(&self, call: (Function, Function)) -> f64 {
        self.mean(|iteration| iteration.calls.get(&call).map_or(0.0, |seen| seen.ms))
    }

    pub fn call_samples(&self, call: (Function, Function)) -> u64 {
        self.iterations.iter().filter_map(|iteration| iteration.calls.get(&call)).map(|seen| seen.samples).sum()
    }

    /// The callees of a function, possibly with repetitions.
    pub fn callees(&self, caller: Function) -> impl Iterator<Item = Function> {
        let every = (caller, Function::MIN)..=(caller, Function::MAX);
        let calls = self.iterations.iter().flat_map(move |iteration| iteration.calls.range(every.clone()));
        calls.map(|((_, callee), _)| *callee)
    }

    fn mean(&self, ms: impl Fn(&Iteration) -> f64) -> f64 {
        self.iterations.iter().map(ms).sum::<f64>() / self.iterations.len() as f64
    }

    /// Time of a function with its uncertainty.
    ///
    /// Counts one sample more, so that an unsampled function is not taken to have exactly zero
    /// time.
    pub fn time(&self, what: What, function: Function) -> Time {
        let n = self.iterations.len() as f64;
        let seen: Vec<Seen> = self.iterations.iter().map(|iteration| iteration.seen(what, function)).collect();
        let counting: f64 = self.iterations.iter().zip(&seen).map(|(iteration, seen)| iteration.counting(*seen)).sum();
        let sampled = self.iterations.iter().filter(|iteration| iteration.all.samples > 0);
        let one_more = sampled.clone().map(|iteration| iteration.all.ms / iteration.all.samples as f64).sum::<f64>()
            / sampled.count() as f64;
        Time {
            samples: seen.iter().map(|seen| seen.samples).sum(),
            counting: (counting + one_more * one_more) / (n * n),
            values: seen.into_iter().map(|seen| seen.ms).collect(),
        }
    }
}

/// Time per token of a function in each iteration.
pub(super) struct Time {
    pub samples: u64,
    values: Vec<f64>,
    counting: f64,
}

impl Time {
    pub fn counted(&self) -> Counted<'_> {
        Counted { values: &self.values, counting: self.counting }
    }

    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }
}
