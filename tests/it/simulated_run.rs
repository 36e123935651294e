//! Makes records that look like real runs, from a seed: for the report's tests and its benchmark.
//!
//! Rates fall with prompt length, memory is a sawtooth, tokens depend on the cell alone. Times are
//! derived as the run driver derives them (docs/explanation/method.md#metrics), so that the parts
//! agree with each other.

use std::collections::BTreeMap;

use inferometer::record::figures::TokenFigures;
use inferometer::record::schema::SCHEMA_VERSION;
use inferometer::record::{
    Cause, Fault, FinishState, GaugeInfo, GitState, HostInfo, Iteration, Machine, Manifest, Record, RequestRow,
    SpanRow, Status, Store, TelemetryRow, Timing, TokenRow, token_hash,
};
use inferometer::spec::{
    Axis, Cell, ConversationWorkload, Isolation, Plan, PromptWorkload, Replies, RunSettings, Scenario,
    TelemetrySettings, Turn, Vary, Workload,
};
use inferometer_protocol::{
    Capabilities, EngineSpec, FinishReason, ModelIdentity, ModelSpec, Phase, Receipt, Sampling, Settings, Shape,
    TokenTiming, Value, predict,
};
use inferometer_stats::robust::quantile;

/// What to simulate.
pub struct Simulation {
    pub caps: Vec<i64>,
    pub lengths: Vec<u32>,
    pub iterations: u32,
    pub warmup: u32,
    pub max_tokens: u32,
    pub interval_ms: u64,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            caps: vec![0, 768],
            lengths: vec![512, 2048, 8192],
            iterations: 10,
            warmup: 1,
            max_tokens: 64,
            interval_ms: 50,
        }
    }
}

/// The run as one of several engines: each cap becomes an engine with a host and settings of its
/// own, all with the tokens of the first and none with an own toggle.
pub fn as_engines(record: &mut Record, labels: &[&str]) {
    let lengths = record.manifest.plan.cells.len() / labels.len();
    let first = record.manifest.scenario.engines[0].clone();
    let engines = labels.iter().map(|label| EngineSpec { label: (*label).to_owned(), ..first.clone() });
    record.manifest.scenario.engines = engines.collect();
    let is_own = |name: &str| ["repetition_window_cap", "threads"].contains(&name);
    record.manifest.scenario.toggles.retain(|axis| !is_own(&axis.toggle));
    let threads = |engine: usize| Axis { toggle: "threads".to_owned(), values: vec![Value::Int(1 + engine as i64)] };
    let own = labels.iter().enumerate().map(|(engine, label)| ((*label).to_owned(), vec![threads(engine)]));
    record.manifest.scenario.engine_toggles = own.collect();
    for (id, cell) in record.manifest.plan.cells.iter_mut().enumerate() {
        cell.engine = (id / lengths) as u32;
        cell.toggles.remove("repetition_window_cap");
        for settings in [&mut cell.toggles, &mut cell.load, &mut cell.predicted] {
            settings.entry("threads".to_owned()).and_modify(|value| *value = Value::Int(1 + (id / lengths) as i64));
        }
        cell.label = format!("{} {}", labels[id / lengths], cell.label.split(' ').next_back().unwrap_or_default());
    }
    record.manifest.hosts = (0..labels.len() as u32)
        .map(|engine| HostInfo { host: engine, engine, ..record.manifest.hosts[0].clone() })
        .collect();
    let mut equal: BTreeMap<u32, Vec<Option<u32>>> = BTreeMap::new();
    let mut same = |cell: u32, ids: Vec<Option<u32>>| equal.entry(cell % lengths as u32).or_insert(ids).clone();
    for row in &mut record.requests {
        row.host = row.cell / lengths as u32;
        row.effective.insert("threads".to_owned(), Value::Int(1 + i64::from(row.host)));
        row.effective.retain(|name, _| !name.starts_with("repetition"));
        row.timing = Some(Timing::Verified);
        let ids = record.tokens.iter().filter(|token| token.request == row.request).map(|token| token.id).collect();
        let ids = same(row.cell, ids);
        record.tokens.iter_mut().filter(|t| t.request == row.request).zip(&ids).for_each(|(token, id)| token.id = *id);
        row.token_hash = Some(token_hash(&ids.into_iter().flatten().collect::<Vec<_>>()));
    }
}

