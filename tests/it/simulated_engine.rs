//! The simulated engine through the whole program: the record has its faults, and its time really
//! passes.

use std::path::PathBuf;

use inferometer::record::{Cause, Status};
use inferometer_protocol::FinishReason;

use crate::lab::{Lab, measured, statuses};

/// A scenario of three measured iterations after one warm-up with these options.
fn scenario(lab: &Lab, options: &str) -> PathBuf {
    let state = lab.path("state");
    let text = format!(
        "name = \"simulated\"\n[model]\npath = \".\"\n[[engine]]\nname = \"simulated\"\n\
         options = {{ a_ms = 1, state = {state:?}, {options} }}\n\
         [workload]\ntext = \"one two three four five\"\nmax_tokens = 6\nignore_eos = true\n\
         [run]\niterations = 3\ntimeout_s = 6.0\n"
    );
    lab.write("scenario.toml", text)
}

#[test]
fn without_faults_every_iteration_counts_and_says_that_it_is_synthetic() {
    let lab = Lab::new();
    let options = "noise = \"shared-vm\", memory = \"leak\", memory_mib = 1, memory_swing_mib = 4";
    let done = lab.measure(&scenario(&lab, options), &[]).expect(0);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 3]);
    // Its speed and memory follow from its options: they are not those of a model.
    assert!(
        done.stdout.contains("simulated engine: no engine ran; every figure comes from a simulation"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("synthetic model"), "{}", done.stdout);
    let host = &record.manifest.hosts[0];
    assert!(host.receipt.model.synthetic, "{:?}", host.receipt);
    insta::assert_snapshot!(host.receipt.model.name, @r#"simulated (no model)"#);
    assert_eq!(host.receipt.details["noise"], "shared-vm");
    assert!(host.verified.contains(&"engine".to_owned()));
    for (at, row) in measured(&record).into_iter().enumerate() {
        assert_eq!((row.prompt_tokens, row.generated_tokens), (Some(5), Some(6)));
        assert_eq!(row.finish_reason, Some(FinishReason::Length));
        // The warm-up was request 0; the leak is 4 MiB in 4 requests.
        let base = (1 << 20) * (2 + at as u64);
        assert_eq!(row.engine_active_bytes, Some(base + 10 * 1024));
        // Never less than the law gives; how much more depends on the machine.
        assert!(row.decode_ms.unwrap() > 5.0 * 0.85, "{:?}", row.decode_ms);
    }
    assert_eq!(fs_err::read_to_string(lab.path("state")).unwrap(), "4", "the file counts all requests");
}

#[test]
fn faults_end_as_the_rows_of_the_record_say() {
    for (fault, cause) in [
        ("crash", Cause::Died),
        ("out-of-memory", Cause::Died),
        ("hang", Cause::TimedOut),
        ("error", Cause::EngineError),
        ("no-tokens", Cause::Outcome),
        ("early-stamps", Cause::LateStamps),
    ] {
        let lab = if cause.status() == Status::Invalid { Lab::strict() } else { Lab::new() };
        // The warm-up is the first request; the fault hits the second measured iteration.
        let options = format!("fault = \"{fault}\", fault_at = 3");
        if cause.status() == Status::Invalid {
            // Early stamps are out by the whole decode time, which is more than the instrument's
            // tolerance.
            lab.measure(&scenario(&lab, &format!("b_us = 10000, {options}")), &[]).expect(4);
        } else {
            lab.measure(&scenario(&lab, &options), &[]).expect(1);
        }
        let record = lab.record();
        let rows = measured(&record);
        assert_eq!((rows[1].status, rows[1].cause), (cause.status(), Some(cause)), "{fault}: {}", rows[1].reason);
        assert_eq!(rows.len(), 3, "{fault}: the run went on");
        let lost = ["crash", "out-of-memory", "hang"].contains(&fault);
        assert_eq!(record.manifest.hosts.len(), if lost { 2 } else { 1 }, "{fault}");
    }
}

#[test]
fn options_are_checked_with_the_scenario() {
    let lab = Lab::new();
    let check = |options: &str| {
        let text = format!(
            "name = \"s\"\n[model]\npath = \".\"\n[[engine]]\nname = \"simulated\"\noptions = {{ {options} }}\n\
             [workload]\ntext = \"a\"\nmax_tokens = 1\n"
        );
        let scenario = lab.write("scenario.toml", text);
        lab.run(&["check", scenario.to_str().unwrap()])
    };
    check("a_ms = 1.5, noise = \"noisy\"").expect(0);
    let told = ["a_sm = 1.5", "noise = \"nosy\""].map(|wrong| check(wrong).shown(&lab));
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    --- stderr
    error: engine `simulated` has no option `a_sm`
     --> [LAB]/scenario.toml:6:13
      |
    6 | options = { a_sm = 1.5 }
      |             ^^^^ did you mean `a_ms`?
      |
      = help: valid options: `load_ms`, `a_ms`, `b_us`, `c_ms`, `d_us`, `e_ns`,
              `slower_percent`, `drift_percent`, `noise`, `seed`,
              `change_token_at`, `memory`, `memory_mib`, `leak_mib_per_load`,
              `memory_swing_mib`, `memory_period`, `kv_bytes_per_token`,
              `fault`, `fault_at`, `fault_percent`, `state`, `affinity` and
              `slow_down_percent`

    exit 2
    --- stderr
    error: option `noise` cannot be `nosy`
     --> [LAB]/scenario.toml:6:21
      |
    6 | options = { noise = "nosy" }
      |                     ^^^^^^ did you mean `noisy`?
      |
      = help: it must be `none`, `quiet`, `shared-vm` or `noisy`
      = help: `noise`: noise of consecutive generations (default none)
    "#);
    let listed = lab.run(&["engines"]).expect(0).stdout;
    assert!(listed.lines().any(|line| line.starts_with("simulated (built in): ")), "{listed}");
}

/// The part of the self-test with real sessions of the whole program, in which the host adds a
/// slow-down.
///
/// A token takes so long that the effect of a busy machine is far below the gate's delta.
#[test]
fn the_self_test_finds_a_slow_down_put_in_by_the_host() {
    let lab = Lab::new();
    let scenario = lab.write(
        "scenario.toml",
        "name = \"s\"\n[model]\npath = \".\"\n[[engine]]\nname = \"simulated\"\noptions = { a_ms = 12 }\n\
             [workload]\ntext = \"one two three\"\nmax_tokens = 8\nignore_eos = true\n\
             [ab]\nself_test = true\npilot = 0\n[[gate]]\nmetric = \"decode_tps\"\ndelta = \"40%\"\n",
    );
    let scenario = scenario.to_str().unwrap();
    let words =
        ["selftest", "--real", "--sessions", "1", "--injected", "99%", "--format", "json", "--scenario", scenario];
    let done = lab.run(&words);
    let found: serde_json::Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}", done.stderr));
    let [same, slower] = found["sessions"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&same["verdict"], &slower["verdict"]), (&"unchanged".into(), &"regressed".into()), "{found}");
    let judged = |kind: usize| found["judged"][kind]["judged"].as_u64();
    assert_eq!((judged(0), judged(1), &found["shown"]), (Some(1), Some(1), &true.into()), "{found}");
    done.expect(0);
    let dir = lab.path("").join(slower["dir"].as_str().unwrap());
    let b = inferometer::record::read(&dir.join("b")).unwrap().manifest;
    assert_eq!(b.hosts[0].receipt.settings["slow_down_percent"].as_float(), Some(99.0));
    let a = inferometer::record::read(&dir.join("a")).unwrap().manifest;
    assert_eq!(a.hosts[0].receipt.settings.get("slow_down_percent"), None);
}
