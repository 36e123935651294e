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

/// A copy of the record in `run`, for doing harm to.
fn copy(run: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs_err::read_dir(run).unwrap() {
        let file = file.unwrap();
        fs_err::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

fn cut(file: &Path, length: u64) {
    fs_err::OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

fn length(file: &Path) -> u64 {
    fs_err::metadata(file).unwrap().len()
}

const FILES: [&str; 4] = ["tokens.csv", "spans.csv", "telemetry.csv", "requests.csv"];

#[test]
fn killed_at_any_byte_of_a_commit_the_record_holds_what_was_committed_before() {
    let dir = tempfile::tempdir().unwrap();
    let before = [iteration(0, 1), iteration(1, 2)];
    let last = iteration(3, 3);
    let (run, manifest) = stored(dir.path(), &before);
    let begun = FILES.map(|name| length(&run.join(name)));
    let mut store = Store::resume(&run).unwrap().0;
    store.commit(&last).unwrap();
    drop(store);
    let ended = FILES.map(|name| length(&run.join(name)));
    let expected = record(&manifest, &before);
    let all = [before.as_slice(), std::slice::from_ref(&last)].concat();

    // The files are written one after another: those before the one being written are whole, those after it untouched.
    for (at, name) in FILES.into_iter().enumerate() {
        let harmed = copy(&run);
        for later in at + 1..FILES.len() {
            cut(&harmed.path().join(FILES[later]), begun[later]);
        }
        for killed_at in (begun[at]..ended[at]).rev() {
            cut(&harmed.path().join(name), killed_at);
            assert_eq!(read(harmed.path()).unwrap(), expected, "{name} killed at byte {killed_at}");
            if killed_at % 37 == 0 {
                let harmed = copy(harmed.path());
                let (mut store, so_far) = Store::resume(harmed.path()).unwrap();
                assert_eq!(so_far, expected);
                assert_eq!(FILES.map(|name| length(&harmed.path().join(name))), begun);
                store.commit(&last).unwrap();
                assert_eq!(read(harmed.path()).unwrap(), record(&manifest, &all));
            }
        }
    }
    assert_eq!(read(&run).unwrap(), record(&manifest, &all));
}

/// A damage that a kill cannot do: still a prefix of whole iterations, and it says that some are missing.
#[test]
fn a_file_cut_by_hand_costs_the_iterations_it_held_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let iterations = [iteration(0, 1), iteration(1, 2), iteration(3, 1)];
    let (run, manifest) = stored(dir.path(), &iterations);
    for name in FILES {
        let header = 1 + fs_err::read(run.join(name)).unwrap().iter().position(|b| *b == b'\n').unwrap() as u64;
        let harmed = copy(&run);
        for cut_at in (0..length(&run.join(name))).rev() {
            cut(&harmed.path().join(name), cut_at);
            if cut_at < header {
                let error = read(harmed.path()).unwrap_err().to_string();
                assert!(error.contains(name) && error.contains("header"), "{error}");
                assert!(Store::resume(harmed.path()).is_err());
                continue;
            }
            let found = read(harmed.path()).unwrap();
            let whole = iterations
                .iter()
                .take_while(|i| found.requests.iter().any(|row| row.request == i.requests.last().unwrap().request));
            let whole: Vec<_> = whole.cloned().collect();
            assert!(whole.len() < 3, "{name} cut at {cut_at}");
            let mut expected = record(&manifest, &whole);
            if name != "requests.csv" {
                assert_eq!(found.manifest.warnings.len(), 1, "{name} cut at {cut_at}");
                assert!(found.manifest.warnings[0].contains(name), "{:?}", found.manifest.warnings);
            }
            expected.manifest.warnings.clone_from(&found.manifest.warnings);
            assert_eq!(found, expected, "{name} cut at {cut_at}");
        }
    }
}

fn change(file: &Path, change: impl FnOnce(String) -> String) {
    let text = fs_err::read_to_string(file).unwrap();
    let new = change(text.clone());
    assert_ne!(text, new, "the change found nothing to change");
    fs_err::write(file, new).unwrap();
}

#[test]
fn garbage_is_named_by_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _) = stored(dir.path(), &[iteration(0, 1), iteration(1, 1)]);
    let complaint = |name: &str, how: &dyn Fn(String) -> String| {
        let harmed = copy(&run);
        change(&harmed.path().join(name), how);
        let error = read(harmed.path()).unwrap_err();
        assert_eq!(Store::resume(harmed.path()).unwrap_err().to_string(), error.to_string());
        error.to_string().replace(&*harmed.path().to_string_lossy(), "RUN")
    };
    insta::assert_snapshot!(complaint("requests.csv", &|t| t.replacen(",ok,", ",fine,", 1)), @r#"RUN/requests.csv, line 2, column `status`: "fine" is none of ok, failed, invalid"#);
    insta::assert_snapshot!(complaint("requests.csv", &|t| t.replacen("\n1,", "\n0,", 1)), @"RUN/requests.csv, line 3, column `request`: 0 does not come after 0");
    insta::assert_snapshot!(complaint("requests.csv", &|t| t.replacen("{\"\"own\"\":3}", "{\"\"own\"\":", 1)), @"RUN/requests.csv, line 2, column `effective_other`: not a JSON object of settings: EOF while parsing a value at line 1 column 7");
    insta::assert_snapshot!(complaint("requests.csv", &|t| t.replacen("ttft_ms", "\u{1F600}", 1).replacen("start_ns", "started", 1)), @"RUN/requests.csv, line 2, column `start_ns`: the file has no such column");
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n0,1,-7,1\n", 1)), @r#"RUN/tokens.csv, line 3, column `id`: "-7" is not a whole number from 0 to 4294967295"#);
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n0,1,7\n", 1)), @"RUN/tokens.csv, line 3: 3 fields where the header has 4");
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n5,1,7,1\n", 1)), @"RUN/tokens.csv, line 3: row 1 of request 5 where row 1 of request 0 belongs");
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n", 1)), @"RUN/tokens.csv, line 3: row 2 of request 0 where row 1 of request 0 belongs");
    insta::assert_snapshot!(complaint("spans.csv", &|t| t.replacen("decode", "decoed", 1)), @r#"RUN/spans.csv, line 3, column `phase`: "decoed" is none of the phases load, tokenize, prefill, decode, prefill_chunk, cache_clear, forward, penalty, sample, detokenize"#);
    insta::assert_snapshot!(complaint("telemetry.csv", &|t| t.replacen("\n0,", "\n0 h,", 1)), @r#"RUN/telemetry.csv, line 2, column `t_ns`: "0 h" is not a whole number from 0 to 18446744073709551615"#);
    insta::assert_snapshot!(complaint("run.json", &|t| t.replacen("\"sessions\": 1", "\"sessions\": one", 1)), @"RUN/run.json: not a valid run.json: expected value at line 8 column 15");
    insta::assert_snapshot!(complaint("run.json", &|t| t.replacen("\"schema_version\": 1", "\"schema_version\": 2", 1)), @"RUN/run.json has record schema 2, this build reads up to 1: use a newer inferometer to read it");
    insta::assert_snapshot!(complaint("run.json", &|t| t.replacen("\"schema_version\": 1,", "", 1)), @"RUN/run.json: not a valid run.json: missing field `schema_version` at line 101 column 1");
}

#[test]
fn a_folder_that_is_no_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("no run.json") && error.contains(&*dir.path().to_string_lossy()), "{error}");
    assert!(Store::resume(dir.path()).unwrap_err().to_string().contains("no run.json"));
    let gone = dir.path().join("gone");
    assert!(read(&gone).unwrap_err().to_string().contains("gone"));
    let (run, _) = stored(dir.path(), &[]);
    fs_err::remove_file(run.join("spans.csv")).unwrap();
    assert!(read(&run).unwrap_err().to_string().contains("spans.csv"));
}

/// What a newer build of the same major version may have written.
#[test]
fn unknown_columns_and_fields_are_ignored_and_missing_ones_are_not_measured() {
    let dir = tempfile::tempdir().unwrap();
    let (run, manifest) = stored(dir.path(), &[iteration(0, 2)]);
    let expected = record(&manifest, &[iteration(0, 2)]);
    for name in FILES {
        change(&run.join(name), |text| {
            let mut lines = text.lines();
            let header = format!("{},more\n", lines.next().unwrap());
            lines.fold(header, |all, line| all + line + ",\"a, b\"\n")
        });
    }
    change(&run.join("run.json"), |text| text.replacen('{', "{\"novel\": [1],", 1));
    assert_eq!(read(&run).unwrap(), expected);
    let refused = Store::resume(&run).unwrap_err().to_string();
    assert!(refused.contains("requests.csv") || refused.contains("tokens.csv"), "{refused}");
    assert!(refused.contains("version that began the run"), "{refused}");

    change(&run.join("requests.csv"), |text| text.replacen("decode_tps", "decode_rate", 1));
    change(&run.join("telemetry.csv"), |text| text.replacen("rss_bytes", "rss", 1));
    let found = read(&run).unwrap();
    assert!(found.requests.iter().all(|row| row.decode_tps.is_none() && row.ttft_ms == Some(1.25)));
    assert!(found.telemetry.iter().all(|row| row.values == [None, None]));
}

#[test]
fn a_second_writer_is_refused_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), manifest()).unwrap();
    store.commit(&iteration(0, 1)).unwrap();
    assert!(matches!(Store::resume(store.dir()), Err(RecordError::Busy { .. })));
    assert_eq!(read(store.dir()).unwrap().requests.len(), 1);
    let run = store.dir().to_owned();
    drop(store);
    Store::resume(&run).unwrap();
}

