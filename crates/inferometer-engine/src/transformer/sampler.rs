//! From logits to the next token: repetition penalty, filters and temperature in one of two orders,
//! draw.
//!
//! Sources: Keskar et al., "CTRL" (2019) for the penalty; Holtzman et al., "The Curious Case of
//! Neural Text Degeneration" (2020) for top-p; Nguyen et al., "Turning Up the Heat" (2024) for
//! min-p. Each filter works on the tokens that the one before kept, with probabilities normalized
//! to a sum of one.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::finite::{NOT_FINITE, all_finite, magnitude};
use inferometer_host::rng::seeded;
use inferometer_protocol::effective::window;
use inferometer_protocol::request::LEAST_LOGPROB;
use inferometer_protocol::{EngineError, Sampling, TokenLogprob};

/// First guess of how many of the most likely tokens top-p needs; each further try takes eight
/// times as many.
const TOP_P_FIRST: usize = 64;

/// The repetition penalty of one request.
#[derive(Debug, Clone)]
pub struct Penalty {
    pub factor: f32,
    /// Window of the last N tokens; 0 = the whole history.
    pub context_size: u64,
    /// Upper bound on N; 0 = none.
    pub cap: u64,
    /// For each token, the step in which it was last penalized, so that a token that occurs twice
    /// is penalized once.
    seen: Vec<u32>,
    step: u32,
}

impl Penalty {
    #[must_use]
    pub fn new(factor: f32, context_size: u64, cap: u64) -> Self {
        Self { factor, context_size, cap, seen: Vec::new(), step: 0 }
    }

    /// Penalizes the logits of the last tokens of `history` and returns the number of tokens in the
    /// window.
    pub fn apply(&mut self, logits: &mut [f32], history: &[u32]) -> usize {
        if self.factor == 1.0 {
            return 0;
        }
        if self.seen.len() != logits.len() {
            self.seen = vec![0; logits.len()];
            self.step = 0;
        }
        self.step += 1;
        let count = window(self.context_size, self.cap, history.len() as u64) as usize;
        let mut looked_at = 0;
        for id in &history[history.len() - count..] {
            looked_at += 1;
            let (Some(logit), Some(seen)) = (logits.get_mut(*id as usize), self.seen.get_mut(*id as usize)) else {
                continue;
            };
            if std::mem::replace(seen, self.step) != self.step {
                *logit = if *logit > 0.0 { *logit / self.factor } else { *logit * self.factor };
            }
        }
        looked_at
    }
}

/// Which comes first: the filters, which then see the model's own probabilities, or temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// top-p, min-p, top-k, temperature, as in mlx_lm.
    #[default]
    FiltersFirst,
    /// temperature, top-k, top-p, min-p, as in transformers.
    TemperatureFirst,
}

impl Order {
    pub const ALL: [Order; 2] = [Order::FiltersFirst, Order::TemperatureFirst];

    /// Its value of the toggle `sampling_order`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Order::FiltersFirst => "filters_first",
            Order::TemperatureFirst => "temperature_first",
        }
    }
}

/// The checked sampling settings of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingPlan {
    pub sampling: Sampling,
    pub order: Order,
    /// Effective factor of the repetition penalty; 1 = off.
    pub factor: f32,
    /// Window of the penalty in tokens; 0 = the whole history.
    pub context_size: u64,
    /// Upper bound on N; 0 = none.
    pub cap: u64,
}

impl SamplingPlan {
    /// Tokens in the penalty's window after `history` tokens.
    #[must_use]
    pub fn window(&self, history: usize) -> usize {
        if self.factor == 1.0 { 0 } else { window(self.context_size, self.cap, history as u64) as usize }
    }
}

/// The random numbers of all backends: equal seeds give equal numbers.
#[derive(Debug)]
pub struct Uniforms(ChaCha8Rng);