/// A small deterministic generator (splitmix64): the records must not depend on a library's
/// version.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    fn swing(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

const MS: u64 = 1_000_000;

impl Simulation {
    /// Everything valid, deterministic and finished.
    pub fn record(&self) -> Record {
        let cells = self.cells();
        let order: Vec<Vec<u32>> = (0..self.iterations)
            .map(|i| {
                let mut round: Vec<u32> = cells.iter().map(|c| c.id).collect();
                round.rotate_left(i as usize % cells.len());
                round
            })
            .collect();
        let mut record = Record {
            manifest: self.manifest(Plan { cells, order }),
            requests: Vec::new(),
            tokens: Vec::new(),
            spans: Vec::new(),
            telemetry: Vec::new(),
            profile: Default::default(),
            quality: Vec::new(),
        };
        let mut noise = Noise(7);
        let mut now = 900 * MS;
        let plan = record.manifest.plan.clone();
        for _ in 0..self.warmup {
            for cell in &plan.cells {
                now = self.request(&mut record, cell, 0, now, &mut noise) + 12 * MS;
            }
        }
        for (round, ids) in plan.order.iter().enumerate() {
            for id in ids {
                now = self.request(&mut record, &plan.cells[*id as usize], round as u32 + 1, now, &mut noise) + 12 * MS;
            }
        }
        self.telemetry(&mut record, now, &mut noise);
        record
    }

    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for cap in &self.caps {
            for length in &self.lengths {
                let toggles = Settings::from([
                    ("prefill_chunk_size".to_owned(), Value::Int(512)),
                    ("repetition_window_cap".to_owned(), Value::Int(*cap)),
                    ("threads".to_owned(), Value::Int(2)),
                ]);
                let sampling = sampling();
                let shape = Shape { prompt_tokens: *length, reused_tokens: 0, generated_tokens: self.max_tokens };
                let mut words = Vec::new();
                if self.caps.len() > 1 {
                    words.push(format!("cap={cap}"));
                }
                if self.lengths.len() > 1 {
                    words.push(format!("len={length}"));
                }
                cells.push(Cell {
                    id: cells.len() as u32,
                    engine: 0,
                    label: words.join(" "),
                    length: Some(*length),
                    predicted: predict(&sampling, &toggles, shape),
                    load: Settings::from([("threads".to_owned(), Value::Int(2))]),
                    toggles,
                    sampling,
                    level: None,
                    merged: Vec::new(),
                });
            }
        }
        cells
    }

    fn request(&self, record: &mut Record, cell: &Cell, iteration: u32, start: u64, noise: &mut Noise) -> u64 {
        let request = record.requests.len() as u64;
        let length = cell.length.expect("simulated cells have a length");
        let chunk = cell.toggles["prefill_chunk_size"].as_count().expect("a count") as u32;
        let uncapped = cell.toggles["repetition_window_cap"] == Value::Int(0);
        let context = f64::from(length);
        let pace = 1.0 + 0.01 * noise.swing();
        let prefill = (context * (3.0 + context / 4000.0) * pace * MS as f64 / 3.0) as u64;
        let gap = (9.0 + context / 900.0 + if uncapped { context / 1500.0 } else { 0.0 }) * pace;

        let prefill_start = start + MS;
        let mut span = |phase, index, from, to| {
            record.spans.push(SpanRow { request, phase, index, start_ns: from, end_ns: to });
        };
        span(Phase::Prefill, 0, prefill_start, prefill_start + prefill);
        let chunks = length.div_ceil(chunk);
        for index in 0..chunks {
            let at = |i: u32| prefill_start + prefill * u64::from(i) / u64::from(chunks);
            span(Phase::PrefillChunk, index, at(index), at(index + 1));
        }
        let mut stamps = vec![prefill_start + prefill + MS / 2];
        for index in 1..self.max_tokens {
            let growth = f64::from(index) / 400.0;
            let spike = if noise.next().is_multiple_of(97) { 6.0 } else { 0.0 };
            let step = (gap + growth + spike + 0.15 * noise.swing()) * MS as f64;
            stamps.push(stamps[stamps.len() - 1] + step as u64);
        }
        let last = *stamps.last().expect("at least one token");
        span(Phase::Decode, 0, stamps[0], last);
        let mut ids = Noise(u64::from(cell.id) + 1);
        for (index, t_ns) in stamps.iter().enumerate() {
            let id = (ids.next() % 32_000) as u32;
            record.tokens.push(TokenRow { request, index: index as u32, id: Some(id), t_ns: *t_ns });
        }
        let end = last + MS;
        record.requests.push(self.row(cell, request, iteration, start, end, prefill, &stamps));
        end
    }

    #[allow(clippy::too_many_arguments)]
    fn row(
        &self,
        cell: &Cell,
        request: u64,
        iteration: u32,
        start_ns: u64,
        end_ns: u64,
        prefill_ns: u64,
        stamps: &[u64],
    ) -> RequestRow {
        let length = cell.length.expect("simulated cells have a length");
        let n = stamps.len() as u32;
        let decode_ns = stamps[stamps.len() - 1] - stamps[0];
        let ms = |ns: u64| ns as f64 / MS as f64;
        let mut gaps: Vec<f64> = stamps.windows(2).map(|w| ms(w[1] - w[0])).collect();
        gaps.sort_by(f64::total_cmp);
        let several = n > 1;
        let shape = Shape { prompt_tokens: length, reused_tokens: 0, generated_tokens: n };
        let mut effective = predict(&cell.sampling, &cell.toggles, shape);
        effective.insert("threads".to_owned(), Value::Int(2));
        effective.insert("dtype".to_owned(), "q8_0".into());
        RequestRow {
            request,
            warmup: iteration == 0,
            cell: cell.id,
            iteration,
            engine: "transformer".to_owned(),
            start_ns,
            end_ns,
            effective,
            finish_reason: Some(FinishReason::Length),
            prompt_tokens: Some(length),
            reused_tokens: Some(0),
            prefill_tokens: Some(length),
            generated_tokens: Some(n),
            cache_tokens: Some(length + n - 1),
            load_s: (request == 0).then_some(0.8125),
            ttft_ms: Some(ms(stamps[0] - start_ns)),
            prefill_ms: Some(ms(prefill_ns)),
            decode_ms: Some(ms(decode_ns)),
            e2e_ms: Some(ms(stamps[stamps.len() - 1] - start_ns)),
            prefill_tps: Some(f64::from(length) / (prefill_ns as f64 / 1e9)),
            decode_tps: several.then(|| f64::from(n - 1) / (decode_ns as f64 / 1e9)),
            tpot_ms: several.then(|| ms(decode_ns) / f64::from(n - 1)),
            itl_p50_ms: quantile(&gaps, 0.5),
            itl_p95_ms: quantile(&gaps, 0.95),
            itl_p99_ms: quantile(&gaps, 0.99),
            itl_max_ms: gaps.last().copied(),
            peak_rss_bytes: Some((180 << 20) + u64::from(length) * 24_000),
            kv_cache_bytes: Some(u64::from(length + n) * 16_384),
            cpu_ms: Some(ms(end_ns - start_ns) * 1.9),
            token_hash: Some(format!("{:016x}", Noise(u64::from(cell.id) + 1).next())),
            ..RequestRow::default()
        }
    }

    /// Samples every `interval_ms`: resident memory that climbs in a request and falls after it,
    /// CPU high while it runs.
    fn telemetry(&self, record: &mut Record, end: u64, noise: &mut Noise) {
        if self.interval_ms == 0 {
            return;
        }
        let mut request = 0;
        let mut t_ns = 0;
        while t_ns < end {
            while record.requests.get(request).is_some_and(|row| row.end_ns < t_ns) {
                request += 1;
            }
            let row = record.requests.get(request).filter(|row| row.start_ns <= t_ns);
            let share = row.map_or(0.0, |r| (t_ns - r.start_ns) as f64 / (r.end_ns - r.start_ns).max(1) as f64);
            let room = row.map_or(0.0, |r| f64::from(r.prompt_tokens.unwrap_or(0)) * 24_000.0);
            let rss = 180.0 * 1_048_576.0 + room * share + 1e6 * noise.swing();
            let cpu = if row.is_some() { 190.0 + 6.0 * noise.swing() } else { 4.0 };
            record.telemetry.push(TelemetryRow {
                t_ns,
                host: Some(0),
                values: vec![Some(cpu), Some(rss), Some(rss - 96e6), Some(cpu / 2.0 + 3.0), Some(40e9 - rss), None],
            });
            t_ns += self.interval_ms * MS;
        }
    }

    fn manifest(&self, plan: Plan) -> Manifest {
        let model = ModelSpec::Synthetic {
            arch: inferometer_protocol::Architecture::Qwen3,
            preset: "small".to_owned(),
            seed: 1,
            dtype: None,
            quantization: None,
        };
        Manifest {
            schema_version: SCHEMA_VERSION,
            run: "20261120T092113Z-long-context-1a2b3c4d".to_owned(),
            inferometer_version: "0.1.0".to_owned(),
            origin_utc: "2026-11-20T09:21:13.000Z".to_owned(),
            finished_utc: Some("2026-11-20T09:30:02.000Z".to_owned()),
            state: FinishState::Finished,
            segments: 1,
            scenario: self.scenario(model),
            scenario_sha256: "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef".to_owned(),
            plan,
            prompts: BTreeMap::new(),
            machine: Machine {
                os: "Linux".to_owned(),
                kernel: Some("6.8.0".to_owned()),
                arch: "x86_64".to_owned(),
                cpu: Some("Example CPU 9000".to_owned()),
                physical_cores: Some(2),
                logical_cores: Some(4),
                memory_bytes: Some(64 << 30),
                virtual_machine: Some(true),
                load_at_start: Some(0.35),
                cpu_features: vec!["avx2".to_owned(), "avx512f".to_owned()],
                ..Machine::default()
            },
            git: Some(GitState { commit: "0123456789abcdef0123456789abcdef01234567".to_owned(), dirty: true }),
            gauges: gauges(),
            sampling: Vec::new(),
            hosts: vec![host()],
            warnings: Vec::new(),
            texts: BTreeMap::from([(
                format!("{:016x}", Noise(1).next()),
                "The lamp turned once more over the water, and nobody counted.".to_owned(),
            )]),
            redacted: None,
            imported: None,
        }
    }

    fn scenario(&self, model: ModelSpec) -> Scenario {
        Scenario {
            name: "long-context".to_owned(),
            description: Some("Does decode slow down with context, and why?".to_owned()),
            model,
            engines: vec![EngineSpec {
                name: "transformer".to_owned(),
                label: "transformer".to_owned(),
                options: Settings::from([("backend".to_owned(), "candle".into())]),
            }],
            workload: Workload::Prompt(PromptWorkload {
                text: "The keeper of the lighthouse wrote down every ship. ".repeat(40),
                text_file: Some("prompts/essay.txt".to_owned()),
                lengths: self.lengths.clone(),
                chat: false,
                messages: None,
                max_tokens: self.max_tokens,
                ignore_eos: true,
            }),
            sampling: sampling(),
            run: RunSettings {
                iterations: self.iterations,
                warmup: self.warmup,
                isolation: Isolation::Run,
                timeout_s: 600.0,
                cooldown_s: 0.0,
                order_seed: 42,
                allow_mismatch: Vec::new(),
                external_causes: Default::default(),
            },
            toggles: vec![Axis {
                toggle: "repetition_window_cap".to_owned(),
                values: self.caps.iter().map(|cap| Value::Int(*cap)).collect(),
            }],
            vary: Vary::All,
            engine_toggles: BTreeMap::new(),
            telemetry: TelemetrySettings {
                interval_ms: self.interval_ms as u32,
                gauges: vec!["cpu".to_owned(), "memory".to_owned()],
            },
            gates: Vec::new(),
            ab: inferometer::spec::AbSettings::default(),
            build: None,
            profile: None,
            quality: None,
            traffic: None,
            default_length: false,
            overrides: vec!["run.iterations=10".to_owned()],
        }
    }
}

