//! Grades token times. The stamps come from the program that is being measured, so in warm-ups the
//! host sends each token as it becomes readable, and the harness compares the arrivals with the
//! stamps. Measured iterations do not stream; their stamps must have the shape that was seen.

use super::host::{ClockSync, Exchange, allowance_ns};
use crate::record::Timing;
use inferometer_protocol::messages::Generated;
use inferometer_protocol::units::duration_ns;
use inferometer_protocol::{Receipt, TokenTiming};

/// A token's arrival may lag behind its stamp by one part in this many of the request, besides
/// [`allowance_ns`].
const LATE_SHARE: u64 = 20;
/// A gap is short if it is less than one part in this many of the mean gap.
const SHORT: u64 = 8;
/// A decoded token costs at least one part in this many of a prompt token: prefill computes many
/// tokens per read of the weights, decode one. Shorter gaps mean that finished tokens were handed
/// over together.
const CHEAPER_THAN_PREFILL: u64 = 8;
/// Two requests of the same work may differ by this much.
const NOISE_NS: u64 = 2_000_000;
/// Above this number of prompt tokens, fixed costs per request cannot explain such gaps.
const SHORT_PROMPT: u64 = 64;

/// The grade of a generation's token times, and whether its stamps have the shape that was seen.
/// `seen`: what a streamed generation of the same host and cell showed; `g`: the reply, if it is
/// comparable with that generation.
pub fn grade(receipt: &Receipt, seen: Option<&Sight>, g: Option<&Generated>) -> (Timing, Result<(), String>) {
    match (receipt.token_timing, seen, g) {
        (TokenTiming::Inexact, ..) => (Timing::Inexact, Ok(())),
        (_, Some(Sight::Verified(shape)), Some(g)) => match shape.fits(g) {
            Ok(()) => (Timing::Verified, Ok(())),
            Err(reason) => (Timing::Claimed, Err(reason)),
        },
        (_, Some(sight), _) => (sight.timing(), Ok(())),
        (_, None, _) => (Timing::Claimed, Ok(())),
    }
}

/// What a streamed generation showed.
#[derive(Debug, Clone, PartialEq)]
pub enum Sight {
    /// The tokens arrived when they were stamped.
    Verified(Shape),
    /// The tokens came together at the end, as far as one generation can show. A generation of one
    /// token decides: see [`Sight::alone`].
    Together(Shape),
    /// Several tokens come at a time; the reason.
    Chunked(String),
    /// Stamps and arrivals differ; the reason. A busy machine can cause this too.
    Differs(String),
}

/// Times of a generation as the harness saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// From sending the request to the arrival of the first token.
    pub first_ns: u64,
    /// From the first to the last token.
    pub decode_ns: u64,
    pub tokens: u64,
    pub prefill_tokens: u64,
}

impl Sight {
    /// Compares the arrivals of a streamed generation with its stamps.
    #[must_use]
    pub fn of(exchange: &Exchange, clock: &ClockSync) -> Self {
        let g = &exchange.generated;
        let streamed: Vec<u32> = exchange.arrivals.iter().map(|arrival| arrival.token).collect();
        if streamed != g.tokens {
            return Self::Differs(format!(
                "it sent {} tokens one by one, which are not the {} tokens of its result",
                streamed.len(),
                g.tokens.len()
            ));
        }
        let e2e = exchange.received_ns.saturating_sub(exchange.sent_ns);
        let early = allowance_ns(e2e) + clock.round_trip_ns / 2;
        let late = early + e2e / LATE_SHARE;
        let stamps = g.token_ns.iter().map(|ns| i128::from(*ns) - i128::from(clock.offset_ns));
        let mut lags: Vec<i128> =
            exchange.arrivals.iter().zip(stamps).map(|(arrival, at)| i128::from(arrival.received_ns) - at).collect();
        if let Some(index) = lags.iter().position(|lag| *lag < -i128::from(early)) {
            return Self::Differs(format!("token {index} arrived {} before its stamp", span(lags[index])));
        }
        let Some(&first) = lags.first() else { return Self::Differs("it generated no tokens".to_owned()) };
        if first > i128::from(late) {
            return Self::Differs(format!("the first token arrived {} after its stamp", span(first)));
        }
        lags.sort_unstable();
        let middle = lags[lags.len() / 2];
        if middle > i128::from(late) {
            return Self::Differs(format!("half of the tokens arrived {} or more after their stamps", span(middle)));
        }
        let arrivals = &exchange.arrivals;
        let shape = Shape {
            first_ns: arrivals[0].received_ns.saturating_sub(exchange.sent_ns),
            decode_ns: arrivals[arrivals.len() - 1].received_ns.saturating_sub(arrivals[0].received_ns),
            tokens: arrivals.len() as u64,
            prefill_tokens: u64::from(g.completion.prefill_tokens).max(1),
        };
        let least = shape.first_ns / shape.prefill_tokens / CHEAPER_THAN_PREFILL;
        if let Some(why) = chunks(&g.token_ns, least) {
            return Self::Chunked(why);
        }
        let stamped = g.token_ns[g.token_ns.len() - 1] - g.token_ns[0];
        if shape.tokens > 1 && stamped / (shape.tokens - 1) < least {
            Self::Together(shape)
        } else {
            Self::Verified(shape)
        }
    }

