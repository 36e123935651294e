//! The figures that follow from the times of a request's tokens
//! (docs/explanation/method.md#metrics).

use inferometer_stats::robust;

/// Times in ms, rates in tokens per second. Empty for fewer than two tokens, and for times that run
/// backwards.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenFigures {
    pub decode_ms: Option<f64>,
    pub decode_tps: Option<f64>,
    pub tpot_ms: Option<f64>,
    pub itl_p50_ms: Option<f64>,
    pub itl_p95_ms: Option<f64>,
    pub itl_p99_ms: Option<f64>,
    pub itl_max_ms: Option<f64>,
}

impl TokenFigures {
    /// The figures of tokens at these times, in nanoseconds on any clock.
    #[must_use]
    pub fn of(token_ns: &[u64]) -> Self {
        let (Some(&first), Some(&last)) = (token_ns.first(), token_ns.last()) else { return Self::default() };
        let count = token_ns.len() as u64 - 1;
        let Some(decode) = last.checked_sub(first).filter(|_| count > 0) else { return Self::default() };
        let gaps: Vec<f64> = token_ns.windows(2).map(|pair| ms(pair[1].saturating_sub(pair[0]))).collect();
        let gaps = robust::sorted(&gaps);
        Self {
            decode_ms: Some(ms(decode)),
            decode_tps: rate(count, decode),
            tpot_ms: Some(ms(decode) / count as f64),
            itl_p50_ms: robust::quantile(&gaps, 0.50),
            itl_p95_ms: robust::quantile(&gaps, 0.95),
            itl_p99_ms: robust::quantile(&gaps, 0.99),
            itl_max_ms: gaps.last().copied(),
        }
    }
}

/// Units per second; `None` if nothing was done or no time passed.
#[must_use]
pub fn rate(units: u64, ns: u64) -> Option<f64> {
    (units > 0 && ns > 0).then(|| units as f64 / (ns as f64 / 1e9))
}

#[must_use]
pub fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
