//! The calls through which a change came about.

use std::collections::BTreeMap;

use super::side::{Function, Side, What};
use super::{Sides, TimeChange};

/// A caller is listed as long as it accounts for this share of the change.
const CARRIES: f64 = 0.5;
/// A function is omitted from the table of callers if one of its callees accounts for this share of
/// its change.
const LIES_DEEPER: f64 = 0.8;
/// A side with less than this share of the other's time in a call is considered not to make it:
/// stray samples may be wrong.
const NOT_MADE: f64 = 0.05;
/// Samples of a call needed to conclude that the other side does not make it: if both sides made it
/// equally, all eight falling on one side has a probability below 1 %.
const FEWEST_SAMPLES: u64 = 8;
/// Most callers listed.
const MOST_CALLERS: usize = 12;

/// The path to a function whose time changed.
pub(super) struct Way {
    /// Nearest first.
    pub callers: Vec<Function>,
    /// Caller, callee, and whether B makes the call.
    pub new_call: Option<(Function, Function, bool)>,
}

/// A stack, the current position in it, and its contribution to the change.
type Through<'a> = (&'a [Function], usize, f64);

impl Sides {
    /// Walks up the callers along the stacks through which the time of `function` (own or total)
    /// changed most.
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

    /// Whether only B (`true`) or only A (`false`) makes the call; `None` if both do.
    fn made_by_one(&self, call: (Function, Function)) -> Option<bool> {
        let (a, b) = (self.a.call_ms(call), self.b.call_ms(call));
        let seen = self.a.call_samples(call).max(self.b.call_samples(call)) >= FEWEST_SAMPLES;
        (seen && a.min(b) < NOT_MADE * a.max(b)).then_some(b > a)
    }

    /// Whether the change of `function` comes from one function that it calls on both sides: the
    /// cause is there or deeper.
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

/// Stacks of a side that end in `function`, or that contain it; then from its outermost call on, if
/// it is recursive.
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