#[test]
fn rows_that_do_not_belong_together_are_refused_and_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), manifest()).unwrap();
    store.commit(&iteration(5, 2)).unwrap();
    let good = || iteration(7, 2);
    type Harm = fn(&mut Iteration);
    let broken: [(&str, Harm); 7] = [
        ("without requests", |i| i.requests.clear()),
        ("does not come after", |i| i.requests[0].request = 6),
        ("does not come after", |i| i.requests[1].request = 7),
        ("no request in the iteration", |i| i.tokens[0].request = 3),
        ("out of order", |i| i.tokens[1].index = 0),
        ("no request in the iteration", |i| i.spans.reverse()),
        ("each of the 2 gauges", |i| i.telemetry[0].values.truncate(1)),
    ];
    let lengths = FILES.map(|name| length(&store.dir().join(name)));
    for (complaint, harm) in broken {
        let mut iteration = good();
        harm(&mut iteration);
        let error = store.commit(&iteration).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
    assert!(store.update(|m| m.gauges.clear()).unwrap_err().to_string().contains("gauges are fixed"));
    assert_eq!(FILES.map(|name| length(&store.dir().join(name))), lengths);
    store.commit(&good()).unwrap();
    assert_eq!(read(store.dir()).unwrap(), record(store.manifest(), &[iteration(5, 2), good()]));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs_err::write(&file, "").unwrap();
    let error = Store::create(&file.join("results"), manifest()).unwrap_err().to_string();
    assert!(error.contains("a-file"), "{error}");

    let fixed = dir.path().join("read-only");
    fs_err::create_dir(&fixed).unwrap();
    let mut rights = fs_err::metadata(&fixed).unwrap().permissions();
    rights.set_readonly(true);
    fs_err::set_permissions(&fixed, rights).unwrap();
    // Rights do not bind the superuser; places that the system keeps to itself do.
    let bound = fs_err::create_dir(fixed.join("probe")).is_err();
    let own = if cfg!(target_os = "macos") { "/System" } else { "/sys/kernel" };
    let results = if bound { fixed } else { own.into() };
    let error = Store::create(&results, manifest()).unwrap_err().to_string();
    assert!(error.contains(&*results.to_string_lossy()), "{error}");
}

