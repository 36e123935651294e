//! `results list`, `show`, `redact` and `prune`, and secrets that no record stores.

use std::path::{Path, PathBuf};

use inferometer::record;
use inferometer::record::ab::Divergence;
use inferometer::record::{FinishState, manifest};
use inferometer_protocol::ModelSpec;

use crate::lab::{Lab, measured, without_hashes};
use crate::simulated_ab;
use crate::simulated_run;
use crate::simulated_run::Simulation;

const SECRET: &str = "sk-test-123456";
/// Words of the lab's prompt, and of what its engine makes of it.
const PROMPT: &str = "one two three four five";

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Files whose content or path contains `text`, in any case of letters.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let text = text.to_lowercase().into_bytes();
    let has = |bytes: &[u8]| bytes.to_ascii_lowercase().windows(text.len()).any(|part| part == text);
    let named = |path: &Path| has(path.strip_prefix(dir).unwrap().to_str().unwrap().as_bytes());
    files(dir).into_iter().filter(|path| named(path) || has(&fs_err::read(path).unwrap())).collect()
}

#[track_caller]
fn nowhere(dir: &Path, texts: &[&str]) {
    assert!(!files(dir).is_empty());
    for text in texts {
        assert_eq!(holding(dir, text), Vec::<PathBuf>::new(), "{text:?} is in a file of {}", dir.display());
    }
}

