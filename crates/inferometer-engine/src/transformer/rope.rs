//! Frequencies of the rotary position embedding (Su et al., "RoFormer", 2021), with Llama 3's
//! scaling.

/// Llama 3's scaling for long contexts: low frequencies are divided by `factor`, high ones stay,
/// and those between are interpolated. Source: `_compute_llama3_parameters` in the RoPE utilities
/// of the `transformers` library.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeScaling {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    /// Context length before scaling, in tokens.
    pub original_context: f64,
}

/// Rotation of each of the `head_dim / 2` pairs, in radians per position.
#[must_use]
pub fn frequencies(head_dim: usize, theta: f64, scaling: Option<&RopeScaling>) -> Vec<f64> {
    let plain = (0..head_dim / 2).map(|pair| theta.powf(-2.0 * pair as f64 / head_dim as f64));
    match scaling {
        None => plain.collect(),
        Some(scaling) => plain.map(|frequency| scaling.apply(frequency)).collect(),
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        let wavelength = std::f64::consts::TAU / frequency;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pair_turns_one_radian_and_the_rest_fall_geometrically() {
        let plain = frequencies(8, 10_000.0, None);
        for (got, want) in plain.iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn llama3_scaling_leaves_high_divides_low_and_blends_between() {
        let scaling =
            RopeScaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
        let plain = frequencies(128, 500_000.0, None);
        let scaled = frequencies(128, 500_000.0, Some(&scaling));
        assert_eq!(plain[0], scaled[0]);
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-9);
        let between: Vec<f64> =
            plain.iter().zip(&scaled).map(|(p, s)| p / s).filter(|r| *r > 1.001 && *r < 7.999).collect();
        assert!(!between.is_empty() && between.is_sorted(), "{between:?}");
    }
}
