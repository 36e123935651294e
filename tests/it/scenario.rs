//! Scenario files from the outside: diagnostics, the plan as `check` prints it, the schema, the
//! reference page.
//!
//! `INFEROMETER_REGENERATE=1 cargo test --test it scenario::` writes the generated files anew.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use inferometer::{engines, scenario};
use inferometer_protocol::{Precision, Quantization};
use serde_json::{Value, json};

use crate::lab::{Lab, line, without_figures};

const MODEL: &str = "[model]\nsynthetic = { arch = \"qwen3\", preset = \"tiny\" }\n";
const ENGINE: &str = "[[engine]]\nname = \"exec\"\noptions = { command = [\"python3\"] }\n";

/// Runs `check` on `text` in a separate folder. Returns exit code, stdout and stderr as one text.
fn check(text: impl AsRef<[u8]>, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("s.toml"), text).unwrap();
    run(dir.path(), &[&["check", "s.toml"], arguments].concat())
}

fn run(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    let output = command.current_dir(folder).env("NO_COLOR", "1").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    let parts = [("stdout", out), ("stderr", err)];
    let shown: String =
        parts.iter().filter(|(_, t)| !t.is_empty()).map(|(name, t)| format!("--- {name}\n{t}")).collect();
    format!("exit {}\n{shown}", output.status.code().map_or_else(|| "by signal".to_owned(), |c| c.to_string()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> Vec<PathBuf> {
    let entries = fs_err::read_dir(root().join("scenarios")).unwrap();
    let files = entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "toml"));
    let mut files: Vec<PathBuf> = files.collect();
    files.sort_unstable();
    assert!(files.len() >= 3, "quickstart, deterministic-10 and long-context are shipped");
    files
}

/// Compares a checked-in file with its wanted content, or writes it on request.
fn assert_current(path: &Path, wanted: &str) {
    if std::env::var_os("INFEROMETER_REGENERATE").is_some() {
        fs_err::write(path, wanted).unwrap();
    }
    let found = fs_err::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is out of date; write it anew with: INFEROMETER_REGENERATE=1 cargo test --test it scenario::",
        path.display()
    );
}

