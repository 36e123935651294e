//! What goes wrong costs an iteration and never the run: engines that die, hang or lie, a harness that is killed, a disk
//! that is full, scenarios and models that are not what they should be.

use std::collections::BTreeMap;

use inferometer::record::{Cause, FinishState, Record, RequestRow, Status};
use rustix::process::Signal;

use crate::lab::{Lab, code_but_for_busy, make_nan, measured, runs, signal, statuses, until};

const FOUR: &str = "[run]\niterations = 4\n";

/// Why each measured row does not count; `None` where it does.
fn causes(record: &Record) -> Vec<Option<Cause>> {
    measured(record).iter().map(|row| row.cause).collect()
}

#[test]
fn a_host_killed_in_prefill_or_decode_costs_one_iteration() {
    for phase in ["prefill", "decode"] {
        let lab = Lab::new();
        let scenario = lab.exec(&["--fault", &format!("die:{phase}:3")], FOUR);
        lab.measure(&scenario, &[]).expect(1);
        let record = lab.record();
        assert_eq!(causes(&record), [None, Some(Cause::Died), None, None]);
        let failed = measured(&record)[1];
        insta::allow_duplicates!(
            insta::assert_snapshot!(failed.reason, @"the engine host ended during a generation (signal: 9 (SIGKILL)); it was killed, often because the system ran out of memory")
        );
        assert!(failed.end_ns >= failed.start_ns && failed.generated_tokens.is_none());
        assert_eq!(record.manifest.hosts.len(), 2, "the host was replaced");
        assert_eq!(record.requests.iter().filter(|row| row.warmup).count(), 2, "and warmed up again");
        assert_eq!(record.manifest.state, FinishState::Finished);
    }
}

#[test]
fn a_host_that_cannot_load_at_first_ends_the_run_naming_its_log() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--always", "exit:load"], FOUR);
    insta::assert_snapshot!(lab.measure(&scenario, &[]).shown(&lab), @r#"
    exit 2
    --- stderr
    run [RUN]
    error: engine `exec` cannot be opened: the engine host ended during loading (exit status: 3)
    its log results/[RUN]/logs/host-0.log ends with:
      | engine.py: giving up (its log: results/[RUN]/logs/host-0.log)
    "#);
    assert!(lab.record().requests.is_empty());
    assert_eq!(lab.record().manifest.state, FinishState::Interrupted);
}

#[test]
fn a_host_that_dies_in_load_later_costs_one_iteration() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--fault", "die:decode:3", "--fault", "die:load"], FOUR);
    lab.measure(&scenario, &[]).expect(1);
    let record = lab.record();
    assert_eq!(causes(&record), [None, Some(Cause::Died), Some(Cause::NoHost), None]);
    let hosts: Vec<u32> = measured(&record).iter().map(|row| row.host).collect();
    assert_eq!(hosts, [0, 0, 1, 2], "a host that never came up has a number too");
}

#[test]
fn a_host_that_hangs_is_given_up_after_the_time_out() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--fault", "hang:decode:2"], "[run]\niterations = 2\ntimeout_s = 6.0\n");
    lab.measure(&scenario, &[]).expect(1);
    let record = lab.record();
    assert_eq!(causes(&record), [Some(Cause::TimedOut), None]);
    insta::assert_snapshot!(measured(&record)[0].reason, @"the engine host gave no answer to a generation within 6 s and was killed; increase the time-out if it is too short");
    assert!(!runs(record.manifest.hosts[0].pid), "the hanging host is gone");
}

#[test]
fn an_engine_that_says_it_failed_keeps_its_host() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--fault", "error:prefill:3"], FOUR);
    lab.measure(&scenario, &[]).expect(1);
    let record = lab.record();
    assert_eq!(causes(&record), [None, Some(Cause::EngineError), None, None]);
    insta::assert_snapshot!(measured(&record)[1].reason, @"told to fail: error:prefill:3");
    assert_eq!(record.manifest.hosts.len(), 1);
}

