//! The record on disk: committed data is read back, whatever happened to the writer.

pub mod contradictions;
mod damage;
mod profile;
mod round_trip;
mod writer;

use std::path::Path;

use inferometer::record::{
    Cause, FinishState, GaugeInfo, Iteration, Machine, Manifest, Record, RequestRow, SpanRow, Status, Store,
    TelemetryRow, TokenRow, read,
};
use inferometer::spec::plan::Plan;
use inferometer::spec::{Isolation, PromptWorkload, RunSettings, Scenario, TelemetrySettings, Vary, Workload};
use inferometer_protocol::{EngineSpec, FinishReason, ModelSpec, Phase, Sampling, Settings, Value};

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
            messages: None,
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
            external_causes: Default::default(),
        },
        toggles: vec![],
        vary: Vary::All,
        engine_toggles: std::collections::BTreeMap::new(),
        telemetry: TelemetrySettings { interval_ms: 50, gauges: vec!["memory".to_owned()] },
        gates: vec![],
        ab: inferometer::spec::AbSettings::default(),
        build: None,
        profile: None,
        quality: None,
        traffic: None,
        default_length: false,
        overrides: vec![],
    };
    Manifest {
        schema_version: 1,
        run: String::new(),
        inferometer_version: "0.1.0".to_owned(),
        origin_utc: "2026-01-02T03:04:05.678Z".to_owned(),
        finished_utc: None,
        state: FinishState::Running,
        segments: 1,
        scenario,
        scenario_sha256: "ab12cd34ef".to_owned(),
        plan: Plan { cells: vec![], order: vec![] },
        prompts: [("0".to_owned(), "beef".to_owned())].into(),
        machine: Machine::default(),
        git: None,
        gauges: vec![gauge("rss_bytes"), gauge("odd, \"name\"")],
        sampling: Vec::new(),
        hosts: vec![],
        warnings: vec![],
        texts: [("cafe".to_owned(), "a\ntext".to_owned())].into(),
        redacted: None,
        imported: None,
    }
}

fn request(number: u64) -> RequestRow {
    RequestRow {
        request: number,
        warmup: number == 0,
        cell: 0,
        iteration: 1,
        engine: "exec".to_owned(),
        start_ns: number * 1_000_000,
        end_ns: number * 1_000_000 + 900_000,
        effective: Settings::from([("kv_cache".to_owned(), "full".into()), ("own".to_owned(), Value::Int(3))]),
        finish_reason: Some(FinishReason::Length),
        prompt_tokens: Some(16),
        reused_tokens: Some(0),
        prefill_tokens: Some(16),
        generated_tokens: Some(3),
        ttft_ms: Some(1.25),
        prefill_ms: Some(0.1 + 0.2),
        decode_ms: Some(2.0),
        e2e_ms: Some(3.0),
        prefill_tps: Some(1e9),
        decode_tps: Some(1.0 / 3.0),
        peak_rss_bytes: Some(u64::MAX),
        token_hash: Some("0123456789abcdef".to_owned()),
        ..RequestRow::default()
    }
}

