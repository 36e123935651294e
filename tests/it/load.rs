//! `[load]`: many requests at the same time, in closed and in open loops.

use std::collections::BTreeSet;
use std::path::PathBuf;

use inferometer::record::metric::PEAK_MEMORY;
use inferometer::record::{Cause, FinishState, Status};
use inferometer::report::summary::{Determinism, Summary};

use crate::lab::{Lab, measured};

/// A system measures one of several kinds.
fn has_peak_memory(summary: &Summary) -> bool {
    PEAK_MEMORY.iter().any(|key| summary.cells[0].metric(key).is_some())
}

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
        assert!(row.intended_ns.unwrap() <= row.start_ns, "a session sends as soon as it is free");
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
    assert!(has_peak_memory(&summary) && summary.cells[0].metric("cpu_ms_per_token").is_none());
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
fn arrivals_are_the_same_in_every_cell_and_other_ones_in_each_iteration() {
    let lab = Lab::new();
    lab.measure(&scenario(&lab, "rates_per_s = [50, 25]\nrequests = 10\nseed = 3\n", ""), &[]).expect(0);
    let record = lab.record();
    let gaps = |cell: u32, iteration: u32| -> Vec<u64> {
        let of = measured(&record).into_iter().filter(|row| (row.cell, row.iteration) == (cell, iteration));
        let at: Vec<u64> = of.map(|row| row.intended_ns.unwrap()).collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    assert_ne!(gaps(0, 1), gaps(0, 2));
    for (quick, slow) in gaps(0, 1).iter().zip(gaps(1, 1)) {
        assert!((2 * quick).abs_diff(slow) <= 4, "half the rate, twice the gap: {quick} {slow}");
    }
    assert!(gaps(0, 1).iter().collect::<BTreeSet<_>>().len() > 5, "random: {:?}", gaps(0, 1));
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
    // A rate is over the time of all requests, failed ones included.
    let rate = |iteration: u32| {
        let of = || rows.iter().filter(|row| row.iteration == iteration);
        let began = of().filter_map(|row| row.intended_ns).min().unwrap();
        let ended = of().map(|row| row.end_ns).max().unwrap();
        of().filter(|row| row.status == Status::Ok).count() as f64 / ((ended - began) as f64 / 1e9)
    };
    let shown = summary.cells[0].metric("requests_per_s").unwrap();
    assert!((shown.min - rate(1).min(rate(2))).abs() < 1e-9 && (shown.max - rate(1).max(rate(2))).abs() < 1e-9);
    assert!(done.stdout.contains(&format!("{} of 60 requests failed", failed.len())), "{}", done.stdout);
    assert!(has_peak_memory(&summary));
    assert_eq!(record.manifest.state, FinishState::Finished);
}

/// Two runs of the same engine: nothing differs, and each level is compared with itself.
#[test]
fn runs_under_load_are_compared_level_by_level() {
    let lab = Lab::new();
    let options = ", fault = \"error\", fault_percent = 10.0, seed = 5";
    lab.measure(&scenario(&lab, "sessions = [1, 3]\nrequests = 12\n", options), &["--set", "run.warmup=0"]);
    lab.measure(&scenario(&lab, "sessions = [3, 5]\nrequests = 12\n", ", seed = 5"), &["--set", "run.warmup=0"])
        .expect(0);
    let mut runs: Vec<String> = fs_err::read_dir(lab.path("results"))
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    runs.sort();
    let done = lab.run(&["compare", &runs[0], &runs[1]]).expect(0);
    assert!(!done.stdout.contains("OUTPUTS DIFFER"), "{}", done.stdout);
    for told in ["only in A: sessions=1", "only in B: sessions=5", "Requests 1/s", "E2E p95 ms"] {
        assert!(done.stdout.contains(told), "{}", done.stdout);
    }
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
