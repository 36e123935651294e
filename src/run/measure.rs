//! Computes the record's figures from a host's reply, by the definitions of
//! docs/explanation/method.md#metrics.

use crate::origin::Origin;
use crate::record::figures::{TokenFigures, ms, rate};
use crate::record::{RequestRow, SpanRow, Timing, TokenRow, token_hash};
use inferometer_protocol::messages::Generated;
use inferometer_protocol::{Phase, Span};

/// Fills the columns that follow from the reply.
///
/// `believed`: whether its stamps passed the harness's check. If not, times and rates stay empty.
pub fn fill(row: &mut RequestRow, generated: &Generated, timing: Timing, believed: bool) {
    let completion = &generated.completion;
    row.timing = Some(timing);
    row.finish_reason = Some(completion.finish_reason);
    row.prompt_tokens = Some(completion.prompt_tokens);
    row.reused_tokens = Some(completion.reused_tokens);
    row.prefill_tokens = Some(completion.prefill_tokens);
    row.generated_tokens = Some(count(generated.tokens.len()));
    row.cache_tokens = completion.cache_tokens;
    row.engine_active_bytes = generated.memory.active_bytes;
    row.engine_cache_bytes = generated.memory.cache_bytes;
    row.engine_peak_bytes = generated.memory.peak_bytes;
    row.kv_cache_bytes = generated.memory.kv_cache_bytes;
    if let Some(counts) = completion.speculation {
        row.decode_passes = Some(counts.passes);
        row.verify_passes = Some(counts.verify_passes);
        row.drafted_tokens = Some(counts.drafted_tokens);
        row.accepted_tokens = Some(counts.accepted_tokens);
    }
    row.counted_tokens = completion.served.and_then(|served| served.generated_tokens);
    row.token_hash = (!generated.tokens.is_empty()).then(|| token_hash(&generated.tokens));
    if believed {
        times(row, generated, timing);
    }
}

/// How long a request under load waited before the engine took it up; `intended_ns`: when it was
/// due, from the run's origin.
pub fn wait(row: &mut RequestRow, generated: &Generated, offset_ns: i64, (intended_ns, origin): (u64, &Origin)) {
    // A request cannot be taken up before it is due, but the comparison of the clocks is not exact.
    let waited = |at: u64| ms(at_host(at, offset_ns, origin).saturating_sub(intended_ns));
    row.late_ms = Some(waited(generated.accepted_ns));
    let prefill = generated.spans.iter().filter(|span| span.phase == Phase::Prefill);
    row.queue_ms = prefill.map(|span| span.start_ns).min().map(waited);
}

fn times(row: &mut RequestRow, generated: &Generated, timing: Timing) {
    row.tokenize_ms = time_in(&generated.spans, Phase::Tokenize).map(ms);
    let prefill = time_in(&generated.spans, Phase::Prefill);
    row.prefill_ms = prefill.map(ms);
    row.prefill_tps = prefill.and_then(|ns| rate(u64::from(generated.completion.prefill_tokens), ns));
    let (Some(&first), Some(&last)) = (generated.token_ns.first(), generated.token_ns.last()) else { return };
    row.ttft_ms = first.checked_sub(generated.accepted_ns).map(ms);
    row.e2e_ms = last.checked_sub(generated.accepted_ns).map(ms);
    if let Some(served) = generated.completion.served {
        let accepted_ns = generated.accepted_ns;
        row.first_byte_ms = served.first_byte_ns.checked_sub(accepted_ns).map(ms);
        row.first_visible_ms = served.first_visible_ns.and_then(|at| at.checked_sub(accepted_ns)).map(ms);
    }
    let figures = TokenFigures::of(&generated.token_ns);
    row.decode_ms = figures.decode_ms;
    if row.counted_tokens.is_some() {
        // How many tokens came with the first piece is not known, so neither is a rate.
        return;
    }
    (row.decode_tps, row.tpot_ms) = (figures.decode_tps, figures.tpot_ms);
    // Tokens of one pass come together: gaps between them are not the time of a token.
    if timing != Timing::Inexact && !row.has_passes_of_several_tokens() {
        row.itl_p50_ms = figures.itl_p50_ms;
        row.itl_p95_ms = figures.itl_p95_ms;
        row.itl_p99_ms = figures.itl_p99_ms;
        row.itl_max_ms = figures.itl_max_ms;
    }
}

