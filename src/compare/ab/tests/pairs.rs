//! Pairs that do not count, and sides that fail.

use super::*;

#[test]
fn invalid_pairs_are_replaced_and_counted_by_side() {
    let mut made = Made::new(&[DecodeTps]).pairs(9, |_, _| {});
    made.pair(invalid, as_it_is);
    made.pair(as_it_is, invalid);
    made.pair(as_it_is, invalid);
    made.pair(invalid, invalid);
    // An iteration that was never run, though no side failed, is not counted either.
    let a = made.turn(Side::A, as_it_is);
    made.commit(PairKind::Pair, [Side::A, Side::B], [a, 99]);
    made.expect(Verdict::NotDecided, 3, &[]);
    made.pair(as_it_is, as_it_is);
    made.expect(Verdict::Unchanged, 0, &["after 10 pairs"]);
    let judgement = made.judge();
    let counts = &judgement.counts;
    assert_eq!((counts.ok, counts.dropped_a, counts.dropped_b, counts.dropped_both), (10, 1, 3, 1));
    assert_eq!(judgement.gates[0].x.iter().map(|(pair, _)| *pair).max(), Some(15), "pairs keep their numbers");
    assert!(counts.last_dropped.as_ref().unwrap().contains("not recorded (pair 14)"), "{counts:?}");
    let PairOutcome::Dropped { sides, reason } = &judgement.pairs[9].outcome else { panic!("pair 10 is dropped") };
    assert_eq!(sides.as_slice(), [Side::A]);
    assert!(reason.starts_with("side A in cell `len=100`: late"), "{reason}");
}

#[test]
fn one_invalid_cell_drops_the_whole_pair() {
    let mut made = Made::of_lengths(&[DecodeTps], &[100, 200]);
    made.pair(as_it_is, |row| {
        if row.cell == 1 {
            invalid(row)
        }
    });
    assert_eq!((made.judge().counts.ok, made.judge().counts.dropped_b), (0, 1));
    assert_eq!(made.judge().gates[0].x, []);
}

#[test]
fn a_side_b_that_is_often_invalid_proves_nothing_good() {
    let suspect = |factor: f64, invalid_b: usize| {
        let mut made = Made::new(&[DecodeTps]).pairs(10, move |_, row| decode(row, factor));
        (0..invalid_b).for_each(|_| made.pair(as_it_is, invalid));
        made
    };
    suspect(1.0, 5).expect(Verdict::Unchanged, 0, &[]);
    for factor in [1.0, 0.8] {
        suspect(factor, 6).expect(Verdict::Invalid, 4, &["B was invalid in 6 pairs", "more than chance", "late"]);
    }
    suspect(1.1, 7).expect(Verdict::Regressed, 1, &[]);
    // If most pairs are invalid, the session cannot continue.
    Made::new(&[DecodeTps]).pairs(5, |_, row| invalid(row)).expect(Verdict::Invalid, 4, &["5 of 5 pairs"]);
}

#[test]
fn what_no_busy_machine_explains_is_not_dropped() {
    let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
    made.pair(as_it_is, |row| (row.status, row.reason) = (Status::Invalid, "effective settings differ".to_owned()));
    made.expect(Verdict::Invalid, 4, &["contradicts itself", "side B", "effective settings differ", "pair 11"]);
    // Stamps that do not fit although the iteration took no longer than others: no process was
    // woken late.
    let early = |row: &mut RequestRow| {
        let end_ns = row.end_ns;
        invalid(row);
        row.end_ns = end_ns;
    };
    let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
    (0..2).for_each(|_| made.pair(as_it_is, early));
    made.expect(Verdict::Unchanged, 0, &[]);
    made.pair(as_it_is, early);
    made.expect(
        Verdict::Invalid,
        4,
        &["side B's stamps do not fit their request in 3 iterations", "the machine was not busy"],
    );
}