#[test]
fn a_cell_that_fails_three_times_in_a_row_is_given_up() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--always", "exit:decode"], "[run]\niterations = 9\n");
    lab.measure(&scenario, &[]).expect(1);
    let record = lab.record();
    assert_eq!(causes(&record), [Some(Cause::WarmUp); 3]);
    assert_eq!(record.manifest.state, FinishState::Finished);
    insta::assert_snapshot!(record.manifest.warnings.join("\n"), @"cell `exec` is given up after 3 failures in a row; last failure: warm-up failed: the engine host ended during a generation (exit status: 3)");
}

#[test]
fn wrong_outcomes_are_failures_of_the_engine() {
    let mut reasons = Vec::new();
    for arguments in [["--finish", "stop"], ["--finish", "cancelled"], ["--tokens", "0"], ["--tokens", "5"]] {
        let lab = Lab::new();
        let scenario = lab.exec(&arguments, "[run]\niterations = 1\nwarmup = 0\n");
        lab.measure(&scenario, &[]).expect(1);
        let record = lab.record();
        assert_eq!(causes(&record), [Some(Cause::Outcome)], "{arguments:?}");
        reasons.push(measured(&record)[0].reason.clone());
    }
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    stopped after 12 tokens although `ignore_eos` is set
    the engine reports `cancelled`, but the request was not cancelled
    no token was generated
    finish reason `length` after 5 tokens of 12
    "#);
}

#[test]
fn stamps_that_run_backwards_are_not_believed() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--backwards", "--token-ms", "1"], "[run]\niterations = 1\n");
    lab.measure(&scenario, &[]).expect(4);
    let record = lab.record();
    assert_eq!(causes(&record), [Some(Cause::Stamps)]);
    let row = measured(&record)[0];
    assert!(!row.reason.is_empty());
    assert_eq!((row.decode_tps, row.ttft_ms), (None, None), "no figures are made of them");
}

#[test]
fn effective_settings_other_than_asked_for_are_found() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 1\n[toggles]\nprefill_chunk_size = [2]\n";
    let scenario = lab.exec(&["--toggles", "prefill_chunk_size", "--chunk", "4"], rest);
    lab.measure(&scenario, &[]).expect(4);
    let record = lab.record();
    assert_eq!(causes(&record), [Some(Cause::Settings)]);
    insta::assert_snapshot!(measured(&record)[0].reason, @"effective settings differ: prefill_chunk_size is 4, expected 2");
    let lab = Lab::new();
    let rest =
        "[run]\niterations = 1\nallow_mismatch = [\"prefill_chunk_size\"]\n[toggles]\nprefill_chunk_size = [2]\n";
    let scenario = lab.exec(&["--toggles", "prefill_chunk_size", "--chunk", "4"], rest);
    lab.measure(&scenario, &[]).expect(0);
    assert_eq!(statuses(&lab.record()), [Status::Ok]);
}

/// One judge: what the driver lets pass, the summary does not blame, and the other way round.
#[test]
fn an_engine_that_knows_no_cap_is_not_expected_to_have_one() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 1\nwarmup = 0\n[sampling]\nrepetition_penalty = 1.1\n\
                [toggles]\nrepetition_context_size = [1024, 2048]\n\
                [workload]\nkind = \"prompt\"\ntext = \"TEXT\"\nmax_tokens = 4\nignore_eos = true\n"
        .replace("TEXT", &"word ".repeat(1500));
    let scenario = lab.exec(&["--toggles", "repetition_penalty,repetition_context_size", "--penalty"], &rest);
    let done = lab.measure(&scenario, &[]).expect(0);
    assert_eq!(statuses(&lab.record()), [Status::Ok; 2], "{}", measured(&lab.record())[0].reason);
    assert!(!done.stdout.contains("should have been"), "{}", done.stdout);
    assert!(!done.stdout.contains("same work"), "windows of 1024 and of 1503 tokens differ:\n{}", done.stdout);
}

#[test]
fn cells_that_turn_out_equal_are_said_to_be_equal() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 1\nwarmup = 0\n[toggles]\nprefill_chunk_size = [64, 128]\n";
    let scenario = lab.exec(&["--toggles", "prefill_chunk_size"], rest);
    let done = lab.measure(&scenario, &[]).expect(0);
    assert_eq!(statuses(&lab.record()), [Status::Ok; 2]);
    let said = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("chunk=64 and chunk=128 did the same work"), "{}", done.stdout);
}