/// Total time in the spans of a phase; `None` if there is none.
fn time_in(spans: &[Span], phase: Phase) -> Option<u64> {
    let mut total = None;
    for span in spans.iter().filter(|span| span.phase == phase) {
        *total.get_or_insert(0) += span.end_ns.saturating_sub(span.start_ns);
    }
    total
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Converts a reading of a host's clock to time since the run's origin; `offset_ns` is host minus
/// harness.
fn at_host(host_ns: u64, offset_ns: i64, origin: &Origin) -> u64 {
    let harness = i128::from(host_ns) - i128::from(offset_ns);
    origin.t_ns(u64::try_from(harness.max(0)).unwrap_or(u64::MAX))
}

/// Rows of `tokens.csv` for one reply.
#[must_use]
pub fn token_rows(request: u64, generated: &Generated, offset_ns: i64, origin: &Origin) -> Vec<TokenRow> {
    let stamped = generated.tokens.iter().zip(&generated.token_ns).enumerate();
    stamped
        .map(|(index, (&id, &ns))| TokenRow {
            request,
            index: count(index),
            id: Some(id),
            t_ns: at_host(ns, offset_ns, origin),
        })
        .collect()
}

/// Rows of `spans.csv` for one reply.
#[must_use]
pub fn span_rows(request: u64, spans: &[Span], offset_ns: i64, origin: &Origin) -> Vec<SpanRow> {
    spans
        .iter()
        .map(|span| SpanRow {
            request,
            phase: span.phase,
            index: span.index,
            start_ns: at_host(span.start_ns, offset_ns, origin),
            end_ns: at_host(span.end_ns, offset_ns, origin),
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::Status;
    use inferometer_protocol::{Completion, EngineMemory, FinishReason, Settings};

    /// A reply with constructed stamps: accepted at 1 ms, tokens at the given milliseconds, prefill
    /// from 2 to 12 ms.
    pub fn reply(token_ms: &[u64], prefill: bool) -> Generated {
        let span = |phase, start: u64, end: u64| Span {
            phase,
            index: 0,
            start_ns: start * 1_000_000,
            end_ns: end * 1_000_000,
        };
        let mut spans = vec![span(Phase::Tokenize, 1, 2)];
        if prefill {
            spans.push(span(Phase::Prefill, 2, 12));
        }
        Generated {
            tokens: (0..token_ms.len() as u32).map(|i| 100 + i).collect(),
            token_ns: token_ms.iter().map(|ms| ms * 1_000_000).collect(),
            accepted_ns: 1_000_000,
            finished_ns: token_ms.last().map_or(13, |ms| ms + 1) * 1_000_000,
            spans,
            spans_dropped: 0,
            span_timing: None,
            allocations: Vec::new(),
            memory_samples: Vec::new(),
            choices: None,
            logprobs: None,
            text: None,
            completion: Completion {
                finish_reason: FinishReason::Length,
                prompt_tokens: 100,
                reused_tokens: 20,
                prefill_tokens: 80,
                cache_tokens: Some(99 + token_ms.len() as u32),
                effective: Settings::new(),
                speculation: None,
                served: None,
            },
            memory: EngineMemory { active_bytes: Some(7), ..EngineMemory::default() },
        }
    }

    pub fn empty_row() -> RequestRow {
        RequestRow { iteration: 1, engine: "engine".to_owned(), ..RequestRow::default() }
    }

    fn filled(generated: &Generated, timing: Timing) -> RequestRow {
        let mut row = empty_row();
        fill(&mut row, generated, timing, true);
        row
    }

    #[test]
    fn figures_follow_their_definitions() {
        let row = filled(&reply(&[13, 15, 19, 23], true), Timing::Verified);
        assert_eq!(row.status, Status::Ok);
        assert_eq!(row.tokenize_ms, Some(1.0));
        assert_eq!(row.ttft_ms, Some(12.0));
        assert_eq!(row.e2e_ms, Some(22.0));
        assert_eq!(row.prefill_ms, Some(10.0));
        assert_eq!(row.prefill_tps, Some(8000.0), "80 computed tokens in 10 ms; the 20 reused tokens are not counted");
        assert_eq!(row.decode_ms, Some(10.0));
        assert_eq!(row.decode_tps, Some(300.0), "3 gaps in 10 ms");
        assert_eq!(row.tpot_ms, Some(10.0 / 3.0));
        assert_eq!(row.itl_p50_ms, Some(4.0));
        assert_eq!(row.itl_max_ms, Some(4.0));
        assert_eq!((row.generated_tokens, row.engine_active_bytes), (Some(4), Some(7)));
    }

    #[test]
    fn what_was_not_measured_stays_empty() {
        let no_prefill = filled(&reply(&[13, 15], false), Timing::Verified);
        assert_eq!((no_prefill.prefill_ms, no_prefill.prefill_tps), (None, None), "never the time to first token");
        assert_eq!(no_prefill.ttft_ms, Some(12.0));
        let one = filled(&reply(&[13], true), Timing::Verified);
        assert_eq!((one.decode_ms, one.decode_tps, one.tpot_ms, one.itl_p50_ms), (None, None, None, None));
        assert_eq!(one.e2e_ms, Some(12.0));
        let none = filled(&reply(&[], true), Timing::Verified);
        assert_eq!((none.ttft_ms, none.e2e_ms, none.token_hash), (None, None, None));
        assert_eq!(none.generated_tokens, Some(0));
        let chunked = filled(&reply(&[13, 13, 23, 23], true), Timing::Inexact);
        assert_eq!((chunked.itl_p50_ms, chunked.itl_p99_ms, chunked.itl_max_ms), (None, None, None));
        assert_eq!(chunked.decode_tps, Some(300.0));
        let at_once = filled(&reply(&[13, 13], true), Timing::Inexact);
        assert_eq!(at_once.decode_tps, None, "no rate without time");
    }

    #[test]
    fn stamps_that_are_not_believed_give_no_figures() {
        let mut row = empty_row();
        fill(&mut row, &reply(&[23, 13], true), Timing::Verified, false);
        assert_eq!((row.ttft_ms, row.decode_tps, row.prefill_tps), (None, None, None));
        assert_eq!(row.generated_tokens, Some(2));
        assert!(row.token_hash.is_some());
        let backwards = filled(&reply(&[23, 13], true), Timing::Verified);
        assert_eq!(backwards.decode_tps, None, "and never a panic");
    }

    #[test]
    fn host_stamps_land_on_the_run_s_axis() {
        let origin = Origin::start();
        let harness = inferometer_protocol::clock::now_ns() + 1_000_000;
        let since = origin.t_ns(harness);
        assert_eq!(at_host(harness + 8_000, 8_000, &origin), since, "the host's clock is 8000 ahead");
        assert_eq!(at_host(harness - 8_000, -8_000, &origin), since, "and here it is behind");
        assert_eq!(at_host(100, 200, &origin), 0, "nothing lies before the origin");
        let mut generated = reply(&[13, 15], true);
        generated.token_ns = vec![harness, harness + 5];
        let rows = token_rows(3, &generated, 0, &origin);
        assert_eq!(rows[1], TokenRow { request: 3, index: 1, id: Some(101), t_ns: since + 5 });
    }
}