fn sampling() -> Sampling {
    Sampling { seed: 1234, repetition_penalty: 1.1, repetition_context_size: 4096, ..Sampling::default() }
}

fn gauges() -> Vec<GaugeInfo> {
    let gauge = |name: &str, unit: &str, absent: Option<&str>| GaugeInfo {
        name: name.to_owned(),
        unit: unit.to_owned(),
        source: "kernel".to_owned(),
        absent: absent.map(str::to_owned),
    };
    vec![
        gauge("process_cpu_percent", "percent", None),
        gauge("rss_bytes", "bytes", None),
        gauge("rss_anon_bytes", "bytes", None),
        gauge("system_cpu_percent", "percent", None),
        gauge("available_memory_bytes", "bytes", None),
        gauge("power_w", "W", Some("this machine has no power sensor that can be read")),
    ]
}

fn host() -> HostInfo {
    HostInfo {
        started_ns: None,
        huge_page_bytes: None,
        further_loads_s: Vec::new(),
        host: 0,
        engine: 0,
        load: Settings::from([("threads".to_owned(), Value::Int(2))]),
        pid: 4711,
        command: vec!["inferometer".to_owned(), "host".to_owned()],
        executable_sha256: Some("ab".repeat(32)),
        command_sha256: BTreeMap::new(),
        receipt: Receipt {
            engine: "transformer".to_owned(),
            version: "0.1.0".to_owned(),
            commit: None,
            backend: Some("candle 0.11.1".to_owned()),
            device: Some("cpu".to_owned()),
            model: ModelIdentity {
                name: "synthetic-qwen3-small-1".to_owned(),
                path: "/home/user/.cache/inferometer/synthetic-qwen3-small-1".to_owned(),
                architecture: Some("qwen3".to_owned()),
                parameters: Some(81_234_432),
                weight_bytes: Some(86_000_000),
                weight_format: Some("q8_0".to_owned()),
                fingerprint: Some("cd".repeat(32)),
                vocabulary: Some(32_768),
                context_length: Some(16_384),
                synthetic: true,
            },
            capabilities: Capabilities { tokens: true, cancel: true, reset: true, ..Capabilities::default() },
            toggles: ["prefill_chunk_size", "repetition_penalty", "repetition_window_cap"].map(str::to_owned).to_vec(),
            sampling: Vec::new(),
            not_honoured: BTreeMap::new(),
            token_timing: TokenTiming::Exact,
            works_in: None,
            deterministic: true,
            includes: vec!["sampling".to_owned()],
            settings: Settings::from([("threads".to_owned(), Value::Int(2)), ("dtype".to_owned(), "q8_0".into())]),
            details: BTreeMap::from([("build".to_owned(), "release".to_owned())]),
        },
        load_s: 0.8125,
        clock_offset_ns: 0,
        clock_round_trip_ns: 41_000,
        clock: "CLOCK_MONOTONIC".to_owned(),
        verified: vec!["model.fingerprint".to_owned()],
    }
}

