//! Checks a host's stamps against the harness's: the harness must not trust the program that it
//! measures.

use std::sync::LazyLock;

use super::{ClockSync, Exchange};
use crate::record::{Cause, Fault};
use inferometer_protocol::messages::Generated;
use inferometer_protocol::units::duration_ns;
use inferometer_protocol::{FinishReason, Phase, Span};

/// Smallest tolerance between the times of both sides.
const TOLERANCE_NS: u64 = 2_000_000;
/// Time to wake two processes between the stamps of both sides. On a machine so busy that this
/// takes longer, the measurement is invalid anyway. A larger allowance would let a host claim speed
/// that it does not have.
const WAKING_NS: u64 = 5_000_000;
/// Longest time per byte to write, carry and read a line and (in the host) to detokenize and encode
/// it: 10 MB/s, the speed of a slow JSON library in a slow language. A token takes about thirty
/// bytes of a reply.
const BYTE_NS: u64 = 100;
/// Bytes of a reply that are counted at most, plus those per token: ids, stamps, text and the spans
/// of a timed pass need no more. Otherwise a host could gain time by padding.
const REPLY_BYTES: usize = 16 << 10;
const TOKEN_BYTES: usize = 64;
/// One part in this many of the time to the first token may be unexplained by the spans.
const UNEXPLAINED: u64 = 20;

/// Checks an exchange's stamps for impossible times and against what the harness saw.
///
/// Four checks, with a tolerance of max(2 ms, 1 % of the harness's end-to-end time):
/// 1. on the host's clock: one stamp per token, at most `max_tokens`, accepted <= tokens (never
///    falling) <= finished, and every span inside the request;
/// 2. translated to the harness's clock, all times lie between sent and received. Half the ping's
///    round trip is added to the tolerance, because the offset is only known to that precision;
/// 3. the host's time from accepting the request to the last token is all the time that the harness
///    saw, less waking two processes (5 ms together) and carrying two lines (10 MB/s). Without this
///    bound a host could claim any speed. A cancelled or failed generation is checked up to
///    `finished` instead of its last token;
/// 4. prefill spans, if any, do not overlap and precede the first token. With the spans of
///    tokenizing a text they explain the time to the first token, except for the tolerance, 5 % and
///    reading the request.
///
/// # Errors
/// A sentence for the record, with the figures.
pub fn check_stamps(exchange: &Exchange, clock: &ClockSync, max_tokens: u32) -> Result<(), Fault> {
    check_order(&exchange.generated, max_tokens).map_err(wrong)?;
    check_window(exchange, clock)?;
    check_prefill(exchange)
}

fn wrong(reason: String) -> Fault {
    Fault::new(Cause::Stamps, reason)
}

/// A fault that a machine too busy to wake a process can cause as well.
fn late(reason: String) -> Fault {
    Fault::new(Cause::LateStamps, reason)
}

fn check_order(g: &Generated, max_tokens: u32) -> Result<(), String> {
    let (tokens, stamps) = (g.tokens.len(), g.token_ns.len());
    if tokens != stamps {
        return Err(format!("{tokens} tokens have {stamps} time stamps"));
    }
    if tokens > max_tokens as usize {
        return Err(format!("{tokens} tokens came, but at most {max_tokens} were requested"));
    }
    if g.finished_ns < g.accepted_ns {
        return Err(format!(
            "the request finished at {} ns, before it was accepted at {}",
            g.finished_ns, g.accepted_ns
        ));
    }
    if let Some(at) = g.token_ns.windows(2).position(|pair| pair[1] < pair[0]) {
        let (before, after) = (g.token_ns[at], g.token_ns[at + 1]);
        return Err(format!(
            "time stamps run backwards: token {} at {after} ns after token {at} at {before} ns",
            at + 1
        ));
    }
    if let Some(first) = g.token_ns.first().filter(|first| **first < g.accepted_ns) {
        return Err(format!(
            "the first token at {first} ns is before the request was accepted at {} ns",
            g.accepted_ns
        ));
    }
    if let Some(last) = g.token_ns.last().filter(|last| **last > g.finished_ns) {
        return Err(format!("the last token at {last} ns is after the request finished at {} ns", g.finished_ns));
    }
    if let Some(served) = g.completion.served {
        let (first, last) = (g.token_ns.first().copied().unwrap_or(g.finished_ns), g.finished_ns);
        let visible = served.first_visible_ns.unwrap_or(first);
        if !(g.accepted_ns..=first).contains(&served.first_byte_ns) || !(first..=last).contains(&visible) {
            return Err(format!(
                "the first byte at {} ns and the first visible text at {visible} ns do not fit the first token at {first} ns",
                served.first_byte_ns
            ));
        }
    }
    let stray =
        g.spans.iter().find(|s| s.start_ns < g.accepted_ns || s.end_ns < s.start_ns || s.end_ns > g.finished_ns);
    stray.map_or(Ok(()), |span| {
        let (name, from, to) = (span.phase.name(), span.start_ns, span.end_ns);
        let (accepted, finished) = (g.accepted_ns, g.finished_ns);
        Err(format!(
            "span {name} {} ({from} to {to} ns) is not inside its request ({accepted} to {finished} ns)",
            span.index
        ))
    })
}

