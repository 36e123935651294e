//! Judges sessions that are constructed row by row.

mod beyond;
mod differences;
mod gates;
mod outputs;
mod pairs;

use super::*;
use crate::record::ab::{Divergence, GateInfo, OutputsFinding, PairKind, SCHEMA_VERSION, SideFailure, SideInfo};
use crate::record::{Cause, Fault, FinishState, Machine, Status};
use crate::spec::{AbSettings, CellSelector, Gate, GateMetric, GateOrigin, OutputsRule, Scale};
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
    GateInfo { gate, origin: GateOrigin::Scenario, least, because: "a test".to_owned(), cell_ids: cell_ids.to_vec() }
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
        level: None,
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
        peak_sampled_bytes: Some(1 << 20),
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
            length: None,
            gates_checked: true,
            warnings: Vec::new(),
            redacted: None,
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