/// An iteration of `requests` requests with three tokens, two spans and one sample each.
fn iteration(first: u64, requests: u64) -> Iteration {
    let numbers = || first..first + requests;
    let tokens = numbers().flat_map(|request| {
        (0..3).map(move |index| TokenRow {
            request,
            index,
            id: Some(7 * index),
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
    let mut record = Record {
        manifest: manifest.clone(),
        requests: vec![],
        tokens: vec![],
        spans: vec![],
        telemetry: vec![],
        profile: Default::default(),
        quality: Vec::new(),
    };
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

const FILES: [&str; 4] = ["tokens.csv", "spans.csv", "telemetry.csv", "requests.csv"];

fn length(file: &Path) -> u64 {
    fs_err::metadata(file).unwrap().len()
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
    store.update(|m| m.segments = 2).unwrap();
    store.commit(&iteration(10, 2)).unwrap();
    let mut all = iterations.to_vec();
    all.push(iteration(10, 2));
    assert_eq!(read(&run).unwrap(), record(&Manifest { segments: 2, ..manifest }, &all));
}

/// The first record ever written by this schema must stay readable.
#[test]
fn a_record_of_schema_1_is_still_read() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-v1");
    let found = read(&run).unwrap();
    assert_eq!(found.manifest.schema_version, 1);
    assert_eq!(found.manifest.run, "20260102T030405Z-quick-start-etc-ab12cd34");
    let iterations = [iteration(0, 1), iteration(1, 2)];
    let mut expected = record(&found.manifest, &iterations);
    // The column `cause` came later.
    expected.requests[1].status = Status::Failed;
    expected.requests[1].cause = Some(Cause::UnknownFailure);
    expected.requests[1].reason = "host died: signal 9\nlast words: \"oops, \\o/\"".to_owned();
    expected.requests[1].finish_reason = None;
    expected.requests[1].effective = Settings::from([
        ("repetition_penalty".to_owned(), Value::Float(1.1)),
        ("repetition_window".to_owned(), Value::Int(768)),
        ("lazy_pipeline".to_owned(), Value::Bool(true)),
    ]);
    assert_eq!(found, expected);
    assert_eq!(found.manifest.hosts[0].receipt.engine, "exec");
}

/// Its figures follow from its tokens, by the rules of today too.
#[test]
fn a_sound_record_of_schema_1_opens_without_a_contradiction() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-v1-sound");
    let opened = inferometer::record::open(&run).unwrap();
    assert_eq!(opened.contradictions().collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(opened, read(&run).unwrap());
    assert!(opened.requests.len() == 3 && opened.requests.iter().all(|row| row.status == Status::Ok));
    assert!((opened.requests[2].decode_tps.unwrap() - 200.0).abs() < 1e-9);

    let harmed = tempfile::tempdir().unwrap();
    for entry in fs_err::read_dir(&run).unwrap() {
        let path = entry.unwrap().path();
        let text = fs_err::read_to_string(&path).unwrap().replace(",199.99999999999997,", ",2000.0,");
        fs_err::write(harmed.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let opened = inferometer::record::open(harmed.path()).unwrap();
    let told: Vec<&str> = opened.contradictions().collect();
    assert!(told.len() == 3 && told[0].contains("decode_tps is 2000, but tokens.csv gives "), "{told:?}");
}

/// `schema record` describes what is written.
#[test]
fn the_manifest_fits_its_schema() {
    let printed =
        assert_cmd::Command::new(env!("CARGO_BIN_EXE_inferometer")).args(["schema", "record"]).assert().success();
    let schema = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-v1/run.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs_err::read(run).unwrap()).unwrap();
    let faults: Vec<String> = validator.iter_errors(&manifest).map(|e| e.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    manifest["state"] = "asleep".into();
    assert!(!validator.is_valid(&manifest));
}

/// The page describes every column, in order, in the words of the code.
#[test]
fn the_page_describes_every_column() {
    use inferometer::record::csv::{
        COMMIT_COLUMNS, Column, REQUEST_COLUMNS, SPAN_COLUMNS, TELEMETRY_COLUMNS, TOKEN_COLUMNS, effective_columns,
        request_column_names,
    };
    let table = |rows: Vec<(String, String, String)>| {
        rows.into_iter()
            .fold("| column | unit | meaning |\n|---|---|---|\n".to_owned(), |all, (name, unit, meaning)| {
                format!("{all}| `{name}` | {unit} | {meaning} |\n")
            })
    };
    let own = |columns: &[Column]| {
        columns.iter().map(|c| (c.name.to_owned(), c.unit.to_owned(), c.meaning.to_owned())).collect::<Vec<_>>()
    };
    let requests = [own(REQUEST_COLUMNS), own(COMMIT_COLUMNS)].concat();
    let effective: Vec<_> =
        effective_columns().into_iter().map(|(name, meaning)| (name, String::new(), meaning)).collect();
    let names: Vec<String> = requests.iter().chain(&effective).map(|(name, _, _)| name.clone()).collect();
    assert_eq!(names, request_column_names());
    let gauges =
        inferometer::telemetry::GAUGES.iter().map(|g| (g.name.to_owned(), g.unit.to_owned(), g.meaning.to_owned()));
    let sections = [
        ("requests.csv", requests),
        ("effective", effective),
        ("tokens.csv", own(TOKEN_COLUMNS)),
        ("spans.csv", own(SPAN_COLUMNS)),
        ("telemetry.csv", own(TELEMETRY_COLUMNS)),
        ("gauges", gauges.collect()),
    ];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/record.md");
    let page = fs_err::read_to_string(&path).unwrap();
    let mut expected = String::new();
    let mut rest = page.as_str();
    for (section, rows) in sections {
        let mark = format!("<!-- columns {section} -->\n\n");
        let (before, after) = rest.split_once(&mark).unwrap_or_else(|| panic!("the page has no mark {mark:?}"));
        expected.push_str(before);
        expected.push_str(&mark);
        expected.push_str(&table(rows));
        let end = after.split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum::<usize>();
        rest = &after[end..];
    }
    expected.push_str(rest);
    if page != expected && std::env::var_os("INFEROMETER_UPDATE_PAGES").is_some() {
        return fs_err::write(&path, &expected).unwrap();
    }
    assert!(page == expected, "the page is behind the code: run this test with INFEROMETER_UPDATE_PAGES=1");
}

#[test]
fn the_page_names_every_cause_with_its_status() {
    let page = fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/record.md")).unwrap();
    for cause in Cause::ALL {
        let row = format!("| `{}` | {} | ", cause.name(), cause.status().name());
        assert!(page.contains(&row), "docs/reference/record.md has no row {row:?}");
    }
}
