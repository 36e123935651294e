//! Perplexity of a fixed text, and how far the probabilities of two sides are apart.
//!
//! Names and definitions are those of llama.cpp's `llama-perplexity` and its `--kl-divergence`.
//! Every figure is a mean over tokens, with its standard error; like there, tokens are taken as
//! independent, although neighbouring ones are not quite.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::quality::Scored;
use inferometer_stats::robust::Interval;

/// Standard errors on each side of a 95 % interval.
const ERRORS: f64 = 1.959_963_985;
const CONFIDENCE: f64 = 0.95;

/// The perplexity of a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Perplexity {
    /// Scored tokens.
    pub tokens: usize,
    /// exp of the mean of minus the natural logarithms of the tokens' probabilities.
    pub perplexity: f64,
    /// 95 %: exp of that mean, 1.96 standard errors to each side.
    pub interval: Interval,
    /// Bits for each byte of text, which compares models with different tokenizers; absent if the
    /// tokenizer does not reproduce the text.
    pub bits_per_byte: Option<f64>,
    /// Tokens that were scored a second time.
    pub repeated: u32,
    /// The largest difference of these log-probabilities between both times; 0 if the engine is
    /// deterministic.
    pub difference: f64,
}

/// How B's probabilities differ from A's on the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Divergence {
    /// Perplexity of B over that of A.
    pub ratio: f64,
    /// 95 %, from the tokens' paired differences.
    pub ratio_interval: Interval,
    /// Mean over tokens of the KL divergence of B from A, in nats; a lower bound, because tokens
    /// that are not among the most likely ones of both sides are taken together.
    pub kl: f64,
    pub kl_interval: Interval,
    /// 99th percentile over tokens.
    pub kl_p99: f64,
    pub kl_max: f64,
    /// Mean probability of A that the tokens taken together have.
    pub rest: f64,
    /// Share of places at which both sides have the same most likely token.
    pub same_top: f64,
    /// Root of the mean square of the change of the tokens' probabilities.
    pub rms_dp: f64,
}

/// A mean and its standard error.
#[derive(Debug, Clone, Copy)]
struct Mean {
    mean: f64,
    error: f64,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, error: (squares / (n - 1.0).max(1.0) / n).sqrt() }
    }

    /// Of a perplexity, or of a ratio of two.
    fn of_exp(self) -> Interval {
        // Numbers even where the logarithm reaches farther: JSON knows no infinity.
        self.interval(|nats| nats.exp().clamp(f64::MIN_POSITIVE, f64::MAX))
    }

    fn interval(self, of: fn(f64) -> f64) -> Interval {
        let reach = ERRORS * self.error;
        Interval { lo: of(self.mean - reach), hi: of(self.mean + reach), confidence: CONFIDENCE }
    }
}

/// The perplexity of a scored text; `None` if the engine gave no probabilities.
#[must_use]
pub fn perplexity(scored: &Scored) -> Option<Perplexity> {
    if scored.missing.is_some() || scored.logprobs.is_empty() {
        return None;
    }
    let losses: Vec<f64> = scored.logprobs.iter().map(|logprob| -f64::from(*logprob)).collect();
    let mean = Mean::of(&losses);
    let bits = losses.iter().sum::<f64>() / std::f64::consts::LN_2;
    Some(Perplexity {
        tokens: losses.len(),
        perplexity: mean.mean.exp(),
        interval: mean.of_exp(),
        bits_per_byte: scored.bytes.filter(|bytes| *bytes > 0).map(|bytes| bits / bytes as f64),
        repeated: scored.repeated.map_or(0, |repeated| repeated.tokens),
        difference: scored.repeated.map_or(0.0, |repeated| f64::from(repeated.difference)),
    })
}

