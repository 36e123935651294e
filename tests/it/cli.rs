//! The verbs `run` and `bench` on a real engine: the tiny synthetic model through the whole
//! program.

use std::collections::BTreeSet;

use inferometer::record::{Cause, FinishState, Status};
use inferometer::report::summary::Summary;
use inferometer::report::terminal;
use inferometer::telemetry::lacking;
use inferometer_protocol::FinishReason;

use crate::lab::{Lab, line, measured, statuses};

/// A scenario of the transformer engine on the tiny model with two prompt lengths.
fn tiny(lab: &Lab, rest: &str) -> std::path::PathBuf {
    lab.write(
        "prompt.txt",
        "The tide comes in and the tide goes out, and the boats lift and settle with it. ".repeat(20),
    );
    lab.write(
        "tiny.toml",
        format!(
            "name = \"tiny\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\", seed = 1 }}\n\
             [[engine]]\nname = \"transformer\"\n[workload]\nkind = \"prompt\"\ntext_file = \"prompt.txt\"\n\
             lengths = [16, 40]\nmax_tokens = 8\nignore_eos = true\n{rest}"
        ),
    )
}

#[test]
fn a_run_measures_records_and_reports() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 3\n[toggles]\nprefill_chunk_size = [8, 512]\n[telemetry]\ninterval_ms = 5\n";
    let done = lab.run(&["run", tiny(&lab, rest).to_str().unwrap()]).expect(0);
    let record = lab.record();
    assert_eq!(done.stdout, terminal::render(&Summary::of(&record)));
    assert_eq!(record.manifest.state, FinishState::Finished);
    assert_eq!(statuses(&record), [Status::Ok; 12]);
    assert_eq!(record.manifest.hosts.len(), 1, "one host for the whole run");
    assert!(record.manifest.hosts[0].receipt.model.synthetic);
    assert_eq!(record.manifest.hosts[0].verified, ["engine", "version", "model.fingerprint", "model.synthetic"]);
    assert!(record.manifest.hosts[0].executable_sha256.is_some());
    for row in measured(&record) {
        assert_eq!(row.prompt_tokens, record.manifest.plan.cells[row.cell as usize].length);
        assert_eq!((row.reused_tokens, row.generated_tokens), (Some(0), Some(8)), "the cache was reset");
        assert_eq!(row.finish_reason, Some(FinishReason::Length));
        assert!(row.prefill_tps > Some(0.0) && row.decode_tps > Some(0.0) && row.ttft_ms > row.prefill_ms);
        assert!(row.e2e_ms > row.decode_ms && row.itl_p99_ms >= row.itl_p50_ms && row.end_ns > row.start_ns);
        assert!(row.cpu_ms > Some(0.0));
        assert_eq!(row.peak_rss_bytes.is_some(), cfg!(target_os = "linux") && !lacking::macos());
        let tokens: Vec<_> = record.tokens.iter().filter(|t| t.request == row.request).collect();
        assert_eq!(tokens.len(), 8);
        assert!(tokens.iter().all(|t| (row.start_ns..=row.end_ns).contains(&t.t_ns)), "on the harness's clock");
        assert!(record.spans.iter().any(|span| span.request == row.request));
    }
    let by_length = |cell: u32| record.manifest.plan.cells[cell as usize].length;
    let hashes: BTreeSet<_> = measured(&record).iter().map(|r| (by_length(r.cell), r.token_hash.clone())).collect();
    assert_eq!(hashes.len(), 2, "equal tokens at each length, whatever the chunk size");
    assert!(record.telemetry.iter().any(|row| row.host == Some(0)));
    // Once, but on a busy machine until its token times are verified.
    let warmed: BTreeSet<_> = record.requests.iter().filter(|row| row.warmup).map(|row| row.cell).collect();
    assert_eq!(warmed.len(), 4, "each cell was warmed up");
    assert_eq!(record.requests.iter().filter(|row| row.load_s.is_some()).count(), 1);
    let report = lab.path("reports").join(&record.manifest.run).join("index.html");
    let page = fs_err::read_to_string(&report).unwrap();
    let charts = fs_err::read_dir(report.with_file_name("charts")).unwrap().count();
    assert!(charts > 0 && page.matches("<svg").count() >= charts, "{charts} charts");
    insta::assert_snapshot!(lab.shown(&line(&done.stderr, "report: ")), @r#"report: reports/[RUN]/index.html"#);
}

