//! A counted share with its interval, and its limit.

use serde::Serialize;

/// Upper 2.5 % point of the normal distribution.
const Z: f64 = 1.959_963_985;

/// The share of `hits`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    pub hits: u64,
    pub of: u64,
    pub share: f64,
    /// Wilson's 95 % interval (Wilson 1927; recommended for shares near 0 by Brown, Cai and
    /// DasGupta 2001).
    pub lo: f64,
    pub hi: f64,
}

impl Rate {
    /// # Panics
    /// When `of` is 0.
    #[must_use]
    pub fn new(hits: u64, of: u64) -> Self {
        assert!(of > 0 && hits <= of, "{hits} of {of} is no share");
        let (n, share) = (of as f64, hits as f64 / of as f64);
        let squared = Z * Z;
        let centre = (share + squared / (2.0 * n)) / (1.0 + squared / n);
        let half = Z / (1.0 + squared / n) * (share * (1.0 - share) / n + squared / (4.0 * n * n)).sqrt();
        // At the ends the formula gives 0 and 1, except for rounding.
        let lo = if hits == 0 { 0.0 } else { centre - half };
        let hi = if hits == of { 1.0 } else { centre + half };
        Self { hits, of, share, lo, hi }
    }
}

/// The limit of a share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// This share, within the given tolerance.
    About(f64, f64),
}

impl Limit {
    /// Whether the share (not its interval) is within the limit.
    #[must_use]
    pub fn holds(self, rate: Rate) -> bool {
        match self {
            Self::AtMost(most) => rate.share <= most,
            Self::AtLeast(least) => rate.share >= least,
            Self::About(centre, tolerance) => (rate.share - centre).abs() <= tolerance,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let text = match self {
            Self::AtMost(most) => format!("<= {}", percent(*most)),
            Self::AtLeast(least) => format!(">= {}", percent(*least)),
            Self::About(centre, tolerance) => format!("{} +- {:.0}", percent(*centre), tolerance * 100.0),
        };
        f.pad(&text)
    }
}

/// The share in percent.
#[must_use]
pub fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R: `binom::binom.wilson(x, n)`, or the formula by hand.
    #[test]
    fn intervals_are_wilsons() {
        for (hits, of, lo, hi) in [(0, 10, 0.0, 0.277_533), (5, 10, 0.236_593, 0.763_407), (10, 10, 0.722_467, 1.0)] {
            let rate = Rate::new(hits, of);
            assert!((rate.lo - lo).abs() < 1e-5 && (rate.hi - hi).abs() < 1e-5, "{rate:?}");
        }
    }

    #[test]
    fn limits_hold_or_not() {
        let rate = Rate::new(5, 1000);
        assert!(Limit::AtMost(0.005).holds(rate) && !Limit::AtMost(0.0049).holds(rate));
        assert!(Limit::AtLeast(0.005).holds(rate) && !Limit::AtLeast(0.0051).holds(rate));
        assert!(Limit::About(0.05, 0.05).holds(rate) && !Limit::About(0.6, 0.05).holds(rate));
        assert_eq!(Limit::AtLeast(0.995).to_string(), ">= 99.5 %");
        assert_eq!(Limit::About(0.6, 0.05).to_string(), "60 % +- 5");
        assert_eq!((percent(0.0), percent(0.1234)), ("0 %".to_owned(), "12.34 %".to_owned()));
    }
}