/// What the checks allow besides, in a debug build whose environment asks for it: the tests of
/// this program must pass on a busy machine too. A release build, the only one that measures, does
/// not read it.
pub fn patience_ns() -> u64 {
    static PATIENCE_NS: LazyLock<u64> = LazyLock::new(|| {
        let ms = std::env::var("INFEROMETER_TEST_PATIENCE_MS").ok().and_then(|ms| ms.parse().ok());
        ms.map_or(0, |ms: u64| ms.min(3_600_000) * 1_000_000)
    });
    if cfg!(debug_assertions) { *PATIENCE_NS } else { 0 }
}

/// Time that a host could conceal undetected in a request that takes `e2e_ns`, without the time to
/// carry its lines.
#[must_use]
pub fn allowance_ns(e2e_ns: u64) -> u64 {
    tolerance_ns(e2e_ns).saturating_add(WAKING_NS)
}

fn tolerance_ns(e2e_ns: u64) -> u64 {
    TOLERANCE_NS.max(e2e_ns / 100).saturating_add(patience_ns())
}

/// Tolerance between the times of both sides.
fn tolerance(exchange: &Exchange) -> u64 {
    let alone = tolerance_ns(exchange.received_ns.saturating_sub(exchange.sent_ns));
    if exchange.beside_others { alone.saturating_mul(BESIDE_OTHERS) } else { alone }
}

/// Requests beside each other share the host's processors and its way out: they may be read so many
/// times later.
const BESIDE_OTHERS: u64 = 4;

/// Time to carry lines of this length.
fn carrying(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(BYTE_NS)
}

fn check_window(exchange: &Exchange, clock: &ClockSync) -> Result<(), Fault> {
    let g = &exchange.generated;
    let ours = exchange.received_ns.saturating_sub(exchange.sent_ns);
    let theirs = g.finished_ns - g.accepted_ns;
    let tolerance = tolerance(exchange);
    if theirs > ours.saturating_add(tolerance) {
        return Err(wrong(format!(
            "the host reports {} end to end, but the harness saw {}",
            duration_ns(theirs),
            duration_ns(ours)
        )));
    }
    let broke_off = matches!(g.completion.finish_reason, FinishReason::Cancelled | FinishReason::Error);
    let end = g.token_ns.last().copied().filter(|_| !broke_off).unwrap_or(g.finished_ns);
    let worked = end - g.accepted_ns;
    let reply_bytes = exchange.reply_bytes.min(REPLY_BYTES + TOKEN_BYTES * g.tokens.len());
    let carried = carrying(exchange.request_bytes).saturating_add(carrying(reply_bytes));
    let outside = tolerance.saturating_add(WAKING_NS).saturating_add(carried);
    if ours - worked.min(ours) > outside {
        let to = if end == g.finished_ns { "end to end" } else { "to its last token" };
        return Err(late(format!(
            "the host reports {} {to}, but the harness saw {} end to end: more than the {} that carrying the messages explains (a busy machine, or wrong stamps)",
            duration_ns(worked),
            duration_ns(ours),
            duration_ns(outside)
        )));
    }
    let slack = i128::from(tolerance) + i128::from(clock.round_trip_ns / 2);
    let on_our_clock = |host_ns: u64| i128::from(host_ns) - i128::from(clock.offset_ns);
    let early = i128::from(exchange.sent_ns) - on_our_clock(g.accepted_ns);
    if early > slack {
        return Err(wrong(format!("the host accepted the request {early} ns before it was sent")));
    }
    let late = on_our_clock(g.finished_ns) - i128::from(exchange.received_ns);
    if late > slack {
        return Err(wrong(format!("the host finished the request {late} ns after its reply had been read")));
    }
    Ok(())
}

