//! Checks a host's stamps against the harness's own: the instrument must not trust what it measures.

use super::{ClockSync, Exchange};
use crate::spec::protocol::Generated;
use crate::units::duration_ns;

/// Least tolerance between the two sides' times.
const TOLERANCE_NS: u64 = 2_000_000;
/// Two processes have to be woken between the sides' stamps. A machine so busy that this takes longer spoils the
/// measurement anyway; a longer allowance would be room for a host to claim speed that it does not have.
const WAKING_NS: u64 = 5_000_000;
/// Writing, moving, reading and (at the host's end) making up a line takes no longer than this for each byte: 10 MB/s
/// is what a slow JSON library in a slow language does.
const BYTE_NS: u64 = 100;

/// Says what is wrong with an exchange's stamps: times that cannot be, or that do not fit what the harness saw.
///
/// Three things are held, with a tolerance of max(2 ms, 1 % of the harness's end-to-end time):
/// 1. on the host's own clock: one stamp a token, at most `max_tokens`, accepted <= tokens (never falling) <=
///    finished, and every span inside;
/// 2. translated to the harness's clock, all of it lies between sent and received. Half the ping's round trip is
///    added to the tolerance, since the offset is known no better;
/// 3. the host's end-to-end time is no longer than the harness's, and shorter only by what lies outside it: waking two
///    processes (5 ms together) and carrying two lines (10 MB/s). Without that bound a host could claim any speed.
///
/// # Errors
/// A sentence for the record, with the figures.
pub fn check_stamps(exchange: &Exchange, clock: &ClockSync, max_tokens: u32) -> Result<(), String> {
    check_order(&exchange.generated, max_tokens)?;
    check_window(exchange, clock)
}

fn check_order(g: &Generated, max_tokens: u32) -> Result<(), String> {
    let (tokens, stamps) = (g.tokens.len(), g.token_ns.len());
    if tokens != stamps {
        return Err(format!("{tokens} tokens have {stamps} time stamps"));
    }
    if tokens > max_tokens as usize {
        return Err(format!("{tokens} tokens came where at most {max_tokens} were asked for"));
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

fn check_window(exchange: &Exchange, clock: &ClockSync) -> Result<(), String> {
    let g = &exchange.generated;
    let ours = exchange.received_ns.saturating_sub(exchange.sent_ns);
    let theirs = g.finished_ns - g.accepted_ns;
    let tolerance = TOLERANCE_NS.max(ours / 100);
    if theirs > ours.saturating_add(tolerance) {
        return Err(format!("the host says {} end to end, the harness saw {}", duration_ns(theirs), duration_ns(ours)));
    }
    let carried = (exchange.request_bytes as u64).saturating_add(exchange.reply_bytes as u64).saturating_mul(BYTE_NS);
    let outside = tolerance.saturating_add(WAKING_NS).saturating_add(carried);
    if ours - theirs.min(ours) > outside {
        return Err(format!(
            "the host says {} end to end, the harness saw {}: more than the {} that carrying the messages explains (a busy machine, or wrong stamps)",
            duration_ns(theirs),
            duration_ns(ours),
            duration_ns(outside)
        ));
    }
    let slack = i128::from(tolerance) + i128::from(clock.round_trip_ns / 2);
    let on_our_clock = |host_ns: u64| i128::from(host_ns) - i128::from(clock.offset_ns);
    let early = i128::from(exchange.sent_ns) - on_our_clock(g.accepted_ns);
    if early > slack {
        return Err(format!("the host accepted the request {early} ns before it was sent"));
    }
    let late = on_our_clock(g.finished_ns) - i128::from(exchange.received_ns);
    if late > slack {
        return Err(format!("the host finished the request {late} ns after its reply had been read"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Completion, FinishReason, Phase, Span};

    const MS: u64 = 1_000_000;

    /// 100 ms on the harness's side from 1 s on; the host's clock is 5 s ahead and it sees 1 ms less.
    fn honest() -> (Exchange, ClockSync) {
        let at = |ms: u64| (6000 + ms) * MS;
        let generated = Generated {
            tokens: vec![7, 8],
            token_ns: vec![at(40), at(80)],
            accepted_ns: at(0) + MS / 2,
            finished_ns: at(99) + MS / 2,
            spans: vec![Span { phase: Phase::Prefill, index: 0, start_ns: at(1), end_ns: at(40) }],
            spans_dropped: 0,
            text: None,
            completion: Completion {
                finish_reason: FinishReason::Length,
                prompt_tokens: 3,
                reused_tokens: 0,
                prefill_tokens: 3,
                cache_tokens: None,
                effective: Default::default(),
            },
            memory: Default::default(),
        };
        let exchange =
            Exchange { generated, sent_ns: 1000 * MS, received_ns: 1100 * MS, request_bytes: 100, reply_bytes: 300 };
        (exchange, ClockSync { clock: "test".into(), offset_ns: 5_000_000_000, round_trip_ns: 100_000 })
    }

    fn verdict(change: impl FnOnce(&mut Exchange)) -> String {
        let (mut exchange, clock) = honest();
        change(&mut exchange);
        check_stamps(&exchange, &clock, 2).err().unwrap_or_else(|| "fits".into())
    }

    #[test]
    fn honest_stamps_fit() {
        assert_eq!(verdict(|_| {}), "fits");
        assert_eq!(verdict(|e| e.received_ns += 4 * MS), "fits", "a reader woken late is no lie");
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
        assert!(verdict(more).contains("at most 2 were asked for"));
    }

    #[test]
    fn times_that_do_not_fit_the_harness_are_named() {
        let slower = verdict(|e| e.generated.finished_ns += 4 * MS);
        assert!(slower.contains("says 103 ms end to end, the harness saw 100 ms"), "{slower}");
        let faster = verdict(|e| e.received_ns += 10 * MS);
        assert!(faster.contains("explains"), "{faster}");
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
