//! The two laws, their coefficients, and the data point that a request gives for each.

use serde::{Deserialize, Serialize};

use super::NotIdentifiable;

/// How a time depends on a number of tokens n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// Time of one generated token: a + b n, where n is the context in tokens.
    Decode,
    /// Time of a whole prefill: c + d n + e n², where n is the prompt in tokens.
    Prefill,
}

/// A coefficient of a law, named by its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Term {
    /// a: cost of each generated token, at any context.
    PerToken,
    /// b: cost that each token of context adds to every generated token (attention, penalties over
    /// history).
    PerTokenOfContext,
    /// c: cost of a prefill, at any prompt length.
    Constant,
    /// d: cost of each prompt token.
    PerPromptToken,
    /// e: cost of each pair of prompt tokens (attention of all to all).
    PerPromptTokenSquared,
}

impl Law {
    /// The law's coefficients, by ascending power of n.
    #[must_use]
    pub fn terms(self) -> &'static [Term] {
        match self {
            Law::Decode => &[Term::PerToken, Term::PerTokenOfContext],
            Law::Prefill => &[Term::Constant, Term::PerPromptToken, Term::PerPromptTokenSquared],
        }
    }

    /// The phase it describes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Law::Decode => "decode",
            Law::Prefill => "prefill",
        }
    }

    /// The formula as text.
    #[must_use]
    pub fn formula(self) -> &'static str {
        match self {
            Law::Decode => "t(n) = a + b n",
            Law::Prefill => "p(n) = c + d n + e n²",
        }
    }

    /// The data point of one request.
    ///
    /// # Errors
    /// When the phase's own time is unknown, or the phase did not compute exactly n tokens.
    pub fn point(self, timing: &Timing) -> Result<Point, NotIdentifiable> {
        let (phase_ms, prompt) = match self {
            Law::Decode => (timing.decode_ms, timing.prompt),
            Law::Prefill => (timing.prefill_ms, timing.prompt),
        };
        let phase_ms = phase_ms.ok_or(NotIdentifiable::SumOfPhases)?;
        let prompt = f64::from(prompt);
        let point = match self {
            Law::Decode if timing.generated < 2 => return Err(NotIdentifiable::OneToken),
            // Of N tokens the first comes from prefill; the k-th after it sees the prompt and k
            // tokens: N / 2 on average.
            Law::Decode => Point {
                n: prompt + f64::from(timing.generated) / 2.0,
                time_ms: phase_ms / f64::from(timing.generated - 1),
            },
            Law::Prefill if timing.reused > 0 => return Err(NotIdentifiable::Reused),
            Law::Prefill => Point { n: prompt, time_ms: phase_ms },
        };
        match point.time_ms > 0.0 && point.time_ms.is_finite() {
            true => Ok(point),
            false => Err(NotIdentifiable::NoTime),
        }
    }
}

impl Term {
    /// The coefficient's letter in the formula.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Term::PerToken => "a",
            Term::PerTokenOfContext => "b",
            Term::Constant => "c",
            Term::PerPromptToken => "d",
            Term::PerPromptTokenSquared => "e",
        }
    }

    /// The cost in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Term::PerToken => "per token",
            Term::PerTokenOfContext => "per token of context",
            Term::Constant => "constant",
            Term::PerPromptToken => "per prompt token",
            Term::PerPromptTokenSquared => "per prompt token squared",
        }
    }

    /// The coefficient's power of n.
    #[must_use]
    pub fn power(self) -> i32 {
        match self {
            Term::PerToken | Term::Constant => 0,
            Term::PerTokenOfContext | Term::PerPromptToken => 1,
            Term::PerPromptTokenSquared => 2,
        }
    }

    /// The unit of the value.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self.power() {
            0 => "ms",
            1 => "ms/token",
            _ => "ms/token²",
        }
    }
}

/// A request's measurements; times are `None` if the phase was not timed separately.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Tokens of the whole prompt.
    pub prompt: u32,
    /// Of these, tokens taken from the KV cache.
    pub reused: u32,
    pub generated: u32,
    pub prefill_ms: Option<f64>,
    /// From the first to the last token.
    pub decode_ms: Option<f64>,
}

/// A time at a number of tokens: of one token at a context of n, or of a prefill of n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub n: f64,
    pub time_ms: f64,
}
