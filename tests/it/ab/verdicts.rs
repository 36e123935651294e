//! Simulated sides: planted differences are found, and failures have an outcome.

use inferometer::record::{FinishState, Status};
use inferometer::report::ab::{AbSummary, Telling, terminal};
use inferometer_stats::sequential::Verdict;

use super::{DECODE, MEMORY, NO_PILOT, check, folder, judged, once, pairs, record, session, simulated, told};
use crate::lab::{Lab, line, without_figures};

/// What a machine adds that keeps the memory of processes that crash.
const DUMPED: &str = " (core dumped)";
const QUICK: (&str, &str) = ("quick", "a_ms = 1");

#[test]
fn the_same_twice_is_unchanged_and_its_sides_are_records_like_any() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[QUICK], &format!("[ab]\nresident = true\n{MEMORY}"));
    let (done, record) = session(&lab, &scenario, &["--same"], 0);
    check(&record);
    let said = told(&done);
    assert_eq!((said["verdict"].as_str(), said["counts"]["ok"].as_u64()), (Some("unchanged"), Some(10)));
    let judgement = judged(&record);
    assert!(judgement.counts.pilot_ok >= 6 && judgement.pilot[0].x.len() >= 6, "{:?}", judgement.pilot);
    assert_eq!(record.manifest.state, FinishState::Finished);
    assert_eq!(record.manifest.outputs.as_ref().map(|found| found.tokens), Some(4));
    let again = lab.run(&["ab", "--resume", folder(&lab).to_str().unwrap()]).expect(0);
    insta::assert_snapshot!(lab.shown(&line(&again.stderr, "the session in ")), @r#"the session in [LAB]/results/[RUN] is finished; there is nothing left to do"#);
    let summary = AbSummary::of(&record, Telling::default());
    assert_eq!(again.stdout, terminal::render(&summary));
    assert_eq!(super::record(&lab), record, "a finished session is left alone");

    let [a, b] = ["a", "b"].map(|side| folder(&lab).join(side).to_str().unwrap().to_owned());
    lab.run(&["report", &a]).expect(0);
    lab.run(&["compare", &a, &b]).expect(0);
}

#[test]
fn a_slow_side_is_regressed_and_the_other_way_round_improved() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[QUICK, ("slow", "a_ms = 40")], &format!("{NO_PILOT}{DECODE}"));
    let resident = ["--resident", "--a-engine", "quick", "--b-engine", "slow"];
    let (done, found) = session(&lab, &scenario, &resident, 1);
    check(&found);
    let said = told(&done);
    assert_eq!(said["verdict"], "regressed");
    assert!(said["gates"][0]["estimate"].as_f64() > Some(1.5_f64.ln()), "{}", said["gates"][0]);
    insta::assert_snapshot!(without_figures(said["reasons"][0].as_str().unwrap()), @r#"decode is # % slower [+# %, +# %] after # pairs"#);

    let lab = Lab::new();
    let scenario = simulated(&lab, &[QUICK, ("slow", "a_ms = 40")], &format!("{NO_PILOT}{DECODE}"));
    let (done, _) = session(&lab, &scenario, &["--resident", "--a-engine", "slow", "--b-engine", "quick"], 0);
    assert_eq!(told(&done)["verdict"], "improved");
}