#[test]
fn counts_that_cannot_be_true_are_not_believed() {
    let mut reasons = Vec::new();
    for (arguments, cause) in [
        (["--reused", "2"], Cause::Reuse),
        (["--cache", "3"], Cause::CacheLength),
        (["--cache", "18"], Cause::CacheLength),
    ] {
        let lab = Lab::new();
        let scenario = lab.exec(&arguments, "[run]\niterations = 1\nwarmup = 0\n");
        lab.measure(&scenario, &[]).expect(4);
        let record = lab.record();
        assert_eq!(causes(&record), [Some(cause)], "{arguments:?}");
        reasons.push(measured(&record)[0].reason.clone());
    }
    insta::assert_snapshot!(reasons.join("\n"), @r#"
    2 tokens were reused although the cache had been reset
    the cache holds 3 tokens after 5 prompt tokens and 12 generated tokens, expected 16
    the cache holds 18 tokens after 5 prompt tokens and 12 generated tokens, expected 16
    "#);
    for right in ["16", "17"] {
        let lab = Lab::new();
        let scenario = lab.exec(&["--cache", right], "[run]\niterations = 1\nwarmup = 0\n");
        lab.measure(&scenario, &[]).expect(0);
    }
}

#[test]
fn a_setting_that_the_engine_does_not_honour_is_refused_before_anything_is_measured() {
    let lab = Lab::new();
    let rest = "[sampling]\nrepetition_penalty = 1.1\n[toggles]\nprefill_chunk_size = [2, 4]\n";
    let refuses = "prefill_chunk_size=one pass is all it has";
    let scenario = lab.exec(&["--toggles", "kv_reuse", "--refuses", refuses], rest);
    insta::assert_snapshot!(lab.measure(&scenario, &[]).shown(&lab), @r#"
    exit 2
    --- stderr
    run [RUN]
    error: engine `exec` does not honour what the scenario requests: prefill_chunk_size = 2 (one pass is all it has), prefill_chunk_size = 4 (one pass is all it has), repetition_penalty = 1.1; remove it from the scenario, or use another engine
    "#);
    assert!(lab.record().requests.is_empty());
}

#[test]
fn a_nondeterministic_engine_is_found_out() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--nondeterministic"], FOUR);
    let done = lab.measure(&scenario, &[]).expect(4).says("nondeterministic").says("from token 0 on");
    assert!(done.stdout.contains("NO"), "{}", done.stdout);
    assert_eq!(statuses(&lab.record()), [Status::Ok; 4], "each iteration by itself is well");
}

#[test]
fn texts_that_never_end_do_not_fill_the_manifest() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--nondeterministic"], "[run]\niterations = 70\nwarmup = 0\n");
    lab.measure(&scenario, &[]).expect(4).says("more than 64 different texts");
    let manifest = lab.record().manifest;
    assert_eq!(manifest.texts.len(), 64);
    assert_eq!(manifest.warnings.iter().filter(|w| w.contains("64 different texts")).count(), 1);
}

/// The committed rows by cell and iteration.
fn committed(lab: &Lab) -> BTreeMap<(u32, u32), RequestRow> {
    let record = lab.record();
    let rows: Vec<_> = measured(&record).into_iter().map(|row| ((row.cell, row.iteration), row.clone())).collect();
    let count = rows.len();
    let rows: BTreeMap<_, _> = rows.into_iter().collect();
    assert_eq!(rows.len(), count, "no iteration is there twice");
    rows
}

