//! `inferometer engines`, the conformance check, and the guide for authors of adapters.

use std::process::Command;

use inferometer::record::Status;
use serde_json::Value;

use super::repository;
use crate::lab::{Lab, PATIENCE};

#[test]
fn the_engines_are_listed_with_what_they_take() {
    let list = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
        let output = command.arg("engines").args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let table = list(&[]);
    // What the built-in engines say depends on the build and the machine.
    let mut exec = table.lines().skip_while(|line| !line.starts_with("exec "));
    let first = exec.next().expect(&table);
    let rest = exec.take_while(|line| line.starts_with(" "));
    let exec: Vec<&str> = std::iter::once(first).chain(rest).collect();
    insta::assert_snapshot!(exec.join("\n"), @r#"
    exec (external): any program that implements the engine protocol
      option command: the program and its arguments, started without a shell (a list of texts, required)
      toggles: listed in its receipt when it runs
      sampling: listed in its receipt when it runs
      runs here: yes
    "#);
    let json: Value = serde_json::from_str(&list(&["--format", "json"])).unwrap();
    let engine = |name: &str| json.as_array().unwrap().iter().find(|e| e["name"] == name).unwrap();
    assert_eq!((&engine("exec")["toggles"], &engine("exec")["runs_here"]), (&Value::Null, &Value::Bool(true)));
    assert!(engine("transformer")["toggles"].as_array().unwrap().contains(&"prefill_chunk_size".into()));
}

#[test]
fn a_check_that_does_not_exist_is_a_usage_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    let output = command.args(["engines", "check", "--only", "juggling", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r#"error: no check is named like "juggling"; the checks are: greets, refuses another major version, ping, needs a model before work, ignores unknown fields, refuses unknown messages and goes on, opens, generates what was asked, generates one token, stamps fit the harness's clock, tokens arrive when they are stamped, refuses bad requests and goes on, no progress unless asked for, progress is slow, rises and ends, deterministic, reset, temperature, seed, top_k, top_p, min_p, repetition penalty, repetition context, prefill chunk, forced tokens, choices, clear_cache, memory, profile, fit, concurrent, cancel during work, cancel while idle, closes with a model open, closes without a model, ends with its input, ends with its input during work"#);
}

fn check_command(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    let output = command.current_dir(repository("")).args(["engines", "check"]).args(arguments).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_example_adapter_conforms() {
    let (code, printed) = check_command(&["--", "python3", "examples/minimal_adapter.py"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.ends_with("21 passed, 0 failed, 16 skipped\n"), "{printed}");
}

#[test]
fn a_program_that_does_not_greet_is_told_once() {
    let (code, printed) = check_command(&["--", "/no/such/program"]);
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("FAIL  greets: cannot start the engine host `/no/such/program`: "), "{printed}");
    assert!(printed.ends_with("\n0 passed, 1 failed, 36 skipped\n"), "{printed}");
    assert_eq!(printed.matches("it does not answer the greeting").count(), 1, "{printed}");
}

/// Reasons name the file with the program's stderr, so it must be there afterwards.
#[test]
fn what_a_failing_program_wrote_is_kept() {
    let lab = Lab::new();
    let mut command = lab.program(&["engines", "check", "--", "sh", "-c", "echo no licence >&2; exit 3"]);
    let done = lab.done(command.env("TMPDIR", lab.path("")).output().unwrap()).expect(1);
    let told = done.stderr.lines().find_map(|line| line.strip_prefix("the program's stderr: "));
    let log = told.unwrap_or_else(|| panic!("no log is named: {}", done.stderr));
    assert!(fs_err::read_to_string(log).unwrap().contains("no licence"));
}

#[test]
fn the_built_in_host_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny");
    let mut new = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    assert!(new.args(["-q", "model", "new", "--preset", "tiny"]).arg(&model).output().unwrap().status.success());
    let model = model.to_str().unwrap();
    let host = env!("CARGO_BIN_EXE_inferometer");
    let (code, printed) = check_command(&["--engine", "transformer", "--model", model, "--", host, "host"]);
    assert_eq!(code, Some(0), "{printed}");
    insta::assert_snapshot!(printed, @r#"
    pass  greets
    pass  refuses another major version
    pass  ping
    pass  needs a model before work
    pass  ignores unknown fields
    pass  refuses unknown messages and goes on
    pass  opens
    pass  generates what was asked
    pass  generates one token
    pass  stamps fit the harness's clock
    pass  tokens arrive when they are stamped
    pass  refuses bad requests and goes on
    pass  no progress unless asked for
    pass  progress is slow, rises and ends
    pass  deterministic
    pass  reset
    pass  temperature
    pass  seed
    pass  top_k
    pass  top_p
    pass  min_p
    pass  repetition penalty
    pass  repetition context
    pass  prefill chunk
    pass  forced tokens
    pass  choices
    skip  clear_cache: it does not declare `clear_cache`
    pass  memory
    pass  profile
    skip  fit: it does not declare `fit`
    skip  concurrent: it does not declare `concurrent`
    pass  cancel during work
    pass  cancel while idle
    pass  closes with a model open
    pass  closes without a model
    pass  ends with its input
    pass  ends with its input during work
    34 passed, 0 failed, 3 skipped
    "#);
}

/// Follows docs/guides/adding-an-engine.md: the example under another name, the scenario on the
/// page, the command on the page.
#[test]
fn the_guide_s_adapter_is_measured_by_the_guide_s_scenario() {
    let page = fs_err::read_to_string(repository("docs/guides/adding-an-engine.md")).unwrap();
    let scenario = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("my_engine.toml"), scenario).unwrap();
    fs_err::copy(repository("examples/minimal_adapter.py"), folder.path().join("my_adapter.py")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_inferometer"))
        .args(["run", "my_engine.toml", "--format", "json", "--set", "run.external_causes=warn"])
        .current_dir(folder.path())
        .env(PATIENCE.0, PATIENCE.1)
        .env("INFEROMETER_CACHE", folder.path().join("cache"))
        .env("INFEROMETER_LOCK", folder.path().join("lock"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let run = fs_err::read_dir(folder.path().join("results")).unwrap().next().unwrap().unwrap().path();
    let record = inferometer::record::read(&run).unwrap();
    // Two lengths, three iterations each.
    assert_eq!(record.requests.iter().filter(|row| !row.warmup).count(), 2 * 3, "{said}");
    for row in &record.requests {
        assert_eq!((row.engine.as_str(), row.status), ("mine", Status::Ok), "{}", row.reason);
    }
}

/// Every check must be able to fail: the example adapter, spoilt in one place, fails the check that
/// is about it.
#[test]
fn a_spoilt_adapter_fails_the_check_that_is_about_it() {
    let original = fs_err::read_to_string(repository("examples/minimal_adapter.py")).unwrap();
    let spoilt = [
        ("refuses another major version", r#"if message["protocol"]["major"] != PROTOCOL["major"]:"#, "if False:"),
        ("ping", r#""clock": "python time.monotonic_ns""#, r#""clock": str(time.monotonic_ns())"#),
        ("needs a model before work", "and engine is None", "and False"),
        (
            "ignores unknown fields",
            r#"kind, engine = message.get("type"),"#,
            r#"kind, engine = len(message) < 3 and message.get("type"),"#,
        ),
        (
            "refuses unknown messages and goes on",
            r#"return error("protocol", f"unknown"#,
            r#"return {} or error("internal", f"unknown"#,
        ),
        ("opens", r#""version": "1.0.0""#, r#""version": """#),
        ("generates what was asked", "range(max_tokens)", "range(max_tokens + 1)"),
        ("generates one token", "range(max_tokens)", "range(max(2, max_tokens))"),
        ("stamps fit the harness's clock", "append(time.monotonic_ns())", "append(accepted_ns - 1)"),
        (
            "stamps fit the harness's clock",
            r#""finished_ns": time.monotonic_ns()"#,
            r#""finished_ns": time.sleep(0.1) or time.monotonic_ns()"#,
        ),
        ("refuses bad requests and goes on", "max_tokens < 1", "max_tokens < 0"),
        (
            "no progress unless asked for",
            "    return {\n        \"type\": \"result\"",
            "    print(json.dumps({\"id\": message[\"id\"], \"type\": \"progress\", \"generated_tokens\": 0}))\n    return {\n        \"type\": \"result\"",
        ),
        ("deterministic", "last = (31 * last", "last = (time.monotonic_ns() // 1000"),
        (
            "reset",
            "\"reused_tokens\": 0,\n        \"prefill_tokens\": len(prompt)",
            "\"reused_tokens\": 1,\n        \"prefill_tokens\": len(prompt) - 1",
        ),
        ("forced tokens", "last = forced[step]", "pass"),
        ("memory", r#""reset": True"#, r#""reset": True, "memory": True"#),
        ("choices", r#""reset": True"#, r#""reset": True, "choices": True"#),
        ("clear_cache", r#""reset": True"#, r#""reset": True, "clear_cache": True"#),
        ("cancel during work", r#""reset": True"#, r#""reset": True, "cancel": True"#),
        ("cancel while idle", r#"if kind in ("cancel", "close")"#, r#"if kind in ("close",)"#),
        ("closes without a model", "close\":\n            return\n", "close\":\n            sys.exit(4)\n"),
        ("closes with a model open", "close\":\n            return\n", "close\":\n            sys.exit(4)\n"),
        ("ends with its input", "\n\n\nif __name__", "\n    time.sleep(1000)\n\n\nif __name__"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("spoilt.py");
    for (check, from, to) in spoilt {
        assert_eq!(original.matches(from).count(), 1, "{check}: {from} stands once in the example");
        fs_err::write(&adapter, original.replace(from, to)).unwrap();
        let (code, printed) =
            check_command(&["--timeout-s", "5", "--only", check, "--", "python3", adapter.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{check}:\n{printed}");
        let failed =
            |line: &str| line.strip_prefix("FAIL  ").is_some_and(|rest| rest.starts_with(&format!("{check}: ")));
        assert!(printed.lines().any(failed), "{check}:\n{printed}");
    }
}

#[test]
fn ctrl_c_leaves_nothing_of_the_program_behind() {
    let lab = Lab::new();
    let file = lab.path("children");
    let script = repository("tests/hosts/faulty.py");
    let program = ["python3", script.to_str().unwrap(), "hang-in-open", file.to_str().unwrap()];
    let child = lab.program(&[&["engines", "check", "--"][..], &program].concat()).spawn().unwrap();
    let children = crate::lab::until("the program hangs", || {
        let text = fs_err::read_to_string(&file).ok()?;
        let pids: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        (pids.len() == 2).then_some(pids)
    });
    crate::lab::signal(child.id(), rustix::process::Signal::INT);
    lab.wait(child).expect(130);
    let own = if cfg!(target_os = "linux") { &children[..] } else { &children[..1] };
    own.iter().for_each(|pid| crate::lab::until("a child ends", || (!crate::lab::runs(*pid)).then_some(())));
}
