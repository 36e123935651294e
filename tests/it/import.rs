//! `inferometer import`: results of other programs as records, which never pass as measured here.

use inferometer::record;
use inferometer::record::{FinishState, Timing};
use serde_json::Value;

use crate::lab::Lab;
use crate::simulated_run;
use crate::simulated_run::Simulation;

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/import/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Names of the records, the oldest import first.
fn import(lab: &Lab, file: &str) -> Vec<String> {
    let done = lab.run(&["import", file]).expect(0);
    let folders = done.stderr.lines().map(|line| line.strip_prefix("imported: results/").unwrap().to_owned());
    folders.collect()
}

/// A file as llama-bench writes it, whose samples are `base` times a slowly rising sequence.
fn llama_bench(lab: &Lab, name: &str, commit: &str, base: f64) -> String {
    let samples: Vec<u64> = (0..12).map(|i| (base * (1e8 + f64::from(i) * 1e5)) as u64).collect();
    let row = |prompt: u32, generated: u32| {
        serde_json::json!({
            "build_commit": commit, "build_number": 7, "cpu_info": "a CPU", "gpu_info": "",
            "model_filename": "models/m.gguf", "n_threads": 2, "n_prompt": prompt, "n_gen": generated,
            "test_time": "2026-11-20T10:00:00Z", "samples_ns": samples,
        })
    };
    let lines = format!("{}\n{}\n", row(512, 0), row(0, 128));
    lab.write(name, lines).display().to_string()
}

