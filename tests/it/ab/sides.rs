//! How the sides may differ, and sessions that are refused.

use std::path::{Path, PathBuf};

use super::{DECODE, LOAD, MEMORY, NO_PILOT, check, once, record, session, simulated, told};
use inferometer::record::Cause;
use inferometer::spec::OutputsRule;

use crate::lab::{Lab, line, make_nan, without_figures};

/// How a session says that its sides do the same work.
pub const EQUAL: &str = "the sides request different settings";

/// A scenario of the tiny model on one thread, and the model's folder.
pub fn transformer(lab: &Lab, rest: &str) -> (PathBuf, PathBuf) {
    let model = |seed: &str| {
        let folder = lab.path(&format!("model-{seed}"));
        let told = ["model", "new", "--arch", "qwen3", "--preset", "tiny", "--seed", seed, folder.to_str().unwrap()];
        lab.run(&told).expect(0);
        folder
    };
    let (one, other) = (model("1"), model("2"));
    let scenario = lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n[model]\npath = {one:?}\n[[engine]]\nname = \"transformer\"\noptions = {{ backend = \"candle\" }}\n\
             [workload]\ntext = \"one two three four five\"\nlengths = [24]\nmax_tokens = 4\nignore_eos = true\n[toggles]\nthreads = 1\ndtype = \"f32\"\n\
             {rest}{NO_PILOT}{MEMORY}"
        ),
    );
    (scenario, other)
}

