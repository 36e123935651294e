//! Metrics without a ratio: counts and bytes.

use super::*;

/// Number of memory cycles on each side, by the pair's number.
fn cycles(pairs: usize, a: fn(usize) -> u32, b: fn(usize) -> u32) -> Made {
    let mut made = Made::new(&[GateMetric::MemoryCycles]);
    for pair in 0..pairs {
        made.pair(|row| row.memory_cycles = Some(a(pair)), |row| row.memory_cycles = Some(b(pair)));
    }
    made
}

#[test]
fn counts_are_judged_by_their_differences() {
    cycles(10, |_| 0, |_| 0).expect(Verdict::Unchanged, 0, &["memory cycles differs by less than 2", "[0, 0]"]);
    cycles(10, |pair| pair as u32 % 2, |_| 5).expect(
        Verdict::Regressed,
        1,
        &["memory cycles is 4.5 more [+4, +5] after 10 pairs"],
    );
    cycles(10, |_| 5, |_| 1).expect(Verdict::Improved, 0, &["memory cycles is 4 less [-4, -4]"]);
    // A constant change by one, which is less than delta. A ratio would have been 2.
    let judgement = cycles(10, |_| 1, |_| 2).judge();
    assert_eq!(judgement.verdict, Verdict::Unchanged);
    assert!(judgement.reasons[0].contains("detectable but below delta"), "{:?}", judgement.reasons);
    assert_eq!((judgement.gates[0].scale, judgement.gates[0].bound()), (Scale::Count, 2.0));
    // By exactly delta in every pair.
    cycles(10, |_| 0, |_| 2).expect(Verdict::Regressed, 1, &["2 more [+2, +2]"]);
    cycles(30, |pair| pair as u32 % 5 * 4, |pair| pair as u32 * 7 % 9 * 2).expect(
        Verdict::Inconclusive,
        3,
        &["a delta of"],
    );
    let mut made = cycles(9, |_| 0, |_| 0);
    made.pair(as_it_is, as_it_is);
    made.expect(Verdict::Invalid, 4, &["memory_cycles was not measured in every pair"]);
}

#[test]
fn bytes_that_may_be_0_have_differences_too() {
    let swing = |a: u64, b: u64| {
        let mut made = Made::new(&[GateMetric::MemorySwing]);
        made.manifest.gates[0].least = f64::from(1 << 24);
        let mib = |row: &mut RequestRow, mib: u64| row.memory_swing_bytes = Some(mib << 20);
        (0..10).for_each(|_| made.pair(|row| mib(row, a), |row| mib(row, b)));
        made
    };
    swing(0, 0).expect(Verdict::Unchanged, 0, &["memory swing differs by less than 16.0 MiB"]);
    swing(0, 64).expect(Verdict::Regressed, 1, &["64.0 MiB more [+64.0 MiB, +64.0 MiB]"]);
    swing(64, 60).expect(Verdict::Unchanged, 0, &["4.00 MiB less", "detectable but below delta"]);
}

#[test]
fn what_has_no_ratio_is_said_and_shown_as_a_difference() {
    let mut made = Made::new(&[PeakMemory]).pairs(10, |_, _| {});
    made.pair(|row| row.peak_rss_bytes = Some(0), as_it_is);
    made.expect(Verdict::Invalid, 4, &["is 0 in pair 11, which has no ratio"]);

    let mut made = Made::new(&[DecodeTps]);
    for pair in 0..10 {
        let cache = move |row: &mut RequestRow| row.kv_cache_bytes = Some(if pair == 3 { 0 } else { 1 << 20 });
        made.pair(cache, |row| row.kv_cache_bytes = Some(3 << 20));
    }
    let beyond = made.beyond();
    let effect = beyond.effects.iter().find(|effect| effect.metric == "kv_cache_bytes").unwrap();
    assert_eq!((effect.scale, effect.shift, effect.pairs), (Scale::Bytes, f64::from(2 << 20), 10));
    let decode = beyond.effects.iter().find(|effect| effect.metric == "decode_tps").unwrap();
    assert_eq!(decode.scale, Scale::Ratio);
}
