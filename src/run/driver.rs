//! The loop of a run: executes the plan's steps in order until all are done or the user asks to
//! stop.

use std::time::{Duration, Instant};

use super::error::RunError;
use super::pool::Key;
use super::profile::files;
use super::progress::{Event, Observer, Pace};
use super::schedule::{self, Done, GIVE_UP_AFTER, Step};
use super::segment::{Log, Past};
use super::worker::{Work, Worker, name};
use crate::record;
use crate::record::Store;
use crate::spec::{Cell, Isolation};

pub struct Driver<'a> {
    worker: Worker<'a>,
    observer: &'a mut dyn Observer,
    done: Done,
    /// Steps of the profiled pass that are done.
    profiled: Done,
    pace: Pace,
    told_busy: bool,
}

impl<'a> Driver<'a> {
    /// # Errors
    /// When the record's folder for logs cannot be created.
    pub fn new(work: Work<'a>, log: Log, mut past: Past, observer: &'a mut dyn Observer) -> Result<Self, RunError> {
        let (done, profiled) = (std::mem::take(&mut past.done), std::mem::take(&mut past.profiled));
        Ok(Self {
            worker: Worker::new(work, log, past)?,
            observer,
            done,
            profiled,
            pace: Pace::default(),
            told_busy: false,
        })
    }

    /// Runs the steps. Returns the store, whether any iteration is in the record, and whether all
    /// of them are, or why the run could not continue. Committed iterations stay.
    pub fn drive(mut self) -> (Store, bool, Result<bool, RunError>) {
        let result = self.take_steps();
        let (store, closed) = self.worker.close(self.observer);
        let result = result.and_then(|all| closed.map(|()| all));
        (store, !self.done.is_empty(), result)
    }

    fn take_steps(&mut self) -> Result<bool, RunError> {
        let steps = schedule::steps(self.worker.work.plan, self.isolation());
        let (done, total) = self.count(&steps);
        let run = self.worker.log.store.manifest().run.clone();
        self.observer.event(Event::Began { run: &run, done, total });
        self.open_residents(&steps)?;
        for (at, &step) in steps.iter().enumerate() {
            if self.is_settled(step) {
                continue;
            }
            if self.worker.work.options.interrupt.requested() || !self.step(step, &steps)? {
                return Ok(false);
            }
            self.tell_round(step, &steps[at + 1..], &steps);
            self.tell_busy();
        }
        Ok(self.score()? && self.profile()?)
    }

