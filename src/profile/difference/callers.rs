//! Along which calls a change came about.

use std::collections::BTreeMap;

use super::side::{Function, Side, What};
use super::{Sides, TimeChange};

/// A caller is named while it stands for this share of the change.
const CARRIES: f64 = 0.5;
/// A function is left out of the table of callers where one that it calls stands for this share of its change.
const LIES_DEEPER: f64 = 0.8;
/// A side that has less than this share of the other's time in a call is taken not to make it: a stray sample may be wrong.
const NOT_MADE: f64 = 0.05;
/// Samples of a call without which it cannot be said that the other side does not make it: eight of equals that all fall on one
/// side are a chance of less than 1 %.
const FEWEST_SAMPLES: u64 = 8;
/// Most callers that are named.
const MOST_CALLERS: usize = 12;

/// How a function is reached where its time changed.
pub(super) struct Way {
    /// Nearest first.
    pub callers: Vec<Function>,
    /// Caller, callee, and whether it is B that makes the call.
    pub new_call: Option<(Function, Function, bool)>,
}

/// A stack, the place in it that has been reached, and what it adds to the change.
type Through<'a> = (&'a [Function], usize, f64);

impl Sides {
    /// Goes from caller to caller by the stacks through which the time of `function` changed most: in itself, or with what it calls.
    pub(super) fn way(&self, what: What, function: Function) -> Way {
        let mut way = Way { callers: Vec::new(), new_call: None };
        let mut through = [reaching(&self.a, what, function, -1.0), reaching(&self.b, what, function, 1.0)].concat();
        let change: f64 = through.iter().map(|(_, _, ms)| ms).sum();
        let mut callee = function;
        while way.callers.len() < MOST_CALLERS {
            let mut callers: BTreeMap<Function, f64> = BTreeMap::new();
            for (frames, at, ms) in &through {
                if let Some(caller) = at.checked_sub(1) {
                    *callers.entry(frames[caller]).or_default() += ms * change.signum();
                }
            }
            let most = callers.into_iter().max_by(|one, other| one.1.total_cmp(&other.1));
            let Some((caller, _)) = most.filter(|(_, carried)| *carried >= CARRIES * change.abs()) else { break };
            way.callers.push(caller);
            if let Some(by_b) = self.made_by_one((caller, callee)) {
                way.new_call = Some((caller, callee, by_b));
            }
            through.retain(|(frames, at, _)| at.checked_sub(1).is_some_and(|at| frames[at] == caller));
            through.iter_mut().for_each(|(_, at, _)| *at -= 1);
            callee = caller;
        }
        way
    }

    /// Whether only B (or only A, `false`) makes the call; `None` where both do.
    fn made_by_one(&self, call: (Function, Function)) -> Option<bool> {
        let (a, b) = (self.a.call_ms(call), self.b.call_ms(call));
        let seen = self.a.call_samples(call).max(self.b.call_samples(call)) >= FEWEST_SAMPLES;
        (seen && a.min(b) < NOT_MADE * a.max(b)).then_some(b > a)
    }

    /// Whether the change of `function` is that of one function which it calls on both sides: the cause lies there or deeper.
    pub(super) fn lies_deeper(&self, function: Function, change: &TimeChange) -> bool {
        let whole = change.change_ms_per_token;
        let callees = [&self.a, &self.b].into_iter().flat_map(|side| side.callees(function));
        callees.filter(|callee| *callee != function).any(|callee| {
            let call = (function, callee);
            let carried = (self.b.call_ms(call) - self.a.call_ms(call)) * whole.signum();
            carried >= LIES_DEEPER * whole.abs() && self.made_by_one(call).is_none()
        })
    }
}

/// Stacks of a side that end in `function`, or that it is in: then from its outermost call on, where it calls itself.
fn reaching(side: &Side, what: What, function: Function, sign: f64) -> Vec<Through<'_>> {
    let found = side.stacks.iter().filter_map(|(frames, ms)| {
        let at = match what {
            What::Own => frames.len().checked_sub(1).filter(|at| frames[*at] == function)?,
            What::Total => frames.iter().position(|frame| *frame == function)?,
        };
        Some((frames.as_slice(), at, sign * ms))
    });
    found.collect()
}