/// The prefill rate comes from the prefill spans, so they must not be shorter than the prefill.
fn check_prefill(exchange: &Exchange) -> Result<(), Fault> {
    let g = &exchange.generated;
    let Some(&first) = g.token_ns.first() else { return Ok(()) };
    if !g.spans.iter().any(|span| span.phase == Phase::Prefill) {
        return Ok(());
    }
    // Ids need no tokenizing: time in such spans would be uncounted prefill.
    let counts = |span: &&Span| {
        span.phase == Phase::Prefill || (span.phase == Phase::Tokenize && exchange.to_tokenize && span.start_ns < first)
    };
    let mut spans: Vec<&Span> = g.spans.iter().filter(counts).collect();
    spans.sort_by_key(|span| (span.start_ns, span.end_ns));
    let allowed = tolerance(exchange).saturating_add(carrying(exchange.request_bytes));
    let mut before = g.accepted_ns;
    for span in &spans {
        if span.start_ns < before {
            let name = span.phase.name();
            return Err(wrong(format!("span {name} {} begins before the previous span ended", span.index)));
        }
        before = span.end_ns;
    }
    // The first token may be stamped inside the last span, which then ends a little later.
    if before.saturating_sub(first) > allowed {
        let after = duration_ns(before - first);
        return Err(late(format!(
            "prefill ends {after} after the first token: more than the {} that carrying the messages explains (a busy machine, or wrong stamps)",
            duration_ns(allowed)
        )));
    }
    // Beside others a request waits for its turn before its prefill begins.
    let began = spans.first().filter(|_| exchange.beside_others).map_or(g.accepted_ns, |span| span.start_ns);
    let ttft = first.saturating_sub(began);
    let explained =
        spans.iter().map(|span| span.end_ns.min(first).saturating_sub(span.start_ns)).fold(0, u64::saturating_add);
    let allowed = allowed.saturating_add(ttft / UNEXPLAINED);
    if ttft.saturating_sub(explained) > allowed {
        return Err(late(format!(
            "prefill does not explain the time to the first token: spans tokenize and prefill have {} of {}, and the \
             rest is more than the {} that carrying the messages explains (a busy machine, or wrong stamps)",
            duration_ns(explained),
            duration_ns(ttft),
            duration_ns(allowed)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_protocol::Completion;

    const MS: u64 = 1_000_000;

    /// 100 ms on the harness's side, from 1 s on; the host's clock is 5 s ahead, and the host sees
    /// 1 ms less.
    fn honest() -> (Exchange, ClockSync) {
        let at = |ms: u64| (6000 + ms) * MS;
        let generated = Generated {
            tokens: vec![7, 8],
            token_ns: vec![at(40), at(99)],
            accepted_ns: at(0) + MS / 2,
            finished_ns: at(99) + MS / 2,
            spans: vec![Span { phase: Phase::Prefill, index: 0, start_ns: at(1), end_ns: at(40) }],
            spans_dropped: 0,
            span_timing: None,
            allocations: Vec::new(),
            memory_samples: Vec::new(),
            choices: None,
            logprobs: None,
            text: None,
            completion: Completion {
                finish_reason: FinishReason::Length,
                prompt_tokens: 3,
                reused_tokens: 0,
                prefill_tokens: 3,
                cache_tokens: None,
                effective: Default::default(),
                speculation: None,
                served: None,
            },
            memory: Default::default(),
        };
        let exchange = Exchange {
            arrivals: Vec::new(),
            generated,
            sent_ns: 1000 * MS,
            received_ns: 1100 * MS,
            request_bytes: 100,
            reply_bytes: 300,
            to_tokenize: true,
            beside_others: false,
        };
        (exchange, ClockSync { clock: "test".into(), offset_ns: 5_000_000_000, round_trip_ns: 100_000 })
    }

    fn verdict(change: impl FnOnce(&mut Exchange)) -> String {
        let (mut exchange, clock) = honest();
        change(&mut exchange);
        check_stamps(&exchange, &clock, 2).err().map_or_else(|| "fits".into(), |fault| fault.reason)
    }

    #[test]
    fn honest_stamps_fit() {
        assert_eq!(verdict(|_| {}), "fits");
        assert_eq!(verdict(|e| e.received_ns += 4 * MS), "fits", "a reader may be woken late");
        assert_eq!(verdict(|e| e.generated.tokens.clear()), "0 tokens have 2 time stamps");
    }

    #[test]
    fn stamps_out_of_order_are_named() {
        assert!(verdict(|e| e.generated.token_ns.reverse()).contains("run backwards: token 1"));
        assert!(verdict(|e| e.generated.token_ns[0] = 5 * MS).contains("before the request was accepted"));
        assert!(verdict(|e| e.generated.token_ns[1] += 900 * MS).contains("after the request finished"));
        assert!(verdict(|e| e.generated.finished_ns = 1).contains("before it was accepted"));
        assert!(verdict(|e| e.generated.spans[0].end_ns = 0).contains("span prefill 0"));
        assert!(verdict(|e| e.generated.spans[0].start_ns = 0).contains("not inside its request"));
        let more = |e: &mut Exchange| {
            e.generated.tokens.push(9);
            e.generated.token_ns.push(e.generated.token_ns[1]);
        };
        assert!(verdict(more).contains("at most 2 were requested"));
    }

    #[test]
    fn times_that_do_not_fit_the_harness_are_named() {
        let slower = verdict(|e| e.generated.finished_ns += 4 * MS);
        assert!(slower.contains("reports 103 ms end to end, but the harness saw 100 ms"), "{slower}");
        let faster = verdict(|e| e.received_ns += 10 * MS);
        assert!(faster.contains("explains"), "{faster}");
        let squeezed = verdict(|e| e.generated.token_ns = vec![e.generated.accepted_ns + 40 * MS; 2]);
        assert!(
            squeezed.contains("reports 40.0 ms to its last token, but the harness saw 100 ms end to end"),
            "{squeezed}"
        );
        let padded = |e: &mut Exchange| {
            e.received_ns += 10 * MS;
            e.reply_bytes = 50_000_000;
        };
        assert!(verdict(padded).contains("explains"), "padding gains no time");
        let cancelled = |e: &mut Exchange| {
            e.generated.token_ns[1] -= 50 * MS;
            e.generated.completion.finish_reason = FinishReason::Cancelled;
        };
        assert_eq!(verdict(cancelled), "fits", "discarded work is after the last token");
        let shift = |e: &mut Exchange, ms: i64| {
            let g = &mut e.generated;
            let moved = |ns: u64| ns.saturating_add_signed(ms * MS as i64);
            (g.accepted_ns, g.finished_ns) = (moved(g.accepted_ns), moved(g.finished_ns));
            g.token_ns.iter_mut().for_each(|ns| *ns = moved(*ns));
            g.spans.iter_mut().for_each(|s| (s.start_ns, s.end_ns) = (moved(s.start_ns), moved(s.end_ns)));
        };
        assert_eq!(verdict(|e| shift(e, 2)), "fits");
        assert!(verdict(|e| shift(e, 9)).contains("after its reply had been read"));
        assert!(verdict(|e| shift(e, -9)).contains("before it was sent"));
    }

    #[test]
    fn prefill_spans_must_explain_the_first_token() {
        let span = |phase, from: u64, to: u64| {
            let at = |tenths: u64| 6000 * MS + tenths * MS / 10;
            Span { phase, index: 0, start_ns: at(from), end_ns: at(to) }
        };
        let with = |spans: &[Span]| verdict(|e| e.generated.spans = spans.to_vec());
        assert_eq!(with(&[]), "fits", "a host without spans has no prefill rate");
        assert_eq!(with(&[span(Phase::Tokenize, 10, 200), span(Phase::Prefill, 200, 400)]), "fits");
        assert_eq!(with(&[span(Phase::Prefill, 10, 200), span(Phase::Prefill, 200, 405)]), "fits");
        let tiny = with(&[span(Phase::Prefill, 390, 400)]);
        assert!(tiny.contains("prefill does not explain the time to the first token: "), "{tiny}");
        assert!(tiny.contains("1.00 ms of 39.5 ms") && tiny.contains("carrying the messages explains"), "{tiny}");
        let not_text = verdict(|e| {
            e.to_tokenize = false;
            e.generated.spans = vec![span(Phase::Tokenize, 10, 390), span(Phase::Prefill, 390, 400)];
        });
        assert!(not_text.contains("1.00 ms of 39.5 ms"), "ids need no tokenizing: {not_text}");
        let twice = with(&[span(Phase::Prefill, 10, 300), span(Phase::Prefill, 200, 400)]);
        assert!(twice.contains("begins before the previous span ended"), "{twice}");
        let outside = with(&[span(Phase::Prefill, 10, 450)]);
        assert!(outside.contains("prefill ends 5.00 ms after the first token"), "{outside}");
    }

    #[test]
    fn impossible_figures_do_not_overflow() {
        let (mut exchange, mut clock) = honest();
        exchange.generated.accepted_ns = 0;
        exchange.generated.finished_ns = u64::MAX;
        exchange.generated.token_ns = vec![0, u64::MAX];
        (exchange.sent_ns, exchange.received_ns) = (u64::MAX, 0);
        clock.offset_ns = i64::MIN;
        clock.round_trip_ns = u64::MAX;
        exchange.reply_bytes = usize::MAX;
        assert!(check_stamps(&exchange, &clock, 2).is_err());
    }
}
