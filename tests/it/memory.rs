//! Memory that oscillates or leaks, and memory that the engine reports: the whole program with an
//! engine that follows a script.

use std::path::PathBuf;

use inferometer::record;
use inferometer::record::Record;
use inferometer::report::summary::leaks::Verdict;
use inferometer::report::summary::oscillation::{FallCause, Part};
use inferometer::report::summary::{GaugeOscillation, Summary};
use inferometer::telemetry::lacking;

use crate::lab::{Lab, elements, section};

/// The memory gauge of a run where nothing is wired and no GPU is used.
fn of_process() -> &'static str {
    if lacking::macos() { "footprint_bytes" } else { "rss_bytes" }
}

const MIB: f64 = 1_048_576.0;

/// Runs `tests/fixtures/memory.py` with one iteration of `tokens` tokens; gauges are sampled every
/// 10 ms.
fn run(lab: &Lab, arguments: &[&str], tokens: u32, groups: &str) -> Record {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/memory.py");
    let mut command = vec!["python3".to_owned(), script.display().to_string()];
    command.extend(arguments.iter().map(|a| (*a).to_owned()));
    let scenario = format!(
        "name = \"memory\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\", seed = 1 }}\n[[engine]]\nname = \"exec\"\n\
         options = {{ command = {command:?} }}\n[workload]\nkind = \"prompt\"\ntext = \"one two three\"\nlengths = [4]\n\
         max_tokens = {tokens}\nignore_eos = true\n[run]\niterations = 1\n[telemetry]\ninterval_ms = 10\ngauges = {groups}\n"
    );
    lab.measure(&lab.write("scenario.toml", scenario), &[]).expect(0);
    record::read(&lab.run_folder().unwrap()).unwrap()
}

fn gauge<'a>(summary: &'a Summary, name: &str) -> &'a GaugeOscillation {
    summary.memory.iter().find(|one| one.gauge == name).unwrap_or_else(|| panic!("{name}: {:?}", summary.memory))
}

