//! What logits say about a token.

use inferometer_host::Result;
use inferometer_host::protocol::{EngineError, TokenLogprob};

/// Checks that all logits are finite: a token chosen among the others would look like an answer.
///
/// # Errors
/// `not_finite` when one is not, or there is none.
pub fn check_finite(logits: &[f32]) -> Result<()> {
    // Every lane is looked at, so that the loop becomes vector code.
    let finite = logits.iter().fold(true, |finite, logit| finite & logit.is_finite());
    if finite && !logits.is_empty() {
        return Ok(());
    }
    Err(EngineError::not_finite("the model's logits are not all finite (NaN or infinity)"))
}

/// Highest logit minus the second highest: 0 where two are equal, the largest f32 where there is no
/// second. All are finite.
pub fn gap(logits: impl IntoIterator<Item = f32>) -> f32 {
    let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for logit in logits {
        if logit > best {
            (best, second) = (logit, best);
        } else if logit > second {
            second = logit;
        }
    }
    // Of two far apart the difference may be infinite, too.
    (best - second).min(f32::MAX)
}

/// Logarithm of the probability of `token` among finite `logits`, and of the `top` most likely
/// tokens; of equally likely ones the lower id comes first.
#[must_use]
pub fn logprob(logits: &[f32], token: u32, top: usize) -> TokenLogprob {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - f64::from(highest)).exp()).sum();
    let of = |logit: f32| (f64::from(logit) - f64::from(highest) - sum.ln()).max(f64::from(f32::MIN)) as f32;
    let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if (1..ids.len()).contains(&top) {
        ids.select_nth_unstable_by(top - 1, order);
    }
    ids.truncate(top);
    ids.sort_unstable_by(order);
    let top = ids.into_iter().map(|id| (id, of(logits[id as usize]))).collect();
    TokenLogprob { logprob: of(logits[token as usize]), top }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_host::protocol::ErrorKind;

    #[test]
    fn only_finite_logits_pass() {
        assert!(check_finite(&[0.0, f32::MAX, f32::MIN]).is_ok());
        for wrong in [&[0.0, f32::NAN][..], &[f32::INFINITY], &[f32::NEG_INFINITY, 1.0], &[]] {
            assert_eq!(check_finite(wrong).unwrap_err().kind, ErrorKind::NotFinite);
        }
    }

    #[test]
    fn a_gap_is_between_the_two_highest() {
        assert_eq!(gap([1.0, 5.0, 3.5]), 1.5);
        assert_eq!(gap([5.0, 1.0, 5.0]), 0.0);
        assert_eq!([gap([2.0]), gap([f32::MAX, f32::MIN])], [f32::MAX, f32::MAX]);
    }

    #[test]
    fn logprobs_are_those_of_a_softmax_and_pass_the_protocols_check() {
        let logits = [1.0f32, 3.0, 2.0, 3.0];
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        let found = logprob(&logits, 2, 3);
        assert!((found.logprob - (2.0 - sum.ln())).abs() < 1e-6, "{found:?}");
        assert_eq!(found.top.iter().map(|top| top.0).collect::<Vec<_>>(), [1, 3, 2]);
        for (token, top) in [(0, 0), (1, 1), (3, 2), (2, 9)] {
            assert_eq!(logprob(&logits, token, top).check(token), Ok(()), "{token} {top}");
        }
        assert_eq!(logprob(&logits, 0, 9).top.len(), 4);
    }
}
