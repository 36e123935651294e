//! Commits iterations to the record, with the results from the gauges.

use super::Worker;
use crate::record::memory::ENGINE;
use crate::record::{GaugeInfo, Iteration, RequestRow, TelemetryRow};
use crate::run::attempt::Attempt;
use crate::run::error::RunError;
use crate::run::external::{Judged, OwnUse, Window};
use crate::run::row::{self, Gauged};

impl Worker<'_> {
    /// Commits an iteration with the gauges' samples since the last one; returns its rows, at least
    /// one.
    pub(super) fn commit(&mut self, turns: Vec<Attempt>) -> Result<Vec<RequestRow>, RunError> {
        let mut telemetry = self.log.sampler.drain();
        self.external.sampled(&telemetry);
        let gauged = self.gauge(&turns, &mut telemetry);
        let iteration = Iteration { telemetry, ..row::iteration(&turns, &gauged, &self.log.origin) };
        self.log.store.commit(&iteration)?;
        Ok(iteration.requests)
    }

    /// Computes the results from the gauges for an iteration; merges the engine's memory samples
    /// into `telemetry`.
    fn gauge(&mut self, turns: &[Attempt], telemetry: &mut Vec<TelemetryRow>) -> Gauged {
        let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return Gauged::default() };
        // Under load the last request to begin need not be the last to end.
        let end_ns = turns.iter().map(|turn| turn.end_ns).max().unwrap_or(last.end_ns);
        let window = Window { host: first.place.host, start_ns: first.start_ns, end_ns };
        let origin = &self.log.origin;
        let samples = self.external.recent();
        let energy = |turn| self.meter.phases(&row::spans(turn, origin), &row::tokens(turn, origin), samples);
        let energy = turns.iter().map(energy).collect();
        let judged = match first.place.warmup {
            true => Judged::default(),
            false => self.external.judge(window, &own_use(turns)),
        };
        let of_engine = |turn: &Attempt| turn.reply.as_ref().and_then(|reply| reply.memory.clone().ok());
        let engine: Vec<_> = turns.iter().filter_map(of_engine).flatten().collect();
        let each = |turn: &Attempt| Window { host: turn.place.host, start_ns: turn.start_ns, end_ns: turn.end_ns };
        let sampled = turns.iter().map(|turn| self.memory.highest(each(turn), telemetry)).collect();
        Gauged { energy, swings: self.memory.note(window, telemetry, &engine), sampled, judged }
    }

    /// Sets the reason for the engine's gauges that stayed empty.
    pub(super) fn say_what_engines_did_not(&mut self) -> Result<(), RunError> {
        let manifest = self.log.store.manifest();
        // An earlier run segment may have filled them, unless they are marked as absent.
        let mine = |gauge: &GaugeInfo| manifest.segments == 1 || gauge.absent.is_some();
        let reasons: Vec<Option<String>> = manifest
            .gauges
            .iter()
            .map(|gauge| {
                if ENGINE.contains(&gauge.name.as_str()) && mine(gauge) {
                    self.memory.unsaid(&gauge.name)
                } else {
                    gauge.absent.clone()
                }
            })
            .collect();
        let same = manifest.gauges.iter().zip(&reasons).all(|(gauge, reason)| gauge.absent == *reason);
        if !same {
            self.log.store.update(|manifest| {
                manifest.gauges.iter_mut().zip(reasons).for_each(|(gauge, reason)| gauge.absent = reason);
            })?;
        }
        Ok(())
    }
}

/// The engine's use of the machine over all turns.
fn own_use(turns: &[Attempt]) -> OwnUse {
    // Under load the last request has the use of all.
    let own =
        if turns.iter().any(|turn| turn.intended_ns.is_some()) { turns.len() - 1..turns.len() } else { 0..turns.len() };
    let usages = || turns[own.clone()].iter().map(|turn| &turn.usage);
    OwnUse {
        cpu: usages().map(|usage| usage.cpu).sum(),
        helpers: usages().map(|usage| usage.helpers_cpu).sum(),
        waits: usages().map(|usage| usage.waits).reduce(|a, b| Some(a?.plus(b?))).flatten(),
    }
}
