//! Token times that nobody saw are not shown: hosts that stamp their tokens otherwise than they
//! deliver them.

use inferometer::record::{Cause, Record, Status, Timing};
use serde_json::Value;

use crate::lab::Lab;

/// A run of `tests/fixtures/engine.py`, which takes 20 ms for each token.
fn measured(lab: &Lab, arguments: &[&str], exits: &[i32]) -> (Record, Value) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/engine.py");
    let command: Vec<&str> = ["python3", script, "--token-ms", "20"].iter().chain(arguments).copied().collect();
    let scenario = lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\", seed = 1 }}\n\
             [[engine]]\nname = \"exec\"\nlabel = \"adapter\"\noptions = {{ command = {command:?} }}\n\
             [workload]\ntext = \"one two three four five six seven\"\nmax_tokens = 20\n\
             [run]\niterations = 2\nexternal_causes = \"warn\"\n"
        ),
    );
    let done = lab.run(&["run", scenario.to_str().unwrap(), "--format", "json"]);
    assert!(done.code.is_some_and(|code| exits.contains(&code)), "{:?}: {}", done.code, done.stderr);
    (lab.record(), serde_json::from_str(&done.stdout).unwrap())
}

fn grades(record: &Record) -> Vec<Option<Timing>> {
    record.requests.iter().filter(|row| !row.warmup).map(|row| row.timing).collect()
}

/// The cell's median decode rate; `None` if it is not shown.
fn decode(summary: &Value) -> Option<f64> {
    summary["cells"][0]["metrics"]["decode_tps"]["median"].as_f64()
}

#[test]
fn a_host_whose_tokens_arrive_as_stamped_is_verified() {
    let (record, summary) = measured(&Lab::new(), &[], &[0]);
    assert_eq!(grades(&record), [Some(Timing::Verified); 2]);
    assert!(decode(&summary).is_some_and(|rate| rate < 50.0), "{summary}");
}

/// As a user's are checked. A busy machine may spoil some iterations, but not all of them.
#[test]
fn an_honest_host_is_verified_without_patience_too() {
    let honest = || {
        let (record, _) = measured(&Lab::strict(), &[], &[0, 4]);
        let mut rows = record.requests.into_iter().filter(|row| !row.warmup);
        rows.any(|row| (row.status, row.timing) == (Status::Ok, Some(Timing::Verified)))
    };
    assert!((0..5).any(|_| honest()));
}

#[test]
fn a_host_that_stamps_all_tokens_at_the_end_has_no_decode_rate() {
    let (record, summary) = measured(&Lab::strict(), &["--at-once"], &[0, 4]);
    // Inexact. On a busy machine they are claimed, and an iteration can be late.
    assert!(grades(&record).into_iter().all(|grade| grade.is_some_and(|grade| grade != Timing::Verified)));
    let claimed = record.requests.iter().filter(|row| !row.warmup).filter_map(|row| row.decode_tps);
    assert!(claimed.into_iter().all(|rate| rate > 500_000.0), "this is what it claims");
    assert_eq!(decode(&summary), None);
    assert_ne!(summary["cells"][0]["timing"], "verified");
    let whole = summary["cells"][0]["metrics"]["e2e_ms"]["median"].as_f64().unwrap();
    assert!(whole >= 400.0, "the harness sees the whole request: {whole}");
}

#[test]
fn a_host_that_cannot_send_its_tokens_only_claims_their_times() {
    let lab = Lab::new();
    let (record, summary) = measured(&lab, &["--no-stream"], &[0]);
    assert_eq!(grades(&record), [Some(Timing::Claimed); 2]);
    assert_eq!(decode(&summary), None);
    let why = record.manifest.warnings.iter().find(|told| told.starts_with("engine `adapter`"));
    insta::assert_snapshot!(why.unwrap(), @r#"engine `adapter`: its token times are claimed, because it cannot send tokens as they become readable (capability `stream`)"#);
}

#[test]
fn a_host_that_is_honest_only_while_it_is_watched_is_invalid() {
    let (record, summary) = measured(&Lab::strict(), &["--late-first"], &[4]);
    let rows: Vec<_> = record.requests.iter().filter(|row| !row.warmup).collect();
    assert!(rows.iter().all(|row| row.status == Status::Invalid && row.cause == Some(Cause::LateStamps)), "{rows:?}");
    assert_eq!(decode(&summary), None);
}

#[test]
fn a_check_of_an_engine_finds_tokens_that_come_together() {
    let lab = Lab::strict();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/engine.py");
    let check = |arguments: &[&str], exit| {
        let host = ["--format", "json", "--only", "tokens arrive", "--", "python3", script, "--token-ms", "20"];
        let done = lab.run(&[&["engines", "check"], &host[..], arguments].concat()).expect(exit);
        let checks: Value = serde_json::from_str(&done.stdout).unwrap();
        checks[0]["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(check(&[], 0), "passed");
    assert_eq!(check(&["--no-stream"], 0), "skipped");
    assert_eq!(check(&["--at-once"], 1), "failed");
}