/// Run by the tests below in a process of its own, which is limited or killed.
#[test]
#[ignore = "a child process of other tests"]
#[allow(clippy::print_stdout)] // Its output is how the parent hears what was committed.
fn child_commits_until_it_cannot() {
    let (Ok(run), Ok(kind)) = (std::env::var("INFEROMETER_TEST_RUN"), std::env::var("INFEROMETER_TEST_KIND")) else {
        return;
    };
    if kind == "create" {
        println!("full {}", Store::create(Path::new(&run), manifest()).unwrap_err());
        return;
    }
    let (mut store, so_far) = Store::resume(Path::new(&run)).unwrap();
    for number in so_far.requests.len() as u64.. {
        match store.commit(&shaped(&kind, number)) {
            Ok(()) => println!("committed {number}"),
            Err(error) => {
                println!("full {} {error}", error.is_disk_full());
                assert_eq!(read(Path::new(&run)).unwrap().requests.len() as u64, number);
                return;
            }
        }
    }
}

/// An iteration of one request with most of its bytes in one file.
fn shaped(kind: &str, number: u64) -> Iteration {
    let mut iteration = iteration(number, 1);
    match kind {
        "tokens" => {
            let more = (3..200).map(|index| TokenRow { request: number, index, id: index, t_ns: 1_000_000 });
            iteration.tokens.extend(more);
        }
        "spans" => iteration.spans = iteration.spans.iter().copied().cycle().take(200).collect(),
        "telemetry" => iteration.telemetry = iteration.telemetry.iter().cloned().cycle().take(200).collect(),
        _ => iteration.requests[0].reason = "for many reasons; ".repeat(100),
    }
    iteration
}