    /// The quality pass: scores the fixed text under every setting; `false` if the user asked to
    /// stop. Cells that were given up are left out.
    fn score(&mut self) -> Result<bool, RunError> {
        let isolation = if self.isolation() == Isolation::Run { Isolation::Run } else { Isolation::Cell };
        for cells in self.worker.quality_left()? {
            if self.worker.work.options.interrupt.requested() {
                return Ok(false);
            }
            let Some(cell) = cells.iter().find(|cell| !self.done.given_up(cell.id)) else { continue };
            let key = Key::of(Step { cell: cell.id, iteration: 0 }, cell, isolation);
            if !self.worker.score(&cells, &key, 0, self.observer)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs the remaining iterations of the profiled pass; `false` if the user asked to stop. Cells
    /// that were given up are left out.
    fn profile(&mut self) -> Result<bool, RunError> {
        let Some(settings) = &self.worker.work.scenario.profile else { return Ok(true) };
        // One host per cell, unless all iterations share one.
        let isolation = if self.isolation() == Isolation::Run { Isolation::Run } else { Isolation::Cell };
        let mut steps = schedule::profiled(self.worker.work.plan, isolation, settings.iterations);
        steps.retain(|step| !self.done.given_up(step.cell));
        let of = steps.len() as u64;
        let settled = |done: &Done, step: &Step| done.contains(*step) || done.given_up(step.cell);
        if steps.iter().all(|step| settled(&self.profiled, step)) {
            return Ok(true);
        }
        self.observer.event(Event::Note("the timed iterations are done; the profiled pass follows"));
        for (done, step) in (0..).zip(steps) {
            if settled(&self.profiled, &step) {
                continue;
            }
            if self.worker.work.options.interrupt.requested() {
                return Ok(false);
            }
            let cell = self.cell(step);
            self.observer.event(Event::Profiling { cell: name(cell), done, of });
            let key = Key::of(step, cell, isolation);
            let Some((_, status)) = self.worker.profile(step, &key, settings, self.observer)? else { return Ok(false) };
            self.profiled.note(step, status);
        }
        let dir = self.worker.log.store.dir();
        files::write(dir, &record::read(dir)?)?;
        Ok(true)
    }

    /// Under isolation `run`, opens every host before the first measurement, so that an engine that
    /// cannot do what the scenario requests is found at once and not after hours.
    fn open_residents(&mut self, steps: &[Step]) -> Result<(), RunError> {
        if self.isolation() != Isolation::Run {
            return Ok(());
        }
        for &step in steps {
            if self.is_settled(step) {
                continue;
            }
            if self.worker.work.options.interrupt.requested() {
                return Ok(());
            }
            let key = Key::of(step, self.cell(step), Isolation::Run);
            let opened = self.worker.keep_open(&key, self.observer);
            // The second Ctrl-C kills a host that is being opened.
            if self.worker.work.options.interrupt.at_once() {
                return Ok(());
            }
            opened?;
        }
        Ok(())
    }

    /// Runs one iteration of one cell; `false` if it was skipped because the user asked to stop.
    fn step(&mut self, step: Step, steps: &[Step]) -> Result<bool, RunError> {
        let began = Instant::now();
        let cell = self.cell(step);
        let key = Key::of(step, cell, self.isolation());
        let Some(rows) = self.worker.measure(step, &key, self.observer)? else { return Ok(false) };
        let row = record::outcome(rows.iter()).expect("an iteration has a row");
        self.done.note(step, row.status);
        self.pace.note(step.cell, began.elapsed());
        let ((done, total), left) = (self.count(steps), self.left(steps));
        self.observer.event(Event::Measured { cell: name(cell), rows: &rows, done, total, left });
        if self.done.given_up(step.cell) && has_more(steps, step) {
            let (name, reason) = (name(cell), &row.reason);
            let told =
                format!("cell `{name}` is given up after {GIVE_UP_AFTER} failures in a row; last failure: {reason}");
            self.worker.warn(told, self.observer)?;
        }
        Ok(true)
    }

    fn tell_round(&mut self, step: Step, rest: &[Step], steps: &[Step]) {
        let by_cell = self.isolation().by_cell();
        let same = |other: &Step| if by_cell { other.cell == step.cell } else { other.iteration == step.iteration };
        if rest.first().is_some_and(same) {
            return;
        }
        let name =
            if by_cell { format!("cell {}", name(self.cell(step))) } else { format!("iteration {}", step.iteration) };
        let ((done, total), left) = (self.count(steps), self.left(steps));
        self.observer.event(Event::Round { name: &name, done, total, left });
    }

    /// Says once, as early as it is known, that something disturbs the run: nobody should have to
    /// wait for the end to learn that the machine was busy.
    fn tell_busy(&mut self) {
        if self.told_busy {
            return;
        }
        if let Some(told) = self.worker.busy() {
            self.told_busy = true;
            self.observer.event(Event::Warning(&told));
        }
    }

    /// Whether the step is done or its cell was given up.
    fn is_settled(&self, step: Step) -> bool {
        self.done.contains(step) || self.done.given_up(step.cell)
    }

    fn count(&self, steps: &[Step]) -> (u64, u64) {
        (steps.iter().filter(|step| self.is_settled(**step)).count() as u64, steps.len() as u64)
    }

    fn left(&self, steps: &[Step]) -> Option<Duration> {
        self.pace.left(steps.iter().filter(|step| !self.is_settled(**step)).map(|step| step.cell))
    }

    fn cell(&self, step: Step) -> &'a Cell {
        self.worker.cell(step.cell)
    }

    fn isolation(&self) -> Isolation {
        self.worker.work.scenario.run.isolation
    }
}

/// Whether later steps belong to the same cell.
fn has_more(steps: &[Step], step: Step) -> bool {
    steps.iter().skip_while(|other| **other != step).skip(1).any(|other| other.cell == step.cell)
}
