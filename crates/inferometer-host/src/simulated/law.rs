//! Cost of a generation: the growth laws (docs/explanation/method.md#growth-laws) with coefficients
//! from the options.

/// The law's coefficients. A negative total counts as zero.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CostLaw {
    pub load_ms: f64,
    /// Decode, per token: `a + b n` at a context of n tokens.
    pub a_ms: f64,
    pub b_us: f64,
    /// Prefill of n tokens: `c + d n + e n^2`.
    pub c_ms: f64,
    pub d_us: f64,
    pub e_ns: f64,
    /// Artificial slow-down of everything except loading.
    pub slower_percent: f64,
    /// Artificial drift, as if the machine heats up: each generation takes this much longer than
    /// the previous one.
    pub drift_percent: f64,
}

impl CostLaw {
    #[must_use]
    pub fn load_ns(&self) -> u64 {
        ns(self.load_ms * 1e6)
    }

    /// Prefill of `n` tokens, including the first sample.
    #[must_use]
    pub fn prefill_ns(&self, n: usize, factor: f64) -> u64 {
        let n = n as f64;
        ns((self.c_ms * 1e6 + self.d_us * 1e3 * n + self.e_ns * n * n) * factor)
    }

    /// One token after `context` tokens.
    #[must_use]
    pub fn decode_ns(&self, context: usize, factor: f64) -> u64 {
        ns((self.a_ms * 1e6 + self.b_us * 1e3 * context as f64) * factor)
    }

    /// Factor on every cost of the generation in `slot`, given its noise `log_noise`.
    #[must_use]
    pub fn factor(&self, slot: u64, log_noise: f64) -> f64 {
        let drift = slot as f64 * (self.drift_percent / 100.0).ln_1p();
        (log_noise + drift).exp() * (1.0 + self.slower_percent / 100.0)
    }
}

fn ns(exact: f64) -> u64 {
    // The cast saturates: negative values become 0.
    exact.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: CostLaw = CostLaw {
        load_ms: 3.0,
        a_ms: 2.0,
        b_us: 0.5,
        c_ms: 1.0,
        d_us: 10.0,
        e_ns: 4.0,
        slower_percent: 0.0,
        drift_percent: 0.0,
    };

    #[test]
    fn costs_are_what_the_law_says() {
        assert_eq!(LAW.load_ns(), 3_000_000);
        assert_eq!(LAW.decode_ns(0, 1.0), 2_000_000);
        assert_eq!(LAW.decode_ns(1000, 1.0), 2_500_000);
        assert_eq!(LAW.prefill_ns(1000, 1.0), 1_000_000 + 10_000_000 + 4_000_000);
        assert_eq!(LAW.prefill_ns(1000, 2.0), 30_000_000);
        assert_eq!(CostLaw { a_ms: -1.0, ..LAW }.decode_ns(0, 1.0), 0);
    }

    #[test]
    fn a_slow_down_a_drift_and_noise_multiply() {
        let slower = CostLaw { slower_percent: 10.0, drift_percent: 0.3, ..LAW };
        assert!((slower.factor(0, 0.0) - 1.1).abs() < 1e-12);
        assert!((slower.factor(10, 0.0) - 1.1 * 1.003f64.powi(10)).abs() < 1e-12);
        assert!((LAW.factor(10, 0.2) - 0.2f64.exp()).abs() < 1e-12);
    }
}
