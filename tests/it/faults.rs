//! A failure costs an iteration but never the run: engines that die, hang or lie, a killed harness,
//! a full disk, damaged scenarios and models.

use std::collections::BTreeMap;

use inferometer::record::{Cause, FinishState, Record, RequestRow, Status};
use inferometer::report::summary::Summary;
use inferometer::report::terminal;
use rustix::process::Signal;

use crate::lab::{Lab, line, make_nan, measured, runs, signal, statuses, until, without_figures, without_hashes};

const FOUR: &str = "[run]\niterations = 4\n";

/// What a summary remarks on a run, but for what the machine does to it.
fn remarks(record: &Record) -> Vec<String> {
    let remarks = Summary::of(record).validity.remarks.into_iter();
    remarks.filter(|remark| !record.manifest.warnings.contains(remark)).collect()
}

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

/// Driver and summary agree: a row that the driver accepts has no problem in the summary, and the
/// reverse.
#[test]
fn an_engine_that_knows_no_cap_is_not_expected_to_have_one() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 1\nwarmup = 0\n[sampling]\nrepetition_penalty = 1.1\n\
                [toggles]\nrepetition_context_size = [1024, 2048]\n\
                [workload]\nkind = \"prompt\"\ntext = \"TEXT\"\nmax_tokens = 4\nignore_eos = true\n"
        .replace("TEXT", &"word ".repeat(1500));
    let scenario = lab.exec(&["--toggles", "repetition_penalty,repetition_context_size", "--penalty"], &rest);
    lab.measure(&scenario, &[]).expect(0);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 2], "{}", measured(&record)[0].reason);
    // Windows of 1024 and of 1503 tokens differ, so nothing is said of cells that did the same
    // work.
    assert_eq!(remarks(&record), Vec::<String>::new());
}

