//! Makes records that look like A/B sessions, from a seed: for the tests of their report.

use inferometer::record::ab::{
    AbManifest, AbRecord, AbStore, CommitInfo, Divergence, GateInfo, OutputsFinding, PairKind, PairRow, SCHEMA_VERSION,
    SideInfo,
};
use inferometer::record::{Cause, FinishState, Record, RequestRow};
use inferometer::spec::{AbSettings, CellSelector, Gate, GateMetric, GateOrigin, OutputsRule, Side};

use crate::simulated_run::{Simulation, fill, poison, spoil};

/// What to simulate. Costs of B are those of A times these.
pub struct Session {
    pub lengths: Vec<u32>,
    pub pairs: u32,
    pub pilot: u32,
    /// On every token, and on each 1000 tokens of context.
    pub per_token: f64,
    pub per_context: f64,
    pub prefill: f64,
    /// Spread of the noise of each iteration.
    pub noise: f64,
    pub delta: f64,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            lengths: vec![512, 2048],
            pairs: 10,
            pilot: 6,
            per_token: 1.0,
            per_context: 0.0,
            prefill: 1.0,
            noise: 0.01,
            delta: 0.03,
        }
    }
}

/// Uniform in -1..1 from two numbers: an iteration's own noise.
fn swing(seed: u64, number: u64) -> f64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for shift in [30, 27, 31] {
        z = (z ^ (z >> shift)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

impl Session {
    /// Outputs equal, nothing dropped, finished.
    pub fn record(&self) -> AbRecord {
        let a = self.side(Side::A);
        let b = self.side(Side::B);
        let cells: Vec<u32> = a.manifest.plan.cells.iter().map(|cell| cell.id).collect();
        let gate = |metric| GateInfo {
            gate: Gate { metric, cells: CellSelector::default(), delta: Some(self.delta) },
            origin: GateOrigin::Scenario,
            least: self.delta,
            because: "the scenario".to_owned(),
            cell_ids: cells.clone(),
        };
        let manifest = AbManifest {
            schema_version: SCHEMA_VERSION,
            session: "20261120T092113Z-ab-long-context-1a2b3c4d".to_owned(),
            inferometer_version: "0.1.0".to_owned(),
            scenario: "long-context".to_owned(),
            origin_utc: "2026-11-20T09:21:13.000Z".to_owned(),
            finished_utc: Some("2026-11-20T09:41:50.000Z".to_owned()),
            state: FinishState::Finished,
            segments: 1,
            sides: [commit("main", "1a", "Cache the rotations"), commit("HEAD", "2b", "Copy the cache at every token")],
            gates: [GateMetric::DecodeTps, GateMetric::PrefillTps, GateMetric::PeakMemory].map(gate).to_vec(),
            settings: AbSettings { seed: 7, pilot: self.pilot, ..AbSettings::default() },
            machine: a.manifest.machine.clone(),
            git: a.manifest.git.clone(),
            outputs: Some(OutputsFinding {
                rule: OutputsRule::Identical,
                tokens: 64 * cells.len() as u64,
                divergences: Vec::new(),
                unstable: false,
                failed: None,
            }),
            refused: None,
            length: None,
            gates_checked: true,
            warnings: Vec::new(),
            redacted: None,
        };
        AbRecord { manifest, pairs: self.rows(), a, b }
    }

    /// Pilot pairs take A's iterations two by two; then AB, BA, BA, AB and so on.
    fn rows(&self) -> Vec<PairRow> {
        let pilot = (0..self.pilot).map(|i| PairRow {
            pair: i + 1,
            kind: PairKind::Pilot,
            first: Side::A,
            first_iteration: 2 * i + 1,
            second: Side::A,
            second_iteration: 2 * i + 2,
        });
        let pair = |i: u32| {
            let numbers = [(Side::A, 2 * self.pilot + i + 1), (Side::B, i + 1)];
            let [(first, first_iteration), (second, second_iteration)] =
                if matches!(i % 4, 0 | 3) { numbers } else { [numbers[1], numbers[0]] };
            let number = self.pilot + i + 1;
            PairRow { pair: number, kind: PairKind::Pair, first, first_iteration, second, second_iteration }
        };
        pilot.chain((0..self.pairs).map(pair)).collect()
    }

    fn side(&self, side: Side) -> Record {
        let iterations = self.pairs + if side == Side::A { 2 * self.pilot } else { 0 };
        let lengths = self.lengths.clone();
        let run =
            Simulation { caps: vec![0], lengths, iterations, max_tokens: 8, interval_ms: 0, ..Simulation::default() };
        let mut record = run.record();
        let (per_token, per_context, prefill) = match side {
            Side::A => (1.0, 0.0, 1.0),
            Side::B => (self.per_token, self.per_context, self.prefill),
        };
        for row in record.requests.iter_mut().filter(|row| !row.warmup) {
            let n = f64::from(row.prompt_tokens.unwrap_or(0));
            let seed = u64::from(row.iteration) << 8 | u64::from(row.cell);
            let noise = |kind: u64| (self.noise * swing(seed, kind + 8 * side as u64)).exp();
            // The record's own noise is A's too: both begin from the same costs.
            let (gap, rate) = (9.0 + n / 900.0 + n / 1500.0, 1.0 / 3.0 * n * (3.0 + n / 4000.0));
            scale_decode(row, gap * (per_token + per_context * n / 1000.0) * noise(1));
            scale_prefill(row, rate * prefill * noise(2));
            row.peak_rss_bytes = row.peak_rss_bytes.map(|bytes| (bytes as f64 * (0.1 * noise(3).ln()).exp()) as u64);
        }
        let hash = if side == Side::A { "ab" } else { "ba" };
        record.manifest.hosts[0].executable_sha256 = Some(hash.repeat(32));
        record
    }
}

/// Sets the time of a token, in ms.
fn scale_decode(row: &mut RequestRow, gap: f64) {
    let gaps = f64::from(row.generated_tokens.unwrap_or(1) - 1);
    row.decode_ms = Some(gap * gaps);
    row.decode_tps = Some(1000.0 / gap);
    for value in [&mut row.tpot_ms, &mut row.itl_p50_ms, &mut row.itl_p95_ms, &mut row.itl_p99_ms, &mut row.itl_max_ms]
    {
        *value = Some(gap);
    }
}

/// Sets the time of the prefill, in ms.
fn scale_prefill(row: &mut RequestRow, time: f64) {
    row.prefill_ms = Some(time);
    row.prefill_tps = Some(f64::from(row.prefill_tokens.unwrap_or(0)) / time * 1000.0);
    row.ttft_ms = Some(time + 1.5);
    row.e2e_ms = row.decode_ms.map(|decode| time + 1.5 + decode);
    row.cpu_ms = row.e2e_ms.map(|all| all * 1.9);
}

fn commit(revision: &str, hash: &str, subject: &str) -> SideInfo {
    SideInfo {
        label: format!("{revision} ({})", hash.repeat(4)),
        settings: Vec::new(),
        commit: Some(CommitInfo {
            hash: hash.repeat(20),
            revision: revision.to_owned(),
            subject: subject.to_owned(),
            program: vec!["/cache/builds/r/program".to_owned(), "host".to_owned()],
            program_sha256: hash.repeat(32),
            toolchain: Some("rustc 1.95.0".to_owned()),
        }),
    }
}

/// Puts a session on disk through its stores; gives its folder.
pub fn save(record: &AbRecord, results: &std::path::Path) -> std::path::PathBuf {
    let manifests = [&record.a, &record.b].map(|side| side.manifest.clone());
    let (mut store, mut sides) =
        AbStore::create(results, record.manifest.clone(), "1a2b3c4d", manifests).expect("the folder can be written");
    fill(&mut sides[0], &record.a);
    fill(&mut sides[1], &record.b);
    for pair in &record.pairs {
        store.commit(pair).expect("a pair can be written");
    }
    store.dir().to_owned()
}

/// A session that comes to each verdict, by the verdict's name; and `hostile`.
pub const KINDS: [&str; 9] = [
    "unchanged",
    "regressed",
    "improved",
    "inconclusive",
    "not-decided",
    "output-changed",
    "invalid",
    "failed",
    "hostile",
];

pub fn session(kind: &str) -> AbRecord {
    let five = vec![256, 512, 1024, 2048, 4096];
    match kind {
        "regressed" => Session { lengths: five, per_context: 0.05, ..Session::default() }.record(),
        "improved" => Session { prefill: 0.8, ..Session::default() }.record(),
        "inconclusive" => Session { pairs: 30, per_token: 1.015, noise: 0.07, ..Session::default() }.record(),
        "not-decided" => {
            let mut record = Session { pairs: 5, ..Session::default() }.record();
            record.manifest.state = FinishState::Interrupted;
            record
        }
        "output-changed" => {
            let mut record = Session { pairs: 0, pilot: 0, ..Session::default() }.record();
            let at = |cell, index, allowed, gap| Divergence {
                cell,
                turn: 0,
                index,
                a: Some(17),
                b: Some(4242),
                gap: Some(gap),
                allowed,
            };
            let finding = record.manifest.outputs.as_mut().unwrap();
            finding.rule = OutputsRule::Margin { logits: 0.05 };
            finding.divergences = vec![at(0, 3, true, 0.01), at(1, 5, false, 1.25)];
            record.manifest.settings.outputs = finding.rule;
            record
        }
        "invalid" => {
            let mut record = Session { pairs: 6, pilot: 0, ..Session::default() }.record();
            for iteration in 1..=6 {
                spoil(
                    &mut record.b,
                    0,
                    iteration,
                    Cause::LateStamps,
                    "the host says 80 ms, the harness saw 95 ms (a busy machine, or wrong stamps)",
                );
            }
            record
        }
        "failed" => {
            let mut record = Session { pairs: 4, ..Session::default() }.record();
            spoil(
                &mut record.a,
                1,
                13,
                Cause::LateStamps,
                "the host says 80 ms, the harness saw 95 ms (a busy machine, or wrong stamps)",
            );
            spoil(&mut record.b, 1, 4, Cause::Died, "the host was killed by signal 9 in prefill");
            record
        }
        "hostile" => {
            let mut record = session("failed");
            let text = crate::simulated_run::HOSTILE;
            poison(&mut record.a, text);
            poison(&mut record.b, text);
            let manifest = &mut record.manifest;
            (manifest.scenario, manifest.origin_utc) = (text.to_owned(), text.to_owned());
            manifest.machine.cpu = Some(text.to_owned());
            manifest.warnings = vec![text.to_owned()];
            for side in &mut manifest.sides {
                (side.label, side.settings) = (text.to_owned(), vec![text.to_owned()]);
                let commit = side.commit.as_mut().unwrap();
                (commit.subject, commit.toolchain) = (text.to_owned(), Some(text.to_owned()));
            }
            manifest.gates[0].because = text.to_owned();
            manifest.gates[0].gate.cells.engine = Some(text.to_owned());
            record
        }
        _ => Session::default().record(),
    }
}
