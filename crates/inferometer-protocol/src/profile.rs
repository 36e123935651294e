//! The result of a sampling profiler, whichever profiler it was.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Phase;

/// A profile of one iteration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// `pprof`, `perf`, `sample` or `py-spy`.
    pub profiler: String,
    pub clock: SampleClock,
    /// Requested samples per second; the achieved rate follows from the parts.
    pub frequency_hz: u32,
    /// Demangled function names; stacks refer to them by index.
    pub functions: Vec<String>,
    pub parts: Vec<ProfilePart>,
}

/// Most frames in a stack. Deeper stacks come from a looping unwinder or an attack on the code that
/// draws them.
pub const MOST_FRAMES: usize = 4096;

impl Profile {
    /// Checks that the parts are consistent, so that code that counts or draws need not: a profile
    /// may come from any program.
    ///
    /// # Errors
    /// What is wrong, for a message.
    pub fn check(&self) -> Result<(), String> {
        let mut samples: u64 = 0;
        for stack in self.parts.iter().flat_map(|part| &part.stacks) {
            if let Some(place) = stack.frames.iter().find(|place| **place as usize >= self.functions.len()) {
                return Err(format!("a stack names function {place}, but there are only {}", self.functions.len()));
            }
            if stack.frames.len() > MOST_FRAMES {
                return Err(format!("a stack has {} frames, more than {MOST_FRAMES}", stack.frames.len()));
            }
            samples = samples
                .checked_add(stack.count)
                .filter(|sum| *sum <= u64::from(u32::MAX))
                .ok_or("it has an impossible number of samples")?;
        }
        let longest = 1_000_000_000 * 86_400 * 7;
        // CPU time is bounded by wall time on this many cores.
        let most_cores = 4096;
        for part in &self.parts {
            if part.duration_ns > longest {
                return Err(format!("a part lasted {} ns, more than a week", part.duration_ns));
            }
            // The CPU clock may be a tick ahead of the wall clock.
            let most = part.duration_ns.saturating_add(1_000_000_000).saturating_mul(most_cores);
            if part.cpu_ns.is_some_and(|cpu_ns| cpu_ns > most) {
                return Err(format!(
                    "a part of {} ns has more CPU time than {most_cores} cores can use",
                    part.duration_ns
                ));
            }
        }
        Ok(())
    }
}

/// Name of a frame with an index outside its profile or an empty name.
pub const UNKNOWN: &str = "[unknown]";

/// Longest name kept, in characters; names of C++ templates can be longer than a page.
pub const LONGEST: usize = 500;

/// The name of a frame as stored in the profile.
#[must_use]
pub fn raw(profile: &Profile, frame: u32) -> &str {
    match profile.functions.get(frame as usize).map(String::as_str) {
        None | Some("") => UNKNOWN,
        Some(name) => name,
    }
}

/// One line of limited length, without control characters and characters that change the text
/// direction.
#[must_use]
pub fn clean(name: &str) -> Cow<'_, str> {
    let keeps = |c: char| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if name.trim().is_empty() {
        return Cow::Borrowed(UNKNOWN);
    }
    if name.len() <= LONGEST && name.chars().all(keeps) && name.trim() == name {
        return Cow::Borrowed(name);
    }
    let cut = name.chars().nth(LONGEST).is_some();
    let mut text: String =
        name.trim().chars().take(LONGEST).map(|c| if keeps(c) { c } else { ' ' }).collect::<String>().trim().to_owned();
    if cut {
        text.push('…');
    }
    Cow::Owned(text)
}

/// The clock that triggers a profiler's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampleClock {
    /// CPU time of the process, all threads: waiting threads are not sampled.
    Cpu,
    /// Wall time, in each thread: waiting threads are sampled too.
    Wall,
}

/// The samples of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfilePart {
    /// Prefill or decode; absent if the profiler cannot separate phases, and for time outside both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Wall time during which the profiler ran in this phase.
    pub duration_ns: u64,
    /// CPU time of the process in this phase, if it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<u64>,
    pub stacks: Vec<ProfileStack>,
}

/// Samples with the same thread and the same stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileStack {
    /// Name of the thread; empty if the profiler does not report it.
    #[serde(default)]
    pub thread: String,
    /// Indices into [`Profile::functions`], outermost caller first.
    pub frames: Vec<u32>,
    pub count: u64,
}

/// How the spans of single operations were timed. Spans of different timings are never combined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanTiming {
    /// The backend executes each operation when it is called: a span contains its work.
    #[default]
    Done,
    /// A lazy backend: a span contains only the building of the graph; the work is done later.
    Submit,
    /// A lazy backend that had to finish each operation within its span, which prevents overlap.
    ForcedSync,
}

/// Allocations during a phase, from the host's counting allocator: Rust code in the host process,
/// all threads. Memory allocated by libraries in other languages is not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseAllocations {
    pub phase: Phase,
    pub allocations: u64,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_bounded_by_the_time_that_passed() {
        let check = |duration_ns, cpu_ns| {
            let part = ProfilePart { phase: None, duration_ns, cpu_ns: Some(cpu_ns), stacks: Vec::new() };
            let (profiler, clock) = ("pprof".to_owned(), SampleClock::Cpu);
            Profile { profiler, clock, frequency_hz: 1, functions: Vec::new(), parts: vec![part] }.check()
        };
        let week = 1_000_000_000 * 86_400 * 7;
        assert_eq!(check(week, week * 4096), Ok(()));
        assert_eq!(check(0, 1000), Ok(()), "clocks tick");
        for (duration_ns, cpu_ns) in [(week, u64::MAX), (1_000_000_000, 10_000_000_000_000), (0, u64::MAX)] {
            assert!(check(duration_ns, cpu_ns).unwrap_err().contains("CPU time"), "{duration_ns} {cpu_ns}");
        }
        assert!(check(week + 1, 0).unwrap_err().contains("more than a week"));
    }
}