/// The row of a cell's iteration.
pub fn row_mut(record: &mut Record, cell: u32, iteration: u32) -> &mut RequestRow {
    let found = record.requests.iter_mut().find(|row| row.cell == cell && row.iteration == iteration);
    found.expect("the simulation has that iteration")
}

/// Marks an iteration as not ok; a failed one loses its figures.
pub fn spoil(record: &mut Record, cell: u32, iteration: u32, cause: Cause, reason: &str) {
    let row = row_mut(record, cell, iteration);
    row.mark(&Fault::new(cause, reason));
    if row.status == Status::Failed {
        row.decode_tps = None;
        row.prefill_tps = None;
        row.token_hash = None;
        row.finish_reason = None;
    }
}

/// Makes an iteration's tokens differ from `index` on.
pub fn diverge(record: &mut Record, cell: u32, iteration: u32, index: u32) {
    let row = row_mut(record, cell, iteration);
    row.token_hash = Some("feedfacecafebeef".to_owned());
    let request = row.request;
    for token in record.tokens.iter_mut().filter(|t| t.request == request && t.index >= index) {
        token.id = token.id.map(|id| id ^ 1);
    }
}

/// A run with one cell of each kind: failed, invalid and nondeterministic.
pub fn eventful() -> Record {
    let mut record = Simulation::default().record();
    spoil(&mut record, 1, 3, Cause::Died, "the host was killed by signal 9 in prefill");
    spoil(&mut record, 4, 7, Cause::Throttling, "the machine throttled");
    diverge(&mut record, 2, 5, 17);
    record
}

