//! Chooses tokens with llama.cpp's samplers, on candidates that this host fills from the logits as
//! `llama_sampler_sample` does. That function itself also notes its choice for the penalty, which
//! would be wrong for forced tokens.

use inferometer_host::Result;
use inferometer_host::TokenSink;
use inferometer_host::protocol::{EngineError, Phase};
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use crate::logits::{check_finite, gap};
use crate::sampling::{Chain, Step};

/// The samplers of one request.
pub struct Sampler {
    penalty: Option<LlamaSampler>,
    steps: LlamaSampler,
    candidates: LlamaTokenDataArray,
}

/// A token that was chosen.
pub struct Chosen {
    pub token: u32,
    /// Difference of the two best logits after the penalty, if asked for.
    pub gap: Option<f32>,
}

impl Sampler {
    /// A sampler behind `prompt` for at most `limit` tokens.
    pub fn new(chain: &Chain, prompt: &[u32], limit: usize, vocabulary: u32) -> Self {
        let longest = prompt.len() + limit - 1;
        let penalty = (chain.penalty.factor != 1.0).then(|| {
            let window = chain.penalty.window(longest);
            let last_n = i32::try_from(window).unwrap_or(i32::MAX);
            let mut penalty = LlamaSampler::penalties(vocabulary as i32, last_n, chain.penalty.factor as f32, 0.0, 0.0);
            let seen = &prompt[prompt.len().saturating_sub(window)..];
            penalty.accept_many(seen.iter().map(|id| LlamaToken(*id as i32)));
            penalty
        });
        let steps = LlamaSampler::chain(chain.steps.iter().map(|step| sampler(*step)), true);
        let candidates = LlamaTokenDataArray::new(Vec::with_capacity(vocabulary as usize), false);
        Self { penalty, steps, candidates }
    }

    /// What the request's sampling chooses from `logits`.
    ///
    /// # Errors
    /// `not_finite` when a logit is not finite.
    pub fn choose(&mut self, logits: &[f32], sink: &mut dyn TokenSink) -> Result<Chosen> {
        let span = sink.begin(Phase::Penalty);
        check_finite(logits)?;
        let of = |(id, logit): (i32, &f32)| LlamaTokenData::new(LlamaToken(id), *logit, 0.0);
        self.candidates.data.clear();
        self.candidates.data.extend((0..).zip(logits).map(of));
        (self.candidates.selected, self.candidates.sorted) = (None, false);
        if let Some(penalty) = &mut self.penalty {
            self.candidates.apply_sampler(penalty);
        }
        sink.end(span);
        let gap = sink.wants_choices().then(|| gap(self.candidates.data.iter().map(LlamaTokenData::logit)));
        let span = sink.begin(Phase::Sample);
        self.candidates.apply_sampler(&mut self.steps);
        sink.end(span);
        let token = self.candidates.selected_token().and_then(|token| u32::try_from(token.0).ok());
        let token = token.ok_or_else(|| EngineError::internal("llama.cpp's samplers chose no token"))?;
        Ok(Chosen { token, gap })
    }

    /// Notes a generated token for the penalty of the next ones.
    pub fn note(&mut self, token: u32) {
        if let Some(penalty) = &mut self.penalty {
            penalty.accept(LlamaToken(token as i32));
        }
    }
}

fn sampler(step: Step) -> LlamaSampler {
    /// Every filter keeps at least one token.
    const KEEP: usize = 1;
    match step {
        Step::TopK(k) => LlamaSampler::top_k(k),
        Step::TopP(p) => LlamaSampler::top_p(p, KEEP),
        Step::MinP(p) => LlamaSampler::min_p(p, KEEP),
        Step::Temperature(t) => LlamaSampler::temp(t),
        Step::Draw(seed) => LlamaSampler::dist(seed),
        Step::Greedy => LlamaSampler::greedy(),
    }
}