#[test]
fn cells_that_turn_out_equal_are_said_to_be_equal() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 1\nwarmup = 0\n[toggles]\nprefill_chunk_size = [64, 128]\n";
    let scenario = lab.exec(&["--toggles", "prefill_chunk_size"], rest);
    let done = lab.measure(&scenario, &[]).expect(0);
    assert_eq!(statuses(&lab.record()), [Status::Ok; 2]);
    let [remark] = &remarks(&lab.record())[..] else { panic!("{}", done.stdout) };
    insta::assert_snapshot!(remark, @r#"chunk=64 and chunk=128 did the same work: their effective settings are equal."#);
    assert_eq!(line(&done.stdout, "chunk=64 and chunk=128"), remark.trim_end_matches('.'));
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
    error: engine `exec` does not honour what the scenario requests: prefill_chunk_size = 2 (one pass is all it has), prefill_chunk_size = 4 (one pass is all it has), repetition_penalty = 1.1 (its receipt's `sampling` does not list it); remove it from the scenario, or use another engine
    "#);
    assert!(lab.record().requests.is_empty());
}

#[test]
fn a_nondeterministic_engine_is_found_out() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--nondeterministic"], FOUR);
    let done = lab.measure(&scenario, &[]).expect(4);
    insta::assert_snapshot!(line(&done.stderr, "warning: cell"), @r#"warning: cell `exec` is nondeterministic: iteration 2 differs from the first from token 0 on"#);
    let row = done.stdout.lines().find(|line| line.starts_with("exec  ")).unwrap();
    assert_eq!(row.split_whitespace().last(), Some("NO"), "{row}");
    assert_eq!(statuses(&lab.record()), [Status::Ok; 4], "each iteration by itself is well");
}

#[test]
fn texts_that_never_end_do_not_fill_the_manifest() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--nondeterministic"], "[run]\niterations = 70\nwarmup = 0\n");
    let done = lab.measure(&scenario, &[]).expect(4);
    let told = line(&done.stderr, "warning: more than 64 different texts");
    insta::assert_snapshot!(told, @r#"warning: more than 64 different texts were generated; run.json keeps the first 64, tokens.csv all tokens"#);
    let manifest = lab.record().manifest;
    assert_eq!(manifest.texts.len(), 64);
    assert_eq!(manifest.warnings.iter().filter(|w| **w == told["warning: ".len()..]).count(), 1);
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
        // Some kills come before a new commit, most after up to four rows, anywhere in the next
        // iteration.
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
    done.expect(0);
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

/// Resuming a finished run reports the same result: a failure does not become a success.
#[test]
fn resuming_a_finished_run_tells_what_the_run_told() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--fault", "error:prefill:3"], FOUR);
    let first = lab.measure(&scenario, &[]).expect(1);
    let again = lab.resume(&[]).expect(1);
    insta::assert_snapshot!(lab.shown(&line(&again.stderr, "the run in ")), @r#"the run in [LAB]/results/[RUN] is finished; there is nothing left to do"#);
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
    let refused = lab.resume(&[]).expect(2);
    insta::assert_snapshot!(without_hashes(&lab.shown(&line(&refused.stderr, "error: "))), @r#"error: engine `exec` changed since this run started: [LAB]/adapter.py was [HASH], is [HASH]; start a new run, or resume with `--allow-changed`"#);
    let done = lab.resume(&["--allow-changed"]);
    insta::assert_snapshot!(without_hashes(&lab.shown(&line(&done.stderr, "warning: engine"))), @r#"warning: engine `exec` changed during the run: [LAB]/adapter.py was [HASH], is [HASH]"#);
    done.expect(0);
    assert_eq!(measured(&lab.record()).len(), 8);
}

/// Another tokenizer makes another prompt from the same text. That is not the engine's fault.
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
    // Shifts every id by one, so that any text gets other ids.
    let ids: Vec<_> = vocabulary.values().cloned().collect();
    let count = ids.len();
    for (at, value) in vocabulary.values_mut().enumerate() {
        *value = ids[(at + 1) % count].clone();
    }
    fs_err::write(&path, tokenizer.to_string()).unwrap();
    insta::assert_snapshot!(without_hashes(&lab.resume(&[]).shown(&lab)), @r#"
    exit 2
    --- stderr
    error: the tokenized prompt changed since this run started: SHA-256 of cell 0's prompt was [HASH], is [HASH]; SHA-256 of cell 1's prompt was [HASH], is [HASH]; start a new run, or resume with `--allow-changed`
    "#);
    // Other prompts give other tokens.
    let done = lab.resume(&["--allow-changed"]).expect(4);
    insta::assert_snapshot!(without_hashes(&line(&done.stderr, "warning: the prompts changed")), @r#"warning: the prompts changed during the run: SHA-256 of cell 0's prompt was [HASH], is [HASH]"#);
}

#[test]
fn a_full_disk_ends_the_run_and_keeps_what_was_measured() {
    let lab = Lab::new();
    let workload = "[workload]\nkind = \"prompt\"\ntext = \"a b\"\nmax_tokens = 200\nignore_eos = true\n";
    let scenario = lab.exec(&[], &format!("{workload}[run]\niterations = 20\n[telemetry]\ninterval_ms = 0\n"));
    // A limit on file size fails the write as a full disk does; ignoring the signal makes it an
    // error.
    let limited = "trap '' XFSZ; ulimit -f 64";
    let done = lab.behind_shell(limited, &["run", scenario.to_str().unwrap()]).output().unwrap();
    let done = lab.done(done).expect(2);
    insta::assert_snapshot!(lab.shown(&line(&done.stderr, "error: ")), @r#"error: the disk is full: failed to write to file `results/[RUN]/tokens.csv`: File too large (os error 27)"#);
    insta::assert_snapshot!(lab.shown(&line(&done.stderr, "all measurements")), @r#"all measurements so far are kept; resume with `inferometer run --resume results/[RUN]`"#);
    assert!(!done.stderr.contains("panicked"));
    let before = measured(&lab.record()).len();
    assert!((1..20).contains(&before), "{before} iterations fit");
    assert_eq!(lab.record().manifest.state, FinishState::Interrupted);
    let done = lab.resume(&[]);
    done.expect(0);
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
    // Root ignores permissions, but nobody can create a folder in /proc.
    let sealed = if fs_err::write(sealed.join("probe"), "").is_ok() { "/proc".into() } else { sealed };
    lab.measure(&scenario, &["--results", sealed.to_str().unwrap()]).expect(2).says(sealed.to_str().unwrap());
}

/// Starts a run of many iterations, and does something to its folder when two are done.
fn disturbed(lab: &Lab, arguments: &[&str], disturb: impl FnOnce(&std::path::Path)) -> crate::lab::Done {
    let scenario = lab.exec(&["--token-ms", "5"], "[run]\niterations = 25\n");
    let mut command = lab.program(&[]);
    let run = ["run", "--no-report", scenario.to_str().unwrap()];
    if let [program, rest @ ..] = arguments {
        let mut other = std::process::Command::new(program);
        other
            .args(rest)
            .arg(command.get_program())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        other.current_dir(lab.path("")).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command = other;
    }
    let mut child = command.args(run).spawn().unwrap();
    let dir = until("two iterations are done", || {
        assert!(child.try_wait().unwrap().is_none(), "the run has ended");
        let dir = lab.run_folder()?;
        (measured(&inferometer::record::read(&dir).unwrap()).len() >= 2).then_some(dir)
    });
    disturb(&dir);
    lab.wait(child)
}

#[test]
fn a_results_folder_that_is_deleted_ends_the_run() {
    let lab = Lab::new();
    let done = disturbed(&lab, &[], |_| {
        // The run may be writing there.
        until("the folder is gone", || fs_err::remove_dir_all(lab.path("results")).ok());
    });
    let done = done.expect(2).says("was deleted, moved or replaced").says("is not there any more");
    assert!(!done.stderr.contains("are kept") && !done.stderr.contains("panicked"), "{}", done.stderr);
    assert!(done.stderr.lines().count() < 12, "{}", done.stderr);
}

#[test]
fn a_results_folder_that_is_moved_ends_the_run_and_keeps_what_was_measured() {
    let lab = Lab::new();
    let elsewhere = lab.path("elsewhere");
    let mut before = 0;
    let done = disturbed(&lab, &[], |dir| {
        fs_err::rename(dir, &elsewhere).unwrap();
        before = measured(&inferometer::record::read(&elsewhere).unwrap()).len();
    });
    done.expect(2).says("was deleted, moved or replaced").says("its new path");
    let kept = measured(&inferometer::record::read(&elsewhere).unwrap()).len();
    assert!(kept >= before && kept < 25, "{kept}");
    let done = lab.run(&["run", "--no-report", "--resume", elsewhere.to_str().unwrap()]);
    let record = inferometer::record::read(&elsewhere).unwrap();
    done.expect(0);
    assert_eq!((measured(&record).len(), record.manifest.state), (25, FinishState::Finished));
}

#[test]
fn a_results_folder_that_becomes_read_only_is_named_and_loses_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let set = |dir: &std::path::Path, mode| {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let lab = Lab::new();
    let root = rustix::process::geteuid().is_root();
    // Permissions bind root only without its capabilities.
    let bound: &[&str] = if root { &["setpriv", "--bounding-set=-all", "--inh-caps=-all"] } else { &[] };
    let done = disturbed(&lab, bound, |dir| set(dir, 0o555));
    let dir = lab.run_folder().unwrap();
    set(&dir, 0o755);
    done.expect(2).says("run.json").says("Permission denied").says("are kept");
    let record = lab.record();
    assert_eq!(measured(&record).len(), 25, "every iteration is in files that were open already");
    let done = lab.resume(&[]);
    done.expect(0);
    assert_eq!(lab.record().manifest.state, FinishState::Finished);
}

#[test]
fn a_clock_that_jumps_costs_one_iteration() {
    for seconds in ["3600", "-3600"] {
        let lab = Lab::new();
        // The first generation warms up.
        let scenario = lab.exec(&["--token-ms", "2", "--clock-jump", &format!("3:{seconds}")], FOUR);
        lab.measure(&scenario, &[]).expect(4);
        let record = lab.record();
        assert_eq!(causes(&record), [None, Some(Cause::Stamps), None, None], "{seconds}");
        let row = measured(&record)[1];
        assert_eq!((row.decode_tps, row.ttft_ms), (None, None), "no figures are made of them");
    }
}

#[test]
fn prompt_counts_that_cannot_be_are_invalid() {
    let text = "[workload]\ntext = \"one two three four five\"\nmax_tokens = 4\n[run]\niterations = 2\n";
    let causes = |arguments: &[&str]| {
        let lab = Lab::new();
        let scenario = lab.exec(&[&["--no-stream"], arguments].concat(), text);
        lab.measure(&scenario, &[]);
        causes(&lab.record())
    };
    assert_eq!(causes(&["--prompt-tokens", "5"]), [None, None]);
    assert_eq!(causes(&["--prompt-tokens", "1000000000"]), [Some(Cause::Impossible); 2]);
    let warmup_and_two = ["--prompt-tokens", "5", "--prompt-tokens", "5", "--prompt-tokens", "6"];
    assert_eq!(causes(&warmup_and_two), [None, Some(Cause::Counts)], "the same prompt, another count");
}

#[test]
fn prompt_counts_agree_with_the_models_tokenizer() {
    let lab = Lab::new();
    let model = lab.path("model");
    lab.run(&["-q", "model", "new", "--preset", "tiny", model.to_str().unwrap()]).expect(0);
    // Its tokenizer makes more tokens of these words than the host, which counts words.
    let text = "[workload]\ntext = \"unquestionably incomprehensible\"\nmax_tokens = 4\n[run]\niterations = 1\n";
    let scenario = lab.exec(&["--no-stream"], text);
    lab.measure(&scenario, &[]).expect(4);
    let record = lab.record();
    assert_eq!(causes(&record), [Some(Cause::Counts)]);
    insta::assert_snapshot!(measured(&record)[0].reason, @r#"the model's tokenizer makes 15 tokens of the prompt, but the engine counts 2"#);
}

/// A scenario of the transformer engine with this model.
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
    let done = lab.wait(child).expect(130);
    insta::assert_snapshot!(line(&done.stderr, "stopping after"), @r#"stopping after the current iteration; press Ctrl-C again to stop at once"#);
    insta::assert_snapshot!(lab.shown(&line(&done.stderr, "interrupted")), @r#"interrupted; resume with `inferometer run --resume results/[RUN]`"#);
    let record = lab.record();
    // What there is, is shown.
    assert_eq!(done.stdout, terminal::render(&Summary::of(&record)));
    assert_eq!(record.manifest.state, FinishState::Interrupted);
    let before = measured(&record).len();
    assert!((2..25).contains(&before), "{before}");
    let done = lab.resume(&[]);
    let record = lab.record();
    done.expect(0);
    assert_eq!(measured(&record).len(), 25);
    assert_eq!((record.manifest.state, record.manifest.segments), (FinishState::Finished, 2));
    let again = lab.resume(&[]).expect(0);
    insta::assert_snapshot!(lab.shown(&line(&again.stderr, "the run in ")), @r#"the run in [LAB]/results/[RUN] is finished; there is nothing left to do"#);
}

#[test]
fn a_second_ctrl_c_stops_at_once_without_the_iteration_in_flight() {
    let lab = Lab::new();
    let workload = "[workload]\nkind = \"prompt\"\ntext = \"a b\"\nmax_tokens = 100000\nignore_eos = true\n";
    let begun = lab.path("begun");
    let arguments = ["--token-ms", "5", "--started", begun.to_str().unwrap()];
    let scenario = lab.exec(&arguments, &format!("{workload}[run]\nwarmup = 1\n"));
    let mut command = lab.program(&["run", scenario.to_str().unwrap()]);
    // As from a terminal: the signal goes to the whole process group, which does not contain the
    // host.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().unwrap();
    let group = rustix::process::Pid::from_child(&child);
    let interrupt = || rustix::process::kill_process_group(group, Signal::INT).unwrap();
    let length = || fs_err::metadata(&begun).map_or(0, |file| file.len());
    until("the measured generation has begun", || (length() == 2).then_some(()));
    interrupt();
    // Two signals at once may count as one; the program reports when it has received the first.
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut heard = String::new();
    while !heard.contains("stopping after the current iteration") {
        assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut heard).unwrap(), 0, "it ended:\n{heard}");
    }
    interrupt();
    std::io::Read::read_to_string(&mut stderr, &mut heard).unwrap();
    lab.wait(child).expect(130);
    let end: Vec<&str> = heard.lines().skip_while(|line| !line.starts_with("stopping ")).collect();
    insta::assert_snapshot!(lab.shown(&end.join("\n")), @r#"
    stopping after the current iteration; press Ctrl-C again to stop at once
    stopping at once
    record: results/[RUN]
    interrupted; resume with `inferometer run --resume results/[RUN]`
    "#);
    let record = lab.record();
    assert!(measured(&record).is_empty());
    assert_eq!(record.manifest.state, FinishState::Interrupted);
    assert!(!runs(record.manifest.hosts[0].pid));
}

/// The second Ctrl-C ends the program soon after, and nothing that the host started runs on.
#[test]
fn a_second_ctrl_c_stops_at_once_whatever_the_host_is_asked() {
    for asked in ["hello", "ping", "open", "reset", "generate", "profile_start", "profile_stop", "close"] {
        let lab = Lab::new();
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/faulty.py");
        let file = lab.path("children");
        let command = ["python3", script.to_str().unwrap(), &format!("hang-in-{asked}"), file.to_str().unwrap()];
        let profile = if asked.starts_with("profile") { "[profile]\nprofiler = \"pprof\"\n" } else { "" };
        let scenario = lab.write(
            "scenario.toml",
            format!(
                "name = \"lab\"\n[model]\npath = {:?}\n[[engine]]\nname = \"exec\"\noptions = {{ command = {command:?} }}\n\
                 [workload]\nkind = \"prompt\"\ntext = \"one\"\nmax_tokens = 3\nignore_eos = true\n\
                 [run]\niterations = 1\nwarmup = 0\n{profile}",
                lab.path("")
            ),
        );
        let mut child = lab.program(&["run", "--no-report", scenario.to_str().unwrap()]).spawn().unwrap();
        let children = until("the host hangs", || {
            assert!(child.try_wait().unwrap().is_none(), "{asked}: the run has ended");
            let text = fs_err::read_to_string(&file).ok()?;
            let pids: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            (pids.len() == 2).then_some(pids)
        });
        signal(child.id(), Signal::INT);
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut heard = String::new();
        while !heard.contains("stopping after the current iteration") {
            assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut heard).unwrap(), 0, "{asked}: {heard}");
        }
        let second = std::time::Instant::now();
        signal(child.id(), Signal::INT);
        std::io::Read::read_to_string(&mut stderr, &mut heard).unwrap();
        let code = lab.wait(child).code;
        // Well below a second on an idle machine.
        assert!(second.elapsed().as_secs() < 5, "{asked}: stopped after {:?}", second.elapsed());
        // At `close` everything is measured and recorded.
        assert_eq!(code, Some(if asked == "close" { 0 } else { 130 }), "{asked}: {heard}");
        let own = if cfg!(target_os = "linux") { &children[..] } else { &children[..1] };
        own.iter().for_each(|pid| assert!(!runs(*pid), "{asked}: a child of the host runs on"));
    }
}

#[test]
fn two_measurements_wait_for_each_other() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "20"], "[run]\niterations = 40\n");
    let first = lab.program(&["run", scenario.to_str().unwrap(), "--results", "first"]).spawn().unwrap();
    until("the first has begun", || lab.path("first").is_dir().then_some(()));
    let refused = lab.measure(&scenario, &["--no-wait"]).expect(2);
    let shown =
        |told: String| without_figures(&lab.shown(&told.replace(env!("CARGO_BIN_EXE_inferometer"), "[PROGRAM]")));
    insta::assert_snapshot!(shown(line(&refused.stderr, "error: ")), @r#"error: another measurement is running on this machine (process #, `[PROGRAM] run [LAB]/scenario.toml --results first`, since #-#-#T#:#:#Z); wait for it, or run without `--no-wait`"#);
    assert!(lab.run_folder().is_none(), "nothing was begun");
    let done = lab.measure(&scenario, &[]).expect(0);
    insta::assert_snapshot!(shown(line(&done.stderr, "waiting for ")), @r#"waiting for another measurement to end (process #, `[PROGRAM] run [LAB]/scenario.toml --results first`, since #-#-#T#:#:#Z); Ctrl-C stops waiting, `--no-wait` fails instead of waiting"#);
    lab.wait(first);
    let folder = fs_err::read_dir(lab.path("first")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(inferometer::record::read(&folder).unwrap().manifest.state, FinishState::Finished);
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
    let refused = resume(&[]).expect(2);
    insta::assert_snapshot!(line(&refused.stderr, "error: "), @r#"error: engine `exec` changed since this run started: version was 1.0.0, is 2.0.0; start a new run, or resume with `--allow-changed`"#);
    let before = measured(&lab.record()).len();
    assert!(before < 25);
    let done = resume(&["--allow-changed"]);
    let told = line(&done.stderr, "warning: engine");
    insta::assert_snapshot!(told, @r#"warning: engine `exec` changed during the run: version was 1.0.0, is 2.0.0"#);
    let record = lab.record();
    done.expect(0);
    assert_eq!(measured(&record).len(), 25);
    assert!(record.manifest.warnings.contains(&told["warning: ".len()..].to_owned()));
}

/// The engine's fixture says of no model that it is synthetic.
#[test]
fn one_token_throughout_is_a_warning() {
    let lab = Lab::new();
    let workload = "[workload]\ntext = \"one two three\"\nmax_tokens = 16\nignore_eos = true\n[run]\niterations = 2\n";
    let scenario = lab.exec(&["--repeat", "5"], workload);
    let done = lab.measure(&scenario, &[]).expect(0).says("one token, 16 times, and nothing else");
    assert!(done.stdout.contains("valid with warnings") && done.stdout.contains("degenerate"), "{}", done.stdout);
    let warnings = lab.record().manifest.warnings;
    let told = warnings.iter().filter(|warning| warning.contains("the output is degenerate"));
    assert_eq!(told.count(), 1, "once for both iterations: {warnings:?}");
}