#[test]
fn a_harness_killed_twenty_times_loses_nothing_that_was_committed() {
    const KILLS: usize = 20;
    let lab = Lab::new();
    let rest = "[run]\niterations = 90\nwarmup = 0\n[toggles]\nprefill_chunk_size = [2, 4]\n\
                [telemetry]\ninterval_ms = 5\n";
    let scenario = lab.exec(&["--toggles", "prefill_chunk_size", "--token-ms", "1"], rest);
    let mut state = 12345_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut known = BTreeMap::new();
    let mut after_progress = 0;
    for _ in 0..KILLS {
        let folder = lab.run_folder();
        let arguments = match &folder {
            None => vec!["run", scenario.to_str().unwrap()],
            Some(dir) => vec!["run", "--resume", dir.to_str().unwrap()],
        };
        let mut child = lab.program(&arguments).spawn().unwrap();
        // Some fall before anything new is committed, most after up to four rows, anywhere in the next iteration.
        let wanted = known.len() + random(5) as usize;
        let seen = until("rows are committed", || {
            assert!(child.try_wait().unwrap().is_none(), "the run ended before it was killed");
            let rows = if lab.run_folder().is_some() { committed(&lab) } else { BTreeMap::new() };
            (rows.len() >= wanted).then_some(rows)
        });
        std::thread::sleep(std::time::Duration::from_millis(random(25)));
        child.kill().unwrap();
        child.wait().unwrap();
        let rows = if lab.run_folder().is_some() { committed(&lab) } else { BTreeMap::new() };
        for (step, row) in known.iter().chain(&seen) {
            assert_eq!(rows.get(step), Some(row), "{step:?} was committed and is not there any more");
        }
        after_progress += usize::from(rows.len() > known.len());
        known = rows;
    }
    assert!(after_progress >= KILLS / 2, "only {after_progress} of {KILLS} kills fell after something new");
    assert!(lab.record().manifest.segments > 1, "the record was resumed");
    let done = lab.resume(&[]);
    let record = lab.record();
    done.expect(code_but_for_busy(&record));
    let rows = committed(&lab);
    assert!(known.iter().all(|(step, row)| rows.get(step) == Some(row)));
    assert_eq!(rows.len(), 180, "and the run is whole");
    assert_eq!(record.manifest.state, FinishState::Finished);
    let hashes: Vec<_> = rows.values().map(|row| row.token_hash.clone()).collect();
    assert!(hashes.iter().all(|hash| hash.is_some() && *hash == hashes[0]));
    assert!(record.requests.is_sorted_by_key(|row| row.start_ns), "time goes on over the resumes");
    for host in &record.manifest.hosts {
        until("the host of a killed harness ends", || (!runs(host.pid)).then_some(()));
    }
}

/// What a finished run has to say, it says again: a failure does not become a success by asking twice.
#[test]
fn resuming_a_finished_run_tells_what_the_run_told() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--fault", "error:prefill:3"], FOUR);
    let first = lab.measure(&scenario, &[]).expect(1);
    let again = lab.resume(&[]).expect(1).says("nothing left to do");
    assert_eq!(again.stdout, first.stdout);
    let dir = lab.run_folder().unwrap();
    let report = lab.path("reports").join(dir.file_name().unwrap()).join("index.html");
    assert!(!report.exists());
    lab.run(&["run", "--resume", dir.to_str().unwrap()]).expect(1).says("index.html");
    assert!(report.exists());
}

/// Starts a run, waits until one iteration is done, and stops it with Ctrl-C.
fn interrupted(lab: &Lab, scenario: &std::path::Path) {
    let child = lab.program(&["run", scenario.to_str().unwrap()]).spawn().unwrap();
    until("an iteration is done", || {
        let record = inferometer::record::read(&lab.run_folder()?).unwrap();
        (!measured(&record).is_empty()).then_some(())
    });
    signal(child.id(), Signal::INT);
    lab.wait(child).expect(130);
}

#[test]
fn an_adapter_that_changed_is_not_resumed_silently() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "5"], "[run]\niterations = 8\n");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine.py");
    let own = lab.write("adapter.py", fs_err::read(&script).unwrap());
    let text = fs_err::read_to_string(&scenario).unwrap();
    fs_err::write(&scenario, text.replace(script.to_str().unwrap(), own.to_str().unwrap())).unwrap();
    interrupted(&lab, &scenario);
    let hashed = lab.record().manifest.hosts[0].command_sha256.clone();
    assert_eq!(hashed.keys().collect::<Vec<_>>(), [own.to_str().unwrap()]);
    fs_err::write(&own, format!("{}\n# changed\n", fs_err::read_to_string(&own).unwrap())).unwrap();
    lab.resume(&[]).expect(2).says("adapter.py was").says("--allow-changed");
    let done = lab.resume(&["--allow-changed"]).says("changed during the run");
    done.expect(code_but_for_busy(&lab.record()));
    assert_eq!(measured(&lab.record()).len(), 8);
}

