//! `[load]`: many requests at the same time, in closed and in open loops.

use std::collections::BTreeSet;
use std::path::PathBuf;

use inferometer::record::{Cause, FinishState, Status};
use inferometer::report::summary::{Determinism, Summary};

use crate::lab::{Lab, measured};

/// Requests to the simulated engine, which computes one at a time: 2 ms of prefill and 1 ms a
/// token.
fn scenario(lab: &Lab, load: &str, options: &str) -> PathBuf {
    let text = format!(
        "name = \"load\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\" }}\n[[engine]]\nname = \"simulated\"\n\
         options = {{ a_ms = 2.0, c_ms = 1.0{options} }}\n[workload]\nkind = \"prompt\"\ntext = \"one two three\"\n\
         max_tokens = 9\nignore_eos = true\n[run]\niterations = 2\nexternal_causes = \"warn\"\n[load]\n{load}"
    );
    lab.write("load.toml", text)
}

/// One request takes about 11 ms, so that four sessions wait for each other and one does not.
#[test]
fn sessions_of_a_closed_loop_wait_for_each_other() {
    let lab = Lab::new();
    lab.measure(&scenario(&lab, "sessions = [1, 4]\nrequests = 12\nlimit_e2e_ms = 60000\n", ""), &[]).expect(0);
    let record = lab.record();
    let rows = measured(&record);
    assert_eq!(rows.len(), 2 * 2 * 12);
    for row in &rows {
        assert_eq!((row.status, row.generated_tokens, row.good), (Status::Ok, Some(9), Some(true)), "{}", row.reason);
        assert_eq!(row.intended_ns, Some(row.start_ns), "a session sends as soon as it is free");
        assert!(row.queue_ms.unwrap() >= row.late_ms.unwrap());
    }
    // As many are running as there are sessions, and never more.
    for (cell, sessions) in [(0, 1), (1, 4)] {
        let of: Vec<_> = rows.iter().filter(|row| row.cell == cell && row.iteration == 1).collect();
        let beside = |at: u64| of.iter().filter(|row| row.start_ns <= at && at < row.end_ns).count();
        let most = of.iter().map(|row| beside(row.start_ns)).max();
        assert_eq!(most, Some(sessions), "cell {cell}");
    }
    let summary = Summary::of(&record);
    let of = |cell: usize, key: &str| summary.cells[cell].metric(key).unwrap().median;
    assert!(of(1, "e2e_p50_ms") > 2.0 * of(0, "e2e_p50_ms"), "they wait");
    assert!(of(1, "requests_per_s") < 1.5 * of(0, "requests_per_s"), "and bring no more requests");
    assert_eq!(of(0, "good_per_s"), of(0, "requests_per_s"));
    assert!(of(1, "queue_p50_ms") > of(0, "queue_p50_ms"));
    assert!(summary.cells.iter().all(|cell| cell.determinism == Determinism::Deterministic));
    // Other runs have none of these.
    assert!(
        summary.cells[0].metric("peak_rss_bytes").is_some() && summary.cells[0].metric("cpu_ms_per_token").is_none()
    );
}

/// Sixty requests come in a second, and about eighty could be answered: a busy machine answers
/// less. Two hundred a second are too many on any machine.
#[test]
fn an_open_loop_counts_from_the_intended_start() {
    let lab = Lab::new();
    let load = "rates_per_s = [200]\narrivals = \"constant\"\nrequests = 40\n";
    let done = lab.measure(&scenario(&lab, load, ""), &[]).expect(0);
    let record = lab.record();
    let rows: Vec<_> = measured(&record).into_iter().filter(|row| row.iteration == 2).collect();
    let first = rows[0].intended_ns.unwrap();
    for (n, row) in rows.iter().enumerate() {
        // Whether earlier requests are answered or not.
        assert_eq!(row.intended_ns.unwrap() - first, n as u64 * 5_000_000);
        assert!(row.start_ns >= row.intended_ns.unwrap());
    }
    let summary = Summary::of(&record);
    let traffic = summary.cells[0].traffic.as_ref().unwrap();
    assert_eq!((traffic.requests, traffic.failed), (80, 0));
    // Every second brings 200 requests and answers at most 91 of them.
    assert!(traffic.grows_ms_per_s.unwrap() > 500.0, "{traffic:?}");
    let (first, last) = (&rows[0], &rows[39]);
    assert!(last.since_start(last.e2e_ms).unwrap() > 5.0 * first.since_start(first.e2e_ms).unwrap());
    assert!(done.stdout.contains("rate=200/s: the engine does not keep up: a request takes"), "{}", done.stdout);
}