/// The same record as one of a conversation: each cell's iterations become `turns` turns of fewer
/// iterations, and of each turn's prompt (all but the first's) the tokens before the last hundred
/// were reused.
pub fn as_conversation(mut record: Record, turns: u32) -> Record {
    let (max_tokens, ignore_eos) = (record.manifest.scenario.workload.max_tokens(), true);
    let said = |turn: u32| Turn { user: format!("Question {turn}?"), reply: Some(format!("Answer {turn}.")) };
    record.manifest.scenario.workload = Workload::Conversation(ConversationWorkload {
        system: Some("Be brief.".to_owned()),
        system_file: None,
        turns: (0..turns).map(said).collect(),
        turns_file: Some("prompts/talk.toml".to_owned()),
        tools: None,
        template_arguments: Default::default(),
        replies: Replies::Fixed,
        max_tokens,
        ignore_eos,
    });
    record.requests.retain(|row| !row.warmup);
    // An iteration's turns follow one another.
    record.requests.sort_by_key(|row| ((row.iteration - 1) / turns, row.cell, row.iteration));
    let mut numbers = BTreeMap::new();
    for (row, request) in record.requests.iter_mut().zip(0u64..) {
        numbers.insert(std::mem::replace(&mut row.request, request), request);
        (row.turn, row.iteration) = ((row.iteration - 1) % turns, (row.iteration - 1) / turns + 1);
        let length = row.prompt_tokens.unwrap_or(0) + 100 * row.turn;
        row.prompt_tokens = Some(length);
        row.reused_tokens = Some(if row.turn == 0 { 0 } else { length - 100 });
        row.prefill_tokens = Some(if row.turn == 0 { length } else { 100 });
        let generated_tokens = row.generated_tokens.unwrap_or(0);
        row.cache_tokens = Some(length + generated_tokens - 1);
        let cell = &record.manifest.plan.cells[row.cell as usize];
        let shape = Shape { prompt_tokens: length, reused_tokens: row.reused_tokens.unwrap_or(0), generated_tokens };
        row.effective.extend(predict(&cell.sampling, &cell.toggles, shape));
    }
    record.tokens.retain(|token| numbers.contains_key(&token.request));
    record.tokens.iter_mut().for_each(|token| token.request = numbers[&token.request]);
    record.tokens.sort_by_key(|token| (token.request, token.index));
    record.spans.clear();
    for cell in &mut record.manifest.plan.cells {
        cell.length = None;
        cell.predicted.clear();
    }
    let iterations = record.manifest.plan.order.len() / turns as usize;
    record.manifest.plan.order.truncate(iterations);
    record.manifest.scenario.run.iterations = iterations as u32;
    record
}

