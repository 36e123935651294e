//! The profiled pass: it runs after the timed iterations and separately from them, can be resumed,
//! and never makes them invalid.

use std::path::{Path, PathBuf};

use inferometer::record::{FinishState, Record, Status};
use inferometer::telemetry::lacking;
use inferometer_protocol::{Phase, Profile};
use rustix::process::Signal;

use crate::lab::{Done, Lab, line, measured, runs, signal, statuses, until};

/// Two timed iterations and two profiled ones.
fn pass(rest: &str) -> String {
    format!("[run]\niterations = 2\n[profile]\niterations = 2\n{rest}")
}

/// The same with the host's own profiler, which macOS uses on request only.
fn own_profiler() -> String {
    pass("profiler = \"pprof\"\n")
}

fn transformer(lab: &Lab, rest: &str) -> PathBuf {
    lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\", seed = 1 }}\n[workload]\n\
             text = \"one two three four five six seven eight nine ten\"\nlengths = [32]\nmax_tokens = 24\n\
             ignore_eos = true\n[toggles]\nthreads = 1\n{rest}"
        ),
    )
}

#[track_caller]
fn measure(lab: &Lab, scenario: &Path, arguments: &[&str]) -> Done {
    lab.measure(scenario, arguments).expect(0)
}

/// The samples of a profile, and the functions that they name.
fn samples(profile: &Profile) -> (u64, Vec<&str>) {
    let stacks: Vec<_> = profile.parts.iter().flat_map(|part| &part.stacks).collect();
    let frames = stacks.iter().flat_map(|stack| &stack.frames);
    (stacks.iter().map(|stack| stack.count).sum(), frames.map(|at| profile.functions[*at as usize].as_str()).collect())
}

/// Checks that the rows of the pass belong together and are separate from the timed rows.
#[track_caller]
fn sound(record: &Record, iterations: usize) {
    let pass = &record.profile;
    assert_eq!(pass.iterations.len(), iterations, "{:?}", record.manifest.warnings);
    assert_eq!(record.manifest.state, FinishState::Finished);
    assert_eq!(measured(record).len(), 2, "the timed iterations, and nothing of the pass");
    let timed = record.requests.iter().map(|row| row.request);
    let mut numbers: Vec<u64> = timed.chain(pass.requests.iter().map(|row| row.request)).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "requests have numbers of their own: {numbers:?}");
    assert!(pass.requests.iter().all(|row| !row.warmup));
    for row in pass.requests.iter().filter(|row| row.status == Status::Ok) {
        assert_eq!(row.token_hash, measured(record)[0].token_hash, "the same work");
    }
}

#[test]
fn the_transformer_is_profiled_after_it_was_timed() {
    let lab = Lab::new();
    let scenario = transformer(&lab, &pass(""));
    let done = measure(&lab, &scenario, &[]);
    insta::assert_snapshot!(line(&done.stderr, "the timed iterations"), @r#"the timed iterations are done; the profiled pass follows"#);
    let record = lab.record();
    sound(&record, 2);
    assert_eq!(record.manifest.hosts.len(), 1, "the warm host goes on");
    let of = |phase| record.profile.spans.iter().filter(|span| span.phase == phase).count();
    assert!(of(Phase::Sample) > 0 && of(Phase::Forward) > 0, "single operations are timed");
    assert!(!record.spans.iter().any(|span| span.phase == Phase::Forward), "but not in the timed pass");
    let one = &record.profile.iterations[0];
    assert_eq!((one.prefill_tokens, one.generated_tokens), (32, 24));
    // The host of this build, or perf, may be able to sample stacks: there is a profile or a
    // reason.
    let folder = lab.run_folder().unwrap();
    match (&one.profile, &one.missing) {
        (Some(_), None) => assert!(folder.join("profile/cell-0/functions.csv").is_file()),
        (None, Some(why)) => {
            let able = record.manifest.hosts[0].receipt.capabilities.profile && !lacking::macos();
            assert!(!why.is_empty() && !able, "{why}");
        }
        both => panic!("a profile, or the reason why there is none: {both:?}"),
    }
    assert!(record.telemetry.iter().all(|row| row.t_ns < record.profile.requests[0].end_ns), "gauges rest");
}

#[test]
fn a_pass_without_a_flamegraph_has_spans_only() {
    let lab = Lab::new();
    let scenario = transformer(&lab, "[run]\niterations = 2\n");
    measure(&lab, &scenario, &["--profile", "--set", "profile.flamegraph=false", "--set", "profile.iterations=1"]);
    let record = lab.record();
    sound(&record, 1);
    let one = &record.profile.iterations[0];
    assert_eq!((&one.profile, &one.missing), (&None, &None));
    assert!(!lab.run_folder().unwrap().join("profile/cell-0").exists());
}

#[test]
fn one_word_on_the_command_line_asks_for_it() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--profile", "good"], "[run]\niterations = 2\n");
    measure(&lab, &scenario, &["--profile"]);
    let record = lab.record();
    sound(&record, 3);
    assert_eq!(record.manifest.scenario.overrides, ["profile={}"]);
}