    /// Decides [`Sight::Together`] by a generation of one token, which took `one_ns` from sending
    /// to its reply: if the others were really so quick, it takes as long as the first token did.
    #[must_use]
    pub fn alone(self, one_ns: u64) -> Self {
        let Self::Together(shape) = self else { return self };
        if shape.prefill_tokens <= SHORT_PROMPT && one_ns + NOISE_NS >= shape.first_ns / 10 * 9 {
            return Self::Verified(shape);
        }
        Self::Chunked(format!(
            "{} tokens arrived together after {}, but one token alone takes {}",
            shape.tokens,
            duration_ns(shape.first_ns),
            duration_ns(one_ns)
        ))
    }

    /// The grade that follows.
    #[must_use]
    pub fn timing(&self) -> Timing {
        match self {
            Self::Verified(_) => Timing::Verified,
            Self::Together(_) | Self::Chunked(_) => Timing::Inexact,
            Self::Differs(_) => Timing::Claimed,
        }
    }

    /// Why it is not verified.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        match self {
            Self::Verified(_) => None,
            Self::Together(shape) => Some(format!("{} tokens arrived together", shape.tokens)),
            Self::Chunked(why) | Self::Differs(why) => Some(why.clone()),
        }
    }
}

impl Shape {
    /// Whether a measured generation of the same prompt has this shape. Its end-to-end time is
    /// checked elsewhere: a host can only move time between prefill and decode, so one of them must
    /// be much longer and the other much shorter than was seen.
    ///
    /// # Errors
    /// A sentence with both times.
    pub fn fits(&self, g: &Generated) -> Result<(), String> {
        let (Some(&first), Some(&last)) = (g.token_ns.first(), g.token_ns.last()) else { return Ok(()) };
        let (prefill, seen_prefill) = (first.saturating_sub(g.accepted_ns), self.first_ns);
        let noise = allowance_ns(last.saturating_sub(g.accepted_ns));
        // The first warm-up is often slower, and a busy machine disturbs either.
        let longer = |ns: u64, seen: u64| ns > 2 * seen + noise;
        let shorter = |ns: u64, seen: u64| ns + noise < seen / 2;
        // Compared over as many tokens as were seen: later ones have more context to attend to.
        let same = g.token_ns[g.token_ns.len().min(self.tokens as usize) - 1] - first;
        let gaps = (g.token_ns.len() as u64).saturating_sub(1);
        // As if the whole generation had the pace that was seen.
        let seen_whole = self.decode_ns.checked_div(self.tokens.saturating_sub(1)).unwrap_or(0) * gaps;
        let to_prefill = longer(prefill, seen_prefill) && shorter(last - first, seen_whole);
        let to_decode = shorter(prefill, seen_prefill) && longer(same, self.decode_ns);
        if !to_prefill && !to_decode {
            return Ok(());
        }
        Err(format!(
            "the host reports {} to the first token and {} per token after it; in the warm-up, where tokens were sent \
             as they became readable, it took {} and {}",
            duration_ns(prefill),
            duration_ns((last - first).checked_div(gaps).unwrap_or(0)),
            duration_ns(seen_prefill),
            duration_ns(self.decode_ns.checked_div(self.tokens.saturating_sub(1)).unwrap_or(0)),
        ))
    }
}

/// Why these stamps show chunks of tokens: most gaps are far shorter than the mean gap, and shorter
/// than a token can take at `least`.
fn chunks(token_ns: &[u64], least: u64) -> Option<String> {
    let gaps: Vec<u64> = token_ns.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if gaps.len() < 3 {
        return None;
    }
    let mean = gaps.iter().sum::<u64>() / gaps.len() as u64;
    let short = gaps.iter().filter(|gap| **gap * SHORT < mean && **gap < least).count();
    (2 * short >= gaps.len()).then(|| {
        format!(
            "{short} of {} gaps between tokens are shorter than an eighth of the mean gap, {}",
            gaps.len(),
            duration_ns(mean)
        )
    })
}

