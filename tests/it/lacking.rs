//! The program with no more than what macOS shows (`INFEROMETER_LACKING=macos`): no high-water
//! mark, no gauge that only `/proc` has, no counters. What a Mac would do, as far as Linux can show
//! it.

use std::path::Path;

use inferometer::compare::ab::{Evidence, judge};
use inferometer::record::{LoadCheck, Status, ab};
use inferometer::spec::{GateMetric, GaugeInfo};

use crate::lab::{Done, Lab, measured};

fn run(lab: &Lab, arguments: &[&str]) -> Done {
    lab.done(lab.program(arguments).env("INFEROMETER_LACKING", "macos").output().unwrap())
}

#[test]
fn gauges_of_linux_alone_are_absent_with_the_reason() {
    let lab = Lab::new();
    let listed: Vec<GaugeInfo> =
        serde_json::from_str(&run(&lab, &["gauges", "--format", "json"]).expect(0).stdout).unwrap();
    let of = |name: &str| listed.iter().find(|gauge| gauge.name == name).unwrap();
    for name in ["rss_anon_bytes", "pss_bytes", "steal_percent", "involuntary_switches_per_s"] {
        assert!(of(name).absent.as_ref().unwrap().contains("macOS does not have it"), "{:?}", of(name));
    }
    for name in ["rss_bytes", "footprint_bytes", "process_cpu_percent"] {
        assert_eq!(of(name).absent, None, "{name}");
    }
    let doctor = run(&lab, &["doctor", "--format", "json"]).expect(0).stdout;
    assert!(doctor.contains("a high-water mark of memory (macOS does not have it"), "{doctor}");
}

#[test]
fn peak_memory_is_the_sampled_footprint_and_called_so() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "10"], "[run]\niterations = 2\n[telemetry]\ninterval_ms = 10\n");
    let done = run(&lab, &["run", scenario.to_str().unwrap(), "--no-report"]).expect(0);
    assert!(done.stdout.contains("sampled"), "the table names its figure:\n{}", done.stdout);
    let record = lab.record();
    for row in measured(&record) {
        assert_eq!((row.status, row.peak_rss_bytes, row.peak_footprint_bytes), (Status::Ok, None, None));
        assert!(row.peak_sampled_bytes.unwrap() > 1 << 20, "{row:?}");
        assert_eq!((row.cpu_instructions, row.cpu_cycles), (None, None));
        assert!(row.cpu_ms.is_some());
        assert_eq!((row.run_queue_ms, row.load_check), (None, Some(LoadCheck::Unjudged)));
    }
    let column = |name: &str| record.manifest.gauges.iter().position(|gauge| gauge.name == name).unwrap();
    assert!(record.telemetry.iter().any(|row| row.values[column("footprint_bytes")].is_some()));
    assert!(record.telemetry.iter().all(|row| row.values[column("rss_anon_bytes")].is_none()));
}

