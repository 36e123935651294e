//! Frequencies of the rotary position embedding (Su et al., "RoFormer", 2021), with the scalings
//! for long contexts.
//!
//! Source of the scalings: the RoPE utilities of the `transformers` library.

use std::f64::consts::TAU;

/// The rotary embedding of some layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// Rotation of each pair in radians per position. Pair i is (i, i + n) for n pairs; components
    /// of a head from 2 n on are not rotated.
    pub frequencies: Vec<f64>,
    /// The base, if the frequencies are its plain powers.
    pub theta: Option<f64>,
    /// Rotated components are multiplied by this.
    pub magnitude: f64,
}

/// How the frequencies are changed for contexts longer than those of the training.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    None,
    /// All are divided by this.
    Linear(f64),
    Llama3(Llama3),
    Yarn(Yarn),
    /// Each is divided by its factor; `magnitude` multiplies the rotated components.
    Each {
        factors: Vec<f64>,
        magnitude: f64,
    },
}

/// Low frequencies are divided by `factor`, high ones stay, and those between are interpolated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3 {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    /// Context length before scaling, in tokens.
    pub original_context: f64,
}

/// Peng et al., "YaRN" (2023): frequencies that turn more than `beta_fast` times in the original
/// context stay, those that turn less than `beta_slow` times are divided by `factor`, those between
/// are interpolated by their index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    pub beta_fast: f64,
    pub beta_slow: f64,
    /// Context length before scaling, in tokens.
    pub original_context: f64,
    /// The ends of the interpolation are rounded to whole indices.
    pub truncate: bool,
    /// `None`: 0.1 ln(factor) + 1.
    pub magnitude: Option<f64>,
}

impl Rotation {
    /// For the first `dims` components of each head; `dims` is even.
    #[must_use]
    pub fn new(dims: usize, theta: f64, scaling: &Scaling) -> Self {
        let plain: Vec<f64> = (0..dims / 2).map(|pair| theta.powf(-2.0 * pair as f64 / dims as f64)).collect();
        let (frequencies, magnitude) = match scaling {
            Scaling::None => return Self { frequencies: plain, theta: Some(theta), magnitude: 1.0 },
            Scaling::Linear(factor) => (plain.iter().map(|f| f / factor).collect(), 1.0),
            Scaling::Llama3(scaling) => (plain.iter().map(|f| scaling.apply(*f)).collect(), 1.0),
            Scaling::Yarn(yarn) => (yarn.apply(&plain, theta), yarn.magnitude()),
            Scaling::Each { factors, magnitude } => {
                (plain.iter().zip(factors).map(|(f, factor)| f / factor).collect(), *magnitude)
            }
        };
        Self { frequencies, theta: None, magnitude }
    }
}

impl Llama3 {
    fn apply(&self, frequency: f64) -> f64 {
        let wavelength = TAU / frequency;
        if wavelength < self.original_context / self.high_freq_factor {
            return frequency;
        }
        if wavelength > self.original_context / self.low_freq_factor {
            return frequency / self.factor;
        }
        let smooth = (self.original_context / wavelength - self.low_freq_factor)
            / (self.high_freq_factor - self.low_freq_factor);
        (1.0 - smooth) * frequency / self.factor + smooth * frequency
    }
}

impl Yarn {
    fn apply(&self, plain: &[f64], theta: f64) -> Vec<f64> {
        let dims = 2.0 * plain.len() as f64;
        // The index of the pair that turns this often in the original context.
        let turning = |turns: f64| dims * (self.original_context / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (turning(self.beta_fast), turning(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(dims - 1.0));
        let width = if high == low { 0.001 } else { high - low };
        let scaled = |(at, f): (usize, &f64)| {
            let divided = ((at as f64 - low) / width).clamp(0.0, 1.0);
            f / self.factor * divided + f * (1.0 - divided)
        };
        plain.iter().enumerate().map(scaled).collect()
    }

    fn magnitude(&self) -> f64 {
        self.magnitude.unwrap_or(if self.factor <= 1.0 { 1.0 } else { 0.1 * self.factor.ln() + 1.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pair_turns_one_radian_and_the_rest_fall_geometrically() {
        let plain = Rotation::new(8, 10_000.0, &Scaling::None);
        for (got, want) in plain.frequencies.iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        assert_eq!((plain.theta, plain.magnitude), (Some(10_000.0), 1.0));
    }

    #[test]
    fn llama3_scaling_leaves_high_divides_low_and_blends_between() {
        let scaling = Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
        let plain = Rotation::new(128, 500_000.0, &Scaling::None).frequencies;
        let scaled = Rotation::new(128, 500_000.0, &Scaling::Llama3(scaling)).frequencies;
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-9);
        let between: Vec<f64> =
            plain.iter().zip(&scaled).map(|(p, s)| p / s).filter(|r| *r > 1.001 && *r < 7.999).collect();
        assert!(!between.is_empty() && between.is_sorted(), "{between:?}");
    }

    /// The figures of gpt-oss: factor 32 from 4,096 tokens, base 150,000, heads of 64. In the
    /// original context, pair 8.09 turns 32 times and pair 17.4 once.
    #[test]
    fn yarn_leaves_fast_pairs_and_divides_slow_ones() {
        let mut yarn = Yarn {
            factor: 32.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_context: 4096.0,
            truncate: false,
            magnitude: None,
        };
        let plain = Rotation::new(64, 150_000.0, &Scaling::None).frequencies;
        let ratios = |yarn| {
            let scaled = Rotation::new(64, 150_000.0, &Scaling::Yarn(yarn));
            assert!((scaled.magnitude - 1.346_573_6).abs() < 1e-6);
            plain.iter().zip(scaled.frequencies).map(|(p, s)| p / s).collect::<Vec<f64>>()
        };
        let exact = ratios(yarn);
        assert!(exact.is_sorted() && exact[8] == 1.0 && exact[9] > 1.0);
        assert!(exact[17] < 32.0 && (exact[18] - 32.0).abs() < 1e-9, "{exact:?}");
        yarn.truncate = true;
        assert!(ratios(yarn)[9] > exact[9], "the interpolation begins at pair 8");
    }

    #[test]
    fn a_factor_for_each_pair() {
        let scaling = Scaling::Each { factors: vec![1.0, 2.0], magnitude: 1.5 };
        let scaled = Rotation::new(4, 100.0, &scaling);
        assert_eq!((scaled.frequencies, scaled.theta, scaled.magnitude), (vec![1.0, 0.05], None, 1.5));
        assert_eq!(Rotation::new(4, 100.0, &Scaling::Linear(2.0)).frequencies, [0.5, 0.05]);
    }
}
