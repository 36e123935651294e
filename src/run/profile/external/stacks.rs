//! Converts the output of a tool to a profile.

use std::collections::{BTreeMap, HashMap};

use inferometer_host::sampling::CALLERS_CUT;
use inferometer_protocol::bounded::clean;
use inferometer_protocol::profile::MOST_FRAMES;
use inferometer_protocol::{Phase, ProfilePart, ProfileStack};

/// Longest name of a function or thread, in characters.
const MOST_NAME: usize = 500;

/// Collects stacks by phase and thread.
#[derive(Debug, Default)]
pub struct Stacks {
    functions: Vec<String>,
    places: HashMap<String, u32>,
    counts: BTreeMap<(Option<usize>, String, Vec<u32>), u64>,
}

impl Stacks {
    /// Adds samples of a phase with a thread's call stack, outermost call first. Of a stack that is
    /// too deep, the innermost calls are kept.
    pub fn add<'a>(&mut self, phase: Option<Phase>, thread: &str, frames: impl Iterator<Item = &'a str>, count: u64) {
        let mut frames: Vec<u32> = frames.map(|name| self.place(name)).collect();
        if frames.len() > MOST_FRAMES {
            frames.drain(..=frames.len() - MOST_FRAMES);
            frames.insert(0, self.place(CALLERS_CUT));
        }
        let phase = phase.and_then(|phase| Phase::ALL.iter().position(|one| *one == phase));
        let sum = self.counts.entry((phase, fit(thread), frames)).or_default();
        *sum = sum.saturating_add(count);
    }

    fn place(&mut self, name: &str) -> u32 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = u32::try_from(self.functions.len()).unwrap_or(u32::MAX);
        self.functions.push(fit(name));
        self.places.insert(name.to_owned(), place);
        place
    }

    /// Returns the functions, and one part for each of `phases` with its duration.
    pub fn parts(self, phases: &[(Option<Phase>, u64)]) -> (Vec<String>, Vec<ProfilePart>) {
        let parts = phases.iter().map(|&(phase, duration_ns)| {
            let own = |at: Option<usize>| at.map(|at| Phase::ALL[at]) == phase;
            let stacks = self.counts.iter().filter(|((at, _, _), _)| own(*at));
            let stacks = stacks.map(|((_, thread, frames), count)| ProfileStack {
                thread: thread.clone(),
                frames: frames.clone(),
                count: *count,
            });
            ProfilePart { phase, duration_ns, cpu_ns: None, stacks: stacks.collect() }
        });
        let parts = parts.collect();
        (self.functions, parts)
    }
}

/// A name, shortened and cleaned for the record.
fn fit(name: &str) -> String {
    clean(&name.chars().take(MOST_NAME).collect::<String>()).replace('\n', "\\n")
}

/// Parses a folded line: frames separated by `;`, outermost first, and the count.
pub fn unfold(line: &str) -> Option<(impl Iterator<Item = &str>, u64)> {
    let (frames, count) = line.rsplit_once(' ')?;
    Some((frames.split(';'), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_counted_by_phase_and_thread() {
        let mut stacks = Stacks::default();
        for (phase, thread, line) in [
            (Some(Phase::Decode), "main", "a;b 2"),
            (Some(Phase::Decode), "main", "a;b 3"),
            (Some(Phase::Decode), "worker", "a;b 1"),
            (Some(Phase::Prefill), "main", "a;evil\u{1b}[2J 1"),
            (None, "main", "a 7"),
        ] {
            let (frames, count) = unfold(line).unwrap();
            stacks.add(phase, thread, frames, count);
        }
        let (functions, parts) = stacks.parts(&[(Some(Phase::Prefill), 5), (Some(Phase::Decode), 6), (None, 7)]);
        assert_eq!(functions, ["a", "b", "evil\\u{1b}[2J"]);
        let counts: Vec<Vec<u64>> = parts.iter().map(|part| part.stacks.iter().map(|s| s.count).collect()).collect();
        assert_eq!(counts, [vec![1], vec![5, 1], vec![7]]);
        assert_eq!((parts[1].duration_ns, &parts[1].stacks[0].frames), (6, &vec![0, 1]));
        assert!(unfold("no count").is_none());
    }

    #[test]
    fn a_stack_that_is_too_deep_keeps_its_leaf() {
        let deep: Vec<String> = (0..MOST_FRAMES + 3).map(|at| format!("f{at}")).collect();
        let mut stacks = Stacks::default();
        stacks.add(None, "main", deep.iter().map(String::as_str), 1);
        stacks.add(None, "main", deep[..MOST_FRAMES].iter().map(String::as_str), 1);
        let (functions, parts) = stacks.parts(&[(None, 1)]);
        let named = |at: usize| -> Vec<&str> {
            parts[0].stacks[at].frames.iter().map(|place| functions[*place as usize].as_str()).collect()
        };
        let (whole, cut) = (named(0), named(1));
        assert_eq!((whole.len(), whole[0]), (MOST_FRAMES, "f0"), "just fits");
        assert_eq!((cut.len(), cut[0], cut[1]), (MOST_FRAMES, CALLERS_CUT, "f4"));
        assert_eq!(cut.last().copied(), deep.last().map(String::as_str));
    }
}
