//! `[profile]`: the profiling pass.

use super::shape::{Section, Shape, count, key};

pub static PROFILE: Section = Section {
    title: "[profile]",
    meaning: "A separate pass after the timed iterations that shows where the time goes. Without this table there is none.",
    one_of: &[],
    keys: &[
        key(
            "flamegraph",
            Shape::Flag,
            "true",
            "sample stacks with a profiler, for flamegraphs and tables of functions",
        ),
        key(
            "spans",
            Shape::Flag,
            "true",
            "time single operations (forward, penalty, sample, ...) and count allocations, if the engine supports it",
        ),
        key(
            "iterations",
            count(1, 100),
            "3",
            "profiled iterations of each cell; comparing two profiles needs several to estimate the uncertainty",
        ),
        key("frequency_hz", count(1, 10_000), "997", "samples per second"),
        key(
            "profiler",
            Shape::Choice(&["auto", "pprof", "perf", "sample", "py-spy"]),
            "\"auto\"",
            "the profiler: `auto` is the engine host's own (`pprof`) if it has one, else py-spy for Python, \
             else `perf`, if installed; on macOS `sample`, and `pprof` only if it is named",
        ),
        key(
            "threads",
            Shape::Choice(&["merged", "apart"]),
            "\"merged\"",
            "whether equal stacks of different threads are combined (`merged`) or not (`apart`)",
        ),
        key(
            "sync",
            Shape::Choice(&["submit", "forced_sync"]),
            "\"submit\"",
            "how a lazy engine times operations: the time to `submit` each, or each finished before the next (`forced_sync`), \
             which prevents overlap",
        ),
    ],
};