/// Puts a record on disk through the store, an iteration a commit; gives its folder.
pub fn save(record: &Record, results: &std::path::Path) -> std::path::PathBuf {
    let mut store = Store::create(results, record.manifest.clone()).expect("the folder can be written");
    fill(&mut store, record);
    store.dir().to_owned()
}

/// Commits every iteration of a record.
pub fn fill(store: &mut Store, record: &Record) {
    let (mut tokens, mut spans, mut telemetry) = (&record.tokens[..], &record.spans[..], &record.telemetry[..]);
    fn take<T: Clone>(rows: &mut &[T], belongs: impl Fn(&T) -> bool) -> Vec<T> {
        let (head, tail) = rows.split_at(rows.iter().take_while(|row| belongs(row)).count());
        *rows = tail;
        head.to_vec()
    }
    for row in &record.requests {
        let mut iteration = Iteration {
            tokens: take(&mut tokens, |t| t.request == row.request),
            spans: take(&mut spans, |s| s.request == row.request),
            telemetry: take(&mut telemetry, |t| t.t_ns <= row.end_ns),
            requests: vec![row.clone()],
        };
        settle(&mut iteration);
        store.commit(&iteration).expect("a simulated iteration is whole");
    }
}

/// Makes tokens and spans agree with the figures that a test gave a valid row, as they do in a
/// record that was measured.
fn settle(iteration: &mut Iteration) {
    let Iteration { requests, tokens, spans, .. } = iteration;
    let row = &mut requests[0];
    if row.status != Status::Ok || tokens.is_empty() {
        return;
    }
    let differ = |a: Option<f64>, b: Option<f64>| a.zip(b).is_some_and(|(a, b)| (a / b - 1.0).abs() > 1e-9);
    let figures = |tokens: &[TokenRow]| TokenFigures::of(&tokens.iter().map(|token| token.t_ns).collect::<Vec<_>>());
    if differ(row.decode_tps, figures(tokens).decode_tps) {
        let (first, rate) = (tokens[0].t_ns, row.decode_tps.unwrap_or(1.0));
        tokens.iter_mut().for_each(|token| token.t_ns = first + (f64::from(token.index) * 1e9 / rate) as u64);
    }
    let of = figures(tokens);
    for (recorded, computed) in [
        (&mut row.decode_ms, of.decode_ms),
        (&mut row.decode_tps, of.decode_tps),
        (&mut row.tpot_ms, of.tpot_ms),
        (&mut row.itl_p50_ms, of.itl_p50_ms),
        (&mut row.itl_p95_ms, of.itl_p95_ms),
        (&mut row.itl_p99_ms, of.itl_p99_ms),
        (&mut row.itl_max_ms, of.itl_max_ms),
    ] {
        *recorded = recorded.and(computed);
    }
    let count = f64::from(row.prefill_tokens.unwrap_or(0));
    let mut prefill = spans.iter_mut().filter(|span| span.phase == Phase::Prefill);
    if let (Some(rate), Some(span)) = (row.prefill_tps, prefill.next())
        && differ(Some(count * 1e9 / rate), Some((span.end_ns - span.start_ns) as f64))
    {
        let ns = (count * 1e9 / rate) as u64;
        span.end_ns = span.start_ns + ns;
        row.prefill_ms = Some(ns as f64 / MS as f64);
        row.prefill_tps = Some(count / (ns as f64 / 1e9));
    }
    let both = row.ttft_ms.zip(row.decode_ms).map(|(first, decode)| first + decode);
    if differ(row.e2e_ms, both) {
        row.e2e_ms = both;
    }
    let ids: Option<Vec<u32>> = tokens.iter().map(|token| token.id).collect();
    row.token_hash = row.token_hash.take().map(|hash| ids.map_or(hash, |ids| token_hash(&ids)));
}

