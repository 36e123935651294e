//! Sampling on the device: penalty, filters and draw are part of the graph; no logits are copied to
//! the host.
//!
//! It does the same as [`crate::transformer::sampler`], with the same draws. Sums are f32 here and
//! f64 there, so a draw within rounding of a border may choose the other token.

use mlx_rs::ops::indexing::{argmax, argmax_axis};
use mlx_rs::ops::{cumsum, maximum, select, sort};
use mlx_rs::{Array, Dtype, error::Exception};

use super::calls::{mlx, replace, size};
use crate::transformer::backend::TokenSampler;
use crate::transformer::sampler;
use crate::transformer::sampler::{Order, SamplingPlan, Uniforms};
use inferometer_host::Result;

type Tried<T> = std::result::Result<T, Exception>;

/// Token ids [T], and for a choice the result for the host.
#[derive(Debug)]
pub struct Ids {
    /// Input of the next forward pass.
    pub input: Array,
    /// The choice itself, one number, where this is one; [`UNSOUND`] where a logit was not finite.
    /// Another token may have taken its place.
    pub chosen: Option<Array>,
}

/// Read in place of a token where a logit is not finite. Vocabularies are far smaller.
pub const UNSOUND: u32 = u32::MAX;

/// Penalty, filters and draws of one request.
#[derive(Debug)]
pub struct DeviceSampler {
    choice: SamplingPlan,
    uniforms: Uniforms,
    /// The last tokens in no particular order, [the penalty's largest window]; `None` without a
    /// penalty.
    recent: Option<Array>,
    /// Prompt and chosen tokens.
    history: usize,
    logits: Option<Array>,
    window: usize,
}

impl DeviceSampler {
    pub fn new(choice: &SamplingPlan, prompt: &[u32], generated: usize) -> Result<Self> {
        let most = choice.window(prompt.len() + generated);
        let mut recent = vec![0u32; most];
        for (at, id) in prompt.iter().enumerate().skip(prompt.len().saturating_sub(most)) {
            recent[at % most] = *id;
        }
        let length = size(most)?;
        Ok(Self {
            choice: choice.clone(),
            uniforms: Uniforms::new(choice.sampling.seed),
            recent: (most > 0).then(|| Array::from_slice(&recent, &[length])),
            history: prompt.len(),
            logits: None,
            window: 0,
        })
    }

    /// The logits of the next choice.
    #[cfg(test)]
    pub fn logits(&self) -> &Array {
        self.logits.as_ref().expect("logits were penalized")
    }

    /// Writes the chosen token over the oldest one.
    fn remember(&mut self, token: &Array) -> Result<()> {
        if let Some(recent) = &self.recent {
            let at = size(self.history % recent.shape()[0] as usize)?;
            self.recent = Some(mlx(|| replace(recent, token, &[at], &[at + 1]))?);
        }
        self.history += 1;
        Ok(())
    }
}

impl TokenSampler for DeviceSampler {
    type Tensor = Array;
    type Ids = Ids;

    fn penalize(&mut self, logits: Array) -> Result<()> {
        self.window = self.choice.window(self.history);
        let logits = match &self.recent {
            // Unused places hold no token yet.
            Some(recent) if self.window > 0 => {
                let window = size(self.window)?;
                mlx(|| penalized(&logits, recent, window, self.choice.factor))?
            }
            _ => logits,
        };
        self.logits = Some(logits);
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        let logits = self.logits.as_ref().expect("logits are penalized before they are waited for");
        super::calls::waited();
        mlx(|| logits.eval())
    }

    /// Computed on the host, so that there is only one implementation. It is used once per token
    /// and in untimed passes only.
    fn gap(&self) -> Result<f32> {
        let logits = self.logits.as_ref().expect("logits are penalized before their gap is asked for");
        let mut values = Vec::new();
        super::read(logits, &mut values)?;
        sampler::gap(&values)
    }

    fn choose(&mut self, forced: Option<u32>) -> Result<Ids> {
        let logits = self.logits.take().expect("logits are penalized before a choice");
        let greedy = self.choice.sampling.temperature == 0.0;
        let uniform = if greedy { 0.0 } else { self.uniforms.draw() };
        let chosen =
            mlx(|| if greedy { argmax_axis(&logits, -1, false) } else { drawn(&logits, &self.choice, uniform) })?;
        let told = mlx(|| told(&logits, &chosen))?;
        let input = forced.map_or_else(|| chosen.clone(), |id| Array::from_slice(&[id], &[1]));
        self.remember(&input)?;
        Ok(Ids { input, chosen: Some(told) })
    }

    fn window(&self) -> usize {
        self.window
    }
}

/// What the host reads for a choice [1] from logits [1, vocabulary]: the same token, or
/// [`UNSOUND`].
fn told(logits: &Array, chosen: &Array) -> Tried<Array> {
    // The difference is NaN where a logit is not finite, and so is the sum then. Fewer operations
    // than asking each.
    let sound = logits.subtract(logits)?.sum(false)?.eq(Array::from_int(0))?;
    select(sound, chosen, Array::from_slice(&[UNSOUND], &[1]))
}