#[test]
fn a_host_s_own_profiler_is_asked_and_its_files_can_be_made_again() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--profile", "good"], &own_profiler());
    measure(&lab, &scenario, &[]);
    let record = lab.record();
    sound(&record, 2);
    let profile = record.profile.iterations[1].profile.as_ref().unwrap();
    assert_eq!((profile.profiler.as_str(), samples(profile)), ("own", (5, vec!["generate", "compute"])));
    let folder = lab.run_folder().unwrap();
    let cell = folder.join("profile/cell-0");
    let folded = fs_err::read_to_string(cell.join("decode.folded")).unwrap();
    assert_eq!(folded, "generate;compute 10\n", "both iterations together");
    let table = fs_err::read_to_string(cell.join("functions.csv")).unwrap();
    assert!(table.lines().nth(1).unwrap().starts_with("decode,compute,8.000,8.000,100.000,100.000,"), "{table}");
    for name in ["decode.svg", "all.svg", "callgraph.dot", "profile.pb"] {
        assert!(cell.join(name).is_file(), "{name}");
    }
    fs_err::remove_dir_all(&cell).unwrap();
    lab.run(&["report", folder.to_str().unwrap()]).expect(0);
    assert_eq!(fs_err::read_to_string(cell.join("decode.folded")).unwrap(), folded);
}

