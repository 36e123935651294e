//! The profiled pass of a session: it comes after the verdict, takes both sides in turn, resumes
//! after a kill, and does not affect the verdict.

use inferometer::record::ab::AbRecord;
use inferometer::record::{FinishState, ProfiledIteration, RequestRow};
use inferometer::spec::Side;

use super::{MEMORY, NO_PILOT, folder, judged, record, session, simulated, told};
use crate::lab::{Lab, until};

const PROFILE: &str = "[profile]\niterations = 3\n";

/// The side of each profiled iteration in the order they were run.
fn turns(record: &AbRecord) -> Vec<(Side, u32)> {
    let of = |side: Side, rows: &[RequestRow], origin: &str| -> Vec<(i128, Side, u32)> {
        let origin: jiff::Timestamp = origin.parse().unwrap();
        let begin = |row: &RequestRow| origin.as_nanosecond() + i128::from(row.start_ns);
        rows.iter().map(|row| (begin(row), side, row.iteration)).collect()
    };
    let a = of(Side::A, &record.a.profile.requests, &record.a.manifest.origin_utc);
    let b = of(Side::B, &record.b.profile.requests, &record.b.manifest.origin_utc);
    let mut all = [a, b].concat();
    all.sort_unstable_by_key(|(begin, ..)| *begin);
    all.into_iter().map(|(_, side, iteration)| (side, iteration)).collect()
}

const WANTED: [(Side, u32); 6] = [(Side::A, 1), (Side::B, 1), (Side::B, 2), (Side::A, 2), (Side::A, 3), (Side::B, 3)];

#[test]
fn both_sides_are_profiled_in_turn_after_the_verdict() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[("quick", "a_ms = 1")], &format!("{NO_PILOT}{PROFILE}{MEMORY}"));
    let (done, record) = session(&lab, &scenario, &["--same"], 0);
    assert_eq!(turns(&record), WANTED);
    let last_pair = record.b.requests.iter().filter(|row| !row.warmup).map(|row| row.end_ns).max().unwrap();
    assert!(record.b.profile.requests.iter().all(|row| row.start_ns > last_pair), "after the pairs");
    // The simulated engine has no profiler, which is reported and has no other effect.
    let cell = &told(&done)["profiles"][0];
    let has = |one: &ProfiledIteration| one.profile.is_some();
    if !record.a.profile.iterations.iter().any(has) {
        assert!(cell["remark"].is_string() && cell["phases"] == serde_json::json!([]), "{cell}");
    }
    assert_eq!(record.manifest.state, FinishState::Finished);
}

#[test]
fn a_session_killed_while_it_is_profiled_goes_on_with_what_is_missing() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[("quick", "a_ms = 30")], &format!("{NO_PILOT}{MEMORY}"));
    let mut child = lab.program(&["ab", scenario.to_str().unwrap(), "--same", "--profile"]).spawn().unwrap();
    let profiled = || {
        let sessions = fs_err::read_dir(lab.path("results")).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut files = sessions.map(|session| session.join("a/profile/iterations.jsonl"));
        files.any(|file| fs_err::read_to_string(file).is_ok_and(|text| text.contains('\n')))
    };
    let begun = until("side A is profiled or the session ends", || match child.try_wait().unwrap() {
        Some(_) => Some(false),
        None => profiled().then_some(true),
    });
    let _ = child.kill();
    child.wait().unwrap();
    assert!(begun, "it is killed in the pass");
    let before = record(&lab);
    let verdict = judged(&before).verdict;
    let done = lab.run(&["ab", "--resume", folder(&lab).to_str().unwrap(), "--no-report"]);
    let after = record(&lab);
    assert_eq!((after.manifest.state, after.pairs.len()), (FinishState::Finished, before.pairs.len()));
    assert_eq!(judged(&after).verdict, verdict);
    done.expect(verdict.exit_code().into());
    let kept = before.a.profile.iterations.len();
    assert_eq!(after.a.profile.iterations[..kept], before.a.profile.iterations, "what was committed stays");
    let mut all = turns(&after);
    all.sort_unstable_by_key(|(side, iteration)| (*side as usize, *iteration));
    let wanted: Vec<(Side, u32)> = Side::BOTH.into_iter().flat_map(|side| (1..=3).map(move |i| (side, i))).collect();
    assert_eq!(all, wanted, "each once");
}

/// An engine that fails after its pairs: verdict and exit code stay the same.
#[test]
fn what_fails_in_the_pass_changes_no_verdict() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[("quick", "a_ms = 1")], &format!("{NO_PILOT}{PROFILE}{MEMORY}"));
    session(&lab, &scenario, &["--same"], 0);
    let dir = folder(&lab);
    // Makes the pass fail: its folder is a file, so that nothing can be written there.
    for side in ["a", "b"] {
        fs_err::remove_dir_all(dir.join(side).join("profile")).unwrap();
        let path = dir.join(side).join("run.json");
        let text = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, text.replacen("\"state\": \"finished\"", "\"state\": \"running\"", 1)).unwrap();
    }
    let path = dir.join("ab.json");
    let text = fs_err::read_to_string(&path).unwrap();
    fs_err::write(&path, text.replacen("\"state\": \"finished\"", "\"state\": \"running\"", 1)).unwrap();
    fs_err::write(dir.join("a/profile"), "in the way").unwrap();
    lab.run(&["ab", "--resume", dir.to_str().unwrap(), "--no-report"]).expect(0);
}
