//! Speculative decoding: what drafts the tokens that one forward pass then verifies.
//!
//! Sources: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding" (2023);
//! Saxena, "Prompt Lookup Decoding" (2023). Unlike there, a drafted token is accepted only if it
//! equals the token that the request's own sampler chooses, as mlx-lm does. So sampling settings
//! and seed give the tokens of plain decoding.

use super::backend::{Backend, TokenSampler};
use super::model::{KvCache, Model};
use super::sampler::SamplingPlan;
use crate::text::Tokenizer;
use inferometer_host::Result;
use inferometer_protocol::{EngineError, Sampling, Speculation};

/// What drafts.
pub enum Drafter<'a, B: Backend> {
    /// Prompt look-up: what followed the last so many tokens where they came before.
    Lookup {
        ngram: usize,
    },
    Model(DraftModel<'a, B>),
}

/// A model that drafts, with its own cache of the same tokens.
pub struct DraftModel<'a, B: Backend> {
    pub model: &'a Model<B>,
    pub cache: &'a mut KvCache<B>,
}

/// Speculative decoding of one request.
pub struct Speculating<'a, B: Backend> {
    pub drafter: Drafter<'a, B>,
    /// Most tokens of a draft.
    most: usize,
    /// The request's sampling at temperature 0: a draft is the likeliest text.
    choice: SamplingPlan,
    /// Prompt and generated tokens.
    text: Vec<u32>,
    /// The draft of the next pass.
    pub draft: Vec<u32>,
    pub counts: Speculation,
}

impl<'a, B: Backend> Speculating<'a, B> {
    /// For the prompt `text` and at most `generated` further tokens, chosen by `choice`.
    pub fn new(drafter: Drafter<'a, B>, most: usize, choice: &SamplingPlan, text: &[u32], generated: usize) -> Self {
        let mut tokens = Vec::with_capacity(text.len() + generated);
        tokens.extend_from_slice(text);
        let sampling = Sampling { temperature: 0.0, ..choice.sampling.clone() };
        Self {
            drafter,
            most,
            choice: SamplingPlan { sampling, ..choice.clone() },
            text: tokens,
            draft: Vec::with_capacity(most),
            counts: Speculation::default(),
        }
    }

    /// Prompt and generated tokens.
    pub fn text(&self) -> &[u32] {
        &self.text
    }

    /// Appends a generated token.
    pub fn push(&mut self, token: u32) {
        self.text.push(token);
    }

    /// Drafts what follows the text: at most `limit` tokens below `vocabulary`, possibly none.
    ///
    /// # Errors
    /// When the draft model fails.
    pub fn draft(&mut self, limit: usize, vocabulary: usize) -> Result<()> {
        let most = self.most.min(limit);
        self.draft.clear();
        match &mut self.drafter {
            Drafter::Lookup { ngram } => looked_up(&self.text, *ngram, most, &mut self.draft),
            Drafter::Model(of) => of.draft(&self.text, &self.choice, most, &mut self.draft)?,
        }
        let known = self.draft.iter().position(|id| *id as usize >= vocabulary);
        self.draft.truncate(known.unwrap_or(most));
        Ok(())
    }
}

/// Appends what followed the last `ngram` tokens of `text` at their most recent earlier place, up
/// to `most` tokens. If that place reaches into the last tokens, the text repeats itself and the
/// draft goes on repeating it.
fn looked_up(text: &[u32], ngram: usize, most: usize, draft: &mut Vec<u32>) {
    let Some(start) = text.len().checked_sub(ngram) else { return };
    let (last, places) = (&text[start..], (0..start).rev());
    let Some(at) = places.into_iter().find(|at| text[*at..][..ngram] == *last) else { return };
    let next = at + ngram;
    for at in next..next + most {
        draft.push(text.get(at).copied().unwrap_or_else(|| draft[at - text.len()]));
    }
}

