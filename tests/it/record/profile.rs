//! The profiled pass in the record: committed by line, read back, never among the timed rows.

use inferometer::record::{Iteration, ProfileStore, ProfiledIteration, Store, read};
use inferometer_protocol::{Phase, PhaseAllocations, Profile, ProfilePart, ProfileStack, SampleClock, SpanTiming};

use super::{iteration, manifest};

fn rows(first: u64, turns: u64) -> Iteration {
    Iteration { telemetry: Vec::new(), ..iteration(first, turns) }
}

fn profile() -> Profile {
    let stack = ProfileStack { thread: "main".to_owned(), frames: vec![0, 1], count: 3 };
    Profile {
        profiler: "pprof".to_owned(),
        clock: SampleClock::Cpu,
        frequency_hz: 997,
        functions: vec!["outer".to_owned(), "a::b<c, \"d\">".to_owned()],
        parts: vec![ProfilePart { phase: Some(Phase::Decode), duration_ns: 7, cpu_ns: Some(5), stacks: vec![stack] }],
    }
}

fn profiled(request: u64) -> ProfiledIteration {
    ProfiledIteration {
        cell: 0,
        iteration: 1,
        request,
        host: 0,
        prefill_tokens: 16,
        generated_tokens: 3,
        span_timing: Some(SpanTiming::Submit),
        allocations: vec![PhaseAllocations { phase: Phase::Decode, allocations: 2, bytes: 64 }],
        profile: Some(profile()),
        missing: None,
    }
}

#[test]
fn what_the_pass_commits_is_read_back_beside_the_timed_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create(dir.path(), manifest()).unwrap();
    store.commit(&iteration(0, 1)).unwrap();
    assert_eq!(read(store.dir()).unwrap().profile, Default::default(), "a run without a pass");
    let mut pass = ProfileStore::open(store.dir()).unwrap();
    assert_eq!(read(store.dir()).unwrap().profile, Default::default(), "a pass that has begun");
    pass.commit(&rows(1, 2), &profiled(1)).unwrap();
    pass.commit(&rows(3, 1), &ProfiledIteration { profile: None, missing: Some("none".to_owned()), ..profiled(3) })
        .unwrap();
    assert!(pass.commit(&rows(2, 1), &profiled(2)).is_err(), "requests rise");
    let record = read(store.dir()).unwrap();
    assert_eq!(record.requests.len(), 1);
    let found = record.profile;
    assert_eq!(found.requests.iter().map(|row| row.request).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((found.tokens.len(), found.spans.len()), (9, 6));
    assert_eq!(found.iterations[0], profiled(1));
    assert_eq!(found.iterations[1].missing.as_deref(), Some("none"));
    // A warm-up in a fresh host of the pass is stored with the others, numbered after the requests
    // of the pass.
    store.commit(&iteration(4, 1)).unwrap();
    assert_eq!(read(store.dir()).unwrap().requests.len(), 2);
}

/// Whichever part of an iteration reached the disk, the iteration exists with its line or not at
/// all, and the next one can be appended.
#[test]
fn a_kill_costs_the_iteration_in_flight_and_no_other() {
    let line = serde_json::to_string(&profiled(1)).unwrap();
    for torn in [&b""[..], &line.as_bytes()[..line.len() / 2], line.as_bytes()] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path(), manifest()).unwrap();
        let mut pass = ProfileStore::open(store.dir()).unwrap();
        pass.commit(&rows(1, 1), &profiled(1)).unwrap();
        pass.commit(&rows(2, 1), &profiled(2)).unwrap();
        drop(pass);
        let file = store.dir().join("profile/iterations.jsonl");
        let mut text = fs_err::read(&file).unwrap();
        text.truncate(text.len() / 2);
        assert_eq!(text.last(), Some(&b'\n'));
        text.extend(torn);
        fs_err::write(&file, &text).unwrap();
        let numbers = || read(store.dir()).unwrap().profile.requests.iter().map(|row| row.request).collect::<Vec<_>>();
        assert_eq!(numbers(), [1]);
        let mut pass = ProfileStore::open(store.dir()).unwrap();
        pass.commit(&rows(5, 1), &profiled(5)).unwrap();
        assert_eq!(numbers(), [1, 5]);
    }
}

#[test]
fn a_profile_that_does_not_fit_together_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path(), manifest()).unwrap();
    let mut pass = ProfileStore::open(store.dir()).unwrap();
    let mut bad = profiled(1);
    bad.profile.as_mut().unwrap().parts[0].stacks[0].frames.push(2);
    pass.commit(&rows(1, 1), &bad).unwrap();
    let error = read(store.dir()).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(store.dir().to_str().unwrap(), "[RUN]"), @r#"[RUN]/profile/iterations.jsonl, line 1: a stack names function 2, but there are only 2"#);
}