#[test]
fn every_wrong_key_and_value_is_shown_in_its_place() {
    let text = format!(
        "name = \"t\"\n{MODEL}{ENGINE}[workload]\nlengths = [64, 0]\ntext = \"x\"\nchat = true\n[run]\niteratons = 3\n\
         timeout_s = -1\n[profile]\niterations = 0\nflamegraph = false\nspans = false\n"
    );
    insta::assert_snapshot!(check(text, &[]), @r#"
    exit 2
    --- stderr
    error: `lengths` must contain whole numbers from 1 to 1048576, not 0
     --> s.toml:8:16
      |
    8 | lengths = [64, 0]
      |                ^
      |
      = help: `lengths`: exact prompt lengths in tokens: the text's tokens are
              cut or repeated; default: the unchanged text

    error: `chat` and `lengths` cannot be used together
      --> s.toml:10:1
       |
    10 | chat = true
       | ^^^^ the chat template adds tokens
       |
       = help: exact lengths need the plain text: remove `lengths` or
               `chat = true`

    error: unknown key `iteratons` in [run]
      --> s.toml:12:1
       |
    12 | iteratons = 3
       | ^^^^^^^^^ did you mean `iterations`?
       |
       = help: valid keys in [run]: `iterations`, `warmup`, `isolation`,
               `timeout_s`, `cooldown_s`, `order_seed`, `allow_mismatch` and
               `external_causes`

    error: `timeout_s` must be above 0 and at most 86400, not -1
      --> s.toml:13:13
       |
    13 | timeout_s = -1
       |             ^^
       |
       = help: `timeout_s`: longest wait for a single answer of a host, in
               seconds

    error: a profiling pass without `flamegraph` and `spans` has nothing to do
      --> s.toml:14:2
       |
    14 | [profile]
       |  ^^^^^^^
       |
       = help: enable one of them, or remove `[profile]`

    error: `iterations` must be a whole number from 1 to 100, not 0
      --> s.toml:15:14
       |
    15 | iterations = 0
       |              ^
       |
       = help: `iterations`: profiled iterations of each cell; comparing two
               profiles needs several to estimate the uncertainty
    "#);
}

#[test]
fn what_is_wrong_with_a_conversation_is_shown_in_its_place() {
    let text = format!(
        "name = \"t\"\n{MODEL}{ENGINE}[workload]\nkind = \"conversation\"\nlengths = [64]\nreplies = \"fix\"\n\
         [[workload.turn]]\nuser = \"\"\n[[workload.turn]]\nrely = \"x\"\n"
    );
    insta::assert_snapshot!(check(text, &[]), @r#"
    exit 2
    --- stderr
    error: unknown key `lengths` in [workload]
     --> s.toml:9:1
      |
    9 | lengths = [64]
      | ^^^^^^^ this key belongs to `kind = "prompt"`
      |
      = help: valid keys of a workload of this kind: `kind`, `system`,
              `system_file`, `turn`, `turns_file`, `replies`, `tools`,
              `template_arguments`, `max_tokens` and `ignore_eos`

    error: `replies` cannot be `fix`
      --> s.toml:10:11
       |
    10 | replies = "fix"
       |           ^^^^^ did you mean `fixed`?
       |
       = help: it must be `generated` or `fixed`

    error: `user` must not be empty
      --> s.toml:12:8
       |
    12 | user = ""
       |        ^^
       |
       = help: `user`: the user's message

    error: [[workload.turn]] needs the key `user`
      --> s.toml:13:1
       |
    13 | [[workload.turn]]
       | ^^^^^^^^^^^^^^^^^
       |
       = help: `user`: the user's message

    error: unknown key `rely` in [[workload.turn]]
      --> s.toml:14:1
       |
    14 | rely = "x"
       | ^^^^ did you mean `reply`?
       |
       = help: valid keys in [[workload.turn]]: `user` and `reply`
    "#);
}

#[test]
fn what_is_wrong_with_a_file_of_turns_is_shown_in_that_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "name = \"t\"\n{MODEL}{ENGINE}[workload]\nkind = \"conversation\"\nturns_file = \"turns.toml\"\nreplies = \"fixed\"\n"
    );
    fs_err::write(dir.path().join("s.toml"), text).unwrap();
    let checked = |turns: &str| {
        fs_err::write(dir.path().join("turns.toml"), turns).unwrap();
        run(dir.path(), &["check", "s.toml"])
    };
    let turns = "[[turn]]\nuser = 5\nreply = \"a\"\n\n[[turn]]\nuser = \"b\"\n\n[[turn]]\nuser = \"c\"\n\n[other]\n";
    insta::assert_snapshot!(checked(turns), @r#"
    exit 2
    --- stderr
    error: `user` must be a text in quotes, not 5
     --> turns.toml:2:8
      |
    2 | user = 5
      |        ^
      |
      = help: `user`: the user's message

    error: this turn needs a `reply`, because `replies` is `fixed`
     --> turns.toml:5:1
      |
    5 | [[turn]]
      | ^^^^^^^^
      |
      = help: give every turn except the last a `reply` for the history

    error: unknown key `other` in a file of turns
      --> turns.toml:11:2
       |
    11 | [other]
       |  ^^^^^
       |
       = help: valid keys in a file of turns: `turn`
    "#);
    insta::assert_snapshot!(checked("[[turn]\n"), @r#"
    exit 2
    --- stderr
    error: this is not valid TOML
     --> turns.toml:1:8
      |
    1 | [[turn]
      |        ^ unclosed array table, expected `]`
    "#);
    insta::assert_snapshot!(checked("# nothing\n"), @r#"
    exit 2
    --- stderr
    error: a file of turns needs the key `turn`
     --> turns.toml:1:1
      |
    1 | # nothing
      | ^
      |
      = help: `turn`: the turns, in order
    "#);
    assert!(checked("[[turn]]\nuser = \"b\"\n").starts_with("exit 0"), "the last turn needs no reply");
    fs_err::remove_file(dir.path().join("turns.toml")).unwrap();
    let missing = run(dir.path(), &["check", "s.toml"]);
    insta::assert_snapshot!(missing.replace(dir.path().to_str().unwrap(), "[DIR]"), @r#"
    exit 2
    --- stderr
    error: cannot read the turns `turns.toml`: there is no such file
     --> s.toml:9:14
      |
    9 | turns_file = "turns.toml"
      |              ^^^^^^^^^^^^
      |
      = help: looked for [DIR]/turns.toml
    "#);
}

#[test]
fn an_override_is_shown_as_it_was_typed() {
    let text = format!("name = \"t\"\n{MODEL}{ENGINE}[workload]\ntext = \"x\"\n");
    insta::assert_snapshot!(check(text, &["--set", "run.warmup=1", "--set", "run.isolation=runs"]), @r#"
    exit 2
    --- stderr
    error: `isolation` cannot be `runs`
     --> command line:1:21
      |
    1 | --set run.isolation=runs
      |                     ^^^^ did you mean `run`?
      |
      = help: it must be `run`, `cell`, `iteration` or `load`
    "#);
}

#[test]
fn engines_and_options_are_checked_against_what_this_build_offers() {
    let text = format!(
        "name = \"t\"\n{MODEL}[[engine]]\nname = \"exec\"\noptions = {{ threads = 2, comand = [\"x\"] }}\n\
         [workload]\ntext = \"x\"\n"
    );
    insta::assert_snapshot!(check(text, &[]), @r#"
    exit 2
    --- stderr
    error: engine `exec` needs the option `command`
     --> s.toml:6:1
      |
    6 | options = { threads = 2, comand = ["x"] }
      | ^^^^^^^
      |
      = help: `command`: the program and its arguments, started without a shell

    error: engine `exec` has no option `threads`
     --> s.toml:6:13
      |
    6 | options = { threads = 2, comand = ["x"] }
      |             ^^^^^^^ this is a toggle: put it under [toggles], or under `toggles` of this engine
      |
      = help: valid options: `command`

    error: engine `exec` has no option `comand`
     --> s.toml:6:26
      |
    6 | options = { threads = 2, comand = ["x"] }
      |                          ^^^^^^ did you mean `command`?
      |
      = help: valid options: `command`
    "#);
}

#[test]
fn what_is_not_toml_or_not_text_is_refused() {
    insta::assert_snapshot!(check("name = \"t\"\n[model\n", &[]), @r#"
    exit 2
    --- stderr
    error: this is not valid TOML
     --> s.toml:2:7
      |
    2 | [model
      |       ^ unclosed table, expected `]`
    "#);
    insta::assert_snapshot!(check("", &[]), @r#"
    exit 2
    --- stderr
    error: s.toml is empty
     |
     = help: start from a copy of scenarios/quickstart.toml;
             docs/reference/scenarios.md explains every key
    "#);
    insta::assert_snapshot!(check(b"name = \"caf\xe9\"\n", &[]), @r#"
    exit 2
    --- stderr
    error: cannot read scenario s.toml: it is not UTF-8 text: line 1, byte 11 of the file
    "#);
    insta::assert_snapshot!(check(vec![b'['; 10 << 20], &[]), @r#"
    exit 2
    --- stderr
    error: cannot read scenario s.toml: it is larger than 1.00 MiB, the limit
    "#);
    insta::assert_snapshot!(run(Path::new("/"), &["check", "/no/such/scenario.toml"]), @r#"
    exit 2
    --- stderr
    error: cannot read scenario /no/such/scenario.toml: there is no such file
    "#);
}

#[test]
fn the_plan_fits_eighty_columns() {
    let text = format!(
        "name = \"t\"\ndescription = \"What does the window cost?\"\n{MODEL}[workload]\ntext = \"x\"\n\
         lengths = [256, 1024]\nmax_tokens = 32\nignore_eos = true\n[sampling]\nrepetition_penalty = 1.1\n\
         repetition_context_size = 0\n[run]\niterations = 5\n[toggles]\nrepetition_window_cap = [0, 768]\n\
         prefill_chunk_size = [256, 512]\n"
    );
    let shown = check(&text, &[]);
    assert!(shown.lines().all(|l| l.chars().count() <= 80), "{shown}");
    insta::assert_snapshot!(shown, @r#"
    exit 0
    --- stdout
    t
    What does the window cost?

    model       synthetic qwen3 tiny, seed 1
    engine      transformer
    prompt      text of the scenario, 256 and 1024 tokens; then exactly 32 generated
    sampling    greedy; repetition penalty 1.1 over the whole history
    telemetry   cpu, memory, gpu, power every 50 ms

    #   cell                            cap      chunk     window      chunk
                                      asked      asked   in force   in force
    ──────────────────────────────────────────────────────────────────────────
    0   len=256                      0, 768   256, 512        287        256
    1   cap=0 chunk=256 len=1024          0        256       1055        256
    2   cap=0 chunk=512 len=1024          0        512       1055        512
    3   cap=768 chunk=256 len=1024      768        256        768        256
    4   cap=768 chunk=512 len=1024      768        512        768        512

    Not run again, because it would be the same work:
      cell 0, chunk 512 is as chunk 256: 256 tokens are one chunk
      cell 0, cap 768 is as cap 0: the history is 287 tokens at most

    order       cells take turns, shuffled by seed 0: 1 0 4 2 3; 0 2 3 1 4; 4 1 0 2
                3; ...
    hosts       1 engine process for the whole run
    requests    25 measured (5 iterations of 5 cells), 5 warm-ups before them
    tokens      21 760 to prefill, 800 to generate, warm-ups apart
    time        not known before a first run
    "#);
    insta::assert_snapshot!(check(&text, &["--format", "csv"]), @r#"
    exit 0
    --- stdout
    cell,label,engine,length,repetition_window_cap,prefill_chunk_size,predicted_repetition_penalty,predicted_repetition_window,predicted_prefill_chunk_size,merged
    0,len=256,transformer,256,0,256,1.1,287,256,3
    1,cap=0 chunk=256 len=1024,transformer,1024,0,256,1.1,1055,256,0
    2,cap=0 chunk=512 len=1024,transformer,1024,0,512,1.1,1055,512,0
    3,cap=768 chunk=256 len=1024,transformer,1024,768,256,1.1,768,256,0
    4,cap=768 chunk=512 len=1024,transformer,1024,768,512,1.1,768,512,0
    "#);
    let json = check(&text, &["--format", "json"]);
    let json: Value = serde_json::from_str(json.split_once("--- stdout\n").unwrap().1).unwrap();
    assert_eq!(json["outline"]["requests"], json!(25));
    assert_eq!(json["plan"]["cells"].as_array().unwrap().len(), 5);
    assert_eq!(json["estimate"], Value::Null);
    assert_eq!(json["outline"]["not_merged"], json!([]));
}

/// Whether a program knows a cap is known only when it runs, so its cells must not be merged
/// before.
#[test]
fn cells_of_an_engine_that_is_not_known_yet_are_not_merged() {
    let text = format!(
        "name = \"t\"\n{MODEL}{ENGINE}[workload]\ntext = \"x\"\nlengths = [4096]\n[sampling]\n\
         repetition_penalty = 1.1\n[toggles]\nrepetition_context_size = [1024, 2048]\n"
    );
    insta::assert_snapshot!(check(&text, &[]), @r#"
    exit 0
    --- stdout
    t

    model       synthetic qwen3 tiny, seed 1
    engine      exec, command [python3]
    prompt      text of the scenario, 4096 tokens; then up to 128 generated
    sampling    greedy; repetition penalty 1.1 over the last 20 tokens
    telemetry   cpu, memory, gpu, power every 50 ms

    #   cell           context
                         asked
    ────────────────────────────
    0   context=1024      1024
    1   context=2048      2048

    Cells of exec are not merged: what this engine honours is known only when it
    runs

    Not checked: exec tells only when it runs whether the model opens, and which
    toggles and sampling fields have an effect

    order       cells take turns, shuffled by seed 0: 0 1; 0 1; 0 1; ...
    hosts       1 engine process for the whole run
    requests    20 measured (10 iterations of 2 cells), 2 warm-ups before them
    tokens      81 920 to prefill, at most 2 560 to generate, warm-ups apart
    time        not known before a first run
    "#);
    // The transformer's window is capped, so both cells do the same work.
    insta::assert_snapshot!(check(text.replace(ENGINE, ""), &[]), @r#"
    exit 0
    --- stdout
    t

    model       synthetic qwen3 tiny, seed 1
    engine      transformer
    prompt      text of the scenario, 4096 tokens; then up to 128 generated
    sampling    greedy; repetition penalty 1.1 over the last 20 tokens
    telemetry   cpu, memory, gpu, power every 50 ms

    #   cell          context      chunk
                        asked   in force
    ──────────────────────────────────────
    0   len=4096   1024, 2048       2048

    Not run again, because it would be the same work:
      cell 0, context 2048 is as context 1024: the window is 768 tokens

    order       one cell, again and again
    hosts       1 engine process for the whole run
    requests    10 measured (10 iterations of 1 cell), 1 warm-up before them
    tokens      40 960 to prefill, at most 1 280 to generate, warm-ups apart
    time        not known before a first run
    "#);
}

#[test]
fn gates_are_shown_with_the_plan_and_what_is_wrong_with_them_in_its_place() {
    let text = format!(
        "name = \"t\"\n{MODEL}[workload]\ntext = \"x\"\nlengths = [64, 256]\n[[gate]]\nmetric = \"decode_tps\"\ndelta = \"3%\"\n\
         [[gate]]\nmetric = \"ttft\"\ncells = {{ length = 256 }}\n[ab]\noutputs = \"margin\"\n[build]\ncommand = [\"make\"]\n\
         program = [\"bin/engine\"]\n"
    );
    let shown = check(&text, &[]);
    let facts: Vec<&str> = shown.lines().skip_while(|l| !l.starts_with("gate")).take_while(|l| !l.is_empty()).collect();
    insta::assert_snapshot!(facts.join("\n"), @r#"
    gate        decode_tps, delta 3 %, all cells
    gate        ttft, delta as the machine allows, 1 of 2 cells: length=256
    ab          outputs margin of 0.05 logits; a pilot of 6 A/A pairs; a fresh host
                each turn; order by seed 0
    build       make; then bin/engine
    "#);
    let plan = check(&text, &["--format", "json"]);
    let (_, plan) = plan.split_once("--- stdout\n").expect(&plan);
    let plan: Value = serde_json::from_str(plan).unwrap();
    assert_eq!(plan["scenario"]["gates"][0]["metric"], "decode_tps");
    let wrong = text.replace("\"3%\"", "3").replace("= 256 }", "= 255 }");
    insta::assert_snapshot!(check(wrong, &["--set", "ab.outputs=none"]), @r#"
    exit 2
    --- stderr
    error: `delta` must be a text with a percent sign, not 3
     --> s.toml:9:9
      |
    9 | delta = 3
      |         ^
      |
      = help: write `delta = "3%"`

    error: no cell has the length 255
      --> s.toml:12:20
       |
    12 | cells = { length = 255 }
       |                    ^^^
       |
       = help: the workload's `lengths` are 64, 256

    error: `outputs` cannot be `none`
     --> command line:1:18
      |
    1 | --set ab.outputs=none
      |                  ^^^^
      |
      = help: it must be `identical`, `margin` or `any`
    "#);
}

#[test]
fn shipped_scenarios_are_planned_by_the_program() {
    // Their models need not be on this machine.
    let offers = scenario::Offers { model: |name| Ok(format!("/models/{name}").into()), ..engines::offers() };
    for path in shipped() {
        let scenario = scenario::load(&path, &[], &offers).unwrap_or_else(|e| panic!("error: {e}"));
        assert_eq!(Some(scenario.name.as_str()), path.file_stem().and_then(|s| s.to_str()));
        let plan = scenario::plan(&scenario, &offers).unwrap();
        assert!(
            plan.cells.iter().all(|c| c.predicted.is_empty() != c.length.is_some()),
            "{}: work is foreseen where the prompt's length is exact",
            path.display()
        );
    }
}

#[test]
fn the_schema_is_current_and_takes_every_shipped_scenario() {
    let schema = scenario::schema();
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    assert_current(&root().join("scenarios/scenario.schema.json"), &text);
    assert_eq!(run(&root(), &["schema", "scenario"]), format!("exit 0\n--- stdout\n{text}"));
    let validator = jsonschema::validator_for(&schema).unwrap();
    for path in shipped() {
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.starts_with("#:schema ./scenario.schema.json\n"), "{} names its schema", path.display());
        let value: Value = toml::from_str(&text).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
}

/// Parser and schema refuse the same shapes.
#[test]
fn schema_and_parser_agree() {
    let validator = jsonschema::validator_for(&scenario::schema()).unwrap();
    let whole = |workload: &str, rest: &str| format!("name = \"t\"\n{MODEL}{ENGINE}[workload]\n{workload}\n{rest}");
    let cases = [
        (true, whole("text = \"x\"", "")),
        (true, whole("text = \"x\"\nlengths = [1, 1048576]", "[telemetry]\ninterval_ms = 0\ngauges = []")),
        (true, whole("text = \"x\"", "[toggles]\nkv_cache = [\"full\", \"rotating:512\"]\nrepetition_penalty = 1")),
        (false, whole("text = \"x\"", "[toggles]\nkv_cache = \"rotating:0\"")),
        (false, whole("text = \"x\"", "[toggles]\nprefill_chunk_size = []")),
        (false, whole("text = \"x\"", "[toggles]\nprefill_chunk_size = 0")),
        (false, whole("text = \"x\"", "[toggles]\nprefil_chunk_size = 1")),
        (false, whole("text = \"x\"", "[telemetry]\ninterval_ms = 4")),
        (false, whole("text = \"x\"", "[sampling]\ntop_p = 0.0")),
        (false, whole("text = \"x\"", "[run]\niterations = 2.5")),
        (false, whole("text = \"x\"", "[gate]\nmetric = \"ttft\"")),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"x\"")),
        (false, whole("text = \"x\"", "[[gate]]\ndelta = \"3%\"")),
        (true, whole("text = \"x\"", "[[gate]]\nmetric = \"ttft\"\ndelta = \"3%\"\ncells = \"all\"")),
        (
            true,
            whole(
                "text = \"x\"\nlengths = [5]",
                "[[gate]]\nmetric = \"ttft\"\ndelta = \".5 %\"\ncells = { length = 5 }",
            ),
        ),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"ttft\"\ndelta = 3")),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"ttft\"\ndelta = \"123%\"")),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"peak_memory\"\ndelta = \"64 MiB\"")),
        (true, whole("text = \"x\"", "[[gate]]\nmetric = \"memory_cycles\"\ndelta = 2")),
        (true, whole("text = \"x\"", "[[gate]]\nmetric = \"memory_cycles\"\ndelta = \"2\"")),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"memory_cycles\"\ndelta = 0")),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"memory_cycles\"\ndelta = \"3%\"")),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"memory_cycles\"\ndelta = \"2 MiB\"")),
        (true, whole("text = \"x\"", "[[gate]]\nmetric = \"memory_swing\"\ndelta = \"64 MiB\"")),
        (true, whole("text = \"x\"", "[[gate]]\nmetric = \"memory_reclaimed\"")),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"ttft\"\ncells = \"most\"")),
        (false, whole("text = \"x\"", "[[gate]]\nmetric = \"ttft\"\ncells = { threads = [1] }")),
        (true, whole("text = \"x\"", "[ab]\noutputs = \"margin\"\nmargin = 0.1\npilot = 0\n[build]\ntoolchain = []")),
        (false, whole("text = \"x\"", "[ab]\npilot = 31")),
        (false, whole("text = \"x\"", "[build]\nprogram = []")),
        (false, whole("text = \"x\"", "[build]\nprogram = \"x\"")),
        (false, whole("text = \"x\"\nkind = \"train\"", "")),
        (true, whole("kind = \"conversation\"\nsystem = \"s\"\nturn = [{ user = \"a\" }]", "")),
        (
            true,
            whole("kind = \"conversation\"\nreplies = \"generated\"", "[[workload.turn]]\nuser = \"a\"\nreply = \"b\""),
        ),
        (false, whole("kind = \"conversation\"", "")),
        (false, whole("kind = \"conversation\"\nturn = []", "")),
        (false, whole("kind = \"conversation\"\nturn = [{ reply = \"a\" }]", "")),
        (false, whole("kind = \"conversation\"\nturn = [{ user = \"a\" }]\nlengths = [5]", "")),
        (false, whole("kind = \"conversation\"\nturn = [{ user = \"a\" }]\nturns_file = \"x\"", "")),
        (false, whole("turn = [{ user = \"a\" }]", "")),
        (false, whole("text = \"x\"\nlengths = [5, 5]", "")),
        (false, whole("", "")),
    ];
    for (good, text) in cases {
        let value: Value = toml::from_str(&text).unwrap();
        let parsed = scenario::from_text("t", &text, Path::new(""), &[], &engines::offers());
        assert_eq!(parsed.is_ok(), good, "parser:\n{text}\n{parsed:?}");
        assert_eq!(validator.is_valid(&value), good, "schema:\n{text}");
    }
}

#[test]
fn the_other_schemas_describe_what_is_exchanged_and_recorded() {
    let schema = |of: &str| -> Value {
        let shown = run(&root(), &["schema", of]);
        serde_json::from_str(shown.strip_prefix("exit 0\n--- stdout\n").unwrap()).unwrap()
    };
    let line = jsonschema::validator_for(&schema("protocol")).unwrap();
    assert!(line.is_valid(&json!({ "id": 1, "type": "ping" })));
    assert!(line.is_valid(&json!({ "id": 1, "type": "pong", "clock": "c", "now_ns": 5 })));
    assert!(!line.is_valid(&json!({ "id": 1, "type": "pong", "clock": "c", "now_ns": -5 })));
    let record = jsonschema::validator_for(&schema("record")).unwrap();
    let lab = Lab::new();
    lab.measure(&lab.exec(&[], "[run]\niterations = 1\n"), &[]).expect(0);
    let manifest = fs_err::read_to_string(lab.run_folder().unwrap().join("run.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
    let errors: Vec<String> = record.iter_errors(&manifest).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?}");
    manifest["scenario"]["run"]["iterations"] = json!("three");
    assert!(!record.is_valid(&manifest));
    insta::assert_snapshot!(run(&root(), &["schema", "scenari"]), @r#"
    exit 2
    --- stderr
    error: invalid value 'scenari' for '<OF>'
      [possible values: scenario, protocol, record]

      tip: a similar value exists: 'scenario'

    For more information, try '--help'.
    "#);
}

/// candle supports fewer toggles than MLX; the error at the toggle says why.
#[test]
fn a_toggle_that_the_backend_does_not_honour_is_refused_with_its_reason() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/quickstart.toml");
    let check = |sets: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inferometer"));
        let candle = ["check", path, "--set", "engine.0.name=transformer"];
        let out = command.args(candle).args(sets.iter().flat_map(|set| ["--set", *set])).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{sets:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    let told = check(&["toggles.lazy_pipeline=[true,false]"]);
    // A new toggle lengthens the help.
    let (reason, help) = told.split_once("\n  |\n  = help: ").expect(&told);
    insta::assert_snapshot!(reason, @r#"
    error: engine `transformer` does not honour `lazy_pipeline`
     --> command line:1:15
      |
    1 | --set toggles.lazy_pipeline=[true,false]
      |               ^^^^^^^^^^^^^ candle runs each operation when it is called; no step can be submitted ahead
    "#);
    let offered =
        ["repetition_penalty", "prefill_chunk_size", "kv_cache"].map(|name| help.contains(&format!("`{name}`")));
    assert_eq!((offered, help.contains("`lazy_pipeline`")), ([true; 3], false), "{help}");
    let mlx = ["engine.0.options.backend=mlx", "toggles.wired_limit=1000000"];
    if cfg!(all(target_os = "linux", feature = "mlx")) {
        let told = check(&mlx);
        assert!(told.contains("wired memory needs Metal"), "{told}");
    } else if cfg!(target_os = "linux") {
        // What it would honour is not known: nothing is said of `wired_limit`.
        insta::assert_snapshot!(check(&mlx), @r#"
    error: option `backend` cannot be mlx here
     --> command line:1:32
      |
    1 | --set engine.0.options.backend=mlx
      |                                ^^^ this build has no MLX: run scripts/mlx-linux, then the command it prints
    "#);
    }
}

/// The engine that `auto` chooses is listed with the reason, and so is an unavailable one.
#[test]
fn the_list_of_engines_says_what_runs_here_and_why_not() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inferometer"));
    let out = command.args(["engines", "--format", "json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&out.stdout).unwrap();
    let named = |name: &str| list.as_array().unwrap().iter().find(|engine| engine["name"] == name).unwrap();
    let [candle, mlx] = named("transformer")["variants"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!((&candle["value"], &candle["missing"]), (&"candle".into(), &Value::Null));
    insta::assert_snapshot!(candle["refused"]["compile"].as_str().unwrap(), @r#"candle runs each operation when it is called; there is no graph to compile"#);
    let auto = named("auto");
    let (taken, other) = if mlx["missing"].is_null() { (mlx, candle) } else { (candle, mlx) };
    assert!(auto["notes"]["auto"].as_str().unwrap().starts_with(taken["value"].as_str().unwrap()), "{auto}");
    assert_eq!((&auto["toggles"], &auto["refused"]), (&taken["toggles"], &taken["refused"]));
    assert_ne!(auto["toggles"], other["toggles"]);
    assert_eq!(mlx["missing"].is_null(), cfg!(feature = "mlx") || cfg!(target_os = "macos"), "{mlx}");
}

/// A time is estimated only from measurements of exactly the same work, and grows with the work.
#[test]
fn a_time_is_told_from_an_earlier_run_only() {
    let lab = Lab::new();
    let scenario = lab.exec(&[], "[run]\niterations = 2\nwarmup = 1\n");
    let check = |set: &[&str]| -> Value {
        let mut arguments = vec!["check", scenario.to_str().unwrap(), "--format", "json"];
        arguments.extend(set.iter().flat_map(|s| ["--set", *s]));
        serde_json::from_str(&lab.run(&arguments).expect(0).stdout).unwrap()
    };
    let seconds = |plan: &Value| plan["estimate"]["seconds"].as_f64();
    assert_eq!(seconds(&check(&[])), None);
    lab.measure(&scenario, &[]).expect(0);
    let measured = check(&[]);
    assert_eq!(
        measured["estimate"]["run"].as_str(),
        lab.run_folder().unwrap().strip_prefix(lab.path("")).unwrap().to_str()
    );
    let once = seconds(&measured).expect("the work was measured");
    assert!(once > 0.0);
    assert!(seconds(&check(&["run.iterations=2000"])).unwrap() > once);
    assert!(seconds(&check(&["run.cooldown_s=10"])).unwrap() > once + 19.9);
    assert_eq!(seconds(&check(&["workload.max_tokens=13"])), None, "other work");
    assert_eq!(seconds(&check(&["toggles.prefill_chunk_size=3"])), None, "other work");
    let shown = lab.run(&["check", scenario.to_str().unwrap()]).expect(0).stdout;
    insta::assert_snapshot!(without_figures(&lab.shown(&line(&shown, "time  "))), @r#"time        about #, as in results/[RUN]"#);
}

/// The table has them as static texts and numbers.
#[test]
fn formats_are_those_that_weights_can_be_stored_in() {
    assert_eq!(scenario::DTYPES, Precision::ALL.map(Precision::name));
    assert_eq!(scenario::BITS, Quantization::BITS.map(u64::from));
    assert_eq!(scenario::GROUP_SIZES, Quantization::GROUP_SIZES.map(|n| n as u64));
}

#[test]
fn the_reference_page_has_every_key() {
    let path = root().join("docs/reference/scenarios.md");
    let page = fs_err::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- keys -->\n").expect("the page has a place for the keys");
    let (_, after) = rest.split_once("<!-- /keys -->\n").expect("the place has an end");
    let keys = reference(&scenario::schema());
    assert_current(&path, &format!("{before}<!-- keys -->\n{keys}<!-- /keys -->\n{after}"));
}

/// Tables of all keys in Markdown, from the schema.
fn reference(schema: &Value) -> String {
    let mut text = String::new();
    let mut open = vec![("Top level".to_owned(), schema)];
    while !open.is_empty() {
        let (title, section) = open.remove(0);
        let required: Vec<&str> =
            section["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        text += &format!(
            "\n### {title}\n\n{}\n\n| key | takes | default | meaning |\n|---|---|---|---|\n",
            section["description"].as_str().unwrap_or_default()
        );
        let mut inner = Vec::new();
        for (name, key) in section["properties"].as_object().unwrap() {
            let one = if key["type"] == "array" { &key["items"] } else { key };
            // Two keys of which one must be there are alternatives too, but no tables.
            let variants = key["oneOf"].as_array().into_iter().flatten();
            for variant in variants.filter(|variant| variant["properties"].is_object()) {
                let kind = variant["properties"]["kind"]["enum"][0].as_str().unwrap();
                inner.push((format!("`[{name}]` with `kind = \"{kind}\"`"), variant));
            }
            let in_place = key["anyOf"].as_array().into_iter().flatten();
            for table in in_place.filter(|variant| variant["properties"].is_object()) {
                inner.push((format!("{title} `{name}`"), table));
            }
            if one["properties"].is_object() {
                let title = match (title.as_str(), &key["type"]) {
                    ("Top level", kind) if kind == "array" => format!("`[[{name}]]`"),
                    ("Top level", _) => format!("`[{name}]`"),
                    (outer, kind) if kind == "array" && outer.contains("workload") => format!("`[[workload.{name}]]`"),
                    (outer, _) => format!("{outer} `{name}`"),
                };
                inner.push((title, one));
            }
            let default = match &key["default"] {
                Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
                Value::Null => String::new(),
                value => format!("`{value}`"),
            };
            let meaning = key["description"].as_str().unwrap().replace('|', "\\|");
            text += &format!("| `{name}` | {} | {default} | {meaning} |\n", takes(key));
        }
        for (at, section) in inner.into_iter().enumerate() {
            open.insert(at, section);
        }
    }
    text + "\n"
}

/// A schema's type and bounds in words.
fn takes(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        let names: Vec<String> = choices
            .iter()
            .map(|c| match c {
                Value::String(text) => format!("`{text}`"),
                number => number.to_string(),
            })
            .collect();
        return names.join(", ");
    }
    if let (Some(any), false) = (schema["anyOf"].as_array(), schema["type"] == "integer") {
        // A toggle: one value, or a list of such values. Or a text that is a fixed one or numbered.
        // Or a text or a table.
        let list = any.iter().any(|a| a["type"] == "array");
        let words: Vec<String> = any.iter().filter(|a| a["type"] != "array").map(takes).collect();
        // Of several scales, some take the same.
        let words: Vec<String> =
            words.iter().enumerate().filter(|(i, w)| !words[..*i].contains(w)).map(|(_, w)| w.clone()).collect();
        return words.join(if any.iter().any(|a| a["type"] == "object") { " or " } else { ", " })
            + if list { "; or a list" } else { "" };
    }
    let bounds = match (&schema["minimum"], &schema["exclusiveMinimum"], &schema["maximum"]) {
        (Value::Null, Value::Null, _) => String::new(),
        (Value::Null, above, Value::Null) => format!(" above {above}"),
        (Value::Null, above, most) => format!(" above {above}, at most {most}"),
        (least, _, most) if most.as_i64() == Some(i64::MAX) => format!(", {least} or more"),
        (least, _, most) => format!(" from {least} to {most}"),
    };
    match schema["type"].as_str().unwrap() {
        "string" => match schema["pattern"].as_str() {
            Some(pattern) if pattern.ends_with("%$") => "text such as `3%`".to_owned(),
            Some(pattern) if pattern.ends_with("iB)?$") => "text such as `64 MiB`".to_owned(),
            Some(pattern) if pattern.starts_with("^[0-9]") => "text such as `2`".to_owned(),
            Some(pattern) => format!("`{}N`", pattern.trim_start_matches('^').split('[').next().unwrap()),
            None => "text".to_owned(),
        },
        "boolean" => "true or false".to_owned(),
        "integer" if schema["anyOf"].is_array() => {
            let least = &schema["anyOf"][1]["minimum"];
            format!("0, or whole number from {least} to {}", schema["anyOf"][1]["maximum"])
        }
        "integer" => format!("whole number{bounds}"),
        "number" => format!("number{bounds}"),
        "object" => "table".to_owned(),
        "array" if schema["items"]["properties"].is_object() => "tables".to_owned(),
        "array" if schema["items"]["type"] == "string" => "list of texts".to_owned(),
        "array" => format!("list of {}", takes(&schema["items"]).replace("number", "numbers")),
        other => panic!("no words for {other}"),
    }
}

/// The toggle knows f16, and the schema lists it; the built-in engine computes in f32 and q8_0
/// only.
#[test]
fn a_value_that_the_engine_does_not_take_is_refused_before_anything_runs() {
    let set = |dtype: &str| {
        let asked = ["scenarios/quickstart.toml", "--set", "engine.0.name=transformer", "--set", dtype];
        run(&root(), &[&["check"], &asked[..]].concat())
    };
    insta::assert_snapshot!(set("toggles.dtype=f16"), @r#"
    exit 0
    --- stdout
    quickstart
    How fast does a small model prefill and decode here, and does that depend on the
    prompt's length?

    model       synthetic qwen3 small, seed 1
    engine      transformer
    prompt      prompts/essay.txt, 128, 512 and 1024 tokens; then exactly 48
                generated
    sampling    greedy
    toggles     dtype f16
    telemetry   cpu, memory, gpu, power every 50 ms
    overridden  engine.0.name=transformer, toggles.dtype=f16

    #   cell          chunk
                   in force
    ─────────────────────────
    0   len=128         128
    1   len=512         512
    2   len=1024       1024

    order       cells take turns, shuffled by seed 0: 0 2 1; 1 0 2; 1 0 2; ...
    hosts       1 engine process for the whole run
    requests    30 measured (10 iterations of 3 cells), 3 warm-ups before them
    tokens      16 640 to prefill, 1 440 to generate, warm-ups apart
    time        not known before a first run
    "#);
    insta::assert_snapshot!(set("toggles.dtype=q4_0"), @r#"
    exit 2
    --- stderr
    error: `dtype` must be one of f32, f16, bf16, q8_0, not "q4_0"
     --> command line:1:21
      |
    1 | --set toggles.dtype=q4_0
      |                     ^^^^
      |
      = help: `dtype`: format of the weights in memory
    "#);
}

/// What can be known without starting an engine is known to `check`, in the words of `run`.
#[test]
fn check_refuses_what_run_refuses() {
    let lab = Lab::new();
    fs_err::create_dir_all(lab.path("no-model")).unwrap();
    let exec = |command: &str| format!("{MODEL}[[engine]]\nname = \"exec\"\noptions = {{ command = [{command}] }}\n");
    let long = "lengths = [40_960]\nmax_tokens = 2\n";
    let mut told = Vec::new();
    for (engine, workload) in [
        (exec("\"no-such-engine\""), ""),
        (exec("\"./gone\""), ""),
        (exec("\"./no-model\""), ""),
        ("[model]\npath = \"no-model\"\n".to_owned(), ""),
        (format!("{MODEL}[[engine]]\n"), long),
    ] {
        let scenario =
            lab.write("s.toml", format!("name = \"t\"\n{engine}[workload]\ntext = \"one two three\"\n{workload}"));
        let error = |verb: &str| {
            let done = lab.run(&[verb, scenario.to_str().unwrap()]).expect(2);
            lab.shown(&line(&done.stderr, "error: "))
        };
        let (check, run) = (error("check"), error("run"));
        assert_eq!(check, run);
        told.push(check);
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    error: engine `exec` cannot be started: there is no program `no-such-engine` in PATH; correct its option `command`
    error: engine `exec` cannot be started: there is no program at [LAB]/gone; correct its option `command`
    error: engine `exec` cannot be started: [LAB]/no-model is a folder, not a program; correct its option `command`
    error: [LAB]/no-model has no config.json; a model is a Hugging Face folder with config.json, *.safetensors and tokenizer.json, or a GGUF file
    error: a prompt of 40960 tokens and 2 to generate need a context of 40961, but the model's is 40960 (max_position_embeddings in config.json): shorten the prompt (`workload.lengths`, `-p` of `bench`) or generate fewer tokens (`workload.max_tokens`, `-n`)
    "#);
    assert!(!lab.path("results").exists());
}

/// Plain decoding would be measured, and a draft model would cost its memory, without a word.
#[test]
fn settings_of_speculative_decoding_without_effect_are_refused() {
    let lab = Lab::new();
    fs_err::create_dir_all(lab.path("small")).unwrap();
    let scenario = |toggles: &str| {
        let text =
            format!("name = \"t\"\n{MODEL}[[engine]]\n[workload]\ntext = \"x\"\nlengths = [8]\n[toggles]\n{toggles}\n");
        lab.write("s.toml", text).to_str().unwrap().to_owned()
    };
    let mut told = Vec::new();
    for toggles in [
        "draft_model = \"small\"",
        "draft_model = \"small\"\nnum_draft_tokens = 0",
        "lookup_ngram = [0, 3]",
        "num_draft_tokens = 4",
        "num_draft_tokens = [0, 4]\nlookup_ngram = [3, 0]",
    ] {
        let path = scenario(toggles);
        let error = |verb: &str| line(&lab.run(&[verb, &path]).expect(2).stderr, "error: ");
        assert_eq!(error("check"), error("run"));
        told.push(error("check"));
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    error: `draft_model` has no effect, because `num_draft_tokens` is 0: add `num_draft_tokens` above 0 (such as 4) to the toggles, or remove `draft_model`
    error: `draft_model` has no effect, because `num_draft_tokens` is 0: add `num_draft_tokens` above 0 (such as 4) to the toggles, or remove `draft_model`
    error: `lookup_ngram` has no effect, because `num_draft_tokens` is 0: add `num_draft_tokens` above 0 (such as 4) to the toggles, or remove `lookup_ngram`
    error: cell `len=8` has `num_draft_tokens` above 0, but nothing drafts: add `lookup_ngram` above 0 (such as 3) for prompt look-up, or a `draft_model` (`--draft-model` of `bench`)
    error: cell `num_draft_tokens=4 lookup_ngram=0` has `num_draft_tokens` above 0, but nothing drafts: add `lookup_ngram` above 0 (such as 3) for prompt look-up, or a `draft_model` (`--draft-model` of `bench`)
    "#);
    for toggles in [
        "num_draft_tokens = [0, 4]\ndraft_model = \"small\"",
        "num_draft_tokens = [0, 4]\nlookup_ngram = 3",
        "num_draft_tokens = 4\nlookup_ngram = [2, 3]",
        "draft_model = \"none\"\nlookup_ngram = 0\nnum_draft_tokens = 0",
    ] {
        let plan = lab.run(&["check", &scenario(toggles)]).expect(0).stdout;
        assert!(!plan.contains("Warning"), "{plan}");
    }
    let both = scenario("num_draft_tokens = 4\nlookup_ngram = [0, 3]\ndraft_model = \"small\"");
    let plan = lab.run(&["check", &both]).expect(0).stdout;
    let plan = plan.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plan.contains("such as in cell `lookup_ngram=3`: there the look-up drafts"), "{plan}");
}

/// Both may be given; then the look-up drafts.
#[test]
fn the_line_of_speculative_decoding_names_what_drafts() {
    let lab = Lab::new();
    lab.run(&["model", "new", "small", "--preset", "tiny"]).expect(0);
    let scenario = lab.write(
        "s.toml",
        format!(
            "name = \"t\"\n{MODEL}[[engine]]\n[workload]\ntext = \"x\"\nlengths = [8]\nmax_tokens = 8\nignore_eos = true\n\
             [toggles]\nnum_draft_tokens = 4\nlookup_ngram = [0, 3]\ndraft_model = \"small\"\n[run]\niterations = 1\n\
             external_causes = \"warn\"\n"
        ),
    );
    let done = lab.measure(&scenario, &[]).expect(0);
    assert!(done.stderr.contains("there the look-up drafts"), "{}", done.stderr);
    for who in ["speculative decoding by draft model small", "speculative decoding by look-up of 3"] {
        assert!(done.stdout.contains(who), "{}", done.stdout);
    }
    let dir = lab.run_folder().unwrap();
    let page = lab.run(&["report", dir.to_str().unwrap(), "--format", "md"]).expect(0).stdout;
    assert!(page.contains("draft model small") && page.contains("look-up of 3"), "{page}");
}

/// Only what can be nothing but a path is rewritten: a model's name stays, whatever lies beside the
/// scenario.
#[test]
fn a_command_s_arguments_are_paths_only_if_they_say_so() {
    let lab = Lab::new();
    fs_err::create_dir_all(lab.path("org/model")).unwrap();
    fs_err::write(lab.path("adapter.py"), "").unwrap();
    let path = lab.write(
        "s.toml",
        format!(
            "name = \"t\"\n{MODEL}[[engine]]\nname = \"exec\"\noptions = {{ command = [\"python3\", \"-m\", \"x\", \"org/model\", \
             \"./adapter.py\", \"../gone\", \"--at=org/model\"] }}\n[workload]\ntext = \"x\"\n"
        ),
    );
    let offers = engines::offers();
    let scenario = scenario::load(&path, &[], &offers).unwrap();
    let command = scenario.engines[0].options["command"].as_texts().unwrap();
    let folder = path.parent().unwrap().display();
    let absolute = [format!("{folder}/./adapter.py"), format!("{folder}/../gone")];
    let same = |a: &str, b: &str| std::path::absolute(a).unwrap() == std::path::absolute(b).unwrap();
    assert_eq!(command[..4], ["python3", "-m", "x", "org/model"]);
    assert!(same(&command[4], &absolute[0]) && same(&command[5], &absolute[1]), "{command:?}");
    assert_eq!(command[6], "--at=org/model");
}

#[test]
fn an_engine_s_own_toggles_are_shown_with_the_plan() {
    let text = format!(
        "name = \"t\"\n{MODEL}[[engine]]\nlabel = \"full\"\ntoggles = {{ dtype = \"f32\" }}\n[[engine]]\nlabel = \"small\"\n\
         toggles = {{ dtype = \"q8_0\", threads = [1, 2] }}\n[workload]\ntext = \"x\"\nlengths = [64]\n"
    );
    insta::assert_snapshot!(check(&text, &[]), @r#"
    exit 0
    --- stdout
    t

    model       synthetic qwen3 tiny, seed 1
    engine      full (transformer); its own toggles: dtype f32
    engine      small (transformer); its own toggles: dtype q8_0, threads 1 or 2
    prompt      text of the scenario, 64 tokens; then up to 128 generated
    sampling    greedy
    telemetry   cpu, memory, gpu, power every 50 ms

    #   cell              dtype   threads      chunk
                          asked     asked   in force
    ──────────────────────────────────────────────────
    0   full                f32                   64
    1   small threads=1    q8_0         1         64
    2   small threads=2    q8_0         2         64

    order       cells take turns, shuffled by seed 0: 0 2 1; 1 0 2; 1 0 2; ...
    hosts       3 engine processes, one for each engine and its load-time settings
    requests    30 measured (10 iterations of 3 cells), 3 warm-ups before them
    tokens      1 920 to prefill, at most 3 840 to generate, warm-ups apart
    time        not known before a first run
    "#);
}