/// Text that tries to be markup in HTML, XML, Markdown and on a terminal.
pub const HOSTILE: &str =
    "<script>alert(1)</script><img src=x onerror=alert(1)>]]>\"'`|\u{202e}\u{0}\u{1b}[31m &amp; <!--";

/// Puts `text` into every field of a record that contains foreign text.
pub fn poison(record: &mut Record, text: &str) {
    let manifest = &mut record.manifest;
    manifest.scenario.name = text.to_owned();
    manifest.scenario.description = Some(text.to_owned());
    manifest.scenario.engines[0].label = text.to_owned();
    manifest.scenario.overrides = vec![text.to_owned()];
    match &mut manifest.scenario.workload {
        Workload::Prompt(work) => {
            work.text = text.to_owned();
            work.text_file = Some(text.to_owned());
        }
        Workload::Conversation(work) => {
            work.system = Some(text.to_owned());
            work.turns_file = Some(text.to_owned());
            work.turns.iter_mut().for_each(|turn| {
                turn.user = text.to_owned();
                turn.reply = Some(text.to_owned());
            });
        }
    }
    manifest.warnings = vec![text.to_owned()];
    manifest.origin_utc = text.to_owned();
    manifest.machine.cpu = Some(text.to_owned());
    manifest.texts.values_mut().for_each(|words| *words = text.to_owned());
    for cell in &mut manifest.plan.cells {
        cell.label = format!("{text} {}", cell.id);
        cell.toggles.insert("kv_cache".to_owned(), format!("{text}{}", cell.id % 2).into());
    }
    for gauge in &mut manifest.gauges {
        gauge.name = text.to_owned();
        gauge.unit = text.to_owned();
        gauge.source = text.to_owned();
    }
    manifest.hosts[0].command = vec![text.to_owned()];
    manifest.hosts[0].receipt.version = text.to_owned();
    manifest.hosts[0].receipt.model.name = text.to_owned();
    manifest.hosts[0].receipt.details.insert(text.to_owned(), text.to_owned());
    // Of ids that are not in the record, any hash is possible.
    record.tokens.iter_mut().for_each(|token| token.id = None);
    for row in &mut record.requests {
        row.effective.insert(text.to_owned(), text.into());
        row.token_hash = row.token_hash.as_ref().map(|_| text.to_owned());
    }
    spoil(record, 0, 1, Cause::Died, text);
}
