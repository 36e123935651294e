//! Compares where two sides spend their time: by function, in milliseconds per token, from several
//! profiled iterations per side.
//!
//! A function's time is its number of samples times the time per sample, divided by the tokens of
//! the phase. The time per sample is the phase's CPU time divided by its samples if it was read,
//! otherwise it follows from the rate. Functions are matched by name without build-specific parts.

mod callers;
mod draw;
mod names;
mod side;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use draw::difference_svg;
pub use names::normalized;
pub use side::Sampled;

use inferometer_protocol::Phase;
use inferometer_stats::mean_change::mean_change;
use inferometer_stats::multiple::benjamini_hochberg;
use inferometer_stats::robust::Interval;
use side::{Function, Names, Side, What};

/// Number of functions in a table.
pub const SHOWN: usize = 20;
/// Confidence of each interval.
pub const CONFIDENCE: f64 = 0.95;
/// On average at most this share of the changes called clear is false.
pub const FALSE_DISCOVERIES: f64 = 0.05;
/// Functions with fewer samples on both sides together are not tested: no change could be detected.
const FEWEST_SAMPLES: u64 = 5;

/// Differences between two sides in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Null if the profiler cannot separate phases: all phases.
    pub phase: Option<Phase>,
    pub a: SideFacts,
    pub b: SideFacts,
    /// By change of the function's own time, largest first.
    pub functions: Vec<FunctionChange>,
    /// By change of the function's total time, largest first, without those whose change comes from
    /// one function that they call on both sides.
    pub callers: Vec<FunctionChange>,
    /// Number of functions whose own time was tested, over which false discoveries are controlled.
    pub tested: usize,
    /// A side has only one iteration: intervals cover counting noise, not the variation between
    /// iterations.
    pub counting_only: bool,
}

/// The data of a side's table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideFacts {
    pub iterations: usize,
    pub samples: u64,
    /// Samples per second of the profiler's clock (CPU or wall time). Null if unknown.
    pub rate_hz: Option<f64>,
    /// Mean over iterations.
    pub ms_per_token: f64,
}

/// A function on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionChange {
    pub name: String,
    /// Own time: in the function itself.
    #[serde(rename = "self")]
    pub own: TimeChange,
    /// Total time: in the function and everything it calls.
    pub total: TimeChange,
    /// The callers through which the time changed, nearest first, as long as one caller accounts
    /// for at least half of the change.
    pub callers: Vec<String>,
    /// The outermost call on that path that only one side makes.
    pub new_call: Option<NewCall>,
}

/// A call that only one side makes, or nearly so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCall {
    pub caller: String,
    pub callee: String,
    /// Whether B makes it; otherwise A.
    pub by_b: bool,
}

/// Milliseconds per token on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TimeChange {
    pub a_ms_per_token: f64,
    pub b_ms_per_token: f64,
    /// B minus A.
    pub change_ms_per_token: f64,
    /// Interval of the change.
    pub interval: Interval,
    /// Test of no change; null if there are too few samples.
    pub p_value: Option<f64>,
    /// Adjusted over all tested functions, by Benjamini and Hochberg.
    pub p_adjusted: Option<f64>,
}

impl TimeChange {
    /// Whether the change is a discovery among all that were tested.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.p_adjusted.is_some_and(|p| p <= FALSE_DISCOVERIES)
    }
}

/// Compares the two sides in `phase`, or in all phases. `None` if a side has no sample of it.
#[must_use]
pub fn difference(a: &[Sampled<'_>], b: &[Sampled<'_>], phase: Option<Phase>) -> Option<Difference> {
    let sides = Sides::of(a, b, phase)?;
    let changed = sides.changes();
    let (a, b) = (sides.a.facts(), sides.b.facts());
    let carriers: Vec<Changed> =
        changed.iter().filter(|one| !sides.lies_deeper(one.function, &one.total)).copied().collect();
    Some(Difference {
        phase,
        functions: largest(&changed, |one| one.own).map(|one| sides.row(What::Own, one)).collect(),
        callers: largest(&carriers, |one| one.total).map(|one| sides.row(What::Total, one)).collect(),
        tested: changed.iter().filter(|one| one.own.p_value.is_some()).count(),
        counting_only: a.iterations.min(b.iterations) == 1,
        a,
        b,
    })
}

