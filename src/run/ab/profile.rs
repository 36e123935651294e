//! The profiled pass of a session, after its verdict: both sides alternate. It never changes the
//! verdict.

use super::session::{Session, key};
use crate::record;
use crate::run::error::RunError;
use crate::run::profile::files;
use crate::run::progress::Event;
use crate::run::schedule::Step;
use crate::spec::Side;

impl Session<'_> {
    /// Runs the remaining profiled iterations; `false` if the user asked to stop. Errors become
    /// warnings.
    pub(super) fn profile(&mut self) -> bool {
        // Without a valid pair there is no difference to explain.
        if self.wanted(Side::A).max(self.wanted(Side::B)) == 0 || self.judge().counts.ok == 0 || self.is_profiled() {
            return true;
        }
        self.observer.event(Event::Note("the session has its verdict; the profiled pass follows"));
        let profiled = self.profile_sides();
        self.after("profiled", profiled)
    }

    /// Whether the session goes on after a pass that follows its verdict; an error becomes a
    /// warning.
    pub(super) fn after(&mut self, pass: &str, done: Result<bool, RunError>) -> bool {
        done.unwrap_or_else(|error| {
            let told = format!("the {pass} pass stopped (the verdict stands): {error}");
            self.observer.event(Event::Warning(&told));
            // Best effort: if this write fails, closing the session reports it.
            let _ = self.store.update(|manifest| manifest.warnings.push(told));
            true
        })
    }

    fn profile_sides(&mut self) -> Result<bool, RunError> {
        let rounds = self.wanted(Side::A).max(self.wanted(Side::B));
        for iteration in 1..=rounds {
            for side in order(iteration) {
                if iteration <= self.wanted(side) && !self.profile_turn(side, iteration)? {
                    return Ok(false);
                }
            }
        }
        for worker in &self.workers {
            let dir = worker.log.store.dir();
            files::write(dir, &record::read(dir)?)?;
        }
        Ok(true)
    }

    /// Runs every cell of a side once, in separate hosts as in a pair.
    fn profile_turn(&mut self, side: Side, iteration: u32) -> Result<bool, RunError> {
        let left: Vec<u32> = self.steps_left(side, iteration);
        if left.is_empty() {
            return Ok(true);
        }
        if self.interrupt.requested() {
            return Ok(false);
        }
        let at = side as usize;
        let Some(settings) = self.workers[at].work.scenario.profile.clone() else { return Ok(true) };
        self.begin(side);
        let (resident, of) = (self.store.manifest().settings.resident, self.profiled_of());
        for id in self.by_host(left) {
            let done = self.profiled_done();
            let (worker, observer) = (&mut self.workers[at], &mut *self.observer);
            let (cell, step) = (worker.cell(id), Step { cell: id, iteration });
            let key = key(cell);
            if !resident {
                worker.close_others(&key);
            }
            observer.event(Event::Profiling { cell: crate::run::worker::name(cell), done, of });
            let Some((_, status)) = worker.profile(step, &key, &settings, observer)? else { return Ok(false) };
            self.profiled[at].note(step, status);
        }
        self.end(side);
        Ok(true)
    }

    /// Number of profiled iterations that a side should have.
    fn wanted(&self, side: Side) -> u32 {
        self.workers[side as usize].work.scenario.profile.as_ref().map_or(0, |settings| settings.iterations)
    }

    /// Cells of a side that are neither done in an iteration nor given up.
    fn steps_left(&self, side: Side, iteration: u32) -> Vec<u32> {
        let done = &self.profiled[side as usize];
        let left = |id: &u32| !done.contains(Step { cell: *id, iteration }) && !done.given_up(*id);
        self.cells().iter().map(|cell| cell.id).filter(left).collect()
    }

    fn is_profiled(&self) -> bool {
        let all = |side| (1..=self.wanted(side)).all(|iteration| self.steps_left(side, iteration).is_empty());
        Side::BOTH.into_iter().all(all)
    }

    /// Number of steps of both sides.
    fn profiled_of(&self) -> u64 {
        let wanted: u32 = Side::BOTH.map(|side| self.wanted(side)).iter().sum();
        u64::from(wanted) * self.cells().len() as u64
    }

    /// Number of steps that are done or given up.
    fn profiled_done(&self) -> u64 {
        let left =
            |side| (1..=self.wanted(side)).map(|iteration| self.steps_left(side, iteration).len() as u64).sum::<u64>();
        self.profiled_of() - Side::BOTH.map(left).iter().sum::<u64>()
    }
}

/// The sides alternate in going first: A B, B A, A B.
fn order(iteration: u32) -> [Side; 2] {
    if iteration % 2 == 1 { [Side::A, Side::B] } else { [Side::B, Side::A] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_side_is_always_first() {
        let turns: Vec<Side> = (1..=4).flat_map(order).collect();
        assert_eq!(turns, [Side::A, Side::B, Side::B, Side::A, Side::A, Side::B, Side::B, Side::A]);
    }
}