#[test]
fn isolation_says_how_long_a_host_lives() {
    for (isolation, hosts) in [("run", 1), ("cell", 2), ("iteration", 4)] {
        let lab = Lab::new();
        let scenario = tiny(&lab, &format!("[run]\niterations = 2\nisolation = \"{isolation}\"\n"));
        lab.measure(&scenario, &[]).expect(0);
        let record = lab.record();
        assert_eq!(record.manifest.hosts.len(), hosts, "isolation {isolation}");
        let used: BTreeSet<u32> = measured(&record).iter().map(|row| row.host).collect();
        assert_eq!(used.len(), hosts);
        let order: Vec<u32> = measured(&record).iter().map(|row| row.cell).collect();
        match isolation {
            "cell" => assert_eq!((order[0], order[2]), (order[1], order[3]), "a cell's iterations together"),
            _ => assert_ne!(order[0], order[1], "cells take turns"),
        }
        let warmups = || record.requests.iter().filter(|row| row.warmup);
        assert!(warmups().all(|row| row.iteration == 0 && row.generated_tokens <= Some(16)));
        let warm: BTreeSet<(u32, u32)> = warmups().map(|row| (row.host, row.cell)).collect();
        assert_eq!(warm.len(), hosts.max(2), "each cell is warm in each host it runs in");
    }
}

#[test]
fn load_time_toggles_get_hosts_of_their_own() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 2\n[toggles]\ndtype = [\"f32\", \"q8_0\"]\n";
    lab.measure(&tiny(&lab, rest), &["--set", "workload.lengths=[16]"]).expect(0);
    let record = lab.record();
    assert_eq!(record.manifest.scenario.overrides, ["workload.lengths=[16]"]);
    assert_eq!(record.manifest.hosts.len(), 2);
    for row in measured(&record) {
        let asked = &record.manifest.plan.cells[row.cell as usize].toggles["dtype"];
        assert_eq!(row.effective.get("dtype"), Some(asked));
    }
}

#[test]
fn a_host_killed_from_outside_costs_one_iteration() {
    let lab = Lab::new();
    let scenario = tiny(&lab, "[run]\niterations = 6\n");
    let child = lab
        .program(&["run", scenario.to_str().unwrap(), "--no-report", "--set", "workload.max_tokens=24"])
        .spawn()
        .unwrap();
    // Both cells are warmed up by then, so the kill hits an iteration.
    let pid = crate::lab::until("an iteration of each cell is done", || {
        let record = inferometer::record::read(&lab.run_folder()?).unwrap();
        (measured(&record).len() >= 2).then(|| record.manifest.hosts[0].pid)
    });
    crate::lab::signal(pid, rustix::process::Signal::KILL);
    let done = lab.wait(child);
    let record = lab.record();
    done.expect(1);
    let failed: Vec<_> = measured(&record).into_iter().filter(|row| row.status == Status::Failed).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].cause, Some(Cause::Died));
    assert_eq!((measured(&record).len(), record.manifest.hosts.len()), (12, 2));
}