/// Another tokenizer makes another prompt of the same text. That is not the engine's fault.
#[test]
fn a_prompt_that_changed_is_not_resumed_silently() {
    let lab = Lab::new();
    let model = lab.path("model");
    lab.run(&["model", "new", "--arch", "qwen3", "--preset", "tiny", "--seed", "1", model.to_str().unwrap()]).expect(0);
    let workload = "[workload]\nkind = \"prompt\"\ntext = \"one two three\"\nlengths = [8, 16]\nmax_tokens = 4\nignore_eos = true\n";
    let scenario = lab.exec(&["--token-ms", "10"], &format!("{workload}[run]\niterations = 6\n"));
    interrupted(&lab, &scenario);
    assert_eq!(lab.record().manifest.prompts.keys().collect::<Vec<_>>(), ["0", "1"]);
    let path = model.join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    // Every id one further, so that whatever the text's tokens are, they have other ids.
    let ids: Vec<_> = vocabulary.values().cloned().collect();
    let count = ids.len();
    for (at, value) in vocabulary.values_mut().enumerate() {
        *value = ids[(at + 1) % count].clone();
    }
    fs_err::write(&path, tokenizer.to_string()).unwrap();
    let done = lab.resume(&[]).expect(2).says("the tokenized prompt changed").says("--allow-changed");
    assert!(
        done.stderr.contains("cell 0's prompt was") && !done.stderr.contains("nondeterministic"),
        "{}",
        done.stderr
    );
    // Other prompts give other tokens.
    lab.resume(&["--allow-changed"]).expect(4).says("the prompts changed during the run");
}

#[test]
fn a_full_disk_ends_the_run_and_keeps_what_was_measured() {
    let lab = Lab::new();
    let workload = "[workload]\nkind = \"prompt\"\ntext = \"a b\"\nmax_tokens = 200\nignore_eos = true\n";
    let scenario = lab.exec(&[], &format!("{workload}[run]\niterations = 20\n[telemetry]\ninterval_ms = 0\n"));
    // A limit on file size fails the write as a full disk does; ignoring the signal makes it an error.
    let limited = "trap '' XFSZ; ulimit -f 64";
    let done = lab.behind_shell(limited, &["run", scenario.to_str().unwrap()]).output().unwrap();
    let done = lab.done(done).expect(2).says("the disk is full").says("tokens.csv").says("--resume");
    assert!(!done.stderr.contains("panicked"));
    let before = measured(&lab.record()).len();
    assert!((1..20).contains(&before), "{before} iterations fit");
    assert_eq!(lab.record().manifest.state, FinishState::Interrupted);
    let done = lab.resume(&[]);
    done.expect(code_but_for_busy(&lab.record()));
    assert_eq!(measured(&lab.record()).len(), 20);
}

#[test]
fn a_results_folder_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let scenario = lab.exec(&[], FOUR);
    lab.write("taken", "a file");
    lab.measure(&scenario, &["--results", "taken"]).expect(2).says("taken");
    let sealed = lab.path("sealed");
    fs_err::create_dir(&sealed).unwrap();
    std::fs::set_permissions(&sealed, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Permissions do not bind root; /proc takes no new folder from anybody.
    let sealed = if fs_err::write(sealed.join("probe"), "").is_ok() { "/proc".into() } else { sealed };
    lab.measure(&scenario, &["--results", sealed.to_str().unwrap()]).expect(2).says(sealed.to_str().unwrap());
}

/// A scenario of the transformer engine on some model.
fn transformer(lab: &Lab, model: &str) -> std::path::PathBuf {
    lab.write(
        "transformer.toml",
        format!(
            "name = \"lab\"\n[model]\n{model}\n[[engine]]\nname = \"transformer\"\n[workload]\nkind = \"prompt\"\n\
             text = \"one two three four five\"\nmax_tokens = 4\nignore_eos = true\n[run]\niterations = 2\n"
        ),
    )
}

/// Bytes that mean nothing.
fn garbage() -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(10 << 20).collect()
}