fn child(run: &Path, kind: &str, limit: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    let script = format!("{limit} exec \"$0\" --exact record::child_commits_until_it_cannot --ignored --nocapture");
    command
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("INFEROMETER_TEST_RUN", run)
        .env("INFEROMETER_TEST_KIND", kind)
        .stdout(std::process::Stdio::piped());
    command
}

/// A limit on file size fails a write in the middle, as a full disk does, and needs no rights.
#[test]
fn a_full_disk_costs_the_iteration_and_not_the_run() {
    for kind in ["tokens", "spans", "telemetry", "requests"] {
        let dir = tempfile::tempdir().unwrap();
        let (run, manifest) = stored(dir.path(), &[]);
        let output = child(&run, kind, "trap '' XFSZ; ulimit -f 24;").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let full = said.lines().find(|line| line.starts_with("full")).unwrap_or_else(|| panic!("{said}")).to_owned();
        assert!(full.starts_with("full true") && full.contains(&format!("{kind}.csv")), "{full}");
        let committed = said.matches("committed").count() as u64;
        assert!(committed > 2, "{said}");

        let so_far: Vec<_> = (0..committed).map(|number| shaped(kind, number)).collect();
        assert_eq!(read(&run).unwrap(), record(&manifest, &so_far));
        let (mut store, _) = Store::resume(&run).unwrap();
        store.commit(&shaped(kind, committed)).unwrap();
        assert_eq!(read(&run).unwrap().requests.len() as u64, committed + 1);
    }
}

#[test]
fn a_record_that_cannot_be_begun_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let output = child(dir.path(), "create", "trap '' XFSZ; ulimit -f 1;").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("requests.csv"), "{said}");
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_killed_writer_leaves_what_it_said_it_committed() {
    use std::io::BufRead;
    let dir = tempfile::tempdir().unwrap();
    let (run, manifest) = stored(dir.path(), &[]);
    for round in 1..=5 {
        let mut writer = child(&run, "tokens", "").spawn().unwrap();
        let mut lines = std::io::BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        let heard = (&mut lines).filter(|line| line.starts_with("committed")).take(2 * round).count();
        assert_eq!(heard, 2 * round);
        writer.kill().unwrap();
        writer.wait().unwrap();
        let last = lines.filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok()).last();
        let found = read(&run).unwrap();
        let committed = found.requests.len() as u64;
        assert!(last.is_none_or(|last| committed > last), "{committed} after {last:?}");
        let expected: Vec<_> = (0..committed).map(|number| shaped("tokens", number)).collect();
        assert_eq!(found, record(&manifest, &expected));
    }
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
    expected.requests[1].status = Status::Failed;
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