#[test]
fn arrivals_are_the_same_in_every_iteration() {
    let lab = Lab::new();
    lab.measure(&scenario(&lab, "rates_per_s = [50]\nrequests = 10\nseed = 3\n", ""), &[]).expect(0);
    let record = lab.record();
    let gaps = |iteration: u32| -> Vec<u64> {
        let rows = measured(&record);
        let at: Vec<u64> = rows.iter().filter(|r| r.iteration == iteration).map(|r| r.intended_ns.unwrap()).collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    assert_eq!(gaps(1), gaps(2));
    assert!(gaps(1).iter().collect::<BTreeSet<_>>().len() > 5, "random: {:?}", gaps(1));
}

/// A request that fails is a row; the others count.
#[test]
fn a_failed_request_is_a_row_of_its_iteration() {
    let lab = Lab::new();
    let options = ", fault = \"error\", fault_percent = 20.0, seed = 5";
    let done = lab.measure(&scenario(&lab, "sessions = [3]\nrequests = 30\n", options), &["--set", "run.warmup=0"]);
    let record = lab.record();
    let rows = measured(&record);
    assert_eq!(rows.len(), 60, "{}", done.stderr);
    let failed: Vec<_> = rows.iter().filter(|row| row.status == Status::Failed).collect();
    assert!((1..30).contains(&failed.len()), "{}", failed.len());
    assert!(failed.iter().all(|row| row.cause == Some(Cause::EngineError) && row.intended_ns.is_some()));
    let summary = Summary::of(&record);
    assert_eq!(summary.cells[0].counts.ok, 2, "the iterations are valid");
    assert_eq!(summary.cells[0].traffic.as_ref().unwrap().failed, failed.len());
    assert_eq!(record.manifest.state, FinishState::Finished);
}

/// A host that dies takes its requests with it; the next iteration has a new one.
#[test]
fn a_crash_under_load_loses_its_iteration_and_no_more() {
    let lab = Lab::new();
    // Each session counts its own requests.
    let options = ", fault = \"crash\", fault_at = 5";
    lab.measure(&scenario(&lab, "sessions = [2]\nrequests = 12\n", options), &["--set", "run.iterations=3"]).expect(1);
    let record = lab.record();
    let rows = measured(&record);
    assert_eq!(rows.len(), 36);
    for iteration in rows.chunks(12) {
        let died = iteration.iter().filter(|row| row.cause == Some(Cause::Died)).count();
        assert!(died == 0 || died == 12, "what was answered before the crash does not count: {died}");
    }
    assert!(rows.iter().any(|row| row.cause == Some(Cause::Died)));
    let numbers: BTreeSet<u64> = rows.iter().map(|row| row.request).collect();
    assert_eq!(numbers.len(), 36, "each request is there once");
}

#[test]
fn what_cannot_be_loaded_is_refused() {
    let lab = Lab::new();
    let most = scenario(&lab, "sessions = [300]\n", "");
    lab.measure(&most, &[]).expect(2).says("`[load]` with 300 at the same time (capability `concurrent`: 256)");
    let adapter = fs_err::read_to_string(&most).unwrap();
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/minimal_adapter.py");
    let adapter = adapter.replace("[300]", "[1]").replace(
        "name = \"simulated\"\noptions = { a_ms = 2.0, c_ms = 1.0 }",
        &format!("name = \"exec\"\noptions = {{ command = [\"python3\", {python:?}] }}"),
    );
    let path = lab.write("adapter.toml", adapter);
    lab.measure(&path, &[]).expect(2).says("(capability `concurrent`: 0)");
    let path = most.to_str().unwrap();
    lab.run(&["ab", path, "--same"]).expect(2).says("an A/B session cannot measure under `[load]`");
    for (load, told) in [
        ("requests = 5\n", "[load] needs `sessions` or `rates_per_s`"),
        ("sessions = [1]\narrivals = \"constant\"\n", "`arrivals` has no effect without `rates_per_s`"),
        ("rates_per_s = [0]\n", "must be numbers above 0"),
        ("sessions = [1]\n[profile]\n", "`[load]` cannot be used with a profiling pass"),
    ] {
        lab.measure(&scenario(&lab, load, ""), &[]).expect(2).says(told);
    }
}