#[test]
fn a_model_that_is_none_is_an_error_that_names_it() {
    let lab = Lab::new();
    lab.write("empty", "");
    lab.write("garbage", garbage());
    lab.write("model.gguf", "GGUF");
    fs_err::create_dir(lab.path("folder")).unwrap();
    for name in ["missing", "empty", "garbage", "folder", "model.gguf"] {
        let scenario = transformer(&lab, &format!("path = {:?}", lab.path(name)));
        let done = lab.measure(&scenario, &[]).expect(2).says(name);
        assert!(!done.stderr.contains("panicked") && !done.stderr.contains("os error"), "{}", done.stderr);
        let bench = lab.run(&["bench", name, "-p", "4", "-n", "4"]).expect(2).says(name);
        assert!(!bench.stderr.contains("os error"), "{}", bench.stderr);
    }
}

#[test]
fn weights_of_garbage_are_an_error_that_names_the_file() {
    let lab = Lab::new();
    let model = lab.path("model");
    lab.run(&["model", "new", "--arch", "qwen3", "--preset", "tiny", "--seed", "1", model.to_str().unwrap()]).expect(0);
    fs_err::write(model.join("model.safetensors"), garbage()).unwrap();
    let scenario = transformer(&lab, &format!("path = {model:?}"));
    let done = lab.measure(&scenario, &[]).expect(2).says("model.safetensors");
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

#[test]
fn a_model_that_computes_nan_fails_and_names_the_layer() {
    let lab = Lab::new();
    let model = lab.path("model");
    lab.run(&["model", "new", "--arch", "llama", "--preset", "tiny", model.to_str().unwrap()]).expect(0);
    make_nan(&model, "model.layers.2.mlp.up_proj.weight");
    let scenario = transformer(&lab, &format!("path = {model:?}\n[toggles]\ndtype = \"f32\""));
    lab.measure(&scenario, &[]).expect(1);
    let record = lab.record();
    assert_eq!(causes(&record), [Some(Cause::NotFinite); 2]);
    assert!(measured(&record)[0].reason.contains("first in layer 2 "), "{}", measured(&record)[0].reason);
    // 8 bits would turn NaN into a number, so such a model is not even opened.
    let rounded = transformer(&lab, &format!("path = {model:?}\n[toggles]\ndtype = \"q8_0\""));
    lab.measure(&rounded, &[]).expect(2).says("model.layers.2.mlp.up_proj.weight").says("not finite");
}

#[test]
fn a_scenario_that_is_none_is_an_error_that_names_it() {
    let lab = Lab::new();
    lab.write("empty.toml", "");
    lab.write("garbage.toml", garbage());
    fs_err::create_dir(lab.path("folder.toml")).unwrap();
    for name in ["missing.toml", "empty.toml", "garbage.toml", "folder.toml"] {
        let done = lab.measure(&lab.path(name), &[]).expect(2).says(name);
        assert!(!done.stderr.contains("panicked") && done.stderr.len() < 10_000, "{}", done.stderr);
        assert!(!lab.path("results").exists(), "nothing was begun");
    }
}

#[test]
fn ctrl_c_finishes_the_iteration_and_says_how_to_go_on() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "5"], "[run]\niterations = 25\n");
    let child = lab.program(&["run", scenario.to_str().unwrap()]).spawn().unwrap();
    let rows = || lab.run_folder().map_or(0, |dir| measured(&inferometer::record::read(&dir).unwrap()).len());
    until("two iterations are done", || (rows() >= 2).then_some(()));
    signal(child.id(), Signal::INT);
    let done = lab.wait(child).expect(130).says("--resume").says("stopping after the current iteration");
    assert!(done.stdout.contains("tok/s"), "what there is, is shown:\n{}", done.stdout);
    let record = lab.record();
    assert_eq!(record.manifest.state, FinishState::Interrupted);
    let before = measured(&record).len();
    assert!((2..25).contains(&before), "{before}");
    let done = lab.resume(&[]);
    let record = lab.record();
    let code = code_but_for_busy(&record);
    done.expect(code);
    assert_eq!(measured(&record).len(), 25);
    assert_eq!((record.manifest.state, record.manifest.segments), (FinishState::Finished, 2));
    lab.resume(&[]).expect(code).says("nothing left to do");
}