#[test]
fn settings_that_amount_to_the_same_are_said_to_be_equal() {
    let lab = Lab::new();
    let (scenario, _) = transformer(&lab, "[sampling]\nrepetition_penalty = 1.1\n");
    // The whole context is shorter than the cap.
    let sides = ["--a", "repetition_window_cap=0", "--b", "repetition_window_cap=768", "--resident"];
    let (done, found) = session(&lab, &scenario, &sides, 0);
    check(&found);
    assert_eq!(told(&done)["verdict"], "unchanged");
    let told = line(&done.stderr, &format!("warning: {EQUAL}"));
    insta::assert_snapshot!(told, @r#"warning: the sides request different settings, but in every cell the effective ones are equal: both sides do the same work"#);
    assert!(found.manifest.warnings.contains(&told["warning: ".len()..].to_owned()));
    assert_eq!(found.manifest.sides[1].settings, ["toggles.repetition_window_cap=768"]);
}

#[test]
fn settings_that_change_the_work_are_not_said_to_be_equal() {
    let lab = Lab::new();
    let (scenario, _) = transformer(&lab, "[sampling]\nrepetition_penalty = 1.1\n");
    let sides = ["--a", "repetition_window_cap=0", "--b", "repetition_window_cap=8", "--resident", "--outputs", "any"];
    let (_, found) = session(&lab, &scenario, &sides, 0);
    assert!(!found.manifest.warnings.iter().any(|warning| warning.starts_with(EQUAL)));
}

/// The outputs of side B are compared with B's own load-time settings.
#[test]
fn sides_that_load_in_other_formats_do_different_work() {
    let lab = Lab::new();
    let (scenario, _) = transformer(&lab, "");
    // The memory of the sides differs too: by more where files that are mapped do not count.
    let text = fs_err::read_to_string(&scenario).unwrap().replace(MEMORY, &MEMORY.replace("50%", "95%"));
    fs_err::write(&scenario, text).unwrap();
    let sides = ["--a", "dtype=q8_0", "--b", "dtype=f32", "--resident", "--outputs", "any"];
    let (_, found) = session(&lab, &scenario, &sides, 0);
    assert!(!found.manifest.warnings.iter().any(|warning| warning.starts_with(EQUAL)), "{:?}", found.manifest.warnings);
    let hosts = |record: &inferometer::record::Record| {
        let dtype = |host: &inferometer::record::HostInfo| host.receipt.settings.get("dtype").cloned();
        record.manifest.hosts.iter().map(dtype).collect::<Vec<_>>()
    };
    let of = |dtype: &str| Some(inferometer_protocol::Value::Text(dtype.to_owned()));
    assert_eq!((hosts(&found.a), hosts(&found.b)), (vec![of("q8_0")], vec![of("f32")]));
}

#[test]
fn another_model_is_another_output() {
    let lab = Lab::new();
    let (scenario, other) = transformer(&lab, "");
    let done = once(&lab, &scenario, &["--b-model", other.to_str().unwrap()]).expect(4);
    assert_eq!(told(&done)["verdict"], "output-changed");
    assert!(record(&lab).pairs.is_empty());
}

#[test]
fn margin_measures_both_sides_along_the_same_tokens() {
    let lab = Lab::new();
    let (scenario, _) = transformer(&lab, "");
    // `--outputs margin` keeps the scenario's margin.
    let own = ["--set", "ab.outputs=margin", "--set", "ab.margin=0.25"];
    let (_, found) =
        session(&lab, &scenario, &[&["--same", "--outputs", "margin", "--resident"], &own[..]].concat(), 0);
    check(&found);
    assert_eq!(found.manifest.settings.outputs, OutputsRule::Margin { logits: 0.25 });
    let finding = found.manifest.outputs.as_ref().unwrap();
    assert_eq!((finding.tokens, finding.divergences.len()), (4, 0), "{finding:?}");
}

#[test]
fn margin_of_another_model_finds_where_it_would_have_gone() {
    let lab = Lab::new();
    let (scenario, other) = transformer(&lab, "");
    let done = once(&lab, &scenario, &["--b-model", other.to_str().unwrap(), "--outputs", "margin"]).expect(4);
    let said = told(&done);
    assert_eq!(said["verdict"], "output-changed");
    let reason = said["reasons"][0].as_str().unwrap();
    insta::assert_snapshot!(without_figures(&lab.shown(reason)), @r#"given A's tokens, B ([LAB]/model-#) prefers a different token in # places by more than # logits, first at position # (cell #, turn #): token # instead of token #, by #"#);
}

#[test]
fn margin_needs_an_engine_that_says_what_it_would_have_chosen() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[("quick", "a_ms = 1")], MEMORY);
    let refused = once(&lab, &scenario, &["--same", "--outputs", "margin"]).expect(2);
    insta::assert_snapshot!(lab.shown(&line(&refused.stderr, "error: ")), @r#"error: `outputs = "margin"` needs an engine that can report its own choices (capability `choices`); `simulated` cannot: use `outputs = "identical"` or `"any"`"#);
}

#[test]
fn margin_without_the_abilities_is_refused_before_anything_is_generated() {
    let lab = Lab::new();
    let started = lab.path("started");
    let scenario = lab.exec(&["--started", started.to_str().unwrap()], &format!("{NO_PILOT}{MEMORY}"));
    let refused = once(&lab, &scenario, &["--same", "--outputs", "margin"]);
    insta::assert_snapshot!(refused.shown(&lab), @r#"
    exit 2
    --- stderr
    run [RUN]
    error: `outputs = "margin"` needs an engine that can report its own choices and follow forced tokens (capabilities `choices` and `forced_tokens`); `engine.py` cannot: use `outputs = "identical"` or `"any"`
    "#);
    assert!(!started.exists(), "a request was sent");
    assert!(record(&lab).manifest.outputs.is_none());
}

#[test]
fn margin_asks_every_host_for_its_abilities_first() {
    let lab = Lab::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine.py");
    let able = "[[engine]]\nlabel = \"able\"\noptions = { backend = \"candle\" }\ntoggles = { threads = 1, dtype = \"f32\" }\n";
    let unable = format!(
        "[[engine]]\nname = \"exec\"\nlabel = \"unable\"\noptions = {{ command = [\"python3\", {script:?}] }}\n"
    );
    let model = "[model]\nsynthetic = { arch = \"qwen3\", preset = \"tiny\", seed = 1 }\n";
    let workload = "[workload]\ntext = \"one two three\"\nmax_tokens = 4\nignore_eos = true\n";
    let scenario =
        lab.write("scenario.toml", format!("name = \"lab\"\n{model}{able}{unable}{workload}{NO_PILOT}{MEMORY}"));
    once(&lab, &scenario, &["--same", "--outputs", "margin"]).expect(2).says("`engine.py` cannot");
    assert!(record(&lab).a.requests.is_empty(), "the first engine has generated");
}

/// The minimal adapter, and a copy that declares inexact token timing.
fn adapters(lab: &Lab, gate: &str) -> PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/minimal_adapter.py");
    let text = fs_err::read_to_string(example).unwrap();
    assert_eq!(text.matches("\"token_timing\": \"exact\"").count(), 1);
    let exact = lab.write("exact.py", &text);
    let inexact = lab.write("inexact.py", text.replace("\"token_timing\": \"exact\"", "\"token_timing\": \"inexact\""));
    let engine = |label: &str, script: &Path| {
        format!("[[engine]]\nname = \"exec\"\nlabel = {label:?}\noptions = {{ command = [\"python3\", {script:?}] }}\n")
    };
    let model = "[model]\nsynthetic = { arch = \"qwen3\", preset = \"tiny\", seed = 1 }\n";
    lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n{model}{}{}[workload]\ntext = \"one two three four five\"\nlengths = [8]\nmax_tokens = 4\nignore_eos = true\n{NO_PILOT}{gate}",
            engine("exact", &exact),
            engine("inexact", &inexact)
        ),
    )
}

