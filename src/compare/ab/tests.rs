//! Judges sessions that are constructed row by row.

use super::*;
use crate::record::ab::{Divergence, GateInfo, OutputsFinding, PairKind, SCHEMA_VERSION, SideFailure, SideInfo};
use crate::record::{Cause, Fault, FinishState, Machine, Status};
use crate::spec::{AbSettings, CellSelector, Gate, GateMetric, OutputsRule, Scale};
use inferometer_protocol::{Sampling, Settings};
use inferometer_stats::sequential::PILOT_PAIRS;

use GateMetric::{DecodeTps, PeakMemory, PrefillTps};

/// A session under construction. A side's run is one row per cell, modified by the test.
struct Made {
    manifest: AbManifest,
    cells: Vec<Cell>,
    pairs: Vec<PairRow>,
    rows: [Vec<RequestRow>; 2],
}

fn side(settings: &[&str]) -> SideInfo {
    let settings = settings.iter().map(|text| (*text).to_owned()).collect();
    SideInfo { label: "a side".to_owned(), settings, commit: None }
}

fn gate(metric: GateMetric, cell_ids: &[u32]) -> GateInfo {
    let gate = Gate { metric, cells: CellSelector::default(), delta: None };
    let least = if metric.scale() == Scale::Ratio { 0.03 } else { 2.0 };
    GateInfo { gate, least, because: "a test".to_owned(), cell_ids: cell_ids.to_vec() }
}

fn cell(id: u32, length: u32) -> Cell {
    Cell {
        id,
        engine: 0,
        label: format!("len={length}"),
        length: Some(length),
        toggles: Settings::new(),
        load: Settings::new(),
        sampling: Sampling::default(),
        predicted: Settings::new(),
        merged: Vec::new(),
    }
}

/// A successful cell of `length` prompt tokens: 101 tokens in 1 s after a prefill of 1 s.
fn row(cell: u32, iteration: u32, length: u32) -> RequestRow {
    RequestRow {
        cell,
        iteration,
        engine: "engine".to_owned(),
        end_ns: 2_000_000_000,
        effective: Settings::from([("window".to_owned(), "all".into())]),
        prompt_tokens: Some(length),
        reused_tokens: Some(0),
        prefill_tokens: Some(length),
        generated_tokens: Some(101),
        ttft_ms: Some(1000.0),
        prefill_ms: Some(1000.0),
        decode_ms: Some(1000.0),
        e2e_ms: Some(2000.0),
        prefill_tps: Some(f64::from(length)),
        decode_tps: Some(100.0),
        tpot_ms: Some(10.0),
        peak_rss_bytes: Some(1 << 30),
        engine_peak_bytes: Some(1 << 20),
        token_hash: Some("beef".to_owned()),
        ..RequestRow::default()
    }
}

/// Decode takes `factor` times as long.
fn decode(row: &mut RequestRow, factor: f64) {
    row.decode_ms = row.decode_ms.map(|ms| ms * factor);
    row.decode_tps = row.decode_tps.map(|rate| rate / factor);
}

fn as_it_is(_: &mut RequestRow) {}

fn invalid(row: &mut RequestRow) {
    row.mark(&Fault::new(Cause::LateStamps, "late"));
    // A stall also takes time on the harness's clock.
    row.end_ns += 1_000_000_000;
}

fn failed(row: &mut RequestRow) {
    row.mark(&Fault::new(Cause::Died, "SIGSEGV"));
}

/// Factors up to 1.43 up and down, balanced over ten pairs.
fn noise(pair: usize) -> f64 {
    (0.08 * ((pair * 7 % 10) as f64 - 4.5)).exp()
}

impl Made {
    fn new(metrics: &[GateMetric]) -> Self {
        Self::of_lengths(metrics, &[100])
    }

    /// One cell per length; every gate compares all.
    fn of_lengths(metrics: &[GateMetric], lengths: &[u32]) -> Self {
        let cells: Vec<Cell> = (0..).zip(lengths).map(|(id, length)| cell(id, *length)).collect();
        let ids: Vec<u32> = cells.iter().map(|cell| cell.id).collect();
        let manifest = AbManifest {
            schema_version: SCHEMA_VERSION,
            session: "made".to_owned(),
            inferometer_version: String::new(),
            scenario: "made".to_owned(),
            origin_utc: String::new(),
            finished_utc: None,
            state: FinishState::Running,
            segments: 1,
            sides: [side(&[]), side(&[])],
            gates: metrics.iter().map(|metric| gate(*metric, &ids)).collect(),
            settings: AbSettings::default(),
            machine: Machine::default(),
            git: None,
            outputs: None,
            refused: None,
            gates_checked: true,
            warnings: Vec::new(),
        };
        Self { manifest, cells, pairs: Vec::new(), rows: [Vec::new(), Vec::new()] }
    }

    /// Adds a run of a side; returns its iteration.
    fn turn(&mut self, side: Side, change: impl Fn(&mut RequestRow)) -> u32 {
        let rows = &mut self.rows[side as usize];
        let iteration = rows.last().map_or(1, |row| row.iteration + 1);
        rows.extend(self.cells.iter().map(|cell| {
            let mut row = row(cell.id, iteration, cell.length.unwrap());
            change(&mut row);
            row
        }));
        iteration
    }

