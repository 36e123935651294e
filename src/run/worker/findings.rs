//! What iterations leave: rows in the record, warnings for the user and for the record.

use std::collections::BTreeMap;

use super::{Worker, name};
use crate::record::memory::ENGINE;
use crate::record::{GaugeInfo, Iteration, RequestRow, Status, TelemetryRow};
use crate::run::attempt::Attempt;
use crate::run::error::RunError;
use crate::run::external::Window;
use crate::run::measure::token_hash;
use crate::run::pool::Resident;
use crate::run::progress::{Event, Observer};
use crate::run::row::{self, Gauged};
use crate::spec::Cell;

/// Most different generated texts that `run.json` keeps.
const MOST_TEXTS: usize = 64;

impl Worker<'_> {
    /// Says live what the summary will find too: tokens that differ, spans that did not fit.
    pub(super) fn look_at(
        &mut self,
        turns: &[Attempt],
        resident: &Resident,
        cell: &Cell,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        self.warn_dropped_spans(turns, cell, "", observer)?;
        let replies = || turns.iter().filter_map(|attempt| attempt.reply.as_ref());
        if let Some(problem) = replies().find_map(|reply| reply.memory.as_ref().err()) {
            let told = format!("cell `{}`: the host gave {problem}; they are left out", name(cell));
            self.warn(told, observer)?;
        }
        self.keep_texts(turns, observer)?;
        let must_agree = cell.sampling.temperature == 0.0 || resident.receipt.deterministic;
        if !must_agree || turns.iter().any(|attempt| attempt.status() != Status::Ok) {
            return Ok(());
        }
        if let Some(from) = self.first_difference(turns) {
            let iteration = turns[0].place.iteration;
            // The summary finds it in the record by itself.
            observer.event(Event::Warning(&format!(
                "cell `{}` is nondeterministic: iteration {iteration} differs from the first from {from} on",
                name(cell),
            )));
        }
        Ok(())
    }

    /// Where an iteration first differs from the cell's first one, such as `token 7 of turn 2`.
    pub(super) fn first_difference(&mut self, turns: &[Attempt]) -> Option<String> {
        let outputs = &mut self.outputs;
        let differing = |attempt: &Attempt| {
            let place = attempt.place;
            Some((place.turn, outputs.compare(place.cell, place.turn, attempt.ids())?))
        };
        let whole = turns.iter().filter(|attempt| attempt.status() != Status::Failed);
        // All turns are compared, so that each has one to compare with later.
        let (turn, index) = whole.filter_map(differing).collect::<Vec<_>>().into_iter().next()?;
        let of_turn = if turns.len() > 1 { format!(" of turn {turn}") } else { String::new() };
        Some(format!("token {index}{of_turn}"))
    }

    /// `pass` names the pass where it is not the timed one, such as ` of the profiled pass`.
    pub(super) fn warn_dropped_spans(
        &mut self,
        turns: &[Attempt],
        cell: &Cell,
        pass: &str,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let dropped: u64 = turns.iter().map(Attempt::spans_dropped).sum();
        if dropped == 0 {
            return Ok(());
        }
        self.warn(format!("cell `{}`: {dropped} spans{pass} did not fit the host's buffer", name(cell)), observer)
    }

    /// Keeps generated texts, unless there are many already: `run.json` is written whole each time.
    pub(super) fn keep_texts(&mut self, turns: &[Attempt], observer: &mut dyn Observer) -> Result<(), RunError> {
        let kept = &self.log.store.manifest().texts;
        let texts = turns.iter().filter_map(|attempt| Some((attempt.ids(), attempt.text()?)));
        let texts = texts.filter(|(ids, _)| !ids.is_empty()).map(|(ids, text)| (token_hash(ids), text));
        let mut new: BTreeMap<String, &str> = texts.collect();
        new.retain(|hash, _| !kept.contains_key(hash));
        if new.is_empty() {
            return Ok(());
        }
        let room = MOST_TEXTS.saturating_sub(kept.len());
        let more = new.len() > room;
        if room > 0 {
            let some = new.into_iter().take(room).map(|(hash, text)| (hash, text.to_owned()));
            self.log.store.update(|manifest| manifest.texts.extend(some))?;
        }
        if more {
            let told = "different texts were generated; run.json keeps the first";
            self.warn(format!("more than {MOST_TEXTS} {told} {MOST_TEXTS}, tokens.csv all tokens"), observer)?;
        }
        Ok(())
    }

    /// Puts an iteration on the disk, with what the gauges saw since the last one and what follows from that; gives its rows, at
    /// least one.
    pub(super) fn commit(&mut self, turns: Vec<Attempt>) -> Result<Vec<RequestRow>, RunError> {
        let mut telemetry = self.log.sampler.drain();
        self.external.sampled(&telemetry);
        let gauged = self.gauge(&turns, &mut telemetry);
        let iteration = Iteration { telemetry, ..row::iteration(&turns, &gauged, &self.log.origin) };
        self.log.store.commit(&iteration)?;
        Ok(iteration.requests)
    }

    /// What the gauges say about an iteration; the engine's own samples of its memory are put among theirs.
    fn gauge(&mut self, turns: &[Attempt], telemetry: &mut Vec<TelemetryRow>) -> Gauged {
        let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return Gauged::default() };
        let window = Window { host: first.place.host, start_ns: first.start_ns, end_ns: last.end_ns };
        let origin = &self.log.origin;
        let samples = self.external.recent();
        let energy = |turn| self.meter.phases(&row::spans(turn, origin), &row::tokens(turn, origin), samples);
        let energy = turns.iter().map(energy).collect();
        let helpers = turns.iter().map(|turn| turn.usage.helpers_cpu).sum();
        let disturbed = if first.place.warmup { None } else { self.external.judge(window, helpers) };
        let of_engine = |turn: &Attempt| turn.reply.as_ref().and_then(|reply| reply.memory.clone().ok());
        let engine: Vec<_> = turns.iter().filter_map(of_engine).flatten().collect();
        Gauged { energy, swings: self.memory.note(window, telemetry, &engine), disturbed }
    }

    /// Gives the engine's own gauges that stayed empty their reason.
    pub(super) fn say_what_engines_did_not(&mut self) -> Result<(), RunError> {
        let manifest = self.log.store.manifest();
        // An earlier sitting may have filled them, unless it said that it did not.
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

    /// A finding for the user and the record, once.
    pub fn warn(&mut self, text: String, observer: &mut dyn Observer) -> Result<(), RunError> {
        if self.said.insert(text.clone()) {
            observer.event(Event::Warning(&text));
            self.write_down(text)?;
        }
        Ok(())
    }

    /// A finding for the record alone.
    pub(super) fn write_down(&mut self, text: String) -> Result<(), RunError> {
        if !self.log.store.manifest().warnings.contains(&text) {
            self.log.store.update(|manifest| manifest.warnings.push(text))?;
        }
        Ok(())
    }
}
