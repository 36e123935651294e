//! Verdicts of gates: speed, memory, cells, the pilot.

use super::*;

#[test]
fn every_verdict_of_speed_has_its_figures_and_its_code() {
    let slower = |factor: f64| Made::new(&[DecodeTps]).pairs(10, move |_, row| decode(row, factor));
    slower(1.1).expect(Verdict::Regressed, 1, &["decode is 10.0 % slower", "after 10 pairs"]);
    slower(1.0 / 1.1).expect(Verdict::Improved, 0, &["decode is 9.1 % faster"]);
    slower(1.0).expect(Verdict::Unchanged, 0, &["decode differs by less than 3.0 %"]);
    slower(1.01).expect(Verdict::Unchanged, 0, &["detectable but below delta"]);

    let noisy = |pairs| Made::new(&[DecodeTps]).pairs(pairs, |pair, row| decode(row, noise(pair)));
    assert_eq!(noisy(0).judge().pairs_to_next_look(), 10);
    for pairs in [0, 9, 10, 29] {
        noisy(pairs).expect(Verdict::NotDecided, 3, &[]);
    }
    assert_eq!(noisy(13).judge().pairs_to_next_look(), 7);
    noisy(30).expect(Verdict::Inconclusive, 3, &["not settled after 30 pairs", "would have given unchanged"]);
    assert_eq!(noisy(30).judge().pairs_to_next_look(), 0);
}

#[test]
fn a_gate_is_frozen_at_its_verdict() {
    // Decode is decided at the first look, memory is not; later pairs do not change decode.
    let made = Made::new(&[DecodeTps, PeakMemory]).pairs(20, |pair, row| {
        decode(row, if pair < 10 { 1.0 } else { 1.5 });
        row.peak_rss_bytes = row.peak_rss_bytes.map(|bytes| (bytes as f64 * noise(pair)) as u64);
    });
    let judgement = made.judge();
    let [decode, memory] = judgement.gates.as_slice() else { panic!("there are two gates") };
    assert_eq!((decode.verdict(), decode.decision.looks.len(), decode.x.len()), (Verdict::Unchanged, 1, 20));
    assert_eq!((decode.estimate, decode.interval.unwrap().hi), (Some(0.0), 0.0), "as it was at its look");
    assert_eq!(memory.verdict(), Verdict::NotDecided);
    assert_eq!(judgement.verdict, Verdict::NotDecided);
}

#[test]
fn a_gate_that_regressed_ends_it_and_the_others_are_not_decided() {
    let made = Made::new(&[PrefillTps, DecodeTps]).pairs(10, |pair, row| {
        decode(row, 1.1);
        row.prefill_tps = row.prefill_tps.map(|rate| rate * noise(pair));
    });
    made.expect(Verdict::Regressed, 1, &["decode is 10.0 % slower"]);
    let judgement = made.judge();
    let verdicts: Vec<Verdict> = judgement.gates.iter().map(GateJudgement::verdict).collect();
    assert_eq!(verdicts, [Verdict::NotDecided, Verdict::Regressed]);
    assert_eq!(judgement.reasons.len(), 1, "{:?}", judgement.reasons);
}

#[test]
fn one_better_and_the_rest_unchanged_is_improved() {
    let made = Made::new(&[DecodeTps, PrefillTps]).pairs(10, |_, row| decode(row, 0.8));
    made.expect(Verdict::Improved, 0, &["decode is 20.0 % faster", "prefill differs by less"]);
}

#[test]
fn a_gate_without_its_metric_is_invalid() {
    let made = Made::new(&[DecodeTps, GateMetric::Cpu]).pairs(10, |_, _| {});
    made.expect(Verdict::Invalid, 4, &["CPU time cannot be compared", "was not measured in every pair"]);
    // But a proven result stands.
    let made = Made::new(&[DecodeTps, GateMetric::Cpu]).pairs(10, |_, row| decode(row, 1.1));
    made.expect(Verdict::Regressed, 1, &[]);
    // One pair without the metric is enough; so is a value that is not a cost.
    let once = Made::new(&[DecodeTps]).pairs(10, |pair, row| row.decode_tps = (pair != 4).then_some(100.0));
    once.expect(Verdict::Invalid, 4, &["decode_tps was not measured"]);
    let zero = Made::new(&[PrefillTps]).pairs(10, |_, row| row.prefill_tps = Some(0.0));
    zero.expect(Verdict::Invalid, 4, &[]);
}

#[test]
fn peak_memory_is_the_kernels_mark_or_else_the_highest_sample() {
    let by = |made: &Made| made.judge().gates[0].compared_by.unwrap();
    let more = |row: &mut RequestRow| row.peak_rss_bytes = Some(2 << 30);
    let kernel = Made::new(&[PeakMemory]).pairs(10, |_, row| more(row));
    kernel.expect(Verdict::Regressed, 1, &["peak memory is 100.0 % more"]);
    assert_eq!(by(&kernel), "peak_rss_bytes");
    // If the kernel's figure is missing in one pair, the engine's is used for all: the two are
    // never mixed.
    let engine = Made::new(&[PeakMemory]).pairs(10, |pair, row| {
        more(row);
        row.peak_rss_bytes = row.peak_rss_bytes.filter(|_| pair != 3);
    });
    engine.expect(Verdict::Unchanged, 0, &[]);
    assert_eq!(by(&engine), "peak_sampled_bytes");
}

#[test]
fn a_gate_looks_at_its_own_cells() {
    let slow_in_one = |row: &mut RequestRow| {
        if row.cell == 1 {
            decode(row, 1.21);
        }
    };
    let mut made = Made::of_lengths(&[DecodeTps], &[100, 200]).pairs(10, |_, row| slow_in_one(row));
    let x = |made: &Made| made.judge().gates[0].x[0].1;
    assert!((x(&made) - 1.1_f64.ln()).abs() < 1e-12, "the mean over both cells: {}", x(&made));
    made.manifest.gates = vec![gate(DecodeTps, &[1])];
    assert!((x(&made) - 1.21_f64.ln()).abs() < 1e-12);
    made.manifest.gates = vec![gate(DecodeTps, &[0])];
    made.expect(Verdict::Unchanged, 0, &[]);
    made.manifest.gates[0].gate.cells = CellSelector { length: Some(100), ..CellSelector::default() };
    made.expect(Verdict::Unchanged, 0, &["decode (length=100)"]);
}

#[test]
fn a_pilot_says_what_the_machine_can_tell_apart() {
    assert_eq!(AbSettings::LEAST_PILOT as usize, PILOT_PAIRS, "fewer say nothing");
    let mut made = Made::new(&[DecodeTps]);
    for pair in 0..6 {
        made.null_pair(as_it_is, |row| decode(row, noise(pair)));
    }
    let judgement = made.judge();
    assert_eq!((judgement.counts.pilot_ok, judgement.counts.ok, judgement.verdict), (6, 0, Verdict::NotDecided));
    let [pilot] = judgement.pilot.as_slice() else { panic!("one gate has a pilot") };
    assert!(pilot.pilot.hopeless && (pilot.x[0] + 0.36).abs() < 1e-12, "{pilot:?}");
    assert_eq!(judgement.gates[0].x, [], "A/A pairs are no evidence of B");

    made.manifest.refused = Some("too noisy".to_owned());
    made.expect(Verdict::Inconclusive, 3, &["too noisy"]);

    let mut invalid_pilot = Made::new(&[DecodeTps]);
    (0..5).for_each(|_| invalid_pilot.null_pair(as_it_is, invalid));
    invalid_pilot.expect(Verdict::Invalid, 4, &["5 of 5 A/A pairs are invalid"]);
}