    fn commit(&mut self, kind: PairKind, sides: [Side; 2], iterations: [u32; 2]) {
        let pair = self.pairs.len() as u32 + 1;
        let ([first, second], [first_iteration, second_iteration]) = (sides, iterations);
        self.pairs.push(PairRow { pair, kind, first, first_iteration, second, second_iteration });
    }

    /// B runs first in every other pair.
    fn pair(&mut self, a: impl Fn(&mut RequestRow), b: impl Fn(&mut RequestRow)) {
        let (a, b) = (self.turn(Side::A, a), self.turn(Side::B, b));
        if self.pairs.len().is_multiple_of(2) {
            self.commit(PairKind::Pair, [Side::A, Side::B], [a, b]);
        } else {
            self.commit(PairKind::Pair, [Side::B, Side::A], [b, a]);
        }
    }

    fn null_pair(&mut self, first: impl Fn(&mut RequestRow), second: impl Fn(&mut RequestRow)) {
        let iterations = [self.turn(Side::A, first), self.turn(Side::A, second)];
        self.commit(PairKind::Pilot, [Side::A, Side::A], iterations);
    }

    /// Adds pairs; B is changed by the pair's number from 0.
    fn pairs(mut self, count: usize, b: impl Fn(usize, &mut RequestRow)) -> Self {
        (0..count).for_each(|pair| self.pair(as_it_is, |row| b(pair, row)));
        self
    }

    fn evidence(&self) -> Evidence<'_> {
        let [a, b] = &self.rows;
        Evidence { manifest: &self.manifest, pairs: &self.pairs, cells: &self.cells, a, b }
    }

    fn judge(&self) -> Judgement {
        judge(&self.evidence())
    }

    fn beyond(&self) -> Beyond {
        beyond(&self.evidence(), &self.judge())
    }

    fn effective(&self) -> Vec<SettingsDifference> {
        effective_settings(&self.evidence(), &self.judge())
    }

    /// Checks verdict, exit code and a reason that contains all `words`.
    #[track_caller]
    fn expect(&self, verdict: Verdict, code: u8, words: &[&str]) {
        let judgement = self.judge();
        assert_eq!(judgement.verdict, verdict, "{:?}", judgement.reasons);
        assert_eq!(verdict.exit_code(), code);
        let told = judgement.reasons.join("\n");
        assert!(words.iter().all(|word| told.contains(word)), "{words:?} are not in: {told}");
        assert_eq!(judgement.is_over(), verdict != Verdict::NotDecided);
    }

    fn found(mut self, rule: OutputsRule, divergences: Vec<Divergence>, failed: Option<SideFailure>) -> Self {
        self.manifest.settings.outputs = rule;
        self.manifest.outputs = Some(OutputsFinding { rule, tokens: 101, divergences, unstable: false, failed });
        self
    }
}

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

fn divergence(gap: Option<f32>, allowed: bool) -> Divergence {
    Divergence { cell: 0, turn: 0, index: 17, a: Some(5), b: Some(6), gap, allowed }
}

#[test]
fn other_tokens_outweigh_any_speed() {
    let regressed = || Made::new(&[DecodeTps]).pairs(10, |_, row| decode(row, 1.5));
    let changed = regressed().found(OutputsRule::Identical, vec![divergence(None, false)], None);
    changed.expect(Verdict::OutputChanged, 4, &["position 17", "token 6 instead of token 5"]);
    let any = regressed().found(OutputsRule::Any, vec![divergence(None, true)], None);
    any.expect(Verdict::Regressed, 1, &[]);

    let margin = OutputsRule::Margin { logits: 0.05 };
    let close = regressed().found(margin, vec![divergence(Some(0.01), true)], None);
    close.expect(Verdict::Regressed, 1, &[]);
    let far = regressed().found(margin, vec![divergence(Some(0.01), true), divergence(Some(0.5), false)], None);
    far.expect(
        Verdict::OutputChanged,
        4,
        &["in 1 places by more than 0.05 logits", "token 6 instead of token 5, by 0.5"],
    );
}