#[test]
fn bench_measures_without_a_scenario_file() {
    let lab = Lab::new();
    let line = ["bench", "synthetic:llama/tiny", "-p", "16,24", "-n", "6", "--iterations", "2", "--format", "json"];
    let done = lab.run(&[&line[..], &["--toggle", "repetition_penalty=1.1", "--dtype", "f32"]].concat()).expect(0);
    let summary: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(summary["cells"].as_array().unwrap().len(), 2);
    assert_eq!(summary["validity"]["counts"]["planned"], 4);
    let record = lab.record();
    assert_eq!(record.manifest.scenario.name, "bench");
    assert!(lab.run(&["results", "list"]).expect(0).stdout.contains("bench: llama tiny"));
    // The label and the receipt explain what `auto` chose.
    let (spec, host) = (&record.manifest.scenario.engines[0], &record.manifest.hosts[0]);
    let library = if cfg!(feature = "mlx") { "mlx" } else { "candle" };
    assert_eq!((spec.name.as_str(), spec.label.as_str()), ("auto", format!("auto: {library}").as_str()));
    assert_eq!(host.receipt.engine, "transformer");
    assert!(host.receipt.backend.as_ref().is_some_and(|backend| backend.starts_with(library)), "{:?}", host.receipt);
    assert!(host.receipt.details["auto"].starts_with(&format!("{library}: ")), "{:?}", host.receipt.details);
    assert!(host.verified.contains(&"engine".to_owned()), "{:?}", host.verified);
    for row in measured(&record) {
        assert_eq!(row.generated_tokens, Some(6));
        assert_eq!(row.effective["repetition_penalty"].as_float(), Some(1.1));
        assert_eq!(row.effective["dtype"].as_text(), Some("f32"));
    }
    assert!(lab.path("reports").join(&record.manifest.run).join("summary.md").is_file());
}