/// Saves a record in the lab's results under this name.
fn save(lab: &Lab, name: &str, record: &record::Record) {
    let saved = simulated_run::save(record, &lab.path("results"));
    fs_err::rename(saved, lab.path("results").join(name)).unwrap();
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A lab with an engine that is started with a secret.
fn with_secret(lab: &Lab, more: &[&str]) -> PathBuf {
    lab.exec(&[&["--api-key", SECRET], more].concat(), "[run]\niterations = 2\n")
}

#[test]
fn a_secret_of_a_command_line_reaches_no_file() {
    let lab = Lab::new();
    // An engine that quotes it: in its receipt, in a text and in an error.
    let scenario = with_secret(&lab, &["--fault", "error:prefill:2", "--quotes"]);
    let done = lab.run(&["run", scenario.to_str().unwrap(), "--format", "json"]);
    assert!(matches!(done.code, Some(0 | 1 | 4)), "{}", done.stderr);
    let record = lab.record();
    let host = &record.manifest.hosts[0];
    assert!(host.command.windows(2).any(|two| two == ["--api-key", "[secret]"]), "{:?}", host.command);
    assert_eq!(host.receipt.details["key"], "[secret]");
    assert!(record.requests.iter().any(|row| row.reason.contains("[secret]")), "an error quotes it");
    nowhere(&lab.path("results"), &[SECRET]);
    nowhere(&lab.path("reports"), &[SECRET]);
    assert!(!done.stdout.contains(SECRET));
}

#[test]
fn a_run_with_a_secret_is_resumed_with_its_scenario_file() {
    let lab = Lab::new();
    let scenario = with_secret(&lab, &[]);
    lab.measure(&scenario, &[]);
    let dir = lab.run_folder().unwrap();
    let mut begun = manifest::read(&dir).unwrap();
    begun.state = FinishState::Interrupted;
    begun.plan.order.push(vec![0]);
    manifest::write(&dir, &begun).unwrap();
    lab.resume(&[])
        .expect(2)
        .says("the record masks secrets, which are needed to start the engine again (`command` of engine `exec`)");
    let other = lab.write(
        "other.toml",
        fs_err::read_to_string(&scenario).unwrap().replace(&format!(", \"--api-key\", {SECRET:?}"), ""),
    );
    lab.resume(&[other.to_str().unwrap()]).expect(2).says("masks secrets");
    let named = fs_err::read_to_string(&scenario).unwrap().replacen("name = \"", "name = \"another-", 1);
    let another = lab.write("another.toml", named);
    let told = lab.resume(&[another.to_str().unwrap()]).expect(2).stderr;
    let (recorded, given) = (&begun.scenario.name, format!("another-{}", begun.scenario.name));
    assert!(told.contains(&format!("of the scenario `{recorded}`, but the file is `{given}`")), "{told}");
    lab.resume(&[scenario.to_str().unwrap()]);
    let record = lab.record();
    assert_eq!((measured(&record).len(), record.manifest.state), (3, FinishState::Finished));
    let done = lab.resume(&[scenario.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    nowhere(&lab.path("results"), &[SECRET]);
}

#[test]
fn a_session_with_a_secret_stores_none() {
    let lab = Lab::new();
    let scenario = with_secret(&lab, &[]);
    let command = format!("engine.0.options.command=[\"python3\", \"x.py\", \"--api-key\", \"{SECRET}-b\"]");
    // B's program does not exist, which is an outcome of the session.
    let done = lab.run(&["ab", scenario.to_str().unwrap(), "--b", &command, "--pilot", "0"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    nowhere(&lab.path("results"), &[SECRET]);
    nowhere(&lab.path("reports"), &[SECRET]);
}

#[test]
fn a_redacted_run_holds_nothing_private_and_still_opens() {
    let lab = Lab::new();
    let scenario = with_secret(&lab, &["--quotes"]);
    let set = format!("description=\"for {} by {}\"", host_name(), lab.path("model").display());
    lab.measure(&scenario, &["--set", &set]);
    let dir = lab.run_folder().unwrap();
    let before = lab.record();
    let folder = lab.path("").display().to_string();
    for private in [PROMPT, folder.trim_end_matches('/')] {
        assert!(!holding(&dir, private).is_empty(), "{private:?} is in the original");
    }
    let text = before.manifest.texts.values().next().expect("the engine returns text").clone();
    assert!(dir.join("logs").exists());

    let done = lab.run(&["results", "redact", dir.file_name().unwrap().to_str().unwrap()]).expect(0);
    let copy = lab.path(done.stdout.trim());
    let home = std::env::home_dir().unwrap().display().to_string();
    nowhere(&copy, &[PROMPT, &text, SECRET, folder.trim_end_matches('/'), &home, &format!("for {}", host_name())]);
    assert!(!copy.join("logs").exists());

    let after = record::read(&copy).unwrap();
    let told = after.manifest.redacted.as_ref().unwrap();
    assert_eq!(told.removed.len(), 8);
    assert_eq!(after.manifest.scenario.model, ModelSpec::Path("[path]/model".into()));
    assert_eq!(after.manifest.prompts, before.manifest.prompts);
    assert!(after.tokens.iter().all(|token| token.id.is_none()) && after.tokens.len() == before.tokens.len());
    let times = |record: &record::Record| record.tokens.iter().map(|token| token.t_ns).collect::<Vec<_>>();
    assert_eq!(times(&after), times(&before));
    assert_eq!((&after.requests, &after.spans), (&before.requests, &before.spans), "no row quotes anything here");
    assert_eq!(after.telemetry, before.telemetry);

    let copy_name = copy.to_str().unwrap();
    let compared = lab.run(&["compare", dir.to_str().unwrap(), copy_name]).expect(0);
    assert!(compared.stdout.contains("B is redacted: its outputs can be compared by their hashes only"));
    assert!(!compared.stdout.contains("OUTPUTS DIFFER"), "{}", compared.stdout);
    let told = lab.run(&["report", copy_name, "--format", "table"]).expect(0);
    assert!(told.stdout.contains("The record is redacted"), "{}", told.stdout);
    nowhere(&lab.path("reports"), &[PROMPT, SECRET, &folder]);
    lab.run(&["history", "redacted"]).expect(0);
    lab.run(&["export", copy_name, "--format", "csv"]);
    let shown = lab.run(&["results", "show", copy_name]).expect(0);
    assert!(shown.stdout.contains("redacted"), "{}", shown.stdout);
    lab.run(&["results", "redact", dir.to_str().unwrap()]).expect(2).says("exists already");

    // The original's rows may be complete; a redacted record is never continued.
    let mut begun = manifest::read(&copy).unwrap();
    begun.state = FinishState::Interrupted;
    manifest::write(&copy, &begun).unwrap();
    lab.run(&["run", "--resume", copy_name]).expect(2).says("the record was redacted");
}

#[test]
fn a_run_is_redacted_in_place_on_request_only() {
    let lab = Lab::new();
    save(&lab, "one", &Simulation::default().record());
    let original = fs_err::read(lab.path("results/one/run.json")).unwrap();
    lab.run(&["results", "redact", "one", "-o", "out"]).expect(0);
    assert_eq!(fs_err::read(lab.path("results/one/run.json")).unwrap(), original);
    lab.run(&["results", "redact", "one", "--in-place"]).expect(0);
    assert!(record::read(&lab.path("results/one")).unwrap().manifest.redacted.is_some());
    assert_eq!(fs_err::read_dir(lab.path("results")).unwrap().count(), 1, "nothing is left beside it");
    nowhere(&lab.path("results"), &["The lamp turned once more"]);
}

#[test]
fn a_redacted_session_opens_and_names_no_token() {
    let lab = Lab::new();
    let mut record = simulated_ab::session("output-changed");
    let divergence =
        Divergence { cell: 0, turn: 0, index: 17, a: Some(40_471_147), b: Some(8_150_815), gap: None, allowed: false };
    record.manifest.outputs.as_mut().unwrap().divergences = vec![divergence];
    let original = simulated_ab::save(&record, &lab.path("results"));
    let name = original.file_name().unwrap().to_str().unwrap();
    let done = lab.run(&["results", "redact", name]).expect(0);
    let copy = lab.path(done.stdout.trim());
    let (before, after) = (record::ab::read(&original).unwrap(), record::ab::read(&copy).unwrap());
    assert_eq!(after.pairs, before.pairs);
    assert_eq!(after.a.requests, before.a.requests);
    assert!(
        after.manifest.sides.iter().all(|side| side.commit.as_ref().is_none_or(|commit| commit.subject.is_empty()))
    );
    let told = lab.run(&["report", copy.to_str().unwrap(), "--format", "table"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    for id in ["40471147", "8150815"] {
        assert!(!told.stdout.contains(id) && holding(&copy, id).is_empty(), "{}", told.stdout);
    }
    assert!(told.stdout.contains("generates different tokens"), "{}", told.stdout);
    assert!(told.stdout.replace("\n  ", " ").contains("The record is redacted"), "{}", told.stdout);
    lab.run(&["results", "show", copy.to_str().unwrap()]).expect(0);
}

/// A lab with three records and a broken one.
fn three() -> Lab {
    let lab = Lab::new();
    for (name, start) in [("one", "2026-01-01"), ("two", "2026-02-01"), ("three", "2026-03-01")] {
        let mut record = Simulation::default().record();
        record.manifest.origin_utc = format!("{start}T09:21:13.000Z");
        save(&lab, name, &record);
    }
    let mut state = manifest::read(&lab.path("results/two")).unwrap();
    state.state = FinishState::Interrupted;
    manifest::write(&lab.path("results/two"), &state).unwrap();
    fs_err::create_dir(lab.path("results/broken")).unwrap();
    fs_err::write(lab.path("results/broken/run.json"), "{").unwrap();
    fs_err::create_dir(lab.path("results/notes")).unwrap();
    fs_err::write(lab.path("results/notes/a.txt"), "mine").unwrap();
    lab
}

#[test]
fn the_list_has_every_record_and_names_broken_ones() {
    let lab = three();
    let done = lab.run(&["results", "list"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(done.stdout, @r#"
    name     kind   state         ok   of       size
    ──────────────────────────────────────────────────
    broken   run    broken         –    –        1 B
        results/broken/run.json: not a valid run.json: EOF while parsing an object
          at line 1 column 1
    one      run    finished      60   60   1.04 MiB
        long-context, 2026-01-01 09:21 UTC
    three    run    finished      60   60   1.04 MiB
        long-context, 2026-03-01 09:21 UTC
    two      run    interrupted   60   60   1.04 MiB
        long-context, 2026-02-01 09:21 UTC
    "#);
    let csv = lab.run(&["results", "list", "--format", "csv"]).expect(0);
    let lines = csv.stdout.lines().map(|line| line.rsplit_once(',').unwrap().0);
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
    name,scenario,kind,start,state,ok,of,redacted,error
    broken,,run,,broken,,,,results/broken/run.json: not a valid run.json: EOF while parsing an object at line 1 column 1
    one,long-context,run,2026-01-01T09:21:13.000Z,finished,60,60,,
    three,long-context,run,2026-03-01T09:21:13.000Z,finished,60,60,,
    two,long-context,run,2026-02-01T09:21:13.000Z,interrupted,60,60,,
    "#);
    let json = lab.run(&["results", "list", "--format", "json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 4);
    assert!(json[0]["error"].as_str().unwrap().contains("run.json"), "{json}");
    let md = lab.run(&["results", "list", "--format", "md"]).expect(0).stdout;
    assert!(md.starts_with("| name |"), "{md}");
    lab.run(&["results", "list", "--results", "nowhere"]).expect(2).says("name it with --results");
}

#[test]
fn one_record_fits_a_screen() {
    let lab = three();
    let done = lab.run(&["results", "show", "one"]).expect(0);
    let (facts, files) = done.stdout.split_once("size ").unwrap();
    assert!(files.contains("MiB") && files.contains("tokens.csv"), "{files}");
    insta::assert_snapshot!(without_hashes(facts), @r#"
    kind         run
    scenario     long-context
    started      2026-01-01 09:21 UTC
    state        finished
    engine       transformer: transformer 0.1.0, candle 0.11.1, cpu, dtype=q8_0,
                 threads=2
    model        synthetic-qwen3-small-1
    cells        6
    machine      Example CPU 9000, 2 cores, 64.0 GiB, Linux x86_64 (virtual
                 machine)
    commit       [HASH] with uncommitted changes
    inferometer  0.1.0
    iterations   60 of 60 iterations ok
    warnings     0
    "#);
    lab.run(&["results", "show", "broken"]).expect(2).says("run.json");
    lab.run(&["results", "show", "none"]).expect(2).says("no run none");
}

#[test]
fn old_records_are_pruned_and_nothing_else() {
    let lab = three();
    let dry = lab.run(&["results", "prune", "--keep", "1", "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("would remove 2 records"), "{}", dry.stdout);
    assert!(dry.stderr.contains("broken stays"), "{}", dry.stderr);
    assert!(lab.path("results/one").exists());

    std::os::unix::fs::symlink(lab.path("results/one"), lab.path("results/link")).unwrap();
    fs_err::write(lab.path("results/one/thesis.txt"), "").unwrap();
    let done = lab.run(&["results", "prune", "--keep", "1", "--older-than", "1d"]).expect(0);
    assert!(done.stdout.contains("removed 1 record,"), "{}", done.stdout);
    assert!(done.stderr.contains("thesis.txt"), "{}", done.stderr);
    let left = |name: &str| lab.path("results").join(name).exists();
    assert!(left("one") && !left("two") && left("three") && left("notes") && left("broken") && left("link"));

    fs_err::remove_file(lab.path("results/one/thesis.txt")).unwrap();
    lab.run(&["results", "prune", "--older-than", "9999w"]).expect(0);
    assert!(left("one") && left("three"), "none is that old");
    lab.run(&["results", "prune"]).expect(2).says("--older-than 30d");
    lab.run(&["results", "prune", "--keep", "0", "--results", "results/one"]).expect(2).says("is a record");
    assert!(left("one"));
}