/// The gate that this project ships, on less work: it demands peak memory, and must reach a
/// verdict.
#[test]
fn the_shipped_gate_reaches_a_verdict() {
    let lab = Lab::new();
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/gate.toml");
    let small = ["model.synthetic.preset=tiny", "workload.lengths=[16]", "workload.max_tokens=8", "ab.pilot=0"];
    let quiet = ["run.external_causes=warn", "gate.0.delta=90%", "gate.1.delta=90%", "gate.2.delta=90%"];
    let sets = small.into_iter().chain(quiet).flat_map(|set| ["--set", set]);
    let words = ["gate", scenario.to_str().unwrap(), "--same", "--no-report"];
    let arguments: Vec<&str> = words.into_iter().chain(sets).collect();
    let done = run(&lab, &arguments);
    assert!(matches!(done.code, Some(0 | 3)), "exit {:?}\n{}\n{}", done.code, done.stdout, done.stderr);
    let folder = fs_err::read_dir(lab.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folder.into_iter().find(|path| ab::is_session(path)).expect("a session");
    let record = ab::read(&folder).unwrap();
    let judgement = judge(&Evidence::of(&record));
    let memory = judgement.gates.iter().find(|gate| gate.metric() == GateMetric::PeakMemory).expect("its third gate");
    assert_eq!(memory.compared_by, Some("peak_sampled_bytes"));
    assert_eq!(memory.not_measured, None);
}

/// A stand-in for macOS's `sample`: it takes the real one's arguments and writes a report.
const SAMPLE: &str = r#"#!/bin/sh
[ "$4 $5" = "-mayDie -file" ] || exit 1
kill -0 "$1" || exit 1
echo "Sampling process $1 for $2 seconds with $3 millisecond of run time between samples"
sleep 0.3
cat > "$6" <<REPORT
Analysis of sampling engine (pid $1) every $3 millisecond
----

Call graph:
    42 Thread_1   DispatchQueue_1: com.apple.main-thread  (serial)
    + 42 start  (in dyld) + 6992  [0x1890aab98]
    +   40 engine::decode  (in engine) + 28  [0x1029a1f80]

Total number in stack (recursive counted multiple, when >=5):

REPORT
echo "Sampling completed, processing symbols..."
"#;

/// The host has a profiler of its own, which on a Mac runs only on request.
#[test]
fn the_host_is_profiled_from_outside_by_sample() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let sample = lab.write("tools/sample", SAMPLE);
    fs_err::set_permissions(&sample, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", lab.path("tools").display(), std::env::var("PATH").unwrap());
    let text = "name = \"lab\"\n[model]\nsynthetic = { arch = \"qwen3\", preset = \"tiny\", seed = 1 }\n[[engine]]\n\
                name = \"transformer\"\n[workload]\ntext = \"one two three four five\"\nmax_tokens = 8\n\
                ignore_eos = true\n[run]\niterations = 1\n[profile]\niterations = 1\n";
    let scenario = lab.write("scenario.toml", text);
    let profilers = |more: &[&str]| -> Vec<Option<String>> {
        _ = fs_err::remove_dir_all(lab.path("results"));
        let arguments = [&["run", scenario.to_str().unwrap(), "--no-report"], more].concat();
        let mut program = lab.program(&arguments);
        let done = lab.done(program.env("INFEROMETER_LACKING", "macos").env("PATH", &path).output().unwrap());
        assert!(matches!(done.code, Some(0 | 4)), "{}", done.stderr);
        let record = lab.record();
        let told = |one: &inferometer::record::ProfiledIteration| match &one.profile {
            Some(profile) => {
                let samples: u64 = profile.parts.iter().flat_map(|part| &part.stacks).map(|stack| stack.count).sum();
                assert!(profile.profiler != "sample" || samples == 42, "{profile:?}");
                Some(profile.profiler.clone())
            }
            None => one.missing.clone(),
        };
        record.profile.iterations.iter().map(told).collect()
    };
    assert_eq!(profilers(&[]), [Some("sample".to_owned())]);
    let own = profilers(&["--set", "profile.profiler=pprof"]);
    assert!(matches!(&own[..], [Some(name)] if name.contains("pprof")), "{own:?}");
}

/// What the user asked for is refused before anything runs, by every command alike.
#[test]
fn a_gate_that_cannot_be_measured_is_refused_by_check_and_gate() {
    let lab = Lab::new();
    let text = "name = \"lab\"\n[model]\npath = \".\"\n[[engine]]\nname = \"simulated\"\n[workload]\ntext = \"one two\"\n\
                [telemetry]\ninterval_ms = 0\n[ab]\nself_test = true\n[[gate]]\nmetric = \"memory_cycles\"\n";
    let scenario = lab.write("scenario.toml", text);
    let scenario = scenario.to_str().unwrap();
    let check = run(&lab, &["check", scenario]).expect(2).stderr;
    insta::assert_snapshot!(check, @r#"error: the gate on `memory_cycles` cannot be measured here: telemetry is off (`telemetry.interval_ms = 0`). Remove this [[gate]] or use another metric"#);
    let gate = run(&lab, &["gate", scenario, "--same"]).expect(2).says("memory_cycles").stderr;
    assert!(gate.contains(check.trim_start_matches("error: ").trim()), "{gate}");
    assert!(!lab.path("results").exists(), "nothing was recorded");
}
