//! How the next token is chosen, and which of these settings an engine must declare.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Value;
use super::effective::factor_in_force;

/// How the next token is chosen. Temperature 0 is greedy: the highest logit, or among equal ones
/// the lowest id.
///
/// Order of operations: repetition penalty, then (unless greedy) filters and temperature in the
/// order of the toggle `sampling_order`, draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sampling {
    pub seed: u64,
    pub temperature: f64,
    /// Keep the K most likely tokens; 0 = all.
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probabilities sum to at least P; 1 = all.
    pub top_p: f64,
    /// Drop tokens less likely than P times the most likely one; 0 = none.
    pub min_p: f64,
    pub repetition_penalty: f64,
    /// The penalty covers the last N tokens; 0 = the whole history.
    pub repetition_context_size: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            seed: 0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_context_size: 20,
        }
    }
}

pub const SEED: &str = "seed";
pub const TEMPERATURE: &str = "temperature";
pub const TOP_K: &str = "top_k";
pub const TOP_P: &str = "top_p";
pub const MIN_P: &str = "min_p";
pub use super::toggle::{REPETITION_CONTEXT_SIZE, REPETITION_PENALTY};

/// Names of all fields of [`Sampling`]: what a receipt may list in `sampling`.
pub const FIELDS: &[&str] = &[SEED, TEMPERATURE, TOP_K, TOP_P, MIN_P, REPETITION_PENALTY, REPETITION_CONTEXT_SIZE];

impl Sampling {
    /// The fields that matter for this request and that the engine does not declare, with their
    /// values.
    ///
    /// Seed, top-k, top-p and min-p matter above temperature 0 only; the context size matters with
    /// a repetition penalty only. Greedy decoding without a penalty needs nothing declared.
    #[must_use]
    pub fn undeclared(&self, declares: impl Fn(&str) -> bool) -> Vec<(&'static str, Value)> {
        let drawn = self.temperature != 0.0;
        let penalized = factor_in_force(self.repetition_penalty) != 1.0;
        let fields: [(&str, bool, Value); 7] = [
            (TEMPERATURE, drawn, self.temperature.into()),
            // Without temperature or penalty, there is nothing for these two to act on.
            (SEED, drawn && declares(TEMPERATURE), self.seed.into()),
            (TOP_K, drawn && self.top_k != 0, u64::from(self.top_k).into()),
            (TOP_P, drawn && self.top_p != 1.0, self.top_p.into()),
            (MIN_P, drawn && self.min_p != 0.0, self.min_p.into()),
            (REPETITION_PENALTY, penalized, self.repetition_penalty.into()),
            (REPETITION_CONTEXT_SIZE, penalized && declares(REPETITION_PENALTY), self.repetition_context_size.into()),
        ];
        let missing = fields.into_iter().filter(|(name, matters, _)| *matters && !declares(name));
        missing.map(|(name, _, value)| (name, value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sampling: &Sampling, declared: &[&str]) -> Vec<&'static str> {
        sampling.undeclared(|name| declared.contains(&name)).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_field_has_its_name_in_the_list() {
        let fields = serde_json::to_value(Sampling::default()).unwrap();
        let mut known: Vec<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        let mut listed = FIELDS.to_vec();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(known, listed);
    }

    #[test]
    fn what_matters_must_be_declared() {
        let greedy =
            Sampling { seed: 7, top_k: 40, top_p: 0.9, min_p: 0.1, repetition_context_size: 64, ..Sampling::default() };
        assert!(names(&greedy, &[]).is_empty(), "greedy needs nothing");
        let drawn = Sampling { temperature: 0.9, ..greedy.clone() };
        assert_eq!(names(&drawn, &[]), [TEMPERATURE, TOP_K, TOP_P, MIN_P]);
        assert_eq!(names(&drawn, &[TEMPERATURE, TOP_P]), [SEED, TOP_K, MIN_P]);
        let plain = Sampling { temperature: 0.9, ..Sampling::default() };
        assert_eq!(plain.undeclared(|name| name == TEMPERATURE), [(SEED, Value::Int(0))]);
        let penalized = Sampling { repetition_penalty: 1.1, ..greedy };
        assert_eq!(names(&penalized, &[]), [REPETITION_PENALTY]);
        assert_eq!(names(&penalized, &[REPETITION_PENALTY]), [REPETITION_CONTEXT_SIZE]);
        assert!(names(&Sampling { temperature: 0.9, ..penalized }, FIELDS).is_empty());
    }
}