/// 256 MiB held in the second half of each of five periods; the engine reports a cache clear when
/// it frees them.
#[test]
fn memory_held_five_times_has_five_cycles_of_its_size_and_their_cause() {
    let lab = Lab::new();
    let record = run(&lab, &["--mib", "256", "--period-s", "0.6", "--clear"], 61, r#"["memory"]"#);
    let row = record.requests.iter().find(|row| !row.warmup).unwrap();
    assert_eq!(row.memory_cycles, Some(5));
    for (what, bytes, want) in
        [("swing", row.memory_swing_bytes, 256.0), ("reclaimed", row.memory_reclaimed_bytes, 5.0 * 256.0)]
    {
        let mib = bytes.unwrap() as f64 / MIB;
        assert!((mib - want).abs() < 0.02 * want, "{what}: {mib} MiB");
    }
    let summary = Summary::of(&record);
    let metric = |key: &str| summary.cells[0].metric(key).unwrap().median;
    assert_eq!(metric("memory_cycles"), 5.0);
    let rss = gauge(&summary, of_process());
    assert_eq!(summary.memory[0], *rss, "the memory gauge where nothing is wired and no GPU used");
    assert_eq!((rss.idle_samples, rss.jitter_bytes), (0, None), "a process has no memory before it begins");
    let cell = &rss.cells[&0];
    assert_eq!(cell.counted.cycles, 5);
    let a_minute = cell.counted.per_minute.unwrap();
    assert!((a_minute * cell.duration_s / 60.0 - 5.0).abs() < 1e-6 && a_minute > 0.0, "{a_minute}");
    assert_eq!(rss.falls.len(), 6, "the warm-up's among them");
    let clear = rss.causes.iter().find(|one| one.cause == FallCause::CacheClear).unwrap();
    assert!(clear.falls >= 4 && clear.share.unwrap() > 0.75, "{:?}", rss.causes);
    assert!(clear.time_share < 0.4, "not because everything is a clear: {:?}", rss.causes);
    assert_eq!(rss.phases[&Part::Decode].counted.cycles, 6, "held and freed while it decoded, in the warm-up too");
    if lacking::leaves_out("the page of a run whose only memory gauge is rss_bytes") {
        return;
    }
    let page = {
        let reports = lab.path("reports");
        let page = inferometer::report::write(&record, &reports).unwrap();
        fs_err::read_to_string(page).unwrap()
    };
    let shown = section(&page, "oscillation");
    insta::assert_snapshot!(elements(shown, "h3").join("\n"), @r#"rss_bytes – the memory gauge of this run: it carries the figures of iterations"#);
    insta::assert_snapshot!(elements(shown, "thead").join("\n"), @r#"
    Stretch Cycles a minute p95 Largest Reclaimed Churn Highest Plateau Slope a minute At 1, 2, 5 % Resolution h
    While memory fell Falls Bytes Share of bytes Share of time
    "#);
    let causes = elements(shown, "tr");
    assert!(causes.iter().any(|row| row.starts_with("cache clear ")), "{causes:#?}");
}

/// Memory that is freed without a report is attributed to the phase.
#[test]
fn falls_nobody_explains_are_the_phase_s() {
    let lab = Lab::new();
    let record = run(&lab, &["--mib", "128", "--period-s", "0.6"], 37, r#"["memory"]"#);
    let summary = Summary::of(&record);
    let rss = gauge(&summary, "rss_bytes");
    assert_eq!(rss.cells[&0].counted.cycles, 3);
    let decode = rss.causes.iter().find(|one| one.cause == FallCause::Decode).unwrap();
    assert!(decode.falls >= 2 && decode.share.unwrap() > 0.6, "{:?}", rss.causes);
    assert!(rss.causes.iter().all(|one| one.cause != FallCause::CacheClear));
}

/// A leak of 32 MiB per second, and the engine's own figures in separate rows.
#[test]
fn a_leak_has_its_slope_and_no_cycle() {
    let lab = Lab::new();
    let record = run(&lab, &["--leak-mib-per-s", "32", "--say"], 50, r#"["memory"]"#);
    let summary = Summary::of(&record);
    for name in ["rss_bytes", "engine_active_bytes"] {
        let found = gauge(&summary, name);
        let cell = &found.cells[&0];
        let slope = found.run.plateau.unwrap().slope_bytes_per_s.unwrap() / MIB;
        assert!((slope - 32.0).abs() < 3.2, "{name}: {slope} MiB/s");
        assert_eq!((cell.counted.cycles, cell.reclaimed_bytes), (0, 0.0), "{name}");
    }
    let column = |name: &str| record.manifest.gauges.iter().position(|gauge| gauge.name == name).unwrap();
    let (rss, active) = (column("rss_bytes"), column("engine_active_bytes"));
    assert!(record.telemetry.is_sorted_by_key(|row| row.t_ns));
    let own = record.telemetry.iter().filter(|row| row.values[active].is_some()).count();
    assert!(own >= 50, "one a token: {own}");
    assert!(record.telemetry.iter().all(|row| row.values[active].is_none() || row.values[rss].is_none()));
    let absent = |name: &str| record.manifest.gauges[column(name)].absent.clone();
    assert_eq!(absent("engine_active_bytes"), None);
    insta::assert_snapshot!(absent("engine_peak_bytes").expect("it never reported"), @r#"the engine does not report its memory during generation"#);
}

/// A scenario that loads a model `loads` times in one host.
fn loads(lab: &Lab, loads: u32, engine: &str) -> Record {
    let scenario = format!(
        "name = \"leak\"\n[model]\npath = \".\"\n[[engine]]\n{engine}\n[workload]\ntext = \"one two three\"\n\
         max_tokens = 3\nignore_eos = true\n[run]\nisolation = \"load\"\niterations = {loads}\nexternal_causes = \"warn\"\n"
    );
    lab.measure(&lab.write("scenario.toml", scenario), &[]).expect(0);
    record::read(&lab.run_folder().unwrap()).unwrap()
}

/// A megabyte a load is found; the same engine without it leaks nothing that matters.
#[test]
fn a_model_that_is_loaded_again_and_again_is_called_leaking_when_it_leaks() {
    for (mib, verdict) in [(1, Verdict::Leaks), (0, Verdict::NoLeak)] {
        let lab = Lab::new();
        let options = format!("name = \"simulated\"\noptions = {{ a_ms = 0.2, leak_mib_per_load = {mib} }}");
        let record = loads(&lab, 20, &options);
        assert_eq!(record.manifest.hosts.len(), 1, "all loads are of one process");
        let measured: Vec<_> = record.requests.iter().filter(|row| !row.warmup).collect();
        assert!(measured.iter().all(|row| row.unloaded_bytes.is_some()) && measured.len() == 20);
        assert_eq!(record.requests.iter().filter(|row| row.load_s.is_some()).count(), 20, "each load has its time");
        let summary = Summary::of(&record);
        assert_eq!(summary.cells[0].metric("load_s").unwrap().n, 20);
        let [leak] = summary.leaks.as_slice() else { panic!("{:?}", summary.leaks) };
        assert_eq!((leak.verdict, leak.loads, leak.left_out), (verdict, 20, 4), "{leak:?}");
        let growth = leak.growth.unwrap();
        assert!((growth.bytes / MIB - f64::from(mib)).abs() < 0.06, "{leak:?}");
        let said = inferometer::report::terminal::render(&summary);
        let words = if mib == 0 { "no leak: memory after unloading grows by at most" } else { "leaks memory when it" };
        assert!(said.replace("\n  ", " ").contains(words), "{said}");
    }
}

/// An engine without the capability is refused before anything is measured.
#[test]
fn an_engine_that_cannot_unload_is_refused() {
    let lab = Lab::new();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/memory.py");
    let engine =
        format!("name = \"exec\"\noptions = {{ command = [\"python3\", {:?}] }}", script.display().to_string());
    let scenario = format!(
        "name = \"leak\"\n[model]\npath = \".\"\n[[engine]]\n{engine}\n[workload]\ntext = \"one\"\nmax_tokens = 3\n\
         [run]\nisolation = \"load\"\niterations = 2\n"
    );
    let done = lab.measure(&lab.write("scenario.toml", scenario), &[]);
    assert!(done.stderr.contains("(capability `unload`)"), "{}", done.stderr);
}