#[test]
fn tokens_are_looked_at_in_every_pair() {
    let other = |row: &mut RequestRow| row.token_hash = Some("cafe".to_owned());
    // B differs from A once.
    let mut made = Made::new(&[DecodeTps]).pairs(9, |_, _| {});
    made.pair(as_it_is, other);
    made.expect(Verdict::OutputChanged, 4, &["different tokens than A in pair 10"]);
    // A itself is not deterministic, so B cannot be judged.
    let mut made = Made::new(&[DecodeTps]).pairs(9, |_, _| {});
    made.pair(other, as_it_is);
    made.expect(Verdict::Invalid, 4, &["side A does not generate the same tokens each time (pair 10)"]);
    let mut made = Made::new(&[DecodeTps]).pairs(9, |_, _| {});
    made.pair(other, other);
    made.expect(Verdict::Invalid, 4, &["side A"]);
    // A pair excluded for speed, or an A/A pair, still provides outputs.
    let mut made = Made::new(&[DecodeTps]).pairs(10, |_, _| {});
    made.pair(as_it_is, |row| {
        other(row);
        invalid(row);
    });
    made.expect(Verdict::OutputChanged, 4, &["different tokens than A in pair 11"]);
    let mut made = Made::new(&[DecodeTps]);
    made.null_pair(as_it_is, other);
    made.expect(Verdict::Invalid, 4, &["side A does not generate the same tokens each time (pair 1)"]);
    let mut any = Made::new(&[DecodeTps]).pairs(9, |_, _| {}).found(OutputsRule::Any, Vec::new(), None);
    any.pair(other, as_it_is);
    any.expect(Verdict::Unchanged, 0, &[]);
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
fn peak_memory_is_the_kernels_mark_or_else_the_engines() {
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
    assert_eq!(by(&engine), "engine_peak_bytes");
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

/// Prompt lengths of the growth tests; a decode of 101 tokens happens at about `length + 51` tokens
/// of context.
const LENGTHS: [u32; 5] = [200, 400, 800, 1600, 3200];

/// Decode time a + b n in milliseconds per token, with a little noise that differs for all pairs
/// and lengths.
fn law(row: &mut RequestRow, pair: usize, a: f64, b: f64) {
    let wobble = 1.0 + 0.002 * ((pair * 7 + row.cell as usize * 3) % 5) as f64;
    let context = f64::from(row.prompt_tokens.unwrap()) + 51.0;
    decode(row, (a + b * context) * wobble / 10.0);
}

#[test]
fn the_growth_law_names_what_moved() {
    let planted = |a: f64, b: f64| {
        let mut made = Made::of_lengths(&[DecodeTps], &LENGTHS);
        for pair in 0..10 {
            made.pair(|row| law(row, pair, 10.0, 0.01), |row| law(row, pair + 1, a, b));
        }
        let beyond = made.beyond();
        let found = beyond.laws.iter().find(|law| law.law.name() == "decode").unwrap();
        assert_eq!(found.ratios.len(), LENGTHS.len(), "the ratio at every length stands beside it");
        (found.change.as_ref().and_then(|change| change.named), found.not_identifiable.clone())
    };
    use inferometer_stats::growth::Term;
    let (term, why) = planted(10.0, 0.02);
    assert_eq!(term, Some(Term::PerTokenOfContext), "{why:?}");
    assert_eq!(planted(14.0, 0.01).0, Some(Term::PerToken));
    assert_eq!(planted(10.0, 0.01).0, None, "nothing moved");
    // Two lengths are not enough for a law, which is reported.
    let few = Made::of_lengths(&[DecodeTps], &[100, 200]).pairs(10, |_, _| {}).beyond();
    assert!(few.laws.iter().all(|law| law.change.is_none() && law.not_identifiable.is_some()));
}

#[test]
fn advisory_metrics_share_their_false_discoveries() {
    let made = Made::of_lengths(&[PrefillTps], &[100, 200]).pairs(10, |pair, row| {
        row.ttft_ms = row.ttft_ms.map(|ms| ms * noise(pair));
        if row.cell == 1 {
            decode(row, 1.1);
        }
    });
    let beyond = made.beyond();
    let stands_out: Vec<(&str, u32)> =
        beyond.effects.iter().filter(|one| one.stands_out()).map(|one| (one.metric, one.cell)).collect();
    assert_eq!(stands_out, [("decode_tps", 1)]);
    let found = |metric: &str| beyond.effects.iter().find(|one| one.metric == metric && one.cell == 1).unwrap();
    let slower = found("decode_tps");
    assert!((slower.shift - 1.1_f64.ln()).abs() < 1e-12 && slower.pairs == 10);
    // Exact signed-rank of ten equal signs is 2 / 1024; the other tests make it larger.
    assert!((slower.p_value - 2.0 / 1024.0).abs() < 1e-12 && slower.adjusted > slower.p_value);
    assert!(!found("ttft_ms").stands_out());
    made.expect(Verdict::Unchanged, 0, &[]);
}

#[test]
fn effective_settings_that_differ_are_found() {
    let window = |row: &mut RequestRow, window: &str| {
        row.effective.insert("window".to_owned(), window.into());
    };
    let asked = |mut made: Made| {
        made.manifest.sides =
            [side(&["toggles.repetition_window_cap=0"]), side(&["toggles.repetition_window_cap=768"])];
        made
    };
    let lengths = || Made::of_lengths(&[DecodeTps], &[100, 2000]);
    // The cap binds in the long cell only.
    let made = asked(lengths()).pairs(10, |_, row| {
        if row.cell == 1 {
            window(row, "768")
        }
    });
    let effective = made.effective();
    let differ: Vec<_> = effective.iter().map(|d| (d.cell, d.a.as_deref(), d.b.as_deref())).collect();
    assert_eq!(differ, [(1, Some("all"), Some("768"))]);
}

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
