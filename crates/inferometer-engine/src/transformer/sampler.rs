//! From logits to the next token: repetition penalty, temperature, top-k, top-p, min-p, draw.
//!
//! Sources: Keskar et al., "CTRL" (2019) for the penalty; Holtzman et al., "The Curious Case of Neural Text Degeneration"
//! (2020) for top-p; Nguyen et al., "Turning Up the Heat" (2024) for min-p. Each filter works on what the one before
//! left, its probabilities summing to one again.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use inferometer_host::rng::seeded;
use inferometer_protocol::effective::window;
use inferometer_protocol::{EngineError, Sampling};

/// First try at how many of the most likely tokens top-p needs; eight times as many each further try.
const TOP_P_FIRST: usize = 64;

/// The repetition penalty of one request.
#[derive(Debug, Clone)]
pub struct Penalty {
    pub factor: f32,
    /// Looks at the last N tokens; 0 = the whole history.
    pub context_size: u64,
    /// Upper bound on N; 0 = none.
    pub cap: u64,
    /// For each token the step in which it was last penalized, so that a token seen twice is penalized once.
    seen: Vec<u32>,
    step: u32,
}

impl Penalty {
    #[must_use]
    pub fn new(factor: f32, context_size: u64, cap: u64) -> Self {
        Self { factor, context_size, cap, seen: Vec::new(), step: 0 }
    }

    /// Penalizes the logits of the last tokens of `history`, and says how many of these it looked at.
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

/// How the tokens of one request are to be chosen, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub sampling: Sampling,
    /// Of the repetition penalty, as it is used: 1 = off.
    pub factor: f32,
    /// The penalty looks at the last N tokens; 0 = the whole history.
    pub context_size: u64,
    /// Upper bound on N; 0 = none.
    pub cap: u64,
}

impl Choice {
    /// Tokens that the penalty looks at after `history` of them.
    #[must_use]
    pub fn window(&self, history: usize) -> usize {
        if self.factor == 1.0 { 0 } else { window(self.context_size, self.cap, history as u64) as usize }
    }
}

/// What draws are made with, on every backend: equal seeds give equal numbers.
#[derive(Debug)]
pub struct Uniforms(ChaCha8Rng);

impl Uniforms {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seeded(seed, "sampling"))
    }

    /// The next one, from [0, 1) in steps of 2^-53.
    pub fn draw(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Chooses tokens for one request on the host.
#[derive(Debug)]
pub struct Sampler {
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
    /// The more likely first, the lower id first among equals.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
}

/// Says why these settings make no sense.
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
    /// For one request: an equal seed gives equal draws.
    #[must_use]
    pub fn new(sampling: &Sampling) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            uniforms: Uniforms::new(sampling.seed),
            candidates: Vec::new(),
        }
    }

    /// The next token. Logits that are not a number are never chosen.
    ///
    /// # Errors
    /// When no logit is a finite number.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        let best = greedy(logits).ok_or_else(unsound)?;
        if self.temperature == 0.0 {
            return Ok(best);
        }
        self.fill(logits, logits[best as usize]);
        self.keep_top_k();
        self.keep_top_p();
        self.keep_min_p();
        Ok(self.draw())
    }

    fn fill(&mut self, logits: &[f32], highest: f32) {
        self.candidates.clear();
        let numbers = logits.iter().zip(0..).filter(|(logit, _)| logit.is_finite());
        self.candidates.extend(numbers.map(|(logit, id)| Candidate {
            id,
            logit: *logit,
            weight: ((f64::from(*logit) - f64::from(highest)) / self.temperature).exp(),
        }));
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
        // By id: what is drawn does not depend on how the filters left the order.
        self.candidates.sort_unstable_by_key(|c| c.id);
        let target = self.uniforms.draw() * self.total();
        let mut sum = 0.0;
        let drawn = self.candidates.iter().find(|c| {
            sum += c.weight;
            sum > target
        });
        // Rounding may leave the sum a hair below the target.
        drawn.or(self.candidates.last()).expect("the most likely token passes every filter").id
    }

    fn total(&self) -> f64 {
        self.candidates.iter().map(|c| c.weight).sum()
    }
}

/// Highest logit minus the second highest: 0 where two are equal, the largest f32 where there is no second. Logits that
/// are not finite do not count.
///
/// # Errors
/// When no logit is a finite number.
pub fn gap(logits: &[f32]) -> Result<f32, EngineError> {
    let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for logit in logits.iter().copied().filter(|logit| logit.is_finite()) {
        if logit > best {
            (best, second) = (logit, best);
        } else if logit > second {
            second = logit;
        }
    }
    // Of two far apart the difference may be infinite, too.
    if best.is_finite() { Ok((best - second).min(f32::MAX)) } else { Err(unsound()) }
}

/// What is said when there is nothing to choose.
#[must_use]
pub fn unsound() -> EngineError {
    EngineError::internal("the model gave no finite logit; are its weights damaged?")
}

