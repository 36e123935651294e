//! The quality pass: forces a fixed text through the engine and records how likely each of its
//! tokens was. Nothing of it is timed.

use super::{Worker, name};
use crate::record::quality::{self, Scored};
use crate::run::error::RunError;
use crate::run::host::HostError;
use crate::run::pool::{Key, Resident};
use crate::run::progress::{Event, Observer};
use crate::run::quality::FixedText;
use crate::run::validity;
use crate::spec::Cell;
use inferometer_protocol::messages::Generate;
use inferometer_protocol::{Instrumentation, Prompt, Request, Sampling, TokenLogprob};

/// Most likely tokens at each place that an A/B session records for the KL divergence: with 1000
/// tokens a few megabytes.
pub const TOP: u32 = 256;
/// Tokens that are scored a second time.
const REPEATED: usize = 32;

impl<'a> Worker<'a> {
    /// Cells whose probabilities are the same for certain, a group for each setting: those of an
    /// engine with equal toggles. Prompt length and sampling do not change how likely given tokens
    /// are. Groups that the record has are left out.
    pub fn quality_left(&self) -> Result<Vec<Vec<&'a Cell>>, RunError> {
        if self.work.prompts.quality.is_none() {
            return Ok(Vec::new());
        }
        let mut groups: Vec<Vec<&Cell>> = Vec::new();
        for cell in &self.work.plan.cells {
            let same = |group: &&mut Vec<&Cell>| group[0].engine == cell.engine && group[0].toggles == cell.toggles;
            match groups.iter_mut().find(same) {
                Some(group) => group.push(cell),
                None => groups.push(vec![cell]),
            }
        }
        let done = crate::record::read(self.log.store.dir())?.quality;
        // What failed is tried again when the run is resumed.
        let scored = |cell: &Cell| done.iter().any(|line| line.missing.is_none() && line.cells.contains(&cell.id));
        groups.retain(|group| !scored(group[0]));
        Ok(groups)
    }

    /// Scores the text under the settings of a group of cells and records the answer, or why there
    /// is none; with `top` also that many of the most likely tokens. `false` if the user asked to
    /// stop.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn score(
        &mut self,
        cells: &[&'a Cell],
        key: &Key,
        top: u32,
        observer: &mut dyn Observer,
    ) -> Result<bool, RunError> {
        let Some(text) = &self.work.prompts.quality else { return Ok(true) };
        observer.event(Event::Scoring { cell: name(cells[0]) });
        let mut scored = Scored {
            cells: cells.iter().map(|cell| cell.id).collect(),
            host: None,
            context: text.context.len() as u32,
            bytes: text.bytes,
            text_hash: text.hash(),
            ids: text.scored.clone(),
            logprobs: Vec::new(),
            top: Vec::new(),
            repeated: None,
            missing: None,
        };
        self.log.sampler.rest(true);
        let outcome = self.score_in(cells[0], key, &mut scored, top, observer);
        self.log.sampler.rest(false);
        let stopped = self.work.options.interrupt.at_once();
        if let Err(why) = outcome? {
            if stopped {
                return Ok(false);
            }
            // The summary derives this from the record.
            observer.event(Event::Warning(&format!("no perplexity of cell `{}`: {why}", name(cells[0]))));
            scored.missing = Some(why);
        }
        quality::append(self.log.store.dir(), &scored, &self.work.secrets())?;
        Ok(true)
    }

    /// The inner error says why there are no probabilities.
    fn score_in(
        &mut self,
        cell: &'a Cell,
        key: &Key,
        scored: &mut Scored,
        top: u32,
        observer: &mut dyn Observer,
    ) -> Result<Result<(), String>, RunError> {
        let Some(text) = &self.work.prompts.quality else { return Ok(Ok(())) };
        let mut resident = match self.pool.take(key) {
            Some(resident) if resident.loaded => resident,
            other => match self.opened(other, key, observer)? {
                Ok(resident) => resident,
                Err((_, error)) => return Ok(Err(format!("no host: {}", error.summary()))),
            },
        };
        scored.host = Some(resident.number);
        if let Err(why) = able(&resident) {
            self.pool.put_back(resident);
            return Ok(Err(why));
        }
        self.log.sampler.watch(resident.measured().map(|pid| (resident.number, pid)));
        let answered = ask(&mut resident, cell, text, scored, top);
        match answered {
            Ok(answered) => {
                self.pool.put_back(resident);
                Ok(answered)
            }
            Err(error) => {
                if error.host_is_usable() {
                    self.pool.put_back(resident);
                }
                Ok(Err(error.summary()))
            }
        }
    }
}

/// Why an engine cannot score a text.
fn able(resident: &Resident) -> Result<(), String> {
    let can = resident.receipt.capabilities;
    let needed = [("logprobs", can.logprobs), ("forced_tokens", can.forced_tokens), ("tokens", can.tokens)];
    let missing: Vec<String> =
        needed.into_iter().filter(|(_, can)| !can).map(|(name, _)| format!("`{name}`")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let plural = if missing.len() == 1 { "y" } else { "ies" };
    let engine = &resident.receipt.engine;
    Err(format!("engine `{engine}` cannot report it: it lacks the capabilit{plural} {}", missing.join(", ")))
}

/// Scores the text, then its first tokens once more.
fn ask(
    resident: &mut Resident,
    cell: &Cell,
    text: &FixedText,
    scored: &mut Scored,
    top: u32,
) -> Result<Result<(), String>, HostError> {
    let answer = match force(resident, cell, text, text.scored.len(), top)? {
        Ok(answer) => answer,
        Err(why) => return Ok(Err(why)),
    };
    if let Err(why) = scored.answered(answer) {
        return Ok(Err(format!("the engine's log-probabilities are invalid: {why}")));
    }
    if let Err(why) = scored.keep_top(top as usize) {
        return Ok(Err(why));
    }
    let tokens = REPEATED.min(text.scored.len());
    let again = match force(resident, cell, text, tokens, 0)? {
        Ok(again) => again,
        Err(why) => return Ok(Err(format!("asked again: {why}"))),
    };
    let compared = scored.answered_again(&again);
    Ok(compared.map_err(|why| format!("asked again: the engine's log-probabilities are invalid: {why}")))
}

/// The engine's probabilities of the first `count` scored tokens.
fn force(
    resident: &mut Resident,
    cell: &Cell,
    text: &FixedText,
    count: usize,
    top: u32,
) -> Result<Result<Vec<TokenLogprob>, String>, HostError> {
    if resident.receipt.capabilities.reset {
        resident.host.reset()?;
    }
    let forced = text.scored[..count].to_vec();
    let request = Request {
        prompt: Prompt::Tokens(text.context.clone()),
        // The logits are read before sampling changes them.
        sampling: Sampling::default(),
        toggles: validity::request_toggles(cell),
        max_tokens: count as u32,
        ignore_eos: true,
        conversation: None,
        forced_tokens: Some(forced.clone()),
    };
    let instrumentation = Instrumentation { logprobs: Some(top), ..Instrumentation::default() };
    let generated =
        resident.host.generate(Generate { request, instrumentation, concurrent: false }, &mut |_| {})?.generated;
    if generated.tokens != forced {
        return Ok(Err("the engine did not follow the forced tokens".to_owned()));
    }
    Ok(match generated.logprobs {
        Some(answer) if answer.len() == count => Ok(answer),
        Some(answer) => Err(format!("the engine sent {} log-probabilities for {count} tokens", answer.len())),
        None => Err("the engine sent no log-probabilities, although it has the capability `logprobs`".to_owned()),
    })
}