impl<B: Backend> DraftModel<'_, B> {
    /// Runs a prompt, in chunks, but what the cache holds of it; less if `stopped`, or if the
    /// prompt does not fit this model.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn fill(&mut self, prompt: &[u32], chunk: usize, stopped: &dyn Fn() -> bool) -> Result<()> {
        self.cache.keep_common(prompt, prompt.len());
        let rest = &prompt[self.cache.seen()..];
        if !self.fits(prompt.len(), rest) {
            return Ok(());
        }
        for chunk in rest.chunks(chunk) {
            if stopped() {
                break;
            }
            self.model.fill(&self.model.backend.ids(chunk)?, chunk.len(), self.cache)?;
            self.model.settle(self.cache)?;
            self.cache.note(chunk);
        }
        Ok(())
    }

    /// Whether so many positions fit the context, and the tokens the vocabulary.
    fn fits(&self, positions: usize, tokens: &[u32]) -> bool {
        let shape = &self.model.config.shape;
        positions <= shape.context && tokens.iter().all(|id| (*id as usize) < shape.vocabulary)
    }

    /// Appends the likeliest tokens after `text`, up to `most` of them.
    fn draft(&mut self, text: &[u32], choice: &SamplingPlan, most: usize, draft: &mut Vec<u32>) -> Result<()> {
        // What of the last draft was not accepted is removed here.
        self.cache.keep_common(text, text.len() - 1);
        let rest = &text[self.cache.seen()..];
        let most = most.min((self.model.config.shape.context + 1).saturating_sub(text.len()));
        if most == 0 || !self.fits(text.len(), rest) {
            return Ok(());
        }
        let on = &self.model.backend;
        // Only a penalty looks at the history.
        let history = if choice.factor == 1.0 { &[] } else { text };
        let mut sampler = on.sampler(choice, history, most)?;
        let mut logits = self.model.forward(&on.ids(rest)?, rest.len(), self.cache)?;
        self.cache.note(rest);
        let mut chosen: Vec<B::Ids> = Vec::with_capacity(most);
        loop {
            sampler.penalize(logits)?;
            let ids = sampler.choose(None)?;
            on.submit(&ids)?;
            chosen.push(ids);
            if chosen.len() == most {
                break;
            }
            logits = self.model.forward(&chosen[chosen.len() - 1], 1, self.cache)?;
        }
        for ids in &chosen {
            draft.push(on.wait(ids)?);
        }
        // The last one was not run.
        self.cache.note(&draft[..most - 1]);
        Ok(())
    }
}

/// Checks that the ids of a draft model mean what they mean to the model.
///
/// Sizes may differ only where both tokenizers are known: some families pad the vocabulary of their
/// larger models.
///
/// # Errors
/// Names both sizes, or the first id whose tokens differ.
pub fn check_vocabularies(
    (draft, draft_tokenizer): (usize, Option<&Tokenizer>),
    (model, tokenizer): (usize, Option<&Tokenizer>),
) -> Result<()> {
    let sizes = format!("the draft model has a vocabulary of {draft} tokens, the model one of {model}");
    let (Some(drafts), Some(own)) = (draft_tokenizer, tokenizer) else {
        return match draft == model {
            true => Ok(()),
            false => Err(refused(&sizes)),
        };
    };
    let name = |token: Option<String>| token.map_or("no token".to_owned(), |token| format!("{token:?}"));
    let most = draft.max(model) as u32;
    match (0..most).find(|id| drafts.token(*id) != own.token(*id)) {
        None => Ok(()),
        Some(id) => Err(refused(&format!(
            "{sizes}, and token {id} is {} in the draft model but {} in the model",
            name(drafts.token(id)),
            name(own.token(id))
        ))),
    }
}

fn refused(why: &str) -> EngineError {
    EngineError::model(format!("{why}: choose a draft model with the model's tokenizer, from the same family"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_most_recent_match_is_the_draft() {
        let draft = |text: &[u32], ngram: usize, most: usize| {
            let mut draft = Vec::new();
            looked_up(text, ngram, most, &mut draft);
            draft
        };
        assert_eq!(draft(&[1, 2, 3, 4, 1, 2, 5, 6, 1, 2], 2, 3), [5, 6, 1]);
        assert_eq!(draft(&[1, 2, 3, 4, 1, 9, 5, 6, 1, 2], 2, 2), [3, 4]);
        assert_eq!(draft(&[1, 2, 3, 1], 1, 9), [2, 3, 1, 2, 3, 1, 2, 3, 1], "a text that repeats goes on so");
        assert_eq!(draft(&[7, 7, 7], 2, 4), [7; 4]);
        for (text, ngram) in [(&[1, 2, 3][..], 1), (&[1, 2], 2), (&[1], 3), (&[], 1)] {
            assert!(draft(text, ngram, 4).is_empty(), "{text:?}");
        }
        assert!(draft(&[1, 1, 1], 1, 0).is_empty());
    }
}
