//! What a sampling profiler saw, whatever profiler it was.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Phase;

/// What a profiler saw of one iteration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// `pprof`, `perf`, `sample` or `py-spy`.
    pub profiler: String,
    pub clock: SampleClock,
    /// Samples a second that were asked for; the achieved rate follows from the parts.
    pub frequency_hz: u32,
    /// Names of functions, demangled; stacks name them by their place here.
    pub functions: Vec<String>,
    pub parts: Vec<ProfilePart>,
}

/// Most calls in a chain. Deeper ones are a loop of an unwinder, or an attack on who draws them.
pub const MOST_FRAMES: usize = 4096;

impl Profile {
    /// Whether its parts fit together, so that who counts and draws need not look: a profile may
    /// come from anywhere.
    ///
    /// # Errors
    /// What is wrong, for a message.
    pub fn check(&self) -> Result<(), String> {
        let mut samples: u64 = 0;
        for stack in self.parts.iter().flat_map(|part| &part.stacks) {
            if let Some(place) = stack.frames.iter().find(|place| **place as usize >= self.functions.len()) {
                return Err(format!("a stack names function {place}, and there are {}", self.functions.len()));
            }
            if stack.frames.len() > MOST_FRAMES {
                return Err(format!("a stack has {} frames, more than {MOST_FRAMES}", stack.frames.len()));
            }
            samples = samples
                .checked_add(stack.count)
                .filter(|sum| *sum <= u64::from(u32::MAX))
                .ok_or("it has more samples than any profiler takes")?;
        }
        let longest = 1_000_000_000 * 86_400 * 7;
        // Of a part's CPU time each of so many cores has its share.
        let most_cores = 4096;
        for part in &self.parts {
            if part.duration_ns > longest {
                return Err(format!("a part lasted {} ns, more than a week", part.duration_ns));
            }
            // A CPU clock may be a tick ahead of the wall's.
            let most = part.duration_ns.saturating_add(1_000_000_000).saturating_mul(most_cores);
            if part.cpu_ns.is_some_and(|cpu_ns| cpu_ns > most) {
                return Err(format!(
                    "a part of {} ns has more CPU time than {most_cores} cores give",
                    part.duration_ns
                ));
            }
        }
        Ok(())
    }
}

/// For a frame that points outside its profile, or whose name is empty.
pub const UNKNOWN: &str = "[unknown]";

/// Longest name that is kept, in characters; names of C++ templates can be longer than a page.
pub const LONGEST: usize = 500;

/// The name of a frame as its profile has it.
#[must_use]
pub fn raw(profile: &Profile, frame: u32) -> &str {
    match profile.functions.get(frame as usize).map(String::as_str) {
        None | Some("") => UNKNOWN,
        Some(name) => name,
    }
}

/// One line without control characters and without those that turn the direction of text, not
/// over-long.
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

/// What makes a profiler take its next sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampleClock {
    /// CPU time of the process, all its threads: who waits is not seen.
    Cpu,
    /// Time that passes, in each thread: who waits is seen waiting.
    Wall,
}

/// The samples of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfilePart {
    /// Prefill or decode; absent for a profiler that cannot tell phases apart, and for what is
    /// neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Wall time that the profiler was at work in this phase.
    pub duration_ns: u64,
    /// CPU time of the process in it, where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<u64>,
    pub stacks: Vec<ProfileStack>,
}

/// Samples that found the same thread in the same chain of calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileStack {
    /// Name of the thread; empty where the profiler does not say.
    #[serde(default)]
    pub thread: String,
    /// Places in [`Profile::functions`], outermost caller first.
    pub frames: Vec<u32>,
    pub count: u64,
}

/// How the spans of single operations were timed. The two ways of a lazy backend are never mixed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanTiming {
    /// The backend does each operation when it is called: a span holds its work.
    #[default]
    Done,
    /// A lazy backend: a span holds only the building of the graph, the work comes later.
    Submit,
    /// A lazy backend that was made to finish each operation within its span, which costs the
    /// overlap.
    ForcedSync,
}

/// What was allocated during a phase, by the host's counting allocator: allocations of Rust code in
/// the host process, all its threads; memory that libraries in other languages take is not in it.
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
