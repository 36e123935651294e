//! The timeline of a profiled run of the quick start keeps to the trace-event format.

use super::{Bench, program, trace_format};

#[test]
fn the_timeline_of_a_profiled_run_keeps_to_the_trace_format() {
    let bench = Bench::new();
    let run = bench.run("profiled", "quickstart", &["--profile", "--set", "run.iterations=2"]);
    let file = bench.path("trace.json");
    program().arg("export").arg(run.folder()).args(["--format", "trace", "-o"]).arg(&file).assert().success();
    let processes = trace_format::check(&fs_err::read_to_string(&file).unwrap()).unwrap();
    assert!(processes.len() >= 2, "gauges and a host: {processes:?}");
}