#[test]
fn a_second_ctrl_c_stops_at_once_without_the_iteration_in_flight() {
    let lab = Lab::new();
    let workload = "[workload]\nkind = \"prompt\"\ntext = \"a b\"\nmax_tokens = 100000\nignore_eos = true\n";
    let begun = lab.path("begun");
    let arguments = ["--token-ms", "5", "--started", begun.to_str().unwrap()];
    let scenario = lab.exec(&arguments, &format!("{workload}[run]\nwarmup = 1\n"));
    let mut command = lab.program(&["run", scenario.to_str().unwrap()]);
    // As from a terminal: the signal goes to the whole group, in which the host is not.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().unwrap();
    let group = rustix::process::Pid::from_child(&child);
    let interrupt = || rustix::process::kill_process_group(group, Signal::INT).unwrap();
    let length = || fs_err::metadata(&begun).map_or(0, |file| file.len());
    until("the measured generation has begun", || (length() == 2).then_some(()));
    interrupt();
    // Two signals at once may count as one; the program says when it has heard the first.
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut heard = String::new();
    while !heard.contains("stopping after the current iteration") {
        assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut heard).unwrap(), 0, "it ended:\n{heard}");
    }
    interrupt();
    std::io::Read::read_to_string(&mut stderr, &mut heard).unwrap();
    lab.wait(child).expect(130);
    assert!(heard.contains("stopping at once") && heard.contains("--resume"), "{heard}");
    let record = lab.record();
    assert!(measured(&record).is_empty());
    assert_eq!(record.manifest.state, FinishState::Interrupted);
    assert!(!runs(record.manifest.hosts[0].pid));
}

#[test]
fn two_measurements_wait_for_each_other() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "20"], "[run]\niterations = 5\n");
    let first = lab.program(&["run", scenario.to_str().unwrap(), "--results", "first"]).spawn().unwrap();
    until("the first has begun", || lab.path("first").is_dir().then_some(()));
    lab.measure(&scenario, &["--no-wait"]).expect(2).says("another measurement is running");
    assert!(lab.run_folder().is_none(), "nothing was begun");
    lab.measure(&scenario, &[]).expect(0).says("waiting for another measurement");
    let first = lab.wait(first);
    assert!(first.stderr.contains("5/5"), "{}", first.stderr);
}

#[test]
fn a_run_is_not_resumed_with_another_engine_unless_that_is_allowed() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "5"], "[run]\niterations = 25\n");
    let child = lab.program(&["run", scenario.to_str().unwrap()]).spawn().unwrap();
    until("an iteration is done", || {
        let dir = lab.run_folder()?;
        (!measured(&inferometer::record::read(&dir).unwrap()).is_empty()).then_some(())
    });
    signal(child.id(), Signal::TERM);
    lab.wait(child).expect(130);
    let dir = lab.run_folder().unwrap();
    let resume = |more: &[&str]| {
        let arguments = [&["run", "--no-report", "--resume", dir.to_str().unwrap()], more].concat();
        lab.done(lab.program(&arguments).env("ENGINE_VERSION", "2.0.0").output().unwrap())
    };
    resume(&[]).expect(2).says("version was 1.0.0, is 2.0.0").says("--allow-changed");
    let before = measured(&lab.record()).len();
    assert!(before < 25);
    let done = resume(&["--allow-changed"]).says("changed during the run");
    let record = lab.record();
    done.expect(code_but_for_busy(&record));
    assert_eq!(measured(&record).len(), 25);
    assert!(record.manifest.warnings.iter().any(|w| w.contains("2.0.0")), "{:?}", record.manifest.warnings);
}

/// The engine's fixture says of no model that it is synthetic.
#[test]
fn one_token_throughout_is_a_warning() {
    let lab = Lab::new();
    let workload = "[workload]\ntext = \"one two three\"\nmax_tokens = 16\nignore_eos = true\n[run]\niterations = 2\n";
    let scenario = lab.exec(&["--repeat", "5"], workload);
    let done = lab.measure(&scenario, &[]).expect(0).says("token 5 16 times and nothing else");
    assert!(done.stdout.contains("valid with warnings") && done.stdout.contains("degenerate"), "{}", done.stdout);
    let warnings = lab.record().manifest.warnings;
    let told = warnings.iter().filter(|warning| warning.contains("the output is degenerate"));
    assert_eq!(told.count(), 1, "once for both iterations: {warnings:?}");
}
