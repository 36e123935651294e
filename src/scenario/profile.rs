//! `[profile]`: the profiling pass after the timed iterations.

use super::cursor::Table;
use super::diagnose::Problem;
use crate::spec::{ProfileSettings, ProfilerChoice, SpanSync, Threads};

/// `None` if the scenario has no such table.
pub fn settings(table: &Table<'_>) -> Option<ProfileSettings> {
    let span = table.span?;
    let settings = ProfileSettings {
        flamegraph: table.flag("flamegraph"),
        spans: table.flag("spans"),
        iterations: table.count32("iterations"),
        frequency_hz: table.count32("frequency_hz"),
        profiler: match table.choice("profiler") {
            "pprof" => ProfilerChoice::Pprof,
            "perf" => ProfilerChoice::Perf,
            "sample" => ProfilerChoice::Sample,
            "py-spy" => ProfilerChoice::PySpy,
            _ => ProfilerChoice::Auto,
        },
        threads: if table.choice("threads") == "apart" { Threads::Apart } else { Threads::Merged },
        sync: if table.choice("sync") == "forced_sync" { SpanSync::ForcedSync } else { SpanSync::Submit },
    };
    if !settings.flamegraph && !settings.spans {
        let problem = Problem::new("a profiling pass without `flamegraph` and `spans` has nothing to do").at(span);
        table.problem(problem.help("enable one of them, or remove `[profile]`"));
    }
    Some(settings)
}
