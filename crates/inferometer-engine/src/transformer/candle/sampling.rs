//! Sampling on the host, where the logits already are.

use candle_core::Tensor;

use super::read;
use crate::transformer::backend::TokenSampler;
use crate::transformer::sampler;
use crate::transformer::sampler::{Penalty, Sampler, SamplingPlan};
use inferometer_host::Result;

/// Token ids `[T]`.
#[derive(Debug)]
pub struct Ids {
    /// Input of the next forward pass.
    pub input: Vec<u32>,
    /// The chosen token if these ids come from a choice; `input` may be a forced token instead.
    pub chosen: Option<u32>,
}

/// Penalty, filters and draws of one request.
#[derive(Debug)]
pub struct HostSampler {
    penalty: Penalty,
    sampler: Sampler,
    /// Prompt and chosen tokens.
    history: Vec<u32>,
    /// Penalized logits of the next choice.
    logits: Vec<f32>,
    window: usize,
}

impl HostSampler {
    #[must_use]
    pub fn new(choice: &SamplingPlan, prompt: &[u32], generated: usize) -> Self {
        let mut history = Vec::with_capacity(prompt.len() + generated);
        history.extend_from_slice(prompt);
        Self {
            penalty: Penalty::new(choice.factor, choice.context_size, choice.cap),
            sampler: Sampler::new(&choice.sampling, choice.order),
            history,
            logits: Vec::new(),
            window: 0,
        }
    }
}

impl TokenSampler for HostSampler {
    type Tensor = Tensor;
    type Ids = Ids;

    fn penalize(&mut self, logits: Tensor) -> Result<()> {
        read(&logits, &mut self.logits)?;
        self.window = self.penalty.apply(&mut self.logits, &self.history);
        Ok(())
    }

    fn gap(&self) -> Result<f32> {
        sampler::gap(&self.logits)
    }

    fn choose(&mut self, forced: Option<u32>) -> Result<Ids> {
        let chosen = self.sampler.choose(&self.logits)?;
        let token = forced.unwrap_or(chosen);
        self.history.push(token);
        Ok(Ids { input: vec![token], chosen: Some(chosen) })
    }

    fn window(&self) -> usize {
        self.window
    }
}