#[test]
fn an_imported_record_says_who_measured_and_is_complete() {
    let lab = Lab::new();
    let done = lab.run(&["import", &fixture("llama-bench.json")]).expect(0);
    insta::assert_snapshot!(done.shown(&lab), @r#"
    exit 0
    --- stdout
    cell  n  prefill  decode  TTFT   ITL ms    peak    same
               tok/s   tok/s    ms  p50/p99  memory  tokens
    ────────────────────────────────────────────────────────
    pp32  3     12.8       –     –        –       –       –
    tg8   3        –    14.4     –        –       –       –

    imported, not checked: 6 of 6 iterations ok
    no confidence interval: 3 valid iterations are too few, 6 are needed
    imported: another program measured it; nothing was checked here
    Imported from llama-bench.json, which llama-bench wrote; tokens are not compared
    --- stderr
    imported: results/[RUN]
    "#);
    let record = record::open(&lab.run_folder().unwrap()).unwrap();
    let manifest = &record.manifest;
    let imported = manifest.imported.as_ref().unwrap();
    assert_eq!((imported.tool.as_str(), imported.file.as_str()), ("llama-bench", "llama-bench.json"));
    assert_eq!(imported.file_sha256.len(), 64);
    assert_eq!((manifest.state, manifest.hosts.len(), manifest.git.as_ref()), (FinishState::Finished, 0, None));
    assert_eq!(record.requests.len(), 6);
    for row in &record.requests {
        assert_eq!(row.timing, Some(Timing::Imported));
        assert_eq!((row.token_hash.as_ref(), row.generated_tokens, row.load_check), (None, None, None));
    }
    assert_eq!(record.contradictions().count(), 0);
    lab.run(&["import", &fixture("llama-bench.json")]).expect(2).says("is imported already: results/");
}

/// Two builds, one of them a fifth slower: the same program measured both, so they are compared.
#[test]
fn imported_runs_of_one_program_are_compared_and_say_on_what_that_rests() {
    let lab = Lab::new();
    let a = import(&lab, &llama_bench(&lab, "a.jsonl", "aaaa111", 1.0)).remove(0);
    let b = import(&lab, &llama_bench(&lab, "b.jsonl", "bbbb222", 1.2)).remove(0);
    let done = lab.run(&["compare", &a, &b]).expect(0);
    for told in [
        "trend, not a verdict",
        "A is imported: its figures rest on what llama-bench b7 claims; nothing was checked",
        "outputs: not compared, because an imported record has no tokens",
        "aaaa111",
        "-16.7 %",
        "worse",
    ] {
        let words: Vec<&str> = done.stdout.split_whitespace().collect();
        assert!(words.join(" ").contains(told), "{told:?} is not in\n{}", done.stdout);
    }
    let history = lab.run(&["history", "--format", "json"]).expect(0);
    let found: Value = serde_json::from_str(&history.stdout).unwrap();
    let series = found["series"].as_array().unwrap();
    assert_eq!(series.len(), 2, "prefill and decode: the same work in both runs");
    let commits: Vec<&Value> = series[0]["points"].as_array().unwrap().iter().map(|point| &point["commit"]).collect();
    assert_eq!(commits, ["aaaa111", "bbbb222"]);
}

/// A mean has no interval, is no iteration, and no test may use it, however many samples the other
/// side has.
#[test]
fn a_mean_without_samples_is_never_tested() {
    let lab = Lab::new();
    let sampled = llama_bench(&lab, "a.jsonl", "aaaa111", 1.0);
    let a = import(&lab, &sampled).remove(0);
    let text = fs_err::read_to_string(&sampled).unwrap();
    let mean = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().remove("samples_ns");
        (row["avg_ts"], row["avg_ns"]) = (50.0.into(), 1.into());
        row.to_string() + "\n"
    };
    let b = import(&lab, lab.write("b.jsonl", text.lines().map(mean).collect::<String>()).to_str().unwrap()).remove(0);
    let compared: Value =
        serde_json::from_str(&lab.run(&["compare", &a, &b, "--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!(compared["tests"], 0);
    let metric = |of: &str| {
        let cell = &compared["cells"][0];
        cell["metrics"].as_array().unwrap().iter().find(|metric| metric["metric"] == of).unwrap().clone()
    };
    let prefill = metric("prefill_tps");
    assert_eq!(
        (&prefill["change"], &prefill["b"]["n"], &prefill["b"]["median"]),
        (&"not_tested".into(), &0.into(), &50.0.into())
    );
    assert_eq!((&prefill["interval"], &prefill["p_value"]), (&Value::Null, &Value::Null));
    assert!(prefill["ratio"].as_f64().unwrap() < 0.1);
    let csv = lab.run(&["export", &b, "--format", "csv"]).expect(0).stdout;
    let line = csv.lines().find(|line| line.contains("prefill_tps") && line.contains("50")).unwrap();
    assert!(line.ends_with(",0,50,,,,,,,"), "no spread: {line}");
    let record = record::open(&lab.path("results").join(&b)).unwrap();
    assert_eq!((record.requests.len(), record.manifest.imported.unwrap().averages.len()), (0, 2));
}

/// What is measured here is never ranked against what another program claims.
#[test]
fn an_imported_run_is_not_ranked_against_a_measured_one() {
    let lab = Lab::new();
    let record = Simulation { caps: vec![0], ..Simulation::default() }.record();
    let measured = simulated_run::save(&record, &lab.path("results"));
    // The same cells, as this program exports them for llama.cpp's script.
    let name = measured.file_name().unwrap().to_str().unwrap();
    let exported = lab.run(&["export", name, "--format", "llama-bench"]).expect(0).stdout;
    let file = lab.write("exported.jsonl", &exported);
    let imported = import(&lab, file.to_str().unwrap()).remove(0);
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&lab.run(arguments).expect(0).stdout).unwrap() };
    let summary = json(&["export", &imported, "--format", "json"]);
    assert_eq!(summary["validity"]["standing"], "imported");
    // The rates come back as they went.
    let rates = |record: &record::Record, of: fn(&record::RequestRow) -> Option<f64>| {
        record.requests.iter().filter(|row| !row.warmup).filter_map(of).map(|rate| rate.round()).collect::<Vec<_>>()
    };
    let back = record::open(&lab.path("results").join(&imported)).unwrap();
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    assert_eq!(sorted(rates(&back, |row| row.decode_tps)), sorted(rates(&record, |row| row.decode_tps)));
    let done = lab.run(&["compare", name, &imported]).expect(0);
    assert!(!done.stdout.contains("worse") && !done.stdout.contains("better  "), "{}", done.stdout);
}

#[test]
fn every_verb_reads_an_imported_record() {
    let lab = Lab::new();
    for file in ["llama-bench.csv", "mlx-lm.txt", "guidellm.json", "aiperf.json", "vllm-detailed.json"] {
        for run in import(&lab, &fixture(file)) {
            lab.run(&["report", &run]).expect(0);
            let page = fs_err::read_to_string(lab.path("reports").join(&run).join("index.html")).unwrap();
            assert!(page.contains("Imported, not checked.") && page.contains(file), "{file}");
            assert!(!page.contains("did not start"), "{file}");
            for format in ["csv", "json", "bencher", "github-bigger", "github-smaller", "go", "openmetrics", "trace"] {
                lab.run(&["export", &run, "--format", format]).expect(0);
            }
            for table in ["requests", "tokens", "spans", "telemetry"] {
                let file = lab.path("table.parquet");
                let to = ["--table", table, "-o", file.to_str().unwrap()];
                lab.run(&[&["export", &run, "--format", "parquet"], &to[..]].concat()).expect(0);
                let bytes = fs_err::read(&file).unwrap();
                assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{file:?}");
            }
            lab.run(&["export", &run, "--format", "parquet"]).expect(2).says("name a file with `--output`");
            lab.run(&["export", &run, "--format", "csv", "--table", "tokens"])
                .expect(2)
                .says("for `--format parquet` only");
            lab.run(&["export", &run, "--format", "llama-bench"]).expect(2).says("is imported");
            assert!(lab.run(&["results", "show", &run]).expect(0).stdout.contains("measured by"));
            let done = lab.run(&["results", "redact", &run]).expect(0);
            let copy = record::open(&lab.path(done.stdout.trim())).unwrap();
            assert!(copy.manifest.imported.is_some(), "{file}");
        }
    }
    lab.run(&["history"]).expect(0);
    let listed = lab.run(&["results", "list", "--format", "csv"]).expect(0).stdout;
    assert_eq!(listed.lines().count(), 6, "{listed}");
}

#[test]
fn what_cannot_be_imported_is_refused() {
    let lab = Lab::new();
    let refused = |arguments: &[&str]| lab.run(&[&["import"], arguments].concat()).expect(2).shown(&lab);
    let broken = fs_err::read_to_string(fixture("llama-bench.json")).unwrap().replace("2508858672", "-1");
    let broken = lab.write("broken.json", broken).display().to_string();
    insta::assert_snapshot!(refused(&[&broken]), @r#"
    exit 2
    --- stderr
    error: [LAB]/broken.json, [0]: samples_ns[1] is -1, not a time above 0
    "#);
    insta::assert_snapshot!(refused(&[lab.write("notes.txt", "hello\n").to_str().unwrap()]), @r#"
    exit 2
    --- stderr
    error: [LAB]/notes.txt: not recognized as a result of any known tool; name it with `--format llama-bench|mlx-lm|guidellm|aiperf|vllm`
    "#);
    insta::assert_snapshot!(refused(&[lab.write("mlx.log", fs_err::read(fixture("mlx-lm.txt")).unwrap()).to_str().unwrap(), "--format", "vllm"]), @r#"
    exit 2
    --- stderr
    error: [LAB]/mlx.log, line 1: not JSON
    "#);
    let named = refused(&[&fixture("llama-bench.json"), "--model", "other"]);
    assert!(named.contains("names the model itself; leave out `--model`"), "{named}");
    assert!(!lab.path("results").exists(), "nothing is written");
    let run = lab.run(&["import", &fixture("mlx-lm.txt"), "--model", "mlx-community/a-model"]).expect(0);
    assert!(!run.stdout.contains("does not name the model"));
}