impl Uniforms {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seeded(seed, "sampling"))
    }

    /// The next number, from [0, 1) in steps of 2^-53.
    pub fn draw(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Chooses tokens for one request on the host.
#[derive(Debug)]
pub struct Sampler {
    order: Order,
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    uniforms: Uniforms,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
    /// Not normalized: 1 for the most likely token.
    weight: f64,
}

impl Candidate {
    /// The more likely token first; of equal ones, the lower id.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
}

/// Checks that these settings make sense.
///
/// # Errors
/// A `bad_request` that names the setting.
pub fn check(sampling: &Sampling, penalty: f64) -> Result<(), EngineError> {
    let rules: [(&str, f64, bool, &str); 4] = [
        ("temperature", sampling.temperature, sampling.temperature >= 0.0, "0 (greedy) or above"),
        ("top_p", sampling.top_p, sampling.top_p > 0.0 && sampling.top_p <= 1.0, "above 0, at most 1 (all)"),
        ("min_p", sampling.min_p, (0.0..=1.0).contains(&sampling.min_p), "from 0 (none) to 1"),
        ("repetition_penalty", penalty, penalty > 0.0, "above 0; 1 is off"),
    ];
    match rules.iter().find(|(_, value, fits, _)| !fits || !value.is_finite()) {
        None => Ok(()),
        Some((name, value, _, range)) => {
            Err(EngineError::bad_request(format!("{name} is {value}; it must be {range}")))
        }
    }
}

impl Sampler {
    /// A sampler for one request; equal seeds give equal draws.
    #[must_use]
    pub fn new(sampling: &Sampling, order: Order) -> Self {
        Self {
            order,
            temperature: sampling.temperature,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            uniforms: Uniforms::new(sampling.seed),
            candidates: Vec::new(),
        }
    }

    /// The next token.
    ///
    /// # Errors
    /// `not_finite` when a logit is not finite, or there is none.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        let best = greedy(logits).ok_or_else(unsound)?;
        if self.temperature == 0.0 {
            return Ok(best);
        }
        self.candidates.clear();
        self.candidates.extend(logits.iter().zip(0..).map(|(logit, id)| Candidate { id, logit: *logit, weight: 0.0 }));
        let highest = logits[best as usize];
        match self.order {
            Order::FiltersFirst => {
                // top-k looks at logits alone.
                if self.top_p < 1.0 || self.min_p > 0.0 {
                    self.weigh(highest, 1.0);
                    self.keep_top_p();
                    self.keep_min_p();
                }
                self.keep_top_k();
                self.weigh(highest, self.temperature);
            }
            Order::TemperatureFirst => {
                self.weigh(highest, self.temperature);
                self.keep_top_k();
                self.keep_top_p();
                self.keep_min_p();
            }
        }
        Ok(self.draw())
    }

    fn weigh(&mut self, highest: f32, temperature: f64) {
        for candidate in &mut self.candidates {
            candidate.weight = ((f64::from(candidate.logit) - f64::from(highest)) / temperature).exp();
        }
    }

    fn keep_top_k(&mut self) {
        if self.top_k > 0 && self.top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(self.top_k - 1, Candidate::order);
            self.candidates.truncate(self.top_k);
        }
    }

    fn keep_top_p(&mut self) {
        if self.top_p >= 1.0 {
            return;
        }
        let wanted = self.top_p * self.total();
        let mut sorted = TOP_P_FIRST;
        loop {
            if sorted < self.candidates.len() {
                self.candidates.select_nth_unstable_by(sorted - 1, Candidate::order);
            }
            let front = sorted.min(self.candidates.len());
            self.candidates[..front].sort_unstable_by(Candidate::order);
            let mut sum = 0.0;
            let reached = self.candidates[..front].iter().position(|c| {
                sum += c.weight;
                sum >= wanted
            });
            if let Some(last) = reached {
                self.candidates.truncate(last + 1);
                return;
            }
            if front == self.candidates.len() {
                return;
            }
            sorted *= 8;
        }
    }

    fn keep_min_p(&mut self) {
        if self.min_p > 0.0 {
            // The most likely token has weight 1.
            self.candidates.retain(|c| c.weight >= self.min_p);
        }
    }

    fn draw(&mut self) -> u32 {
        // Sorted by id, so that the draw does not depend on the order that the filters left.
        self.candidates.sort_unstable_by_key(|c| c.id);
        let target = self.uniforms.draw() * self.total();
        let mut sum = 0.0;
        let drawn = self.candidates.iter().find(|c| {
            sum += c.weight;
            sum > target
        });
        // Rounding may leave the sum slightly below the target.
        drawn.or(self.candidates.last()).expect("the most likely token passes every filter").id
    }

    fn total(&self) -> f64 {
        self.candidates.iter().map(|c| c.weight).sum()
    }
}

/// Highest logit minus the second highest: 0 where two are equal, the largest f32 where there is no
/// second.
///
/// # Errors
/// `not_finite` when a logit is not finite, or there is none.
pub fn gap(logits: &[f32]) -> Result<f32, EngineError> {
    let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    if logits.is_empty() || !all_finite(logits) {
        return Err(unsound());
    }
    for logit in logits.iter().copied() {
        if logit > best {
            (best, second) = (logit, best);
        } else if logit > second {
            second = logit;
        }
    }
    // Of two far apart the difference may be infinite, too.
    Ok((best - second).min(f32::MAX))
}

/// Logarithm of the probability of `token` among `logits`, and of the `top` most likely tokens; of
/// equally likely ones the lower id comes first. Nothing is below [`LEAST_LOGPROB`].
///
/// # Errors
/// `not_finite` when a logit is not finite, or there is none.
pub fn logprob(logits: &[f32], token: u32, top: usize) -> Result<TokenLogprob, EngineError> {
    if logits.is_empty() || !all_finite(logits) {
        return Err(unsound());
    }
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - f64::from(highest)).exp()).sum();
    let of = |logit: f32| (f64::from(logit) - f64::from(highest) - sum.ln()).max(LEAST_LOGPROB) as f32;
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if (1..ids.len()).contains(&top) {
        ids.select_nth_unstable_by(top - 1, order);
    }
    ids.truncate(top);
    ids.sort_unstable_by(order);
    let top = ids.into_iter().map(|id| (id, of(logits[id as usize]))).collect();
    Ok(TokenLogprob { logprob: of(logits[token as usize]), top })
}

/// What is said when a logit is not finite. A token chosen among the others would look like an
/// answer.
#[must_use]
pub fn unsound() -> EngineError {
    EngineError::not_finite("the model's logits are not all finite (NaN or infinity)")
}

/// The highest logit, the lowest id among equals; `None` where one is not finite or there is none.
fn greedy(logits: &[f32]) -> Option<u32> {
    // Independent lanes without branches, so that the loop becomes vector code.
    const LANES: usize = 16;
    let (blocks, rest) = logits.as_chunks::<LANES>();
    let (mut largest, mut best) = ([0; LANES], [f32::NEG_INFINITY; LANES]);
    for block in blocks {
        for i in 0..LANES {
            largest[i] = magnitude(block[i]).max(largest[i]);
            best[i] = if block[i] > best[i] { block[i] } else { best[i] };
        }
    }
    if largest.iter().any(|bits| *bits >= NOT_FINITE) || !all_finite(rest) {
        return None;
    }
    let highest = best.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
    logits.iter().position(|logit| *logit == highest).map(|at| at as u32)
}

#[cfg(test)]
mod tests;