#[cfg(target_os = "linux")]
#[test]
fn an_engine_is_bound_to_the_cpus_it_is_given() {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let first = allowed.trim().split([',', '-']).next().unwrap();
    let lab = Lab::new();
    let line = ["bench", "synthetic:llama/tiny", "-p", "16", "-n", "4", "--iterations", "1", "--engine", "transformer"];
    let bound =
        |cpus: &str| lab.run(&[&line[..], &["--set", &format!("engine.0.options.affinity=\"{cpus}\"")]].concat());
    let refused = bound(&format!("{first},1023")).expect(2);
    let told = crate::lab::line(&refused.stderr, "error: ");
    // Which CPUs there are is the machine's.
    let (_, why) = told.split_once(": CPU 1023 ").expect(&told);
    insta::assert_snapshot!(why.split(';').next().unwrap(), @r#"does not exist or this process may not use it"#);
    insta::assert_snapshot!(bound("all").shown(&lab), @r#"
    exit 2
    --- stderr
    run [RUN]
    error: engine `transformer` cannot be opened: affinity = all: "all" is not a CPU number or a range; write "0,1" or "0-3,8" (its log: results/[RUN]/logs/host-0.log)
    "#);
    let lab = Lab::new();
    lab.run(&[&line[..], &["--set", &format!("engine.0.options.affinity=\"{first}\"")]].concat()).expect(0);
    let receipt = &lab.record().manifest.hosts[0].receipt;
    assert_eq!(receipt.settings["affinity"].as_text(), Some(first));
    assert_eq!(receipt.details["cpus"], first, "read back from the system");
    // Bound to CPUs before the engine starts, because it sizes its pools by the CPUs it may use.
    assert_eq!(receipt.details["rayon_threads"], "1");
}

#[test]
fn bench_says_what_is_wrong_with_its_arguments() {
    let lab = Lab::new();
    let bench = |arguments: &[&str]| lab.run(&[&["bench"], arguments].concat()).shown(&lab);
    insta::assert_snapshot!(bench(&["synthetic:gpt/tiny"]), @r#"
    exit 2
    --- stderr
    error: unknown synthetic architecture `gpt`: use one of llama, mistral, qwen2, qwen3, qwen3_moe, smollm3, phi3, gemma3, gpt_oss
    "#);
    insta::assert_snapshot!(bench(&["synthetic:llama/huge"]), @r#"
    exit 2
    --- stderr
    error: MODEL: unknown preset `huge` of llama models
     |
     = help: llama has `tiny`, `small`, `135m`, `1b` and `3b`
    "#);
    insta::assert_snapshot!(bench(&["no/such/folder"]), @r#"
    exit 2
    --- stderr
    error: no model at no/such/folder, and none has this name; `inferometer model list` shows the names; or give the folder of a model (config.json, safetensors, tokenizer.json), a GGUF file, or a synthetic model such as synthetic:qwen3/small
    "#);
    insta::assert_snapshot!(bench(&["synthetic:llama/tiny", "--toggle", "prefill_chunk_sise=4"]), @r#"
    exit 2
    --- stderr
    error: unknown toggle `prefill_chunk_sise`; did you mean `prefill_chunk_size`? (`inferometer engines` lists those of each engine)
    "#);
    insta::assert_snapshot!(bench(&["synthetic:llama/tiny", "--engine", "transformers"]), @r#"
    exit 2
    --- stderr
    error: --engine: unknown engine `transformers`
     |
     = help: did you mean `transformer`?
     = help: this build has `transformer`, `auto`, `openai`, `llama-cpp`,
             `mlx-lm`, `exec` and `simulated`
    "#);
    assert!(!lab.path("results").exists());
}

#[test]
fn quiet_says_nothing_but_the_data() {
    let lab = Lab::new();
    let scenario = lab.exec(&[], "[run]\niterations = 2\n");
    let done = lab.measure(&scenario, &["-q", "--format", "csv"]).expect(0);
    assert_eq!(done.stderr, "");
    assert!(done.stdout.starts_with("run,cell,"), "{}", done.stdout);
}

#[test]
fn without_a_terminal_each_round_is_one_line() {
    let lab = Lab::new();
    let scenario = lab
        .exec(&["--toggles", "prefill_chunk_size"], "[run]\niterations = 3\n[toggles]\nprefill_chunk_size = [2, 4]\n");
    let done = lab.measure(&scenario, &[]).expect(0);
    let rounds: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("iteration ")).collect();
    assert_eq!(rounds.len(), 3, "{}", done.stderr);
    assert_eq!(rounds[2], "iteration 3 done, 6/6");
    assert!(!done.stderr.contains('\u{1b}') && !done.stderr.contains('\r'), "no colours, no redrawing");
}

#[test]
fn run_wants_a_scenario_or_a_folder_to_resume() {
    let lab = Lab::new();
    fs_err::create_dir(lab.path("empty")).unwrap();
    let run = |arguments: &[&str]| lab.run(&[&["run"], arguments].concat()).shown(&lab);
    insta::assert_snapshot!(run(&[]), @r#"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      <SCENARIO>

    Usage: inferometer run <SCENARIO>

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(run(&["--resume", "nowhere"]), @r#"
    exit 2
    --- stderr
    error: failed to open file `nowhere/run.json`: No such file or directory (os error 2)
    "#);
    insta::assert_snapshot!(run(&["--resume", "empty"]), @r#"
    exit 2
    --- stderr
    error: empty is not a record of a run: it has no run.json
    "#);
}

/// Few sessions, so the limits are loose. The command itself checks the figures with thousands of
/// sessions.
#[test]
fn the_self_test_prints_what_it_measured() {
    let lab = Lab::new();
    // With few sessions a narrow limit may be missed, which gives exit code 1.
    let output = lab.program(&["selftest", "--quick", "--format", "json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let share = |list: &str, what: &str| {
        let found = report[list].as_array().unwrap().iter().find(|check| check["what"] == what);
        found.unwrap_or_else(|| panic!("{what}: {report}"))["rate"]["share"].as_f64().unwrap()
    };
    assert!((share("calibration", "stored baseline, level added") - 0.6).abs() < 0.15);
    assert!((share("calibration", "A's runs, then B's, Welch") - 0.3).abs() < 0.15);
    assert!(share("calibration", "random pairs, signed-rank") < 0.12);
    assert!(share("verdicts", "identical: regressed") < 0.03);
    assert!(share("verdicts", "identical, 3 gates: regressed") < 0.03);
    assert!(share("verdicts", "5 % slower: regressed") > 0.9);
    assert!(share("verdicts", "10 % slower: regressed") > 0.97);
    assert!(share("verdicts", "3 % slower: unchanged") < 0.12);
    let every = |list: &str| report[list].as_array().unwrap().iter().all(|check| check["passed"] == true);
    let kept = every("calibration") && every("verdicts");
    assert_eq!(output.status.code(), Some(if kept { 0 } else { 1 }));
    let table = lab.program(&["selftest", "--sessions", "20"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    for check in report["calibration"].as_array().unwrap().iter().chain(report["verdicts"].as_array().unwrap()) {
        let what = check["what"].as_str().unwrap();
        assert!(table.lines().any(|line| line.trim_start().starts_with(what)), "{what}:\n{table}");
    }
}

#[test]
fn engines_that_generate_different_tokens_are_said_first() {
    let lab = Lab::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/engine.py");
    let engine = |label: &str, more: &str| {
        format!(
            "[[engine]]\nname = \"exec\"\nlabel = {label:?}\noptions = {{ command = [\"python3\", {script:?}{more}] }}\n"
        )
    };
    let remarks = |second: &str| {
        let scenario = lab.write(
            "scenario.toml",
            format!(
                "name = \"lab\"\n[model]\npath = \".\"\n{}{}[workload]\ntext = \"one two\"\nmax_tokens = 4\n\
                 [run]\niterations = 2\nexternal_causes = \"warn\"\n",
                engine("one", ""),
                engine("other", second)
            ),
        );
        let done = lab.run(&["run", scenario.to_str().unwrap(), "--format", "json"]);
        fs_err::remove_dir_all(lab.path("results")).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        summary["validity"]["remarks"][0].as_str().unwrap_or_default().to_owned()
    };
    insta::assert_snapshot!(
        remarks(", \"--repeat\", \"5\""),
        @r#"Engines generate different tokens for the same work in 1 of 1 comparison: one and other. Their speeds are those of different outputs."#
    );
    assert!(!remarks("").starts_with("Engines generate"));
}

/// Two formats of the weights in one run, as each engine's own toggle.
#[test]
fn engines_that_differ_are_told_before_the_figures() {
    let lab = Lab::new();
    let engine = |label: &str, dtype: &str| {
        format!(
            "[[engine]]\nlabel = {label:?}\noptions = {{ backend = \"candle\" }}\ntoggles = {{ dtype = {dtype:?} }}\n"
        )
    };
    let scenario = lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\", seed = 1 }}\n{}{}[workload]\n\
             text = \"one two three\"\nlengths = [24]\nmax_tokens = 16\nignore_eos = true\n[toggles]\nthreads = 1\n\
             [run]\niterations = 2\nexternal_causes = \"warn\"\n",
            engine("full", "f32"),
            engine("small", "q8_0")
        ),
    );
    let shown = lab.run(&["run", scenario.to_str().unwrap(), "--no-report"]).stdout;
    let before: Vec<&str> = shown.lines().take_while(|line| !line.starts_with("cell ")).collect();
    insta::assert_snapshot!(before.join("\n"), @r#"
    Engines generate different tokens for the same work in 1 of 1 comparison: full
      and small. Their speeds are those of different outputs
    Engines run with different dtype: f32 (full), q8_0 (small). Differences in speed
      and memory may come from it
    "#);
    let record = lab.record();
    let asked = record.manifest.plan.cells.iter().map(|cell| cell.load.get("dtype").unwrap().to_string());
    assert_eq!(asked.collect::<Vec<_>>(), ["f32", "q8_0"]);
    let effective = |cell| record.requests.iter().rfind(|row| row.cell == cell).unwrap().effective["dtype"].to_string();
    assert_eq!([effective(0), effective(1)], ["f32", "q8_0"]);
    let markdown = lab.run(&["report", lab.run_folder().unwrap().to_str().unwrap(), "--format", "md"]).expect(0).stdout;
    let at = |text: &str| markdown.find(text).unwrap_or_else(|| panic!("no {text} in {markdown}"));
    assert!(at("Engines run with different dtype") < at("| cell |"), "{markdown}");
}

#[test]
fn the_line_of_an_engine_names_all_formats_of_its_weights() {
    let lab = Lab::new();
    let line = ["bench", "synthetic:llama/tiny", "-p", "8", "-n", "2", "-r", "1", "--toggle", "dtype=q8_0,dtype=f32"];
    let done = lab.run(&[&line[..], &["--set", "run.external_causes=warn", "--no-report"]].concat()).expect(0);
    assert!(done.stdout.contains("f32 or q8_0"), "{}", done.stdout);
}
