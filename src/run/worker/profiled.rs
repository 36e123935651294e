//! Iterations of the profiled pass: as measured, with a profiler and timed single operations.

use std::time::Duration;

use super::{Pass, Ready, Worker, host_lost, name};
use crate::record::{Fault, ProfileStore, ProfiledIteration, RequestRow, Status};
use crate::run::attempt::Attempt;
use crate::run::error::RunError;
use crate::run::pool::{Key, Resident};
use crate::run::profile::{Profiler, Seen};
use crate::run::progress::Observer;
use crate::run::row::{self, Gauged};
use crate::run::schedule::Step;
use crate::spec::{Cell, ProfileSettings, SpanSync};
use inferometer_protocol::{Detail, Phase, PhaseAllocations};

impl<'a> Worker<'a> {
    /// Runs and commits one profiled iteration of a cell; returns its outcome. Problems are
    /// recorded in its rows and as a warning. `None` if it was skipped because the user asked to
    /// stop.
    ///
    /// Telemetry pauses during the iteration, so that gauges do not attribute the profiler's
    /// effects to the engine.
    ///
    /// # Errors
    /// When no host was ever open, or the record cannot be written.
    pub fn profile(
        &mut self,
        step: Step,
        key: &Key,
        settings: &ProfileSettings,
        observer: &mut dyn Observer,
    ) -> Result<Option<(ProfiledIteration, Status)>, RunError> {
        self.log.sampler.rest(true);
        let done = self.profile_resting(step, key, settings, observer);
        self.log.sampler.rest(false);
        done
    }

    fn profile_resting(
        &mut self,
        step: Step,
        key: &Key,
        settings: &ProfileSettings,
        observer: &mut dyn Observer,
    ) -> Result<Option<(ProfiledIteration, Status)>, RunError> {
        let cell = self.cell(step.cell);
        let (turns, seen) = match self.ready(key, cell, observer)? {
            Ready::Warm(resident) => match self.profile_in(*resident, step, cell, settings, observer) {
                Some(done) => done,
                None => return Ok(None),
            },
            Ready::Failed { host, fault } => (vec![self.not_made(step, cell, host, fault)], Seen::nothing()),
            Ready::Stopped => return Ok(None),
        };
        self.say(&turns, &seen, cell, observer)?;
        self.commit_profiled(turns, seen).map(Some)
    }

    /// Runs the iteration; `None` if the user asked to stop before it, or at once during it.
    fn profile_in(
        &mut self,
        mut resident: Resident,
        step: Step,
        cell: &'a Cell,
        settings: &ProfileSettings,
        observer: &mut dyn Observer,
    ) -> Option<(Vec<Attempt>, Seen)> {
        let interrupt = self.work.options.interrupt.clone();
        interrupt.pause(Duration::from_secs_f64(self.work.scenario.run.cooldown_s));
        if interrupt.requested() {
            self.pool.put_back(resident);
            return None;
        }
        let detail = match (settings.spans, settings.sync) {
            (false, _) => Detail::Timed,
            (true, SpanSync::Submit) => Detail::Operations,
            (true, SpanSync::ForcedSync) => Detail::ForcedSync,
        };
        let pass = Pass::Profiled(detail);
        let profiler = match Profiler::start(&mut resident, settings, &interrupt) {
            Ok(profiler) => profiler,
            Err(_) if interrupt.at_once() => return None,
            Err(error) => {
                let fault = Fault::new(error.cause(), error.summary());
                let failed = self.not_made(step, cell, resident.number, fault);
                return Some((vec![failed], Seen::nothing()));
            }
        };
        let turns = self.iteration(&mut resident, step, cell, pass, observer);
        if interrupt.at_once() {
            return None;
        }
        if host_lost(&turns) {
            return Some((turns, Seen::missing("the engine host was lost")));
        }
        let origin = self.log.origin;
        let spans = turns.iter().flat_map(|turn| row::spans(turn, &origin)).collect::<Vec<_>>();
        let seen = profiler.stop(&mut resident, &spans, &self.log.origin, &interrupt);
        if interrupt.at_once() {
            return None;
        }
        match seen {
            Ok(seen) => {
                self.pool.put_back(resident);
                Some((turns, seen))
            }
            // The host is lost; the generated tokens stay.
            Err(error) => Some((turns, Seen::missing(&error.summary()))),
        }
    }

    /// Reports problems of the iteration to the user and the record.
    fn say(
        &mut self,
        turns: &[Attempt],
        seen: &Seen,
        cell: &Cell,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let Some(first) = turns.first() else { return Ok(()) };
        let (name, iteration) = (name(cell), first.place.iteration);
        if let Some(Fault { cause, reason }) = &first.fault {
            let status = if cause.status() == Status::Failed { "failed" } else { "is invalid" };
            let told = format!("cell `{name}`: iteration {iteration} of the profiled pass {status}: {reason}");
            self.warn(told, observer)?;
        }
        if let Some(why) = &seen.missing {
            self.warn(format!("no flamegraph of engine `{}`: {why}", first.engine), observer)?;
        }
        self.warn_dropped_spans(turns, cell, " of the profiled pass", observer)?;
        if let Some(from) = self.first_difference(turns) {
            let told = format!(
                "cell `{name}`: iteration {iteration} of the profiled pass generated different tokens than the timed one, from \
                 {from} on: its profile may show different work"
            );
            self.warn(told, observer)?;
        }
        Ok(())
    }

    fn commit_profiled(&mut self, turns: Vec<Attempt>, seen: Seen) -> Result<(ProfiledIteration, Status), RunError> {
        let rows = row::iteration(&turns, &Gauged::default(), &self.log.origin);
        let first = rows.requests.first().expect("an iteration has at least one row");
        let status = first.status;
        let sum = |of: fn(&RequestRow) -> Option<u32>| rows.requests.iter().filter_map(of).map(u64::from).sum();
        let replies = || turns.iter().filter_map(|turn| turn.reply.as_ref()).map(|reply| &reply.generated);
        let iteration = ProfiledIteration {
            cell: first.cell,
            iteration: first.iteration,
            request: first.request,
            host: first.host,
            prefill_tokens: sum(|row| row.prefill_tokens),
            generated_tokens: sum(|row| row.generated_tokens),
            span_timing: replies().find_map(|generated| generated.span_timing),
            allocations: allocations(replies().flat_map(|generated| &generated.allocations)),
            profile: seen.profile,
            missing: seen.missing,
        };
        let store = match &mut self.profiled {
            Some(store) => store,
            None => {
                let mut store = ProfileStore::open(self.log.store.dir())?;
                store.hide(self.work.secrets());
                self.profiled.insert(store)
            }
        };
        store.commit(&rows, &iteration)?;
        Ok((iteration, status))
    }
}

/// Sums over turns, by phase.
fn allocations<'a>(all: impl Iterator<Item = &'a PhaseAllocations>) -> Vec<PhaseAllocations> {
    let mut sums: Vec<PhaseAllocations> = Vec::new();
    for one in all {
        match sums.iter_mut().find(|sum| sum.phase == one.phase) {
            Some(sum) => {
                sum.allocations = sum.allocations.saturating_add(one.allocations);
                sum.bytes = sum.bytes.saturating_add(one.bytes);
            }
            None => sums.push(*one),
        }
    }
    sums.sort_by_key(|sum| Phase::ALL.iter().position(|phase| *phase == sum.phase));
    sums
}