/// How B's probabilities differ from A's.
///
/// # Errors
/// Why they cannot be compared.
pub fn divergence(a: &Scored, b: &Scored) -> Result<Divergence, String> {
    for (side, scored) in [("A", a), ("B", b)] {
        if let Some(why) = &scored.missing {
            return Err(format!("side {side} has no probabilities: {why}"));
        }
    }
    if a.text_hash != b.text_hash || a.logprobs.len() != b.logprobs.len() {
        return Err("the sides scored different tokens: their tokenizers or `[quality]` settings differ".to_owned());
    }
    if a.top.len() != a.logprobs.len() || b.top.len() != b.logprobs.len() {
        return Err("the record has no most likely tokens: it was redacted".to_owned());
    }
    let pairs = || std::iter::zip(&a.logprobs, &b.logprobs).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let ratio = Mean::of(&pairs().map(|(a, b)| a - b).collect::<Vec<_>>());
    let places: Vec<Place> = std::iter::zip(&a.top, &b.top).map(|(a, b)| Place::of(a, b)).collect();
    let kl = Mean::of(&places.iter().map(|place| place.kl).collect::<Vec<_>>());
    let mut sorted: Vec<f64> = places.iter().map(|place| place.kl).collect();
    sorted.sort_by(f64::total_cmp);
    let share = |of: fn(&Place) -> f64| places.iter().map(of).sum::<f64>() / places.len() as f64;
    let squares: f64 = pairs().map(|(a, b)| (b.exp() - a.exp()).powi(2)).sum();
    Ok(Divergence {
        ratio: ratio.mean.exp(),
        ratio_interval: ratio.of_exp(),
        kl: kl.mean,
        kl_interval: kl.interval(|nats| nats.max(0.0)),
        kl_p99: sorted[((sorted.len() as f64 * 0.99).ceil() as usize).clamp(1, sorted.len()) - 1],
        kl_max: sorted.last().copied().unwrap_or_default(),
        rest: share(|place| place.rest),
        same_top: share(|place| f64::from(u8::from(place.same_top))),
        rms_dp: (squares / places.len() as f64).sqrt(),
    })
}

/// One place of the text.
struct Place {
    kl: f64,
    rest: f64,
    same_top: bool,
}

