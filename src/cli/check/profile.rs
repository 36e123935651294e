//! A scenario's profiling pass as a line of the plan.

use crate::report::text::plural;
use crate::run::profile::System;
use crate::spec::{ProfileSettings, ProfilerChoice, RunSettings, SpanSync, Threads};

/// What the pass records, and how much it adds to the run.
pub fn fact(pass: &ProfileSettings, run: &RunSettings) -> String {
    let mut done = Vec::new();
    if pass.flamegraph {
        let by = match pass.profiler {
            ProfilerChoice::Auto if System::here() == System::Macos => "an external one",
            ProfilerChoice::Auto => "the host's own profiler, or an external one",
            ProfilerChoice::Pprof => "the host's own profiler",
            ProfilerChoice::Perf => "perf",
            ProfilerChoice::Sample => "sample",
            ProfilerChoice::PySpy => "py-spy",
        };
        let threads = if pass.threads == Threads::Apart { ", separated by thread" } else { "" };
        done.push(format!("stacks by {by}, {} Hz{threads}", pass.frequency_hz));
    }
    if pass.spans {
        let sync = if pass.sync == SpanSync::ForcedSync { ", each finished before the next" } else { "" };
        done.push(format!("spans of operations{sync}"));
    }
    format!(
        "{}; {} of each cell after the timed ones, about {:.0} % of the run if each takes as long as a timed one",
        done.join(" and "),
        plural(pass.iterations as usize, "iteration"),
        100.0 * f64::from(pass.iterations) / f64::from(pass.iterations + run.iterations),
    )
}
