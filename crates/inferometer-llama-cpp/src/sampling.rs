//! A request's sampling settings as llama.cpp's samplers.

use inferometer_host::Result;
use inferometer_host::protocol::effective::{factor_in_force, window};
use inferometer_host::protocol::toggle::{
    DEFAULT_WINDOW_CAP, REPETITION_CONTEXT_SIZE, REPETITION_PENALTY, REPETITION_WINDOW_CAP, SAMPLING_ORDER,
};
use inferometer_host::protocol::{EngineError, Sampling, Settings, Value};

/// The value of `sampling_order` that is not the default.
const TEMPERATURE_FIRST: &str = "temperature_first";
const FILTERS_FIRST: &str = "filters_first";

/// A sampler of llama.cpp, in the order of its chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    TopK(i32),
    TopP(f32),
    MinP(f32),
    Temperature(f32),
    /// Draws with a seed.
    Draw(u32),
    /// Takes the highest logit, the lowest id among equals.
    Greedy,
}

/// The repetition penalty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    /// As reported; 1 = off.
    pub factor: f64,
    context_size: u64,
    cap: u64,
}

impl Penalty {
    fn of(sampling: &Sampling, toggles: &Settings) -> Self {
        let count = |name: &str, default: u64| toggles.get(name).and_then(Value::as_count).unwrap_or(default);
        let factor = toggles.get(REPETITION_PENALTY).and_then(Value::as_float).unwrap_or(sampling.repetition_penalty);
        Self {
            factor: factor_in_force(factor),
            context_size: count(REPETITION_CONTEXT_SIZE, sampling.repetition_context_size),
            cap: count(REPETITION_WINDOW_CAP, DEFAULT_WINDOW_CAP),
        }
    }

    /// Tokens in the window after `history` tokens; 0 when off. With the longest history it is the
    /// `penalty_last_n` of llama.cpp, whose negative values mean no penalty, not the whole history.
    #[must_use]
    pub fn window(&self, history: usize) -> usize {
        if self.factor == 1.0 { 0 } else { window(self.context_size, self.cap, history as u64) as usize }
    }
}

/// The checked sampling of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub penalty: Penalty,
    pub steps: Vec<Step>,
    /// The effective `sampling_order`.
    pub order: &'static str,
}

impl Chain {
    /// # Errors
    /// A `bad_request` that names the setting which makes no sense.
    pub fn of(sampling: &Sampling, toggles: &Settings) -> Result<Self> {
        let penalty = Penalty::of(sampling, toggles);
        check(sampling, penalty.factor)?;
        let asked = toggles.get(SAMPLING_ORDER).and_then(Value::as_text);
        let order = if asked == Some(TEMPERATURE_FIRST) { TEMPERATURE_FIRST } else { FILTERS_FIRST };
        Ok(Self { penalty, steps: steps(sampling, order == TEMPERATURE_FIRST), order })
    }
}

fn steps(sampling: &Sampling, temperature_first: bool) -> Vec<Step> {
    if sampling.temperature == 0.0 {
        return vec![Step::Greedy];
    }
    let temperature = Step::Temperature(sampling.temperature as f32);
    let top_k = (sampling.top_k > 0).then(|| Step::TopK(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
    let top_p = (sampling.top_p < 1.0).then_some(Step::TopP(sampling.top_p as f32));
    let min_p = (sampling.min_p > 0.0).then_some(Step::MinP(sampling.min_p as f32));
    let all = if temperature_first {
        [Some(temperature), top_k, top_p, min_p]
    } else {
        [top_p, min_p, top_k, Some(temperature)]
    };
    all.into_iter().flatten().chain([Step::Draw(seed(sampling.seed))]).collect()
}

/// llama.cpp's seeds have 32 bits, and the largest one means a random seed.
#[must_use]
pub fn seed(seed: u64) -> u32 {
    let folded = (seed ^ (seed >> 32)) as u32;
    if folded == u32::MAX { 0x5EED } else { folded }
}

fn check(sampling: &Sampling, penalty: f64) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn() -> Sampling {
        Sampling { seed: 7, temperature: 0.5, top_k: 40, top_p: 0.9, min_p: 0.1, ..Sampling::default() }
    }

    fn ordered(order: &str) -> Chain {
        Chain::of(&drawn(), &Settings::from([(SAMPLING_ORDER.to_owned(), order.into())])).unwrap()
    }

    #[test]
    fn the_chain_has_the_order_that_is_asked_for() {
        use Step::{Draw, Greedy, MinP, Temperature, TopK, TopP};
        let filters = [TopP(0.9), MinP(0.1), TopK(40), Temperature(0.5), Draw(7)];
        assert_eq!(ordered("filters_first").steps, filters);
        assert_eq!(Chain::of(&drawn(), &Settings::new()).unwrap().steps, filters);
        let first = ordered("temperature_first");
        assert_eq!(first.steps, [Temperature(0.5), TopK(40), TopP(0.9), MinP(0.1), Draw(7)]);
        assert_eq!(first.order, "temperature_first");
        let off = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(steps(&off, false), [Temperature(1.0), Draw(0)], "filters that are off are no samplers");
        assert_eq!(steps(&Sampling { temperature: 0.0, ..drawn() }, true), [Greedy]);
    }

    #[test]
    fn no_seed_is_llama_cpps_random_one() {
        assert_eq!([0, 1, 1 << 32].map(seed), [0, 1, 1]);
        for random in [u64::from(u32::MAX), u64::from(u32::MAX) << 32] {
            assert_ne!(seed(random), u32::MAX);
        }
    }

    #[test]
    fn the_window_is_bounded_by_context_cap_and_history_and_0_when_off() {
        let of = |factor: f64, context: u64, cap: i64| {
            let sampling =
                Sampling { repetition_penalty: factor, repetition_context_size: context, ..Sampling::default() };
            Penalty::of(&sampling, &Settings::from([(REPETITION_WINDOW_CAP.to_owned(), Value::Int(cap))]))
        };
        assert_eq!([10, 5000].map(|history| of(1.1, 0, 768).window(history)), [10, 768]);
        assert_eq!(of(1.1, 0, 0).window(5000), 5000, "the whole history, which is never -1 here");
        assert_eq!(of(1.1, 20, 768).window(5000), 20);
        assert_eq!(of(1.000_000_01, 20, 768).window(5000), 0, "a factor that is 1 in 32 bits");
        let toggle = Settings::from([(REPETITION_PENALTY.to_owned(), Value::Float(1.3))]);
        assert_eq!(Penalty::of(&Sampling::default(), &toggle).factor, 1.3);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let wrong = [
            ("temperature", Sampling { temperature: -1.0, ..drawn() }),
            ("temperature", Sampling { temperature: f64::NAN, ..drawn() }),
            ("top_p", Sampling { top_p: 0.0, ..drawn() }),
            ("min_p", Sampling { min_p: 1.5, ..drawn() }),
            ("repetition_penalty", Sampling { repetition_penalty: 0.0, ..drawn() }),
            ("repetition_penalty", Sampling { repetition_penalty: f64::INFINITY, ..drawn() }),
        ];
        for (name, sampling) in wrong {
            let error = Chain::of(&sampling, &Settings::new()).unwrap_err();
            assert!(error.message.starts_with(name), "{error}");
        }
    }
}