impl Place {
    /// The KL divergence over the tokens that both lists name, and one more outcome for all others.
    ///
    /// Taking outcomes together never makes a KL divergence larger (the data processing inequality:
    /// Cover and Thomas, "Elements of Information Theory", 2nd edition, section 2.7), so that this
    /// is a lower bound.
    fn of(a: &[(u32, f32)], b: &[(u32, f32)]) -> Self {
        let of_b: BTreeMap<u32, f64> = b.iter().map(|(id, logprob)| (*id, f64::from(*logprob))).collect();
        let both = a.iter().filter_map(|(id, logprob)| Some((f64::from(*logprob), *of_b.get(id)?)));
        let (mut kl, mut named) = (0.0, [0.0, 0.0]);
        for (log_a, log_b) in both {
            kl += log_a.exp() * (log_a - log_b);
            named = [named[0] + log_a.exp(), named[1] + log_b.exp()];
        }
        // Rounding may leave a sum a little above 1.
        let [rest_a, rest_b] = named.map(|named| (1.0 - named).max(0.0));
        if rest_a > 0.0 && rest_b > 0.0 {
            kl += rest_a * (rest_a / rest_b).ln();
        }
        let top = |list: &[(u32, f32)]| list.first().map(|top| top.0);
        Self { kl: kl.max(0.0), rest: rest_a, same_top: top(a) == top(b) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(logprobs: &[f64], top: &[&[(u32, f64)]]) -> Scored {
        Scored {
            cells: vec![0],
            host: Some(0),
            context: 1,
            bytes: Some(6),
            text_hash: "same".to_owned(),
            ids: Vec::new(),
            logprobs: logprobs.iter().map(|p| p.ln() as f32).collect(),
            top: top.iter().map(|list| list.iter().map(|(id, p)| (*id, p.ln() as f32)).collect()).collect(),
            repeated: None,
            missing: None,
        }
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} is not {b}");
    }

    /// Probabilities 1/2, 1/4 and 1/8: losses of 1, 2 and 3 bits, so 4 is the perplexity. Their
    /// standard deviation is a bit, the standard error 1/√3 bit.
    #[test]
    fn perplexity_by_hand() {
        let of = perplexity(&scored(&[0.5, 0.25, 0.125], &[])).unwrap();
        near(of.perplexity, 4.0);
        near(of.bits_per_byte.unwrap(), 1.0);
        near(of.interval.lo, 4.0 * 2.0_f64.powf(-ERRORS / 3.0_f64.sqrt()));
        near(of.interval.hi, 4.0 * 2.0_f64.powf(ERRORS / 3.0_f64.sqrt()));
        assert_eq!(perplexity(&Scored { missing: Some("why".to_owned()), ..scored(&[0.5], &[]) }), None);
    }

    /// The least and the greatest log-probability: a mean of 350 nats with an error of 350.
    #[test]
    fn intervals_end_at_numbers() {
        let of = |logprobs: [f32; 2]| Scored { logprobs: logprobs.to_vec(), ..scored(&[], &[&[(1, 0.5)][..]; 2]) };
        let (low, high) = (of([-700.0, 0.0]), of([0.0, 0.0]));
        let found = serde_json::to_string(&perplexity(&low).unwrap()).unwrap();
        assert!(perplexity(&low).unwrap().interval.hi.is_finite(), "{found}");
        for (a, b) in [(&low, &high), (&high, &low)] {
            let ratio = divergence(a, b).unwrap().ratio_interval;
            assert!(ratio.hi.is_finite() && ratio.lo > 0.0, "{ratio:?}");
        }
    }

    /// A has 1/2, 1/4, 1/4 and B 1/4, 1/2, 1/4: KL = 1/2 ln 2 - 1/4 ln 2. Where a token is named by
    /// one side only, it counts among the others.
    #[test]
    fn divergence_by_hand() {
        let a = scored(&[0.5, 0.5], &[&[(0, 0.5), (1, 0.25), (2, 0.25)], &[(0, 0.5), (1, 0.25)]]);
        let b = scored(&[0.25, 0.5], &[&[(1, 0.5), (0, 0.25), (2, 0.25)], &[(0, 0.5), (2, 0.25)]]);
        let of = divergence(&a, &b).unwrap();
        near(of.kl_max, 0.25 * 2.0_f64.ln());
        near(of.kl, 0.125 * 2.0_f64.ln());
        near(of.rest, 0.25);
        near(of.same_top, 0.5);
        near(of.ratio, 2.0_f64.sqrt());
        near(of.rms_dp, (0.0625_f64 / 2.0).sqrt());
        near(divergence(&a, &a).unwrap().kl, 0.0);
        near(divergence(&a, &a).unwrap().ratio, 1.0);
    }

    /// Fewer named tokens give a smaller divergence, never a larger one.
    #[test]
    fn naming_fewer_tokens_gives_a_lower_bound() {
        let (p, q) = ([0.4, 0.3, 0.2, 0.1], [0.1, 0.25, 0.25, 0.4]);
        let exact: f64 = std::iter::zip(p, q).map(|(p, q): (f64, f64)| p * (p / q).ln()).sum();
        let list =
            |of: [f64; 4], n: usize| -> Vec<(u32, f32)> { (0..n).map(|id| (id as u32, of[id].ln() as f32)).collect() };
        let bounds: Vec<f64> = (0..=4).map(|n| Place::of(&list(p, n), &list(q, n)).kl).collect();
        assert!(bounds.windows(2).all(|pair| pair[0] <= pair[1] + 1e-6), "{bounds:?}");
        near(bounds[4], exact);
        near(bounds[0], 0.0);
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let a = scored(&[0.5], &[&[(0, 0.5)]]);
        for (b, told) in [
            (Scored { missing: Some("it is mute".to_owned()), ..a.clone() }, "side B has no probabilities: it is mute"),
            (Scored { text_hash: "other".to_owned(), ..a.clone() }, "different tokens"),
            (Scored { top: Vec::new(), ..a.clone() }, "redacted"),
        ] {
            let error = divergence(&a, &b).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