/// What excused an iteration once was the end of its reason, and an engine's own words stand there.
#[test]
fn no_words_of_an_engine_change_what_becomes_of_a_pair() {
    for words in ["(external cause)", "(a busy machine, or wrong stamps)", "not recorded", ""] {
        for (cause, verdict, code) in [
            (Cause::Settings, Verdict::Invalid, 4),
            (Cause::Counts, Verdict::Invalid, 4),
            (Cause::EngineError, Verdict::Failed, 1),
        ] {
            let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
            made.pair(as_it_is, |row| row.mark(&Fault::new(cause, format!("dtype is {words}"))));
            made.expect(verdict, code, &[]);
        }
        let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
        made.pair(as_it_is, |row| row.mark(&Fault::new(Cause::ForeignLoad, words)));
        made.expect(Verdict::Unchanged, 0, &[]);
    }
}

#[test]
fn pairs_with_an_external_cause_are_dropped_by_side() {
    let disturbed = |row: &mut RequestRow| row.mark(&Fault::new(Cause::Throttling, "throttled"));
    let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
    (0..3).for_each(|_| made.pair(disturbed, as_it_is));
    (0..3).for_each(|_| made.pair(as_it_is, disturbed));
    // They took no longer than others, which is no evidence against their stamps.
    made.expect(Verdict::Unchanged, 0, &["after 10 pairs"]);
    assert_eq!((made.judge().counts.dropped_a, made.judge().counts.dropped_b), (3, 3));
    // A side B that heats up the machine itself cannot be favoured.
    let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
    (0..5).for_each(|_| made.pair(as_it_is, disturbed));
    made.expect(Verdict::Unchanged, 0, &[]);
    made.pair(as_it_is, disturbed);
    made.expect(Verdict::Invalid, 4, &["side B was invalid in 6 pairs and side A in 0", "throttled"]);
    // A pair in which an engine also contradicts itself is never dropped.
    let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
    made.pair(disturbed, |row| (row.status, row.reason) = (Status::Invalid, "effective settings differ".to_owned()));
    made.expect(Verdict::Invalid, 4, &["contradicts itself"]);
}

#[test]
fn a_side_that_fails_decides() {
    let after = |a: fn(&mut RequestRow), b: fn(&mut RequestRow)| {
        let mut made = Made::new(&[DecodeTps]).pairs(3, |_, _| {});
        made.pair(a, b);
        made
    };
    after(as_it_is, failed).expect(Verdict::Failed, 1, &["side B fails in 1 of 4 pairs", "SIGSEGV (pair 4)"]);
    after(invalid, failed).expect(Verdict::Failed, 1, &["side B fails"]);
    after(failed, as_it_is).expect(Verdict::Invalid, 4, &["side A fails", "B cannot be judged"]);
    after(failed, invalid).expect(Verdict::Invalid, 4, &["side A fails"]);
    after(failed, failed).expect(Verdict::Invalid, 4, &["both sides fail"]);
    assert!(!after(as_it_is, failed).judge().pairs[3].counts());

    // A regression outweighs everything, whatever the other gates show.
    let mut made = Made::new(&[DecodeTps]).pairs(10, |_, row| decode(row, 0.5));
    made.pair(as_it_is, failed);
    made.expect(Verdict::Failed, 1, &[]);
    let mut made = Made::new(&[DecodeTps]);
    made.null_pair(as_it_is, failed);
    made.expect(Verdict::Invalid, 4, &["side A fails"]);
}

#[test]
fn a_side_that_fails_before_anything_is_measured_decides_too() {
    let failure = |side| Some(SideFailure { side, cell: 0, reason: "no host: SIGILL".to_owned() });
    let found = |side| Made::new(&[DecodeTps]).found(OutputsRule::Any, Vec::new(), failure(side));
    found(Side::A).expect(Verdict::Invalid, 4, &["side A fails", "SIGILL"]);
    found(Side::B).expect(Verdict::Failed, 1, &["side B fails", "SIGILL"]);
}
