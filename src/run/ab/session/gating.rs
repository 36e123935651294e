//! Which gates a session keeps: those that its engines and this machine measure, on both sides
//! alike.

use super::Session;
use crate::run::ab::able::Able;
use crate::run::ab::gates;
use crate::run::error::RunError;
use crate::run::progress::Event;
use crate::run::worker::Worker;
use crate::spec::Side;
use inferometer_stats::sequential::LOOKS;

impl Session<'_> {
    /// Refuses gates of memory that the sides read from different gauges.
    pub(super) fn check_gauges(&mut self) -> Result<(), RunError> {
        if self.judge().counts.ok as usize >= LOOKS[0] {
            return Ok(());
        }
        let all = self.store.manifest().gates.clone();
        let gauges = self.workers.each_ref().map(Worker::memory_gauge);
        let sorted = gates::same_gauges(all, gauges, self.rows.each_ref().map(Vec::as_slice))?;
        self.keep_gates(sorted)
    }

    /// Memory cycles of a GPU and of a process cannot be compared; no gate does.
    pub(super) fn same_memory_gauge(&mut self) -> Result<(), RunError> {
        let [a, b] = &self.workers;
        match (a.memory_gauge(), b.memory_gauge()) {
            (Some(a), Some(b)) if a != b => {
                let told = format!(
                    "the memory gauge is `{a}` on side A and `{b}` on side B: memory cycles, their size and reclaimed bytes \
                     cannot be compared"
                );
                self.warn_once(told)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn warn_once(&mut self, told: String) -> Result<(), RunError> {
        // Under `margin`, a resumed session repeats this step.
        if !self.store.manifest().warnings.contains(&told) {
            self.observer.event(Event::Warning(&told));
            self.store.update(|manifest| manifest.warnings.push(told))?;
        }
        Ok(())
    }

    /// Removes gates that are not measured here; fails if the scenario requests them.
    pub(super) fn check_gates(&mut self) -> Result<(), RunError> {
        // After the first look the gates must not change.
        if self.store.manifest().gates_checked || self.judge().counts.ok as usize >= LOOKS[0] {
            return Ok(());
        }
        self.verify_gates(Side::A)?;
        let all = self.store.manifest().gates.clone();
        let able = Able::here(self.workers[0].work.scenario);
        let Some(sorted) = gates::measured(all, &able, self.cells(), &self.rows[0])? else { return Ok(()) };
        self.keep_gates(sorted)?;
        Ok(self.store.update(|manifest| manifest.gates_checked = true)?)
    }

    /// Removes default gates of a side's token times that nobody verified; fails if the scenario
    /// requests them.
    pub(super) fn verify_gates(&mut self, side: Side) -> Result<(), RunError> {
        if self.judge().counts.ok as usize >= LOOKS[0] {
            return Ok(());
        }
        let all = self.store.manifest().gates.clone();
        self.keep_gates(gates::verified(all, side, &self.rows[side as usize])?)
    }

    fn keep_gates(&mut self, sorted: gates::Sorted) -> Result<(), RunError> {
        let gates::Sorted { kept, left } = sorted;
        if left.is_empty() {
            return Ok(());
        }
        for told in &left {
            self.observer.event(Event::Warning(told));
        }
        let timed = kept.iter().any(|info| info.gate.metric.is_token_time());
        for worker in &mut self.workers {
            worker.work.verified_only &= timed;
        }
        Ok(self.store.update(|manifest| {
            manifest.gates = kept;
            manifest.warnings.extend(left);
        })?)
    }
}