#[test]
fn inexact_token_times_are_never_gated() {
    let sides = ["--a-engine", "exact", "--b-engine", "inexact"];
    let lab = Lab::new();
    let scenario = adapters(&lab, DECODE);
    insta::assert_snapshot!(once(&lab, &scenario, &sides).shown(&lab), @r#"
    exit 2
    --- stderr
    run [RUN]
    error: the token times of side B are inexact, so decode_tps cannot be gated; several tokens come at a time. Gates of e2e, cpu, peak_memory and load need no token times
    "#);
    assert!(record(&lab).pairs.is_empty());

    let lab = Lab::new();
    let scenario = adapters(&lab, MEMORY);
    session(&lab, &scenario, &[&sides[..], &["--resident"]].concat(), 0);
}

#[test]
fn default_gates_of_inexact_token_times_give_way_to_the_whole_request() {
    let lab = Lab::new();
    let scenario = adapters(&lab, "");
    let sides = ["--a-engine", "exact", "--b-engine", "inexact", "--resident", "--delta", "90%"];
    let done = once(&lab, &scenario, &sides);
    let warning = line(&done.stderr, "warning: the token times of side B");
    insta::assert_snapshot!(warning, @r#"warning: the token times of side B are inexact, so e2e is gated instead of decode_tps; several tokens come at a time"#);
    let found = record(&lab);
    let gates: Vec<&str> = found.manifest.gates.iter().map(|info| info.gate.metric.name()).collect();
    assert_eq!(gates, ["e2e", "peak_memory"], "{}", done.stderr);
    assert!(found.manifest.warnings.contains(&warning["warning: ".len()..].to_owned()));
    assert!(told(&done)["gates"][0]["compared_by"] == "e2e_ms", "{}", done.stdout);
}

#[test]
fn loading_can_be_gated() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[("quick", "a_ms = 1, load_ms = 300")], &format!("{NO_PILOT}{LOAD}"));
    let (done, found) = session(&lab, &scenario, &["--same"], 0);
    check(&found);
    assert_eq!(
        (&told(&done)["verdict"], &told(&done)["gates"][0]["compared_by"]),
        (&"unchanged".into(), &"load_s".into())
    );
}