/// The highest logit, the lowest id among equals.
fn greedy(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (id, logit) in (0..).zip(logits) {
        if logit.is_finite() && best.is_none_or(|(_, highest)| *logit > highest) {
            best = Some((id, *logit));
        }
    }
    best.map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sampling(temperature: f64) -> Sampling {
        Sampling { seed: 7, temperature, ..Sampling::default() }
    }

    fn counts(sampling: &Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling);
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.choose(logits).unwrap() as usize] += 1;
        }
        counts
    }

    /// Pearson's statistic of counts against probabilities; a count where the probability is 0 fails at once.
    fn chi_square(counts: &[usize], probabilities: &[f64]) -> f64 {
        let draws: usize = counts.iter().sum();
        let terms = counts.iter().zip(probabilities).map(|(count, p)| {
            let expected = p * draws as f64;
            if expected == 0.0 {
                assert_eq!(*count, 0, "a token that should be out was drawn");
                return 0.0;
            }
            (*count as f64 - expected).powi(2) / expected
        });
        terms.sum()
    }

    fn softmax(logits: &[f32], temperature: f64, keep: impl Fn(usize) -> bool) -> Vec<f64> {
        let weight = |(at, l): (usize, &f32)| if keep(at) { (f64::from(*l) / temperature).exp() } else { 0.0 };
        let weights: Vec<f64> = logits.iter().enumerate().map(weight).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    }

    const LOGITS: [f32; 6] = [1.0, 2.0, 0.0, 3.0, 2.0, -4.0];
    const DRAWS: usize = 40_000;
    /// 99.9 % quantile of chi-square with five degrees of freedom.
    const LIMIT: f64 = 20.515;

    #[test]
    fn draws_follow_the_closed_form() {
        let none = |_: usize| true;
        // At temperature 1 the probabilities are .0836 .2271 .0307 .6174(3) .2271 .0006 in these logits' order.
        let cases: [(Sampling, Vec<f64>); 7] = [
            (sampling(1.0), softmax(&LOGITS, 1.0, none)),
            (sampling(0.5), softmax(&LOGITS, 0.5, none)),
            (sampling(3.0), softmax(&LOGITS, 3.0, none)),
            // Ids 1 and 4 are equal: the lower one is kept.
            (Sampling { top_k: 2, ..sampling(1.0) }, softmax(&LOGITS, 1.0, |at| [1, 3].contains(&at))),
            (Sampling { top_p: 0.8, ..sampling(1.0) }, softmax(&LOGITS, 1.0, |at| [1, 3, 4].contains(&at))),
            (Sampling { min_p: 0.1, ..sampling(1.0) }, softmax(&LOGITS, 1.0, |at| [0, 1, 3, 4].contains(&at))),
            // top-p counts what top-k left: 3 alone has .73 of it.
            (Sampling { top_k: 2, top_p: 0.7, ..sampling(1.0) }, softmax(&LOGITS, 1.0, |at| at == 3)),
        ];
        for (settings, probabilities) in cases {
            let statistic = chi_square(&counts(&settings, &LOGITS, DRAWS), &probabilities);
            assert!(statistic < LIMIT, "{settings:?}: {statistic}");
        }
    }

    #[test]
    fn the_test_of_draws_would_see_a_wrong_temperature() {
        let counts = counts(&sampling(1.1), &LOGITS, DRAWS);
        assert!(chi_square(&counts, &softmax(&LOGITS, 1.0, |_| true)) > LIMIT);
    }

    #[test]
    fn equal_seeds_draw_alike_and_others_do_not() {
        let draw = |seed| {
            let mut sampler = Sampler::new(&Sampling { seed, ..sampling(1.0) });
            (0..64).map(|_| sampler.choose(&LOGITS).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn filters_at_their_ends() {
        let only = |settings: Sampling, want: u32| {
            assert_eq!(counts(&settings, &LOGITS, 200)[want as usize], 200, "{settings:?}");
        };
        only(Sampling { top_k: 1, ..sampling(5.0) }, 3);
        only(Sampling { top_p: 1e-9, ..sampling(5.0) }, 3);
        only(Sampling { min_p: 1.0, ..sampling(5.0) }, 3);
        only(sampling(0.0), 3);
        only(sampling(1e-6), 3);
        let all = |settings: Sampling| counts(&settings, &LOGITS, 20_000).iter().filter(|c| **c > 0).count();
        assert_eq!(all(Sampling { top_k: 6, top_p: 1.0, min_p: 0.0, ..sampling(5.0) }), 6);
        assert_eq!(all(Sampling { top_k: 100, ..sampling(5.0) }), 6);
        // Equals at the top all have the most likely one's probability.
        let equal = [2.0f32; 4];
        assert_eq!(
            counts(&Sampling { min_p: 1.0, ..sampling(1.0) }, &equal, 4000).iter().filter(|c| **c > 0).count(),
            4
        );
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals_and_never_a_nan() {
        let mut sampler = Sampler::new(&sampling(0.0));
        assert_eq!(sampler.choose(&[1.0, 3.0, 3.0]).unwrap(), 1);
        assert_eq!(sampler.choose(&[f32::NAN, -1.0, f32::INFINITY]).unwrap(), 1);
        assert!(sampler.choose(&[f32::NAN; 3]).is_err());
        assert!(sampler.choose(&[]).is_err());
        let mut hot = Sampler::new(&sampling(1.0));
        assert!((0..100).all(|_| hot.choose(&[f32::NAN, 0.0, f32::NEG_INFINITY]).unwrap() == 1));
    }

    #[test]
    fn the_gap_is_that_of_the_two_best_numbers() {
        let none = f32::NAN;
        for (logits, want) in [
            (&LOGITS[..], 1.0),
            (&[3.0, 1.0, 3.0], 0.0),
            (&[-7.0, -4.5], 2.5),
            (&[none, 2.0, f32::INFINITY, 1.5, f32::NEG_INFINITY], 0.5),
            (&[1.0], f32::MAX),
            (&[f32::MAX, f32::MIN], f32::MAX),
        ] {
            assert_eq!(gap(logits).unwrap(), want, "{logits:?}");
        }
        assert!(gap(&[none; 3]).is_err() && gap(&[]).is_err());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (settings, word) in [
            (Sampling { temperature: -1.0, ..sampling(0.0) }, "temperature"),
            (Sampling { temperature: f64::NAN, ..sampling(0.0) }, "temperature"),
            (Sampling { top_p: 0.0, ..sampling(0.0) }, "top_p"),
            (Sampling { top_p: 1.5, ..sampling(0.0) }, "top_p"),
            (Sampling { min_p: -0.1, ..sampling(0.0) }, "min_p"),
        ] {
            assert!(check(&settings, 1.0).unwrap_err().message.contains(word));
        }
        assert!(check(&sampling(0.0), 0.0).unwrap_err().message.contains("repetition_penalty"));
        assert!(check(&sampling(0.0), f64::INFINITY).is_err());
        assert!(check(&sampling(0.7), 1.1).is_ok());
    }

    /// The penalty as its meaning says, without any care for speed.
    fn naive(logits: &[f32], history: &[u32], factor: f32, context: usize, cap: usize) -> (Vec<f32>, usize) {
        let mut count = history.len();
        for bound in [context, cap] {
            if bound != 0 && bound < count {
                count = bound;
            }
        }
        let recent: std::collections::BTreeSet<u32> = history[history.len() - count..].iter().copied().collect();
        let penalized = (0..).zip(logits).map(|(id, l): (u32, &f32)| match recent.contains(&id) {
            true if *l > 0.0 => l / factor,
            true => l * factor,
            false => *l,
        });
        (penalized.collect(), count)
    }

    proptest! {
        #[test]
        fn the_penalty_is_what_its_meaning_says(
            logits in prop::collection::vec(-5f32..5.0, 20),
            histories in prop::collection::vec(prop::collection::vec(0u32..20, 0..40), 1..4),
            factor in 1.01f32..3.0,
            context in 0usize..30,
            cap in 0usize..30,
        ) {
            let mut penalty = Penalty::new(factor, context as u64, cap as u64);
            for history in histories {
                let mut got = logits.clone();
                let looked_at = penalty.apply(&mut got, &history);
                prop_assert_eq!((got, looked_at), naive(&logits, &history, factor, context, cap));
            }
        }

        /// Whatever the settings, what is drawn passes the filters of a naive implementation.
        #[test]
        fn what_is_drawn_passes_every_filter(
            logits in prop::collection::vec(-5f32..5.0, 1..200),
            top_k in 0u32..50,
            top_p in 0.01f64..=1.0,
            min_p in 0.0f64..0.5,
            seed in any::<u64>(),
        ) {
            let settings = Sampling { seed, temperature: 1.0, top_k, top_p, min_p, ..Sampling::default() };
            let id = Sampler::new(&settings).choose(&logits).unwrap() as usize;
            let above = |limit: f32| logits.iter().filter(move |l| **l > limit);
            if top_k > 0 {
                prop_assert!(above(logits[id]).count() < top_k as usize);
            }
            let weight = |l: &f32| f64::from(*l).exp();
            let mut sorted: Vec<f64> = logits.iter().map(weight).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            if top_k > 0 {
                sorted.truncate(top_k as usize);
            }
            let before: f64 = above(logits[id]).map(weight).sum();
            prop_assert!(before < top_p * sorted.iter().sum::<f64>() + 1e-9);
            prop_assert!(weight(&logits[id]) >= min_p * sorted[0] - 1e-9);
        }
    }

    #[test]
    fn a_penalty_of_one_is_off() {
        let mut logits = LOGITS.to_vec();
        assert_eq!(Penalty::new(1.0, 0, 0).apply(&mut logits, &[1, 2, 3]), 0);
        assert_eq!(logits, LOGITS);
    }
}
