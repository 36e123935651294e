//! Sampling that an engine does not obey: refused before anything is measured, found by probes.

use std::process::Command;

use inferometer::record::Status;

use crate::lab::Lab;

const ALL: &str = "seed,temperature,top_k,top_p,min_p,repetition_penalty,repetition_context_size";
const ONE: &str = "[run]\niterations = 1\nwarmup = 0\n";

/// A run of the fixture with these options and this `[sampling]`.
fn run(arguments: &[&str], sampling: &str) -> (Lab, crate::lab::Done) {
    let lab = Lab::new();
    let scenario = lab.exec(arguments, &format!("{ONE}[sampling]\n{sampling}"));
    let done = lab.measure(&scenario, &[]);
    (lab, done)
}

#[test]
fn sampling_that_an_adapter_does_not_declare_is_refused_before_anything_is_measured() {
    let (lab, done) = run(&[], "temperature = 0.9\ntop_p = 0.95\nseed = 7\n");
    insta::assert_snapshot!(done.shown(&lab), @r#"
    exit 2
    --- stderr
    run [RUN]
    error: engine `exec` does not honour what the scenario requests: temperature = 0.9 (its receipt's `sampling` does not list it), top_p = 0.95 (its receipt's `sampling` does not list it); remove it from the scenario, or use another engine
    "#);
    assert!(lab.record().requests.is_empty());
}

#[test]
fn a_draw_needs_a_seed_that_the_engine_obeys() {
    let (lab, done) = run(&["--sampling", "temperature"], "temperature = 0.9\n");
    assert!(done.stderr.contains("seed = 0 (a temperature above 0 needs it, and its receipt"), "{}", done.stderr);
    drop(lab);
    let reason = ["--sampling", "temperature", "--refuses", "seed=the library seeds itself"];
    let (lab, done) = run(&reason, "temperature = 0.9\n");
    insta::assert_snapshot!(done.shown(&lab), @r#"
    exit 2
    --- stderr
    run [RUN]
    error: engine `exec` does not honour what the scenario requests: seed = 0 (the library seeds itself); remove it from the scenario, or use another engine
    "#);
}

#[test]
fn what_is_declared_is_measured_and_greedy_needs_nothing() {
    for (arguments, sampling) in [
        (&[][..], ""),
        (&[], "seed = 7\ntop_k = 40\ntop_p = 0.9\nmin_p = 0.1\nrepetition_context_size = 64\n"),
        (&["--sampling", "seed,temperature"], "temperature = 0.9\n"),
        (&["--sampling", ALL, "--penalty"], "temperature = 0.9\ntop_k = 40\nrepetition_penalty = 1.1\n"),
    ] {
        let (lab, done) = run(arguments, sampling);
        done.expect(0);
        assert_eq!(lab.record().requests[0].status, Status::Ok, "{arguments:?}");
    }
}

#[test]
fn a_penalty_declared_as_sampling_must_be_in_force() {
    // The fixture does not report what was in force.
    let (lab, done) = run(&["--sampling", ALL], "repetition_penalty = 1.1\n");
    done.expect(4);
    let row = &lab.record().requests[0];
    insta::assert_snapshot!(row.reason, @r#"effective settings differ: repetition_penalty is not reported, expected 1.1"#);
}

#[test]
fn check_predicts_the_refusal_where_the_engine_s_offer_says_it() {
    let lab = Lab::new();
    let scenario = lab.write(
        "scenario.toml",
        "name = \"t\"\n[model]\nsynthetic = { arch = \"qwen3\", preset = \"tiny\" }\n[[engine]]\nname = \"simulated\"\n\
         [workload]\ntext = \"one two\"\n[sampling]\ntop_k = 40\ntemperature = 0.9\nrepetition_penalty = 1.1\n",
    );
    insta::assert_snapshot!(lab.run(&["check", scenario.to_str().unwrap()]).shown(&lab), @r#"
    exit 2
    --- stderr
    error: engine `simulated` does not honour `top_k = 40`
     --> [LAB]/scenario.toml:9:1
      |
    9 | top_k = 40
      | ^^^^^ it would have no effect
      |
      = help: remove it; `simulated` chooses tokens in one fixed way

    error: engine `simulated` does not honour `temperature = 0.9`
      --> [LAB]/scenario.toml:10:1
       |
    10 | temperature = 0.9
       | ^^^^^^^^^^^ it would have no effect
       |
       = help: remove it; `simulated` chooses tokens in one fixed way

    error: engine `simulated` does not honour `repetition_penalty = 1.1`
      --> [LAB]/scenario.toml:11:1
       |
    11 | repetition_penalty = 1.1
       | ^^^^^^^^^^^^^^^^^^ it would have no effect
       |
       = help: remove it; `simulated` chooses tokens in one fixed way
    "#);
    // What an adapter declares is known only when it runs.
    let adapter = lab.exec(&[], "[sampling]\ntemperature = 0.9\n");
    lab.run(&["check", adapter.to_str().unwrap()]).expect(0);
}

/// The lines of `engines check` about sampling and the prefill chunk.
fn probes(arguments: &[&str]) -> (Option<i32>, String) {
    let script = crate::protocol::repository("tests/fixtures/engine.py");
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    command.args(["engines", "check", "--", "python3"]).arg(script).args(arguments);
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let about =
        ["opens", "deterministic", "temperature", "seed", "top_k", "top_p", "min_p", "repetition ", "prefill chunk"];
    let is_about = |line: &&str| line.contains(" checks (") || about.iter().any(|name| line[6..].starts_with(name));
    let lines = printed.lines().filter(is_about);
    (output.status.code(), lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn declared_sampling_is_probed() {
    let (_, lines) = probes(&["--sampling", ALL, "--penalty", "--toggles", "prefill_chunk_size"]);
    insta::assert_snapshot!(lines, @r#"
    pass  opens
    pass  deterministic
    pass  temperature
    pass  seed
    pass  top_k
    pass  top_p
    pass  min_p
    pass  repetition penalty
    pass  repetition context
    pass  prefill chunk
    "#);
    let (_, lines) = probes(&[]);
    insta::assert_snapshot!(lines, @r#"
    pass  opens
    pass  deterministic
    skip  temperature: it does not declare `temperature`
    skip  seed: it does not declare `seed`
    skip  top_k: it does not declare `top_k`
    skip  top_p: it does not declare `top_p`
    skip  min_p: it does not declare `min_p`
    skip  repetition penalty: it does not declare `repetition_penalty`
    skip  repetition context: it does not declare `repetition_context_size`
    skip  prefill chunk: it does not declare `prefill_chunk_size`
    "#);
}

#[test]
fn an_engine_that_ignores_what_it_declares_fails_the_probes() {
    let (code, lines) = probes(&["--sampling", ALL, "--penalty", "--ignores-sampling"]);
    assert_eq!(code, Some(1));
    let ids = without_ids(&lines);
    insta::assert_snapshot!(ids, @r#"
    pass  opens
    pass  deterministic
    FAIL  temperature: `temperature` changes nothing: at temperature 2 with seeds 1 to 8 it generated the same tokens as at temperature 0, [IDS]; obey it, or take it off the receipt's `sampling`
    skip  4 checks (seed to min_p): seeds 1 to 8 at temperature 2 all gave the greedy tokens, so nothing can be told; see the check of `temperature`
    FAIL  repetition penalty: `repetition_penalty` changes nothing: after one token 16 times it generated [IDS] with a penalty of 1 and of 3; obey it, or take it off the receipt's `sampling`
    FAIL  repetition context: `repetition_context_size` changes nothing: with a penalty of 3 on the last token and on the whole history it generated [IDS]; obey it, or take it off the receipt's `sampling`
    skip  prefill chunk: it does not declare `prefill_chunk_size`
    "#);
}

#[test]
fn a_chunk_of_another_size_fails_the_probe() {
    let (_, lines) = probes(&["--toggles", "prefill_chunk_size", "--chunk", "4"]);
    insta::assert_snapshot!(lines.lines().last().unwrap(), @r#"FAIL  prefill chunk: effective settings differ: prefill_chunk_size is 4, expected 8"#);
}

/// As in a run, where greedy tokens that differ end with exit code 4.
#[test]
fn greedy_tokens_that_differ_fail_even_if_nothing_is_declared() {
    let (_, lines) = probes(&["--nondeterministic"]);
    let said = lines.lines().find(|line| line[6..].starts_with("deterministic")).unwrap();
    insta::assert_snapshot!(without_ids(said), @"FAIL  deterministic: equal requests at temperature 0 gave [IDS] and [IDS]");
}

#[test]
fn fields_that_cannot_act_or_do_not_exist_fail() {
    let (code, lines) = probes(&["--sampling", "seed,top_k,repetition_context_size,temprature"]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(lines, @r#"
    FAIL  opens: its receipt's `sampling` lists `temprature`, which is no field of it; the fields are seed, temperature, top_k, top_p, min_p, repetition_penalty, repetition_context_size
    pass  deterministic
    skip  temperature: it does not declare `temperature`
    FAIL  seed: it declares `seed` without `temperature`: at temperature 0, `seed` has no effect
    FAIL  top_k: it declares `top_k` without `temperature`: at temperature 0, `top_k` has no effect
    skip  top_p: it does not declare `top_p`
    skip  min_p: it does not declare `min_p`
    skip  repetition penalty: it does not declare `repetition_penalty`
    FAIL  repetition context: it declares `repetition_context_size` without `repetition_penalty`: without a penalty, it has no effect
    skip  prefill chunk: it does not declare `prefill_chunk_size`
    "#);
}

/// Lists of token ids shortened to `[IDS]`.
fn without_ids(lines: &str) -> String {
    let mut shown = String::new();
    for (at, part) in lines.split('[').enumerate() {
        match part.split_once(']') {
            Some((_, rest)) if at > 0 => shown.push_str(&format!("[IDS]{rest}")),
            _ => shown.push_str(part),
        }
    }
    shown
}
