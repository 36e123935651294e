//! Requests so short that the harness cannot verify their times to the session's delta.

use crate::run::host::allowance_ns;
use crate::spec::Scale;
use inferometer_protocol::units::duration_ns;

/// Durations that are suggested for requests: with each the host could conceal less.
const LONG_REQUESTS_NS: [u64; 4] = [100_000_000, 250_000_000, 500_000_000, 1_000_000_000];
/// What a host could conceal, as a share, of a request of the longest suggested duration.
const SURE: f64 = 0.015;

/// How long a request should take for gates with this delta.
pub fn wanted(least: f64) -> u64 {
    let [.., longest] = LONG_REQUESTS_NS;
    LONG_REQUESTS_NS.into_iter().find(|ns| hidden(*ns) <= least.max(SURE)).unwrap_or(longest)
}

/// The share of a request's time that its host could conceal.
fn hidden(took_ns: u64) -> f64 {
    allowance_ns(took_ns) as f64 / took_ns.max(1) as f64
}

/// A warning about a request so short that its host could conceal a change of `least`; `None` if
/// it takes long enough.
pub fn request(took_ns: u64, least: f64) -> Option<String> {
    if hidden(took_ns) <= least {
        return None;
    }
    let verified = match hidden(took_ns) {
        share if share < 1.0 => format!("can only be verified to {}", Scale::Ratio.size(share.ln_1p())),
        _ => "cannot be verified".to_owned(),
    };
    let told = format!(
        "the shortest request takes {}, so the engine's times {verified}, but delta is {}",
        duration_ns(took_ns),
        Scale::Ratio.size(least.ln_1p()),
    );
    // A tolerance of 1 % of the time remains however long a request is.
    let wanted = LONG_REQUESTS_NS.into_iter().find(|ns| hidden(*ns) <= least.max(SURE));
    Some(match wanted.filter(|wanted| *wanted > took_ns) {
        Some(wanted) => format!(
            "{told}: raise `workload.max_tokens` until each request takes {} or longer, unless you trust the engine",
            duration_ns(wanted),
        ),
        None => {
            format!("{told}: set a delta of {} or more, unless you trust the engine", Scale::Ratio.size(SURE.ln_1p()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_request_is_told_how_long_it_should_be() {
        let told = |ms: u64, least: f64| request(ms * 1_000_000, least).unwrap_or_default();
        assert!(told(15, 0.03).contains("raise `workload.max_tokens` until each request takes 250 ms"));
        assert!(told(15, 0.01).contains("until each request takes 1.00 s"), "{}", told(15, 0.01));
        assert!(
            told(1, 0.03).starts_with("the shortest request takes 1.00 ms, so the engine's times cannot be verified")
        );
        assert!(told(2_000, 0.01).contains("set a delta of 1.5 % or more"), "{}", told(2_000, 0.01));
        assert_eq!((told(250, 0.03).as_str(), told(1_000, 0.02).as_str()), ("", ""));
    }
}