/// Penalizes logits [1, vocabulary] of the first `window` recent tokens: positive ones are divided
/// by the factor, others multiplied. A token that occurs twice gets the same value twice.
fn penalized(logits: &Array, recent: &Array, window: i32, factor: f32) -> Tried<Array> {
    let ids = if window == recent.shape()[0] { recent.clone() } else { super::calls::slice(recent, &[0], &[window])? };
    let ids = ids.expand_dims(0)?;
    // Always in f32: in bf16 a factor of 1.003 would be rounded to 1.
    let logits = logits.as_dtype(Dtype::Float32)?;
    let (factor, zero) = (Array::from_f32(factor), Array::from_f32(0.0));
    let held = logits.take_along_axis(&ids, -1)?;
    let new = select(held.gt(zero)?, held.divide(&factor)?, held.multiply(&factor)?)?;
    logits.put_along_axis(ids, new, -1)
}

/// A token drawn from logits [1, vocabulary] after temperature and filters: [1].
fn drawn(logits: &Array, choice: &SamplingPlan, uniform: f64) -> Tried<Array> {
    let sampling = &choice.sampling;
    let logits = logits.as_dtype(Dtype::Float32)?.reshape(&[-1])?;
    let lowest = Array::from_f32(f32::NEG_INFINITY);
    let logits = select(logits.is_finite()?, &logits, lowest)?;
    let zero = Array::from_f32(0.0);
    // Not normalized: 1 for the most likely token.
    let temperature = Array::from_f32((sampling.temperature as f32).max(f32::MIN_POSITIVE));
    let relative = logits.subtract(logits.max(false)?)?;
    let tempered = relative.divide(temperature)?.exp()?;
    let weights = match choice.order {
        // top-k looks at logits alone.
        Order::FiltersFirst if sampling.top_p >= 1.0 && sampling.min_p <= 0.0 => {
            top_k(&logits, tempered, sampling.top_k)?
        }
        Order::FiltersFirst => {
            // Never 0: a high temperature makes likely what is far below.
            let own = maximum(relative.exp()?, Array::from_f32(f32::MIN_POSITIVE))?;
            let kept = top_p(own, sampling.top_p)?;
            let kept = top_k(&logits, min_p(kept, sampling.min_p)?, sampling.top_k)?;
            select(kept.gt(&zero)?, &tempered, &zero)?
        }
        Order::TemperatureFirst => {
            min_p(top_p(top_k(&logits, tempered, sampling.top_k)?, sampling.top_p)?, sampling.min_p)?
        }
    };
    let vocabulary = logits.shape()[0];
    let sums = cumsum(&weights, 0, false, true)?;
    let total = super::calls::slice(&sums, &[vocabulary - 1], &[vocabulary])?;
    let target = total.multiply(Array::from_f32(uniform as f32))?;
    // Rounding may make the target equal to the total: then the last token with weight is chosen.
    let reached = sums.gt(target)?.logical_or(sums.eq(total)?)?;
    argmax(reached.as_dtype(Dtype::Int32)?, true)
}

/// The weights of the `k` highest logits that have one, and 0 for others; all if `k` is 0.
fn top_k(logits: &Array, weights: Array, k: u32) -> Tried<Array> {
    let vocabulary = logits.shape()[0];
    let k = i32::try_from(k).unwrap_or(i32::MAX);
    if !(1..vocabulary).contains(&k) {
        return Ok(weights);
    }
    // What another filter dropped is behind all others.
    let zero = Array::from_f32(0.0);
    let logits = select(weights.gt(&zero)?, logits, Array::from_f32(f32::NEG_INFINITY))?;
    let kth = super::calls::slice(&sort(&logits)?, &[vocabulary - k], &[vocabulary - k + 1])?;
    select(best(&logits, &kth, &Array::from_int(k))?, &weights, &zero)
}

/// The largest weights whose sum reaches that share of all, and 0 for others.
fn top_p(weights: Array, share: f64) -> Tried<Array> {
    if share >= 1.0 {
        return Ok(weights);
    }
    let rising = sort(&weights)?;
    // For each token, the sum of those that are more likely. The token is needed if that sum is
    // less than the wanted one.
    let before = rising.cumsum(0, true, false)?;
    // Never 0: the most likely token is always kept.
    let share = Array::from_f32((share as f32).max(f32::MIN_POSITIVE));
    let wanted = weights.sum(false)?.multiply(share)?;
    let needed = before.lt(wanted)?;
    let least = select(&needed, &rising, Array::from_f32(f32::INFINITY))?.min(true)?;
    let count = needed.as_dtype(Dtype::Int32)?.sum(false)?;
    select(best(&weights, &least, &count)?, &weights, Array::from_f32(0.0))
}

/// The weights of at least that share of the largest one, which is 1, and 0 for others.
fn min_p(weights: Array, share: f64) -> Tried<Array> {
    if share <= 0.0 {
        return Ok(weights);
    }
    select(weights.ge(Array::from_f32(share as f32))?, &weights, Array::from_f32(0.0))
}

/// Which `count` values are the highest, given the lowest of them; of equal values, the first.
fn best(values: &Array, least: &Array, count: &Array) -> Tried<Array> {
    let above = values.gt(least)?;
    let equal = values.eq(least)?;
    let places = count.subtract(above.as_dtype(Dtype::Int32)?.sum(false)?)?;
    let among = equal.as_dtype(Dtype::Int32)?.cumsum(0, false, true)?.le(places)?;
    above.logical_or(equal.logical_and(among)?)
}

#[cfg(test)]
mod tests;
