//! Analysis of profiles: stacks of a sampling profiler and spans of single operations.
//!
//! The samples are taken in the engine host, in a separate pass after the timed iterations.
//! Everything here is a pure function of [`inferometer_protocol::Profile`]s and spans, so that a
//! record can be analysed again later.

pub mod callgraph;
pub mod difference;
pub mod files;
pub mod flamegraph;
pub mod folded;
pub mod functions;
mod names;
pub mod protobuf;
pub mod rate;
pub mod spans;

pub use callgraph::callgraph_dot;
pub use files::{Tokens, write_all};
pub use flamegraph::flamegraph_svg;
pub use folded::folded;
pub use functions::{FunctionShare, functions};
pub use protobuf::protobuf;
pub use rate::achieved_hz;

use inferometer_protocol::{Phase, Profile, ProfilePart, ProfileStack};

/// The stacks of a phase (`None`: of every part), each with its profile and part.
fn stacks<'a>(
    profiles: &'a [&'a Profile],
    phase: Option<Phase>,
) -> impl Iterator<Item = (&'a Profile, &'a ProfilePart, &'a ProfileStack)> {
    parts(profiles, phase).flat_map(|(profile, part)| part.stacks.iter().map(move |stack| (profile, part, stack)))
}

/// The parts of a phase (`None`: all parts).
fn parts<'a>(
    profiles: &'a [&'a Profile],
    phase: Option<Phase>,
) -> impl Iterator<Item = (&'a Profile, &'a ProfilePart)> {
    let fits = move |part: &&ProfilePart| phase.is_none() || part.phase == phase;
    profiles.iter().flat_map(move |&profile| profile.parts.iter().filter(fits).map(move |part| (profile, part)))
}

#[cfg(test)]
pub(crate) mod fixtures {
    use inferometer_protocol::{Phase, Profile, ProfilePart, ProfileStack, SampleClock};

    pub const MS: u64 = 1_000_000;

    fn stack(thread: &str, frames: &[u32], count: u64) -> ProfileStack {
        ProfileStack { thread: thread.into(), frames: frames.to_vec(), count }
    }

    /// Two phases in two threads, with recursion (`walk` in itself), a name with characters that
    /// folded stacks and XML cannot contain, and one sample outside both phases.
    ///
    /// Prefill: 10 samples in 100 ms of CPU time. Decode: 30 samples in 150 ms.
    pub fn profile() -> Profile {
        Profile {
            profiler: "pprof".into(),
            clock: SampleClock::Cpu,
            frequency_hz: 1000,
            functions: ["main", "prefill", "decode", "walk", "copy<a; b>::\"go\" &\n"].map(str::to_owned).to_vec(),
            parts: vec![
                ProfilePart {
                    phase: Some(Phase::Prefill),
                    duration_ns: 60 * MS,
                    cpu_ns: Some(100 * MS),
                    stacks: vec![stack("main", &[0, 1], 4), stack("worker", &[3, 3, 3], 6)],
                },
                ProfilePart {
                    phase: Some(Phase::Decode),
                    duration_ns: 150 * MS,
                    cpu_ns: Some(150 * MS),
                    stacks: vec![stack("main", &[0, 2, 4], 20), stack("main", &[0, 2], 10)],
                },
                ProfilePart {
                    phase: None,
                    duration_ns: 5 * MS,
                    cpu_ns: Some(5 * MS),
                    stacks: vec![stack("main", &[0, 99], 1)],
                },
            ],
        }
    }
}
