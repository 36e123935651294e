//! The record on disk: what is committed is read back, whatever happened to the writer.

use std::path::Path;

use inferometer::record::{
    FinishState, GaugeInfo, Iteration, Machine, Manifest, Record, RecordError, RequestRow, SpanRow, Status, Store,
    TelemetryRow, TokenRow, read,
};
use inferometer::spec::plan::Plan;
use inferometer::spec::{
    EngineSpec, FinishReason, Isolation, ModelSpec, Phase, PromptWorkload, RunSettings, Sampling, Scenario, Settings,
    TelemetrySettings, Value, Vary, Workload,
};
use proptest::prelude::*;

fn gauge(name: &str) -> GaugeInfo {
    GaugeInfo { name: name.to_owned(), unit: "bytes".to_owned(), source: "a test".to_owned(), absent: None }
}

fn manifest() -> Manifest {
    let scenario = Scenario {
        name: "Quick: start/../etc".to_owned(),
        description: None,
        model: ModelSpec::Path("model".into()),
        engines: vec![EngineSpec { name: "exec".to_owned(), label: "exec".to_owned(), options: Settings::new() }],
        workload: Workload::Prompt(PromptWorkload {
            text: "a \"text\",\nwith everything".to_owned(),
            text_file: None,
            lengths: vec![16],
            chat: false,
            max_tokens: 8,
            ignore_eos: true,
        }),
        sampling: Sampling::default(),
        run: RunSettings {
            iterations: 10,
            warmup: 1,
            isolation: Isolation::Run,
            timeout_s: 60.0,
            cooldown_s: 0.0,
            order_seed: 1,
            allow_mismatch: vec![],
        },
        toggles: vec![],
        vary: Vary::All,
        telemetry: TelemetrySettings { interval_ms: 50, gauges: vec!["memory".to_owned()] },
        overrides: vec![],
    };
    Manifest {
        schema_version: 1,
        run: String::new(),
        inferometer_version: "0.1.0".to_owned(),
        origin_utc: "2026-01-02T03:04:05.678Z".to_owned(),
        finished_utc: None,
        state: FinishState::Running,
        sessions: 1,
        scenario,
        scenario_sha256: "ab12cd34ef".to_owned(),
        plan: Plan { cells: vec![], order: vec![] },
        machine: Machine::default(),
        git: None,
        gauges: vec![gauge("rss_bytes"), gauge("odd, \"name\"")],
        hosts: vec![],
        warnings: vec![],
        texts: [("cafe".to_owned(), "a\ntext".to_owned())].into(),
    }
}

fn request(number: u64) -> RequestRow {
    RequestRow {
        request: number,
        warmup: number == 0,
        cell: 0,
        iteration: 1,
        turn: 0,
        engine: "exec".to_owned(),
        host: 0,
        status: Status::Ok,
        reason: String::new(),
        start_ns: number * 1_000_000,
        end_ns: number * 1_000_000 + 900_000,
        effective: Settings::from([("kv_cache".to_owned(), "full".into()), ("own".to_owned(), Value::Int(3))]),
        finish_reason: Some(FinishReason::Length),
        prompt_tokens: Some(16),
        reused_tokens: Some(0),
        prefill_tokens: Some(16),
        generated_tokens: Some(3),
        cache_tokens: None,
        load_s: None,
        tokenize_ms: None,
        ttft_ms: Some(1.25),
        prefill_ms: Some(0.1 + 0.2),
        decode_ms: Some(2.0),
        e2e_ms: Some(3.0),
        prefill_tps: Some(1e9),
        decode_tps: Some(1.0 / 3.0),
        tpot_ms: None,
        itl_p50_ms: None,
        itl_p95_ms: None,
        itl_p99_ms: None,
        itl_max_ms: None,
        peak_rss_bytes: Some(u64::MAX),
        engine_active_bytes: None,
        engine_cache_bytes: None,
        engine_peak_bytes: None,
        kv_cache_bytes: None,
        cpu_ms: None,
        cpu_instructions: None,
        cpu_cycles: None,
        token_hash: Some("0123456789abcdef".to_owned()),
    }
}

/// An iteration of `requests` requests with three tokens, two spans and one sample each.
fn iteration(first: u64, requests: u64) -> Iteration {
    let numbers = || first..first + requests;
    let tokens = numbers().flat_map(|request| {
        (0..3).map(move |index| TokenRow {
            request,
            index,
            id: 7 * index,
            t_ns: request * 1_000_000 + u64::from(index),
        })
    });
    let spans = numbers().flat_map(|request| {
        [Phase::Prefill, Phase::Decode].map(|phase| SpanRow {
            request,
            phase,
            index: 0,
            start_ns: request,
            end_ns: request + 1,
        })
    });
    let telemetry = numbers().map(|n| TelemetryRow {
        t_ns: n,
        host: (n > 0).then_some(0),
        values: vec![Some(0.1 * n as f64), None],
    });
    Iteration {
        requests: numbers().map(request).collect(),
        tokens: tokens.collect(),
        spans: spans.collect(),
        telemetry: telemetry.collect(),
    }
}

/// What reading back `iterations` must give.
fn record(manifest: &Manifest, iterations: &[Iteration]) -> Record {
    let all = |f: fn(&Iteration) -> usize| iterations.iter().map(f).sum::<usize>();
    let mut record =
        Record { manifest: manifest.clone(), requests: vec![], tokens: vec![], spans: vec![], telemetry: vec![] };
    for iteration in iterations {
        record.requests.extend(iteration.requests.iter().cloned());
        record.tokens.extend(&iteration.tokens);
        record.spans.extend(&iteration.spans);
        record.telemetry.extend(iteration.telemetry.iter().cloned());
    }
    assert_eq!(record.tokens.len(), all(|i| i.tokens.len()));
    record
}

fn stored(results: &Path, iterations: &[Iteration]) -> (std::path::PathBuf, Manifest) {
    let mut store = Store::create(results, manifest()).unwrap();
    for iteration in iterations {
        store.commit(iteration).unwrap();
    }
    (store.dir().to_owned(), store.manifest().clone())
}

#[test]
fn folders_have_speaking_names_and_never_collide() {
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("deep/results");
    let names: Vec<String> =
        (0..3).map(|_| Store::create(&results, manifest()).unwrap().manifest().run.clone()).collect();
    assert_eq!(
        names,
        [
            "20260102T030405Z-quick-start-etc-ab12cd34",
            "20260102T030405Z-quick-start-etc-ab12cd34-2",
            "20260102T030405Z-quick-start-etc-ab12cd34-3"
        ]
    );
    assert_eq!(read(&results.join(&names[1])).unwrap().manifest.run, names[1]);
}

#[test]
fn what_is_committed_is_read_back_and_a_resumed_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let iterations =
        [iteration(0, 1), iteration(1, 3), Iteration { requests: vec![request(9)], ..Iteration::default() }];
    let (run, manifest) = stored(dir.path(), &iterations);
    assert_eq!(read(&run).unwrap(), record(&manifest, &iterations));

    let (mut store, so_far) = Store::resume(&run).unwrap();
    assert_eq!(so_far, record(&manifest, &iterations));
    store.update(|m| m.sessions = 2).unwrap();
    store.commit(&iteration(10, 2)).unwrap();
    let mut all = iterations.to_vec();
    all.push(iteration(10, 2));
    assert_eq!(read(&run).unwrap(), record(&Manifest { sessions: 2, ..manifest }, &all));
}
