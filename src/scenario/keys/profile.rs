//! `[profile]`: the profiled pass.

use super::shape::{Section, Shape, count, key};

pub static PROFILE: Section = Section {
    title: "[profile]",
    meaning: "A pass of its own after the timed iterations, that says where the time goes; without this table there is none.",
    one_of: None,
    keys: &[
        key(
            "flamegraph",
            Shape::Flag,
            "true",
            "take stacks with a sampling profiler, for flamegraphs and tables of functions",
        ),
        key(
            "spans",
            Shape::Flag,
            "true",
            "time single operations (forward, penalty, sample, ...), and count allocations, where the engine can",
        ),
        key(
            "iterations",
            count(1, 100),
            "3",
            "profiled iterations of each cell; a difference between two profiles needs several for its uncertainty",
        ),
        key("frequency_hz", count(1, 10_000), "997", "samples a second of the profiler"),
        key(
            "profiler",
            Shape::Choice(&["auto", "pprof", "perf", "sample", "py-spy"]),
            "\"auto\"",
            "who takes the stacks: `auto` is the engine host's own profiler (`pprof`) where it has one, else py-spy for Python, \
             `perf` on Linux and `sample` on macOS, where installed",
        ),
        key(
            "threads",
            Shape::Choice(&["merged", "apart"]),
            "\"merged\"",
            "whether the same chain of calls in two threads is one (`merged`) or two (`apart`)",
        ),
        key(
            "sync",
            Shape::Choice(&["submit", "forced_sync"]),
            "\"submit\"",
            "how a lazy engine times operations: by what it takes to `submit` them, or each finished before the next (`forced_sync`), \
             which costs the overlap",
        ),
    ],
};