/// A function with the change of its time.
#[derive(Debug, Clone, Copy)]
struct Changed {
    function: Function,
    own: TimeChange,
    total: TimeChange,
}

/// The [`SHOWN`] functions that changed most.
fn largest(changed: &[Changed], by: impl Fn(&Changed) -> TimeChange) -> impl Iterator<Item = &Changed> {
    let mut order: Vec<(f64, &Changed)> = changed.iter().map(|one| (by(one).change_ms_per_token.abs(), one)).collect();
    order.retain(|(size, _)| *size > 0.0);
    // Equal ones remain sorted by name.
    order.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    order.into_iter().take(SHOWN).map(|(_, changed)| changed)
}

/// Adjusts the p-values over all changes.
fn adjust<'a>(changes: impl Iterator<Item = &'a mut TimeChange>) {
    let mut tested: Vec<&mut TimeChange> = changes.filter(|change| change.p_value.is_some()).collect();
    let p_values: Vec<f64> = tested.iter().filter_map(|change| change.p_value).collect();
    for (change, adjusted) in tested.iter_mut().zip(benjamini_hochberg(&p_values)) {
        change.p_adjusted = Some(adjusted);
    }
}

/// Both sides, with common function numbers.
struct Sides {
    a: Side,
    b: Side,
    names: Names,
}

impl Sides {
    fn of(a: &[Sampled<'_>], b: &[Sampled<'_>], phase: Option<Phase>) -> Option<Self> {
        let mut names = Names::default();
        Some(Self { a: Side::of(a, phase, &mut names)?, b: Side::of(b, phase, &mut names)?, names })
    }

    /// Every function, sorted by name.
    fn changes(&self) -> Vec<Changed> {
        let both = self.a.functions().chain(self.b.functions());
        let known: BTreeSet<(&str, Function)> = both.map(|function| (self.names.name(function), function)).collect();
        let one = |(_, function)| {
            let (own, total) = (self.change(What::Own, function)?, self.change(What::Total, function)?);
            Some(Changed { function, own, total })
        };
        let mut changed: Vec<Changed> = known.into_iter().filter_map(one).collect();
        adjust(changed.iter_mut().map(|one| &mut one.own));
        adjust(changed.iter_mut().map(|one| &mut one.total));
        changed
    }

    /// `None` if a time is not finite.
    fn change(&self, what: What, function: Function) -> Option<TimeChange> {
        let [a, b] = [&self.a, &self.b].map(|side| side.time(what, function));
        let change = mean_change(a.counted(), b.counted(), CONFIDENCE)?;
        Some(TimeChange {
            a_ms_per_token: a.mean(),
            b_ms_per_token: b.mean(),
            change_ms_per_token: change.difference,
            interval: change.interval,
            p_value: (a.samples + b.samples >= FEWEST_SAMPLES).then_some(change.p_value),
            p_adjusted: None,
        })
    }

    fn row(&self, what: What, changed: &Changed) -> FunctionChange {
        let Changed { function, own, total } = *changed;
        let way = self.way(what, function);
        FunctionChange {
            name: self.names.name(function).to_owned(),
            own,
            total,
            callers: way.callers.iter().map(|caller| self.names.name(*caller).to_owned()).collect(),
            new_call: way.new_call.map(|(caller, callee, by_b)| NewCall {
                caller: self.names.name(caller).to_owned(),
                callee: self.names.name(callee).to_owned(),
                by_b,
            }),
        }
    }
}
