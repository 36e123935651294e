//! Where two sides spend their time differently: by function, in milliseconds per token, from several profiled iterations a side.
//!
//! Time of a function is its samples times what a sample stands for (the phase's CPU time divided by its samples where that was
//! read, otherwise by the rate), divided by the tokens of the phase. Functions are matched by name, less what only a build adds to it.

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

/// Functions in a table.
pub const SHOWN: usize = 20;
/// Of each interval.
pub const CONFIDENCE: f64 = 0.95;
/// At most this share of the changes that are called clear is none, on average.
pub const FALSE_DISCOVERIES: f64 = 0.05;
/// Functions with fewer samples, both sides together, are not tested: no change in them could be seen.
const FEWEST_SAMPLES: u64 = 5;

/// Where two sides differ in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Null where the profiler cannot tell phases apart: all of them.
    pub phase: Option<Phase>,
    pub a: SideFacts,
    pub b: SideFacts,
    /// By change of the time in the function itself, largest first.
    pub functions: Vec<FunctionChange>,
    /// By change of the time in the function and all it calls, largest first; without those whose change lies in one function that
    /// they call on both sides.
    pub callers: Vec<FunctionChange>,
    /// Functions whose own time was tested, over which its false discoveries are counted.
    pub tested: usize,
    /// A side has one iteration: intervals know of counting alone, not of what varies between iterations.
    pub counting_only: bool,
}

/// What a side's table is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideFacts {
    pub iterations: usize,
    pub samples: u64,
    /// Samples a second of the clock that the profiler goes by: CPU time, or time that passes. Null where it is not known.
    pub rate_hz: Option<f64>,
    /// Mean over iterations.
    pub ms_per_token: f64,
}

/// A function on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionChange {
    pub name: String,
    /// In the function itself.
    #[serde(rename = "self")]
    pub own: TimeChange,
    /// In it and all it calls.
    pub total: TimeChange,
    /// Who calls it where the time changed, nearest first, as far as one caller stands for half of the change or more.
    pub callers: Vec<String>,
    /// The outermost call on that way which one side alone makes: who calls, and what.
    pub new_call: Option<NewCall>,
}

/// A call that one side alone makes, or nearly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCall {
    pub caller: String,
    pub callee: String,
    /// B makes it; otherwise A.
    pub by_b: bool,
}

/// Milliseconds per token on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TimeChange {
    pub a_ms_per_token: f64,
    pub b_ms_per_token: f64,
    /// B less A.
    pub change_ms_per_token: f64,
    /// Of the change.
    pub interval: Interval,
    /// Of no change; null where there are too few samples for a test.
    pub p_value: Option<f64>,
    /// The same over all functions tested, by Benjamini and Hochberg.
    pub p_adjusted: Option<f64>,
}

impl TimeChange {
    /// Whether the change is clear among all that were tested.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.p_adjusted.is_some_and(|p| p <= FALSE_DISCOVERIES)
    }
}

/// Compares the two sides in `phase`, or in all that their profiles hold. `None` where a side has no sample of it.
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

/// The [`SHOWN`] that changed most.
fn largest(changed: &[Changed], by: impl Fn(&Changed) -> TimeChange) -> impl Iterator<Item = &Changed> {
    let mut order: Vec<(f64, &Changed)> = changed.iter().map(|one| (by(one).change_ms_per_token.abs(), one)).collect();
    order.retain(|(size, _)| *size > 0.0);
    // Equal ones stay in the order of their names.
    order.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    order.into_iter().take(SHOWN).map(|(_, changed)| changed)
}

/// Says of each change what its p-value is among all.
fn adjust<'a>(changes: impl Iterator<Item = &'a mut TimeChange>) {
    let mut tested: Vec<&mut TimeChange> = changes.filter(|change| change.p_value.is_some()).collect();
    let p_values: Vec<f64> = tested.iter().filter_map(|change| change.p_value).collect();
    for (change, adjusted) in tested.iter_mut().zip(benjamini_hochberg(&p_values)) {
        change.p_adjusted = Some(adjusted);
    }
}

/// Both sides, by the same numbers of functions.
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

    /// Every function in the order of their names.
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

    /// `None` where times are not finite.
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
