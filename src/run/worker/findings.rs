//! Findings about iterations: warnings for the user and the record, and generated texts.

use std::collections::BTreeMap;

use super::{Worker, name};
use crate::record::{Status, token_hash};
use crate::run::attempt::Attempt;
use crate::run::error::RunError;
use crate::run::outputs::repeated;
use crate::run::pool::Resident;
use crate::run::progress::{Event, Observer};
use crate::spec::Cell;
use inferometer_protocol::ModelSpec;
use inferometer_protocol::toggle::KV_REUSE;

/// Most different generated texts kept in `run.json`.
const MOST_TEXTS: usize = 64;

impl Worker<'_> {
    /// Warns during the run about what the summary also reports: differing tokens, dropped spans.
    pub(super) fn look_at(
        &mut self,
        turns: &[Attempt],
        resident: &Resident,
        cell: &Cell,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        self.warn_dropped_spans(turns, cell, "", observer)?;
        self.warn_reused(turns, cell, observer)?;
        let replies = || turns.iter().filter_map(|attempt| attempt.reply.as_ref());
        if let Some(problem) = replies().find_map(|reply| reply.memory.as_ref().err()) {
            let told = format!("cell `{}`: {problem}; they are ignored", name(cell));
            self.warn(told, observer)?;
        }
        self.keep_texts(turns, observer)?;
        self.warn_degenerate(turns, resident, cell, observer)?;
        let must_agree = cell.sampling.temperature == 0.0 || resident.receipt.deterministic;
        if !must_agree || turns.iter().any(|attempt| attempt.status() != Status::Ok) {
            return Ok(());
        }
        if let Some(from) = self.first_difference(turns) {
            let iteration = turns[0].place.iteration;
            // The summary derives this from the record.
            observer.event(Event::Warning(&format!(
                "cell `{}` is nondeterministic: iteration {iteration} differs from the first from {from} on",
                name(cell),
            )));
        }
        Ok(())
    }

    /// An engine that cannot drop its cache found a part of the prompt there: the time to the first
    /// token is then not that of the prompt.
    fn warn_reused(&mut self, turns: &[Attempt], cell: &Cell, observer: &mut dyn Observer) -> Result<(), RunError> {
        // The later turns of a conversation may reuse the earlier ones.
        let fresh = if cell.level.is_some() { turns } else { &turns[..turns.len().min(1)] };
        let completions = fresh.iter().filter_map(|turn| Some(&turn.reply.as_ref()?.generated.completion));
        let Some(completion) = completions.max_by_key(|completion| completion.reused_tokens) else { return Ok(()) };
        if completion.reused_tokens == 0 || cell.toggles.contains_key(KV_REUSE) {
            return Ok(());
        }
        let (reused, prompt) = (completion.reused_tokens, completion.prompt_tokens);
        let told = format!(
            "cell `{}`: {reused} of {prompt} prompt tokens were in the engine's cache already, so TTFT is not that of \
             the whole prompt; switch the engine's prefix cache off",
            name(cell)
        );
        self.warn(told, observer)
    }

    /// Random weights may repeat a token for ever; a real model does not unless something is wrong.
    fn warn_degenerate(
        &mut self,
        turns: &[Attempt],
        resident: &Resident,
        cell: &Cell,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let synthetic =
            resident.receipt.model.synthetic || matches!(self.work.scenario.model, ModelSpec::Synthetic { .. });
        if synthetic || !self.forced.is_empty() {
            return Ok(());
        }
        let Some(count) = turns.iter().find_map(|turn| repeated(turn.ids()).map(|_| turn.ids().len())) else {
            return Ok(());
        };
        let told = format!(
            "cell `{}`: the output is degenerate: one token, {count} times, and nothing else; check the model's \
             files (`inferometer model verify`), and that prompt and chat template suit it",
            name(cell)
        );
        self.warn(told, observer)
    }

    /// Where an iteration first differs from the cell's first one, for example `token 7 of turn 2`.
    pub(super) fn first_difference(&mut self, turns: &[Attempt]) -> Option<String> {
        let outputs = &mut self.outputs;
        let differing = |attempt: &Attempt| {
            let place = attempt.place;
            Some((place.turn, outputs.compare(place.cell, place.turn, attempt.ids())?))
        };
        let whole = turns.iter().filter(|attempt| attempt.status() != Status::Failed);
        // Compares all turns, so that each is stored for later comparisons.
        let (turn, index) = whole.filter_map(differing).collect::<Vec<_>>().into_iter().next()?;
        let of_turn = if turns.len() > 1 { format!(" of turn {turn}") } else { String::new() };
        Some(format!("token {index}{of_turn}"))
    }

    /// `pass` names the pass unless it is the timed one, for example ` of the profiled pass`.
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

    /// Stores generated texts up to a limit, because `run.json` is rewritten each time.
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

    /// Reports a finding once to the user and the record.
    pub fn warn(&mut self, text: String, observer: &mut dyn Observer) -> Result<(), RunError> {
        if self.said.insert(text.clone()) {
            observer.event(Event::Warning(&text));
            self.write_down(text)?;
        }
        Ok(())
    }

    /// Writes a finding only to the record.
    pub(super) fn write_down(&mut self, text: String) -> Result<(), RunError> {
        if !self.log.store.manifest().warnings.contains(&text) {
            self.log.store.update(|manifest| manifest.warnings.push(text))?;
        }
        Ok(())
    }
}