#[test]
fn other_tokens_are_output_changed_before_anything_is_measured() {
    let engines = [QUICK, ("changed", "a_ms = 1, change_token_at = 2")];
    let lab = Lab::new();
    let scenario = simulated(&lab, &engines, MEMORY);
    let sides = ["--a-engine", "quick", "--b-engine", "changed"];
    let done = once(&lab, &scenario, &sides).expect(4);
    let said = told(&done);
    assert_eq!(said["verdict"], "output-changed");
    insta::assert_snapshot!(said["reasons"][0].as_str().unwrap(), @r#"B (changed) generates different tokens, first at position 2 (cell 0, turn 0): token 30337 instead of token 30336"#);
    assert!(record(&lab).pairs.is_empty());

    // With the rule `any`, the difference is allowed.
    let lab = Lab::new();
    let scenario = simulated(&lab, &engines, &format!("{NO_PILOT}{MEMORY}"));
    let (_, found) = session(&lab, &scenario, &[&sides[..], &["--outputs", "any", "--resident"]].concat(), 0);
    let finding = found.manifest.outputs.as_ref().unwrap();
    assert!(finding.divergences.len() == 1 && finding.divergences[0].allowed, "{finding:?}");
}

/// Without warm-ups, whose number depends on how punctually tokens arrive, a side has one request
/// for its tokens and one for each pair.
const THIRD_PAIR: &str = "fault_at = 4";
const COLD: &str = "[run]\ntimeout_s = 6.0\nwarmup = 0\n";

#[test]
fn a_side_b_that_fails_in_a_pair_is_failed_and_stays_in_the_record() {
    let mut reasons = Vec::new();
    for fault in ["crash", "out-of-memory", "hang", "error"] {
        let lab = Lab::new();
        let fresh = fault == "crash";
        let options = format!("a_ms = 1, state = {:?}, fault = {fault:?}, {THIRD_PAIR}", lab.path("state"));
        let resident = if fresh { &[][..] } else { &["--resident"] };
        let rest = format!("{COLD}{NO_PILOT}{MEMORY}");
        let scenario = simulated(&lab, &[QUICK, ("faulty", &options)], &rest);
        let sides = ["--a-engine", "quick", "--b-engine", "faulty"];
        let done = once(&lab, &scenario, &[&sides, resident].concat()).expect(1);
        let found = record(&lab);
        check(&found);
        let said = told(&done);
        assert_eq!((said["verdict"].as_str(), said["counts"]["failed_b"].as_u64()), (Some("failed"), Some(1)));
        reasons.push(said["reasons"][0].as_str().unwrap().to_owned());
        reasons.push(line(&done.stderr, "warning: pair 3"));
        assert_eq!(pairs(&found), 3, "{fault}: the pair is in the record");
        let row = found.b.requests.last().unwrap();
        assert_eq!((row.status, row.warmup), (Status::Failed, false), "{fault}");
    }
    insta::assert_snapshot!(reasons.join("\n").replace(DUMPED, ""), @r#"
    side B fails in 1 of 3 pairs: side B in cell `quick`: the engine host ended during a generation (signal: 6 (SIGABRT)) (pair 3)
    warning: pair 3 failed: side B in cell `quick`: the engine host ended during a generation (signal: 6 (SIGABRT))
    side B fails in 1 of 3 pairs: side B in cell `quick`: the engine host ended during a generation (signal: 9 (SIGKILL)); it was killed, often because the system ran out of memory (pair 3)
    warning: pair 3 failed: side B in cell `quick`: the engine host ended during a generation (signal: 9 (SIGKILL)); it was killed, often because the system ran out of memory
    side B fails in 1 of 3 pairs: side B in cell `quick`: the engine host gave no answer to a generation within 6 s and was killed; increase the time-out if it is too short (pair 3)
    warning: pair 3 failed: side B in cell `quick`: the engine host gave no answer to a generation within 6 s and was killed; increase the time-out if it is too short
    side B fails in 1 of 3 pairs: side B in cell `quick`: the simulated engine fails, as its options say (pair 3)
    warning: pair 3 failed: side B in cell `quick`: the simulated engine fails, as its options say
    "#);
}

#[test]
fn a_side_b_that_fails_now_and_then_is_failed() {
    let lab = Lab::new();
    // About every fifth request; the seed determines which ones.
    let options = format!("a_ms = 1, state = {:?}, fault = \"crash\", fault_percent = 20", lab.path("state"));
    let scenario = simulated(&lab, &[QUICK, ("faulty", &options)], &format!("{NO_PILOT}{MEMORY}"));
    let done = once(&lab, &scenario, &["--a-engine", "quick", "--b-engine", "faulty"]).expect(1);
    assert_eq!(told(&done)["verdict"], "failed");
    assert!(record(&lab).b.requests.iter().any(|row| row.status == Status::Failed));
}

#[test]
fn a_side_a_that_fails_makes_the_session_invalid() {
    let lab = Lab::new();
    let options = format!("a_ms = 1, state = {:?}, fault = \"crash\", {THIRD_PAIR}", lab.path("state"));
    let scenario = simulated(&lab, &[QUICK, ("faulty", &options)], &format!("{COLD}{NO_PILOT}{MEMORY}"));
    let done = once(&lab, &scenario, &["--a-engine", "faulty", "--b-engine", "quick"]).expect(4);
    let said = told(&done);
    assert_eq!((said["verdict"].as_str(), said["counts"]["failed_a"].as_u64()), (Some("invalid"), Some(1)));
    insta::assert_snapshot!(said["reasons"][0].as_str().unwrap().replace(DUMPED, ""), @r#"side A fails, so B cannot be judged: side A in cell `faulty`: the engine host ended during a generation (signal: 6 (SIGABRT)) (pair 3)"#);
}

#[test]
fn a_side_b_that_fakes_its_stamps_is_invalid() {
    let lab = Lab::strict();
    // Tokens are stamped when submitted: each 50 ms too early, as if the engine were a hundred
    // times as fast.
    let options = "a_ms = 50, fault = \"early-stamps\", fault_percent = 100";
    let scenario = simulated(
        &lab,
        &[QUICK, ("faking", options)],
        &format!("{NO_PILOT}[[gate]]\nmetric = \"e2e\"\ndelta = \"50%\"\n"),
    );
    let done = once(&lab, &scenario, &["--a-engine", "quick", "--b-engine", "faking", "--resident"]).expect(4);
    let said = told(&done);
    assert_eq!(said["verdict"], "invalid");
    assert_eq!(said["gates"][0]["x"].as_array().unwrap().len(), 0, "not one pair counts");
    let found = record(&lab);
    assert!(judged(&found).counts.dropped() >= 5);
    assert!(
        found.b.requests.iter().filter(|row| !row.warmup && row.iteration > 0).all(|row| row.status == Status::Invalid)
    );
}

#[test]
fn a_hopeless_pilot_refuses_and_neutral_ok_says_what_it_does() {
    let lab = Lab::new();
    let options = format!("a_ms = 1, noise = \"noisy\", state = {:?}", lab.path("state"));
    let rest = "[[gate]]\nmetric = \"decode_tps\"\ndelta = \"0.01%\"\n";
    let scenario = simulated(&lab, &[("noisy", &options)], rest);
    let (done, found) = session(&lab, &scenario, &["--same", "--resident", "--pilot", "5"], 3);
    let said = told(&done);
    assert_eq!(said["verdict"], "inconclusive");
    insta::assert_snapshot!(without_figures(said["reasons"][0].as_str().unwrap()), @r#"# A/A pairs show that this machine is too noisy for this delta: after # pairs decode can be measured to ±# % at best, but delta is # %; this machine can decide a delta of # %"#);
    assert_eq!((pairs(&found), judged(&found).verdict), (0, Verdict::Inconclusive));

    let dir = folder(&lab).to_str().unwrap().to_owned();
    lab.run(&["ab", "--resume", &dir]).expect(3);
    let passed = lab.run(&["ab", "--resume", &dir, "--neutral-ok"]).expect(0);
    insta::assert_snapshot!(line(&passed.stderr, "exit code 0"), @r#"exit code 0 because of `--neutral-ok`; the verdict is inconclusive"#);
}