fn any_row() -> impl Strategy<Value = RequestRow> {
    use prop::option::of;
    let number = || of(prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL);
    let value = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<String>().prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        prop::num::f64::NORMAL.prop_map(Value::Float)
    ];
    let name = prop_oneof![
        Just("repetition_penalty".to_owned()),
        Just("dtype".to_owned()),
        Just("other".to_owned()),
        any::<String>()
    ];
    (
        (any::<bool>(), any::<String>(), any::<String>(), 0..3_usize, 0..5_usize, of("[0-9a-f]{16}")),
        prop::collection::vec(any::<u32>(), 4),
        prop::collection::vec(of(any::<u32>()), 5),
        prop::collection::vec(of(any::<u64>()), 7),
        prop::collection::vec(number(), 14),
        prop::collection::btree_map(name, value, 0..5),
    )
        .prop_map(|((warmup, engine, reason, status, finish, token_hash), n32, o32, o64, f, effective)| {
            RequestRow {
                request: 0,
                warmup,
                cell: n32[0],
                iteration: n32[1],
                turn: n32[2],
                engine,
                host: n32[3],
                status: [Status::Ok, Status::Failed, Status::Invalid][status],
                reason,
                start_ns: o64[5].unwrap_or(0),
                end_ns: o64[6].unwrap_or(u64::MAX),
                effective,
                finish_reason: [
                    None,
                    Some(FinishReason::Stop),
                    Some(FinishReason::Length),
                    Some(FinishReason::Cancelled),
                    Some(FinishReason::Error),
                ][finish],
                prompt_tokens: o32[0],
                reused_tokens: o32[1],
                prefill_tokens: o32[2],
                generated_tokens: o32[3],
                cache_tokens: o32[4],
                load_s: f[0],
                tokenize_ms: f[1],
                ttft_ms: f[2],
                prefill_ms: f[3],
                decode_ms: f[4],
                e2e_ms: f[5],
                prefill_tps: f[6],
                decode_tps: f[7],
                tpot_ms: f[8],
                itl_p50_ms: f[9],
                itl_p95_ms: f[10],
                itl_p99_ms: f[11],
                itl_max_ms: f[12],
                peak_rss_bytes: o64[0],
                engine_active_bytes: o64[1],
                engine_cache_bytes: o64[2],
                engine_peak_bytes: o64[3],
                kv_cache_bytes: o64[4],
                cpu_ms: f[13],
                cpu_instructions: o64[0],
                cpu_cycles: o64[1],
                token_hash,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_row_is_read_back_as_it_was(rows in prop::collection::vec(any_row(), 1..5)) {
        let dir = tempfile::tempdir().unwrap();
        let requests = rows.into_iter().zip(0..).map(|(row, request)| RequestRow { request, ..row }).collect();
        let iterations = [Iteration { requests, ..Iteration::default() }];
        let (run, manifest) = stored(dir.path(), &iterations);
        prop_assert_eq!(read(&run).unwrap(), record(&manifest, &iterations));
    }

    /// Whatever byte is changed, reading ends with a record or with an error that names the file.
    #[test]
    fn a_wrong_byte_never_panics(file in 0..5_usize, at: prop::sample::Index, byte: u8) {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = stored(dir.path(), &[iteration(0, 1), iteration(1, 2)]);
        let name = ["tokens.csv", "spans.csv", "telemetry.csv", "requests.csv", "run.json"][file];
        let mut bytes = fs_err::read(run.join(name)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs_err::write(run.join(name), bytes).unwrap();
        if let Err(error) = read(&run) {
            // A count that is wrong shows where the rows it counts are.
            let error = error.to_string();
            prop_assert!(error.contains(name) || name == "requests.csv" && error.contains(".csv"), "{}", error);
        }
    }
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
    let groups = inferometer::telemetry::GROUPS.map(str::to_owned);
    let gauges = inferometer::telemetry::gauges(&groups);
    let gauges = gauges.into_iter().map(|g| {
        let meaning = inferometer::telemetry::meaning(&g.name).expect("every gauge has a meaning").to_owned();
        (g.name, g.unit, meaning)
    });
    let sections = [
        ("requests.csv", requests),
        ("effective", effective),
        ("tokens.csv", own(TOKEN_COLUMNS)),
        ("spans.csv", own(SPAN_COLUMNS)),
        ("telemetry.csv", own(TELEMETRY_COLUMNS)),
        ("gauges", gauges.collect()),
    ];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/record.md");
    let page = fs_err::read_to_string(&path).unwrap();
    let mut expected = String::new();
    let mut rest = page.as_str();
    for (section, rows) in sections {
        let mark = format!("<!-- columns {section} -->\n\n");
        let (before, after) = rest.split_once(&mark).unwrap_or_else(|| panic!("docs/record.md has no mark {mark:?}"));
        expected.push_str(before);
        expected.push_str(&mark);
        expected.push_str(&table(rows));
        let end = after.split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum::<usize>();
        rest = &after[end..];
    }
    expected.push_str(rest);
    if page != expected && std::env::var_os("INFEROMETER_UPDATE_PAGES").is_some() {
        fs_err::write(&path, &expected).unwrap();
    }
    assert!(page == expected, "docs/record.md is behind the code: run this test with INFEROMETER_UPDATE_PAGES=1");
}