#[test]
fn a_profile_that_is_not_sound_costs_the_profile_and_not_the_run() {
    let mut told = Vec::new();
    for (answer, hosts) in [("bad", 2), ("refused", 1)] {
        let lab = Lab::new();
        let scenario = lab.exec(&["--profile", answer], &own_profiler());
        let done = measure(&lab, &scenario, &[]);
        told.push(line(&done.stderr, "warning: no flamegraph"));
        let record = lab.record();
        sound(&record, 2);
        for one in &record.profile.iterations {
            assert!(one.profile.is_none(), "{one:?}");
        }
        told.push(record.profile.iterations[0].missing.clone().unwrap());
        assert!(record.profile.requests.iter().all(|row| row.generated_tokens == Some(12)), "its rows stay");
        assert_eq!(record.manifest.hosts.len(), hosts);
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    warning: no flamegraph of engine `exec`: the engine host broke the protocol during stopping its profiler: its profile is inconsistent: a stack names function 7, but there are only 2
    the engine host broke the protocol during stopping its profiler: its profile is inconsistent: a stack names function 7, but there are only 2
    warning: no flamegraph of engine `exec`: the profiler lost its samples
    the profiler lost its samples
    "#);
}

#[test]
fn a_host_that_dies_in_the_pass_costs_one_profiled_iteration() {
    let lab = Lab::new();
    // After a warm-up and two timed generations.
    let scenario = lab.exec(&["--profile", "good", "--fault", "die:decode:4"], &own_profiler());
    let done = measure(&lab, &scenario, &[]);
    insta::assert_snapshot!(line(&done.stderr, "warning: cell `exec`: iteration 1 of the profiled pass"), @r#"warning: cell `exec`: iteration 1 of the profiled pass failed: the engine host ended during a generation (signal: 9 (SIGKILL)); it was killed, often because the system ran out of memory"#);
    let record = lab.record();
    sound(&record, 2);
    assert_eq!(statuses(&record), [Status::Ok; 2]);
    let statuses: Vec<Status> = record.profile.requests.iter().map(|row| row.status).collect();
    assert_eq!(statuses[0], Status::Failed);
    assert_ne!(statuses[1], Status::Failed, "a fresh host went on");
    insta::assert_snapshot!(record.profile.iterations[0].missing.as_ref().unwrap(), @r#"the engine host was lost"#);
    assert!(record.profile.iterations[1].profile.is_some());
}

#[test]
fn other_tokens_than_in_the_timed_pass_are_told() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--profile", "good", "--nondeterministic"], &pass(""));
    let done = lab.measure(&scenario, &[]);
    let told = line(&done.stderr, "warning: cell `exec`: iteration 2 of the profiled pass");
    insta::assert_snapshot!(told, @r#"warning: cell `exec`: iteration 2 of the profiled pass generated different tokens than the timed one, from token 0 on: its profile may show different work"#);
    assert!(lab.record().manifest.warnings.contains(&told["warning: ".len()..].to_owned()));
}

/// After a kill at any moment, the timed iterations stay and the pass resumes where it stopped.
#[test]
fn a_pass_that_was_killed_is_resumed() {
    let lab = Lab::new();
    let started = lab.path("started");
    let scenario = lab.exec(
        &["--profile", "good", "--token-ms", "20", "--started", started.to_str().unwrap()],
        "[run]\niterations = 2\n[profile]\niterations = 3\n",
    );
    let child = lab.program(&["run", scenario.to_str().unwrap(), "--no-report"]).spawn().unwrap();
    // After a warm-up, two timed iterations and a profiled one, the second profiled one has begun.
    let begun = || fs_err::metadata(&started).is_ok_and(|file| file.len() >= 5).then_some(());
    until("the pass is under way", begun);
    signal(child.id(), Signal::KILL);
    lab.wait(child);
    let killed = lab.record();
    assert_eq!((measured(&killed).len(), killed.profile.iterations.len()), (2, 1));
    assert_eq!(killed.manifest.state, FinishState::Running);
    until("the host is gone", || (!runs(killed.manifest.hosts[0].pid)).then_some(()));

    let done = lab.resume(&[]);
    let record = lab.record();
    done.expect(0);
    sound(&record, 3);
    assert_eq!(&record.profile.iterations[0], &killed.profile.iterations[0]);
    assert_eq!(record.profile.iterations.iter().map(|one| one.iteration).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(record.profile.requests[1].start_ns > record.profile.requests[0].end_ns, "time goes on");
    assert_ne!(record.profile.iterations[1].host, record.profile.iterations[0].host);
    let again = lab.resume(&[]).expect(0);
    insta::assert_snapshot!(lab.shown(&line(&again.stderr, "the run in ")), @r#"the run in [LAB]/results/[RUN] is finished; there is nothing left to do"#);
}

#[test]
fn the_turns_of_a_conversation_are_one_profile() {
    let lab = Lab::new();
    let turns = "[workload]\nkind = \"conversation\"\nreplies = \"fixed\"\nmax_tokens = 4\nignore_eos = true\n\
                 turn = [{ user = \"a b\", reply = \"c\" }, { user = \"d\" }]\n";
    let scenario =
        lab.exec(&["--profile", "good"], &format!("{turns}[run]\niterations = 1\n[profile]\niterations = 1\n"));
    let done = measure(&lab, &scenario, &[]);
    insta::assert_snapshot!(line(&done.stderr, "the timed iterations"), @r#"the timed iterations are done; the profiled pass follows"#);
    let pass = lab.record().profile;
    assert_eq!((pass.iterations.len(), pass.requests.len()), (1, 2));
    assert_eq!(pass.iterations[0].generated_tokens, 8);
}

/// A profile by this tool, or the reason why the tool does not work here. Then the test checks and
/// prints the reason.
#[track_caller]
fn outside<'a>(record: &'a Record, tool: &str, on_path: bool) -> Option<&'a Profile> {
    let one = &record.profile.iterations[0];
    match (&one.profile, &one.missing) {
        (Some(profile), None) => {
            assert_eq!(profile.profiler, tool);
            Some(profile)
        }
        (None, Some(why)) => {
            #[expect(clippy::print_stderr, reason = "a test that could not look says so")]
            {
                eprintln!("{tool} cannot profile here: {why}");
            }
            assert!(why.contains(tool), "{why}");
            assert!(on_path || why.starts_with(&format!("`{tool}` ")), "{why}");
            assert!(record.manifest.warnings.iter().any(|told| told.contains(why)), "the record says so");
            None
        }
        both => panic!("a profile, or the reason why there is none: {both:?}"),
    }
}

fn on_path(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| Path::new(&folder).join(tool).is_file())
}

#[test]
fn perf_looks_at_an_engine_from_outside() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--busy-ms", "40"], &pass("profiler = \"perf\"\n"));
    measure(&lab, &scenario, &[]);
    let record = lab.record();
    sound(&record, 2);
    let Some(profile) = outside(&record, "perf", on_path("perf")) else { return };
    let decode = profile.parts.iter().find(|part| part.phase == Some(Phase::Decode)).unwrap();
    let of_decode: u64 = decode.stacks.iter().map(|stack| stack.count).sum();
    let (all, functions) = samples(profile);
    assert!(2 * of_decode > all, "it computes while it decodes: {of_decode} of {all}");
    assert!(functions.iter().any(|name| name.contains("Eval")), "an interpreter evaluates: {functions:?}");
    assert!(lab.run_folder().unwrap().join("profile/cell-0/decode.folded").is_file());
}

#[test]
fn py_spy_looks_at_a_python_engine() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--busy-ms", "40"], &pass(""));
    measure(&lab, &scenario, &[]);
    let record = lab.record();
    sound(&record, 2);
    let Some(profile) = outside(&record, "py-spy", on_path("py-spy")) else { return };
    assert!(samples(profile).1.iter().any(|name| name.starts_with("compute")), "{:?}", profile.functions);
}
