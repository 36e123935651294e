use super::*;

fn span(phase: Phase, start_ns: u64, end_ns: u64) -> Span {
    Span { phase, index: 0, start_ns, end_ns }
}

fn one(spans: &[Span], prefill_tokens: u64, generated_tokens: u64) -> Accounting {
    account(&[Generation { spans, prefill_tokens, generated_tokens }])
}

fn times(phase: &PhaseTime) -> Vec<(Phase, u64, u64, u64)> {
    phase.spans.iter().map(|s| (s.span, s.count, s.total_ns, s.own_ns)).collect()
}

#[test]
fn own_times_and_the_unaccounted_rest_add_up_to_the_phase() {
    use Phase::{CacheClear, Decode, Forward, Penalty, Prefill, PrefillChunk, Sample, Tokenize};
    let spans = [
        span(Tokenize, 0, 5),
        span(Prefill, 5, 105),
        span(PrefillChunk, 10, 60),
        span(Forward, 11, 55),
        span(CacheClear, 60, 62),
        span(PrefillChunk, 62, 100),
        span(Forward, 63, 80),
        span(Penalty, 80, 84),
        span(Sample, 84, 94),
        span(Decode, 110, 140),
        span(Forward, 112, 130),
        span(Penalty, 130, 131),
        span(Sample, 131, 131),
    ];
    let accounting = one(&spans, 48, 3);
    let [prefill, decode] = accounting.phases.as_slice() else { panic!("{accounting:?}") };
    assert_eq!((prefill.tokens, prefill.total_ns, prefill.unaccounted_ns), (48, 100, 5 + 5));
    // Operations inside chunks are subtracted once.
    let wanted = [
        (Forward, 2, 61, 61),
        (PrefillChunk, 2, 88, 88 - 61 - 14),
        (Sample, 1, 10, 10),
        (Penalty, 1, 4, 4),
        (CacheClear, 1, 2, 2),
    ];
    assert_eq!(times(prefill), wanted);
    assert_eq!((decode.tokens, decode.total_ns, decode.unaccounted_ns), (2, 30, 30 - 19));
    assert_eq!(times(decode), [(Forward, 1, 18, 18), (Penalty, 1, 1, 1), (Sample, 1, 0, 0)]);
    assert_eq!(accounting.chunks, [50, 38]);
    for phase in &accounting.phases {
        let own: u64 = phase.spans.iter().map(|span| span.own_ns).sum();
        assert_eq!(own + phase.unaccounted_ns, phase.total_ns);
    }
}

proptest::proptest! {
    /// Whatever spans an engine sends: crossing, equal, outside the phase.
    #[test]
    fn no_spans_make_more_time_than_there_is(
        parts in proptest::collection::vec((0_usize..4, 0_u64..120, 0_u64..60), 0..12)
    ) {
        let kinds = [Phase::Forward, Phase::Penalty, Phase::Sample, Phase::PrefillChunk];
        let mut spans = vec![span(Phase::Decode, 20, 100)];
        spans.extend(parts.iter().map(|(kind, start, length)| span(kinds[*kind], *start, start + length)));
        let phase = one(&spans, 1, 9).phases.remove(0);
        let own: u64 = phase.spans.iter().map(|span| span.own_ns).sum();
        proptest::prop_assert_eq!(own + phase.unaccounted_ns, 80);
        // Reference computation, moment by moment.
        let covered = |t: u64| {
            parts.iter().any(|(_, start, length)| (20..100).contains(start) && (*start..start + length).contains(&t))
        };
        let none = (20..100).filter(|t| !covered(*t)).count() as u64;
        proptest::prop_assert_eq!(phase.unaccounted_ns, none);
    }
}

#[test]
fn growth_along_the_generation_is_seen_and_so_is_its_absence() {
    let mut spans = vec![span(Phase::Decode, 0, 1_000_000)];
    let mut now = 0;
    for token in 0..100 {
        spans.push(span(Phase::Penalty, now, now + 1000 + 30 * token));
        spans.push(span(Phase::Sample, now + 5000, now + 7000));
        now += 8000;
    }
    let found = along(&[one(&spans, 1, 101), one(&spans, 1, 101)]);
    let [penalty, sample] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((penalty.span, sample.span), (Phase::Penalty, Phase::Sample));
    assert!((penalty.growth.unwrap() - (87.0 - 12.0) * 0.03 / (1.0 + 12.0 * 0.03)).abs() < 1e-9, "{penalty:?}");
    assert_eq!(sample.growth, Some(0.0));
    assert!(along(&[one(&spans[..20], 1, 10)]).is_empty(), "ten tokens are too few");
}

#[test]
fn iterations_are_summed_up_by_median_and_range() {
    let of =
        |forward: u64| one(&[span(Phase::Decode, 0, 10_000_000), span(Phase::Forward, 0, forward * 1_000_000)], 5, 11);
    let summary = phases(&[of(4), of(9), of(5)]).remove(0);
    let forward = &summary.spans[0];
    let spread = |median, min, max| Spread { median, min, max };
    assert_eq!(forward.own.own_ms, spread(5.0, 4.0, 9.0));
    assert_eq!(forward.own.per_token_us, Some(spread(500.0, 400.0, 900.0)));
    assert_eq!(forward.own.share, Some(spread(0.5, 0.4, 0.9)));
    assert_eq!(summary.unaccounted.own_ms, spread(5.0, 1.0, 6.0));
    // Without tokens there is no cost per token.
    let none = phases(&[one(&[span(Phase::Decode, 0, 10)], 5, 1)]).remove(0);
    assert_eq!((none.unaccounted.per_token_us, none.unaccounted.share.unwrap().median), (None, 1.0));
    assert!(phases(&[]).is_empty() && chunks(&[]).is_empty());
}
