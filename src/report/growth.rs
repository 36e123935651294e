//! A growth law in words.

use super::summary::{SeriesGrowth, Summary};
use super::svg::rate;
use inferometer_protocol::units::significant;
use inferometer_stats::growth::{Law, TermEstimate};

/// Points at which a fitted law is drawn; a dash connects each two.
const PLACES: u32 = 80;

/// `t(n) = a + b n, a = 8.00 ms [7.97, 8.03], ...`, or why the law is not identifiable.
#[must_use]
pub fn sentence(growth: &SeriesGrowth) -> String {
    let formula = format!("{} {}", growth.law.name(), growth.law.formula());
    let Some(estimate) = &growth.estimate else {
        let why = growth.not_identifiable.as_deref().unwrap_or("no estimate");
        return format!("{formula}: not identifiable, {why}");
    };
    let terms: Vec<String> = estimate.terms.iter().map(term).collect();
    let of = match growth.law {
        Law::Decode => "context",
        Law::Prefill => "prompt",
    };
    format!(
        "{formula}: {}; n from {:.0} to {:.0} tokens of {of}; residuals {} %",
        terms.join(", "),
        estimate.shortest,
        estimate.longest,
        significant(estimate.scale * 100.0)
    )
}

/// `b = 1.99 µs/token [1.95, 2.02]`.
fn term(estimate: &TermEstimate) -> String {
    let (symbol, range) = (estimate.term.symbol(), estimate.interval);
    let (factor, prefix) = scale(estimate.value.abs().max(range.lo.abs()).max(range.hi.abs()));
    let unit = estimate.term.unit().strip_prefix("ms").unwrap_or_default();
    let [value, lo, hi] = [estimate.value, range.lo, range.hi].map(|v| significant(v * factor));
    match estimate.identifiable {
        true => format!("{symbol} = {value} {prefix}{unit} [{lo}, {hi}]"),
        false => format!("{symbol} not identifiable ({lo} to {hi} {prefix}{unit})"),
    }
}

/// The factor from ms to the unit that suits a value, and that unit.
fn scale(ms: f64) -> (f64, &'static str) {
    match ms {
        m if m >= 0.1 || m == 0.0 => (1.0, "ms"),
        m if m >= 1e-4 => (1e3, "µs"),
        m if m >= 1e-7 => (1e6, "ns"),
        _ => (1e9, "ps"),
    }
}

/// The fitted law of a series of rates, from its shortest length to its longest: lengths and tokens
/// per second.
#[must_use]
pub fn curve(summary: &Summary, series: &rate::Series, law: Law) -> Vec<(f64, f64)> {
    let found = summary.growth.iter().find(|one| one.law == law && one.series == series.label);
    let ends = series.points.first().zip(series.points.last()).map(|(a, b)| (f64::from(a.at), f64::from(b.at)));
    let (Some(estimate), Some((first, last))) = (found.and_then(|one| one.estimate.as_ref()), ends) else {
        return Vec::new();
    };
    // Decode's n counts half of the generated tokens too.
    let beyond = estimate.shortest - first;
    let rate = |at: f64| match law {
        Law::Decode => 1e3 / estimate.at(at + beyond),
        Law::Prefill => 1e3 * at / estimate.at(at),
    };
    let highest = series.points.iter().map(|p| p.summary.max).fold(0.0, f64::max);
    let places = (0..PLACES).map(|i| first * (last / first).powf(f64::from(i) / f64::from(PLACES - 1)));
    // A law that fits badly can lie outside of the chart.
    places.map(|at| (at, rate(at))).filter(|(_, value)| (0.0..=highest).contains(value)).collect()
}

/// What the intervals mean.
pub const NOTE: &str = "Growth laws are fitted by Huber regression on relative error. Intervals are at 95 % for all coefficients \
                        of a law together, from resampling the iterations within each length. A coefficient is not \
                        identifiable if its interval extends further than a fifth of its value to either side.";

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_stats::growth::{Estimate, Term};
    use inferometer_stats::robust::Interval;

    #[test]
    fn a_law_reads_as_people_write_it() {
        let term = |term, value: f64, off: f64, identifiable| TermEstimate {
            term,
            value,
            interval: Interval { lo: value - off, hi: value + off, confidence: 0.975 },
            identifiable,
        };
        let terms = vec![term(Term::PerToken, 8.0, 0.03, true), term(Term::PerTokenOfContext, 0.002, 0.000_05, true)];
        let estimate =
            Estimate { law: Law::Decode, rounds: 10, shortest: 264.0, longest: 4104.5, terms, scale: 0.0068 };
        let mut growth = SeriesGrowth {
            series: "candle".to_owned(),
            law: Law::Decode,
            estimate: Some(estimate),
            not_identifiable: None,
        };
        assert_eq!(
            sentence(&growth),
            "decode t(n) = a + b n: a = 8.00 ms [7.97, 8.03], b = 2.00 µs/token [1.95, 2.05]; n from 264 to 4104 tokens \
             of context; residuals 0.680 %"
        );
        growth.estimate.as_mut().unwrap().terms[1] = term_of_nothing();
        assert!(sentence(&growth).contains("b not identifiable (-1.00 to 1.00 ns/token)"), "{}", sentence(&growth));
        growth = SeriesGrowth { estimate: None, not_identifiable: Some("too few".to_owned()), ..growth };
        assert_eq!(sentence(&growth), "decode t(n) = a + b n: not identifiable, too few");
    }

    fn term_of_nothing() -> TermEstimate {
        TermEstimate {
            term: Term::PerTokenOfContext,
            value: 0.0,
            interval: Interval { lo: -1e-6, hi: 1e-6, confidence: 0.975 },
            identifiable: false,
        }
    }
}
