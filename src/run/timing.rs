//! Grades token times. The stamps come from the program that is being measured, so in warm-ups the
//! host sends each token as it becomes readable, and the harness compares the arrivals with the
//! stamps. Measured iterations do not stream; their stamps must have the shape that was seen.

use super::host::{ClockSync, Exchange, allowance_ns, patience_ns};
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
/// Shorter gaps are doubted in any case: handing over a finished token takes about so long.
const QUICK_NS: u64 = 100_000;
/// Two requests of the same work may differ by this much, and by one part in [`LATE_SHARE`].
const NOISE_NS: u64 = 2_000_000;

/// The grade of a generation's token times, and whether its stamps have the shape that was seen.
/// `seen`: what a streamed generation of the same host and cell showed; `g`: the reply, if its
/// stamps are sound, and whether its prompt is the one of that generation.
pub fn grade(receipt: &Receipt, seen: Option<&Sight>, g: Option<(&Generated, bool)>) -> (Timing, Result<(), String>) {
    let in_pieces = |g: &Generated| g.completion.served.is_some_and(|served| served.generated_tokens.is_some());
    match (receipt.token_timing, seen, g) {
        (_, _, Some((g, _))) if in_pieces(g) => (Timing::Inexact, Ok(())),
        (TokenTiming::Inexact, ..) => (Timing::Inexact, Ok(())),
        (_, Some(Sight::Verified(shape)), Some((g, same_prompt))) => match shape.fits(g, same_prompt) {
            Err(reason) => (Timing::Claimed, Err(reason)),
            Ok(()) if chunks(&passes(g), shape.least_ns()).is_some() => (Timing::Inexact, Ok(())),
            Ok(()) => (Timing::Verified, Ok(())),
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
    /// The tokens came together at the end, as far as one generation can show. A generation of
    /// another length decides: see [`Sight::probed`].
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
    /// Moments at which tokens became readable: as many as tokens, unless a pass of speculative
    /// decoding gives several.
    pub moments: u64,
    pub prefill_tokens: u64,
    /// From sending the request to its reply.
    pub e2e_ns: u64,
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
            moments: passes(g).len() as u64,
            prefill_tokens: u64::from(g.completion.prefill_tokens).max(1),
            e2e_ns: e2e,
        };
        if let Some(why) = chunks(&passes(g), shape.least_ns()) {
            return Self::Chunked(why);
        }
        if shape.tokens > 1 && shape.gap_ns() < shape.least_ns().max(QUICK_NS) {
            Self::Together(shape)
        } else {
            Self::Verified(shape)
        }
    }

    /// Decides [`Sight::Together`] by a generation of the same prompt with another number of
    /// tokens, which took `took_ns` from sending to its reply. Between the two lies the time that
    /// the tokens really take; the host cannot choose it.
    #[must_use]
    pub fn probed(self, tokens: u64, took_ns: u64) -> Self {
        let Self::Together(shape) = self else { return self };
        let more = tokens.abs_diff(shape.tokens);
        let really = match tokens > shape.tokens {
            true => took_ns.saturating_sub(shape.e2e_ns),
            false => shape.e2e_ns.saturating_sub(took_ns),
        };
        let noise = NOISE_NS + took_ns.max(shape.e2e_ns) / LATE_SHARE + patience_ns();
        if really <= shape.per_token_ns().saturating_mul(3 * more).saturating_add(noise) {
            return Self::Verified(shape);
        }
        Self::Chunked(format!(
            "{} tokens arrived within {}, but {more} tokens more take {} longer",
            shape.tokens,
            duration_ns(shape.decode_ns),
            duration_ns(really)
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
    /// Mean gap between moments at which tokens became readable.
    fn gap_ns(&self) -> u64 {
        self.decode_ns.checked_div(self.moments.saturating_sub(1)).unwrap_or(0)
    }

    /// Mean time of a token.
    fn per_token_ns(&self) -> u64 {
        self.decode_ns.checked_div(self.tokens.saturating_sub(1)).unwrap_or(0)
    }

    /// The least that a decoded token can cost, from the cost of a prompt token.
    fn least_ns(&self) -> u64 {
        self.first_ns / self.prefill_tokens / CHEAPER_THAN_PREFILL
    }

    /// Whether a measured generation has this shape. The harness checks the time of the whole
    /// request elsewhere, so a host can only move time between prefill and decode: one of them is
    /// then too short, and the other longer by at least half of what is missing there. Of another
    /// prompt than was seen, only decode can be compared.
    ///
    /// # Errors
    /// A sentence with both times.
    pub fn fits(&self, g: &Generated, same_prompt: bool) -> Result<(), String> {
        let (Some(&first), Some(&last)) = (g.token_ns.first(), g.token_ns.last()) else { return Ok(()) };
        let (prefill, seen_prefill) = (first.saturating_sub(g.accepted_ns), self.first_ns);
        let decode = last.saturating_sub(first);
        let noise = allowance_ns(last.saturating_sub(g.accepted_ns));
        let short = |ns: u64, seen: u64| ns.saturating_add(noise) < seen / 3 * 2;
        let took = |ns: u64, seen: u64, missing: u64| ns > seen.saturating_add(missing / 2).saturating_add(noise);
        let moments = passes(g);
        let gaps = (moments.len() as u64).saturating_sub(1);
        // As if the whole generation had the pace that was seen.
        let seen_decode = self.gap_ns().saturating_mul(gaps);
        let to_prefill = short(decode, seen_decode)
            && (!same_prompt || took(prefill, seen_prefill, seen_decode.saturating_sub(decode)));
        // Over as many tokens as were seen: later ones have more context to attend to.
        let same = moments[moments.len().min(self.moments as usize).max(1) - 1].saturating_sub(first);
        let to_decode = same_prompt
            && short(prefill, seen_prefill)
            && took(same, self.decode_ns, seen_prefill.saturating_sub(prefill));
        if !to_prefill && !to_decode {
            return Ok(());
        }
        Err(format!(
            "the host reports {} to the first token and {} per token after it; in the warm-up, where tokens were sent \
             as they became readable, it took {} and {}",
            duration_ns(prefill),
            duration_ns(decode.checked_div(gaps).unwrap_or(0)),
            duration_ns(seen_prefill),
            duration_ns(self.gap_ns()),
        ))
    }
}

/// When tokens became readable: the stamps, each once where the engine reports passes that give
/// several tokens. Fewer moments than passes mean that passes were handed over together: then the
/// stamps are judged as they are. Whether the counts are possible is checked elsewhere.
fn passes(g: &Generated) -> Vec<u64> {
    let Some(counts) = g.completion.speculation else { return g.token_ns.clone() };
    let mut moments = g.token_ns.clone();
    moments.dedup();
    // The first token belongs to no pass.
    if moments.len() as u64 > u64::from(counts.passes) { moments } else { g.token_ns.clone() }
}

/// Why these stamps show chunks of tokens: most gaps are far shorter than the mean gap, and shorter
/// than a token can take at `least`.
fn chunks(token_ns: &[u64], least: u64) -> Option<String> {
    let gaps: Vec<u64> = token_ns.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    if gaps.len() < 3 {
        return None;
    }
    let mean = gaps.iter().fold(0, |sum: u64, gap| sum.saturating_add(*gap)) / gaps.len() as u64;
    let short = gaps.iter().filter(|gap| gap.saturating_mul(SHORT) < mean && **gap < least).count();
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
    use inferometer_protocol::Speculation;

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
            beside_others: false,
        }
    }

    fn seen(stamps: &[u64], arrivals: &[u64]) -> Sight {
        Sight::of(&exchange(stamps, arrivals), &CLOCK)
    }

    #[test]
    fn tokens_that_arrive_when_stamped_are_verified() {
        let sight = seen(&[101, 121, 141, 161, 181], &[101, 122, 141, 161, 182]);
        let shape = Shape {
            first_ns: 100 * MS,
            decode_ns: 81 * MS,
            tokens: 5,
            moments: 5,
            prefill_tokens: 100,
            e2e_ns: 182 * MS,
        };
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

    /// Five tokens a pass: the stamps of passes are judged, and only if the engine reports passes.
    #[test]
    fn tokens_of_one_pass_may_come_together() {
        let stamps = [101, 161, 161, 161, 161, 161, 221, 221, 221, 221, 221];
        let mut speculating = exchange(&stamps, &stamps);
        assert!(matches!(Sight::of(&speculating, &CLOCK), Sight::Chunked(_)));
        speculating.generated.completion.speculation =
            Some(Speculation { passes: 2, verify_passes: 2, drafted_tokens: 8, accepted_tokens: 8 });
        let sight = Sight::of(&speculating, &CLOCK);
        assert!(matches!(&sight, Sight::Verified(shape) if shape.gap_ns() == 60 * MS), "{sight:?}");
        let receipt: Receipt =
            serde_json::from_str(r#"{"engine": "x", "version": "1", "token_timing": "exact"}"#).unwrap();
        let grade = |g: &Generated| grade(&receipt, Some(&sight), Some((g, true))).0;
        assert_eq!(grade(&speculating.generated), Timing::Verified);
        // Passes that come together are as inexact as tokens that do.
        speculating.generated.token_ns = [101, 161, 161, 161, 161, 161, 161, 161, 161, 161, 161].map(|t| t * MS).into();
        for (at, ns) in speculating.generated.token_ns.iter_mut().enumerate().skip(2) {
            *ns += at as u64;
        }
        assert_eq!(grade(&speculating.generated), Timing::Inexact);
    }

    /// Five tokens at a time, although each pass gave one: equal stamps are no passes.
    #[test]
    fn passes_that_come_together_are_inexact() {
        let stamps: Vec<u64> = (0..101).map(|n: u64| 101 + 60 * n.div_ceil(5)).collect();
        let mut chunked = exchange(&stamps, &stamps);
        for (passes, drafted, chunks) in [(100, 0, true), (21, 80, true), (20, 80, false)] {
            chunked.generated.completion.speculation = Some(Speculation {
                passes,
                verify_passes: drafted / 4,
                drafted_tokens: drafted,
                accepted_tokens: drafted,
            });
            let sight = Sight::of(&chunked, &CLOCK);
            assert_eq!(matches!(sight, Sight::Chunked(_)), chunks, "{passes} passes: {sight:?}");
        }
    }

    #[test]
    fn a_generation_of_another_length_decides_about_tokens_that_come_together() {
        let together = [401; 6];
        let sight = || seen(&together, &together);
        assert!(matches!(sight(), Sight::Together(_)), "{:?}", sight());
        assert!(matches!(sight().probed(64, 1200 * MS), Sight::Chunked(_)), "58 tokens more cost 0.8 s");
        assert!(matches!(sight().probed(1, 100 * MS), Sight::Chunked(_)), "five tokens less save 0.3 s");
        assert!(matches!(sight().probed(64, 405 * MS), Sight::Verified(_)), "it is really so quick");
        // A loop over a finished reply, which stamps and sends a token in 20 microseconds.
        let mut late = exchange(&together, &together);
        for (at, ns) in late.generated.token_ns.iter_mut().enumerate() {
            *ns += 20_000 * at as u64;
            late.arrivals[at].received_ns = *ns;
        }
        late.generated.completion.prefill_tokens = 4096;
        assert!(matches!(Sight::of(&late, &CLOCK), Sight::Together(_)));
    }

    #[test]
    fn time_that_moved_between_prefill_and_decode_does_not_fit() {
        let shape = |first, decode| Shape {
            first_ns: first * MS,
            decode_ns: decode * MS,
            tokens: 5,
            moments: 5,
            prefill_tokens: 100,
            e2e_ns: (first + decode) * MS,
        };
        let fits = |first, decode, stamps: &[u64]| shape(first, decode).fits(&reply(stamps, true), true).is_ok();
        assert!(fits(100, 80, &[101, 121, 141, 161, 181]));
        assert!(fits(100, 80, &[31, 41, 51, 61, 71]), "a cold warm-up is slower in both");
        assert!(fits(100, 80, &[31, 51, 71, 91, 111]), "a cold warm-up has a slower prefill");
        assert!(!fits(50, 130, &[178, 179, 180, 181, 181]), "decode took from prefill");
        assert!(!fits(100, 80, &[181, 181, 181, 181, 181]), "all of decode is in the prefill");
        assert!(!fits(100, 50, &[11, 151, 152, 153, 154]), "prefill took from decode");
        assert!(!fits(50, 130, &[1, 46, 91, 136, 181]), "all of the prefill is in decode");
        // Eight times as many tokens, ever slower with the context: still the pace that was seen.
        let long: Vec<u64> = (0..40).map(|n| 101 + 20 * n + n * n / 4).collect();
        assert!(fits(100, 80, &long));
        // A later turn of a conversation has another prompt; its decode can be compared.
        let later = |stamps: &[u64]| shape(100, 80).fits(&reply(stamps, true), false).is_ok();
        assert!(later(&[11, 31, 51, 71, 91]) && !later(&[88, 89, 90, 91, 91]));
    }

    #[test]
    fn a_measured_generation_in_chunks_is_inexact() {
        let seen = Sight::Verified(Shape {
            first_ns: 100 * MS,
            decode_ns: 80 * MS,
            tokens: 5,
            moments: 5,
            prefill_tokens: 100,
            e2e_ns: 181 * MS,
        });
        let receipt: Receipt =
            serde_json::from_str(r#"{"engine": "x", "version": "1", "token_timing": "exact"}"#).unwrap();
        let timing = |stamps: &[u64]| grade(&receipt, Some(&seen), Some((&reply(stamps, true), true))).0;
        assert_eq!(timing(&[101, 121, 141, 161, 181, 201]), Timing::Verified);
        assert_eq!(timing(&[101, 101, 101, 161, 161, 161]), Timing::Inexact);
    }
}