#[test]
fn a_side_b_that_cannot_even_load_is_failed_and_a_side_a_an_error() {
    let lab = Lab::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine.py");
    let broken = format!(
        "[[engine]]\nname = \"exec\"\nlabel = \"broken\"\noptions = {{ command = [\"python3\", {script:?}, \"--always\", \"exit:load\"] }}\n\
         {NO_PILOT}{MEMORY}"
    );
    let scenario = simulated(&lab, &[("quick", "a_ms = 1")], &broken);
    let done = once(&lab, &scenario, &["--a-engine", "quick", "--b-engine", "broken"]).expect(1);
    let said = told(&done);
    assert_eq!(said["verdict"], "failed");
    insta::assert_snapshot!(lab.shown(said["reasons"][0].as_str().unwrap()), @r#"side B fails: no host: the engine host ended during loading (exit status: 3)"#);
    assert_eq!(record(&lab).manifest.outputs.unwrap().tokens, 0, "B generated none");
    let table = ["ab", scenario.to_str().unwrap(), "--no-report", "--a-engine", "quick", "--b-engine", "broken"];
    fs_err::remove_dir_all(lab.path("results")).unwrap();
    insta::assert_snapshot!(line(&lab.run(&table).expect(1).stdout, "tokens "), @r#"tokens must be identical; none were compared; side B failed"#);
    fs_err::remove_dir_all(lab.path("results")).unwrap();
    let refused = once(&lab, &scenario, &["--a-engine", "broken", "--b-engine", "quick"]).expect(2);
    insta::assert_snapshot!(lab.shown(&line(&refused.stderr, "error: ")), @r#"error: engine `broken` cannot be opened: the engine host ended during loading (exit status: 3)"#);
}

/// Both sides give the same tokens, and none of them means anything.
#[test]
fn a_model_that_computes_nan_is_no_unchanged_session() {
    let lab = Lab::new();
    let (scenario, _) = transformer(&lab, "");
    make_nan(&lab.path("model-1"), "model.layers.0.mlp.down_proj.weight");
    let done = once(&lab, &scenario, &["--same"]).expect(4);
    let said = told(&done);
    assert_eq!(said["verdict"], "invalid");
    let reason = said["reasons"][0].as_str().unwrap();
    assert!(reason.contains("not all finite") && reason.contains("first in layer 0 "), "{reason}");
    let record = record(&lab);
    assert!(record.pairs.is_empty(), "nothing was timed");
    assert_eq!(record.a.requests[0].cause, Some(Cause::NotFinite));
}

#[test]
fn what_is_no_session_is_refused_and_says_what_to_do() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[("quick", "a_ms = 1"), ("other", "a_ms = 1")], MEMORY);
    let scenario = scenario.to_str().unwrap();
    let told = [
        &[scenario][..],
        &[],
        &[scenario, "--base", "HEAD"],
        &[scenario, "--same", "--a", "x=1"],
        &[scenario, "--a", "threads"],
        &[scenario, "--a", "no_such_key=1"],
        &[scenario, "--b-engine", "nobody"],
        &[scenario, "--same", "--delta", "0%"],
        &[scenario, "--same", "--pilot", "4"],
        &[scenario, "--same", "--margin", "0.1"],
        &[scenario, "--same", "--set", "ab.pilot=3"],
        &[scenario, "--same", "--set", "gate.0.engine=\"nobody\""],
        &[scenario, "--b-engine", "other"],
        &["--resume", "no-such-folder"],
        &["--resume", "."],
    ]
    .map(|arguments| lab.run(&[&["ab"], arguments].concat()).shown(&lab));
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    --- stderr
    error: the sides do not differ: give commits (--base REV --head REV), settings (--a KEY=VALUE --b KEY=VALUE), engines (--a-engine, --b-engine) or models (--a-model, --b-model); or --same to compare the scenario with itself

    exit 2
    --- stderr
    error: the following required arguments were not provided:
      <SCENARIO>

    Usage: inferometer ab <SCENARIO>

    For more information, try '--help'.

    exit 2
    --- stderr
    error: the following required arguments were not provided:
      --head <REV>

    Usage: inferometer ab --base <REV> --head <REV> <SCENARIO>

    For more information, try '--help'.

    exit 2
    --- stderr
    error: the argument '--same' cannot be used with '--a <KEY=VALUE>'

    Usage: inferometer ab --same <SCENARIO>

    For more information, try '--help'.

    exit 2
    --- stderr
    error: `threads` must have the form KEY=VALUE

    exit 2
    --- stderr
    error: unknown key `no_such_key` at the top level
     --> command line:1:7
      |
    1 | --set no_such_key=1
      |       ^^^^^^^^^^^
      |
      = help: valid keys in a scenario: `name`, `description`, `model`,
              `engine`, `workload`, `sampling`, `run`, `toggles`, `telemetry`,
              `profile`, `load`, `quality`, `gate`, `ab` and `build`

    exit 2
    --- stderr
    error: unknown engine `nobody`: the scenario has quick, other, and `inferometer engines` lists those of this build

    exit 2
    --- stderr
    error: invalid value '0%' for '--delta <PERCENT>': must be a percentage above 0 and below 100, such as 3%

    For more information, try '--help'.

    exit 2
    --- stderr
    error: invalid value '4' for '--pilot <N>': must be a whole number from 5 to 30, or 0 for no pilot; fewer A/A pairs show nothing

    For more information, try '--help'.

    exit 2
    --- stderr
    error: --margin needs `--outputs margin` (or `outputs = "margin"` in the scenario)

    exit 2
    --- stderr
    error: `pilot` must be 0 (no pilot) or at least 5: fewer A/A pairs show nothing
     --> command line:1:16
      |
    1 | --set ab.pilot=3
      |                ^
      |
      = help: `pilot`: A/A pairs before the first pair, to see which changes the
              machine can detect; 5 or more, or 0 = none

    exit 2
    --- stderr
    error: unknown key `engine` in [[gate]]
     --> command line:1:14
      |
    1 | --set gate.0.engine="nobody"
      |              ^^^^^^ this is a separate table: [[engine]]
      |
      = help: valid keys in [[gate]]: `metric`, `cells` and `delta`

    exit 2
    --- stderr
    error: the sides do not have the same cells: A has 2 and B has 1; vary toggles in the scenario, and give each side one value of the setting to compare

    exit 2
    --- stderr
    error: failed to open file `no-such-folder/ab.json`: No such file or directory (os error 2)

    exit 2
    --- stderr
    error: . is not an A/B session: it has no ab.json
    "#);
    assert!(!lab.path("results").exists(), "nothing was begun");
}