fn span(ns: i128) -> String {
    duration_ns(u64::try_from(ns.abs()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::host::Arrival;
    use super::*;
    use crate::run::measure::tests::reply;

    const CLOCK: ClockSync = ClockSync { clock: String::new(), offset_ns: 0, round_trip_ns: 0 };
    const MS: u64 = 1_000_000;

    /// A streamed exchange: stamps and arrivals in ms; a prompt of 100 tokens, accepted at 1 ms.
    fn exchange(stamps: &[u64], arrivals: &[u64]) -> Exchange {
        let mut generated = reply(stamps, true);
        generated.completion.prefill_tokens = 100;
        let arrivals = generated.tokens.iter().zip(arrivals);
        let arrivals = arrivals.map(|(&token, ms)| Arrival { token, received_ns: ms * MS }).collect();
        let received_ns = generated.finished_ns + MS;
        Exchange {
            generated,
            arrivals,
            sent_ns: MS,
            received_ns,
            request_bytes: 100,
            reply_bytes: 100,
            to_tokenize: false,
        }
    }

    fn seen(stamps: &[u64], arrivals: &[u64]) -> Sight {
        Sight::of(&exchange(stamps, arrivals), &CLOCK)
    }

    #[test]
    fn tokens_that_arrive_when_stamped_are_verified() {
        let sight = seen(&[101, 121, 141, 161, 181], &[101, 122, 141, 161, 182]);
        let shape = Shape { first_ns: 100 * MS, decode_ns: 81 * MS, tokens: 5, prefill_tokens: 100 };
        assert_eq!(sight, Sight::Verified(shape));
    }

    #[test]
    fn stamps_before_or_after_the_arrival_differ() {
        let honest = [101, 121, 141, 161, 181];
        // The first token is said to have come late, so that decoding looks quick.
        assert!(matches!(seen(&[141, 151, 161, 171, 181], &honest), Sight::Differs(why) if why.contains("before")));
        // The first token is said to have come early, so that the prefill looks quick.
        assert!(matches!(seen(&[41, 121, 141, 161, 181], &honest), Sight::Differs(why) if why.contains("first token")));
        assert!(matches!(seen(&honest, &[101, 181, 181, 181, 181]), Sight::Differs(why) if why.contains("half")));
        assert!(matches!(seen(&honest, &honest[..4]), Sight::Differs(_)), "a token is missing");
    }

    #[test]
    fn chunks_are_inexact_and_one_stall_is_not_a_chunk() {
        let chunks = [101, 101, 101, 161, 161, 161];
        assert!(matches!(seen(&chunks, &chunks), Sight::Chunked(_)));
        let stall = [101, 601, 603, 605, 607, 609];
        assert!(matches!(seen(&stall, &stall), Sight::Verified(_)));
    }

    #[test]
    fn one_token_alone_decides_about_tokens_that_come_together() {
        let together = [401; 6];
        let sight = seen(&together, &together);
        assert!(matches!(sight, Sight::Together(_)), "{sight:?}");
        assert!(matches!(sight.clone().alone(390 * MS), Sight::Chunked(_)), "100 prompt tokens hide six decoded ones");
        let Sight::Together(shape) = sight else { panic!() };
        let short = || Sight::Together(Shape { prefill_tokens: 8, ..shape });
        assert!(matches!(short().alone(390 * MS), Sight::Verified(_)));
        assert!(matches!(short().alone(100 * MS), Sight::Chunked(_)));
    }

    #[test]
    fn time_that_moved_between_prefill_and_decode_does_not_fit() {
        let fits = |first, decode, stamps: &[u64]| {
            let shape = Shape { first_ns: first * MS, decode_ns: decode * MS, tokens: 5, prefill_tokens: 100 };
            shape.fits(&reply(stamps, true)).is_ok()
        };
        assert!(fits(100, 80, &[101, 121, 141, 161, 181]));
        assert!(fits(100, 80, &[31, 41, 51, 61, 71]), "a cold warm-up is slower in both");
        assert!(!fits(50, 130, &[178, 179, 180, 181, 181]), "decode took from prefill");
        assert!(!fits(100, 50, &[11, 151, 152, 153, 154]), "prefill took from decode");
        // Eight times as many tokens, ever slower with the context: still the pace that was seen.
        let long: Vec<u64> = (0..40).map(|n| 101 + 20 * n + n * n / 4).collect();
        assert!(fits(100, 80, &long));
    }
}
