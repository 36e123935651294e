//! Folded stacks: one line per distinct stack, outermost caller first, `;` between frames, then the
//! number of samples. All kinds of flamegraph tools read this format.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{names, stacks};
use crate::spec::Threads;
use inferometer_protocol::{Phase, Profile};

/// Distinct stacks of a phase (`None`: of all samples) with their numbers of samples, sorted. With
/// [`Threads::Apart`] the thread's name is the outermost frame.
#[must_use]
pub fn folded(profiles: &[&Profile], phase: Option<Phase>, threads: Threads) -> Vec<(String, u64)> {
    let mut lines = BTreeMap::<String, u64>::new();
    for (profile, _, stack) in stacks(profiles, phase) {
        let thread = (threads == Threads::Apart).then(|| names::thread(&stack.thread));
        let frames = stack.frames.iter().map(|&frame| names::frame(names::raw(profile, frame)));
        let mut line = String::new();
        for frame in thread.into_iter().chain(frames) {
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(&frame);
        }
        if line.is_empty() {
            line.push_str(names::UNKNOWN);
        }
        let count = lines.entry(names::line(&line)).or_default();
        *count = count.saturating_add(stack.count);
    }
    lines.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// The lines of a `.folded` file.
#[must_use]
pub fn text(stacks: &[(String, u64)]) -> String {
    stacks.iter().fold(String::new(), |mut text, (stack, count)| {
        writeln!(text, "{stack} {count}").expect("a String takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixtures::profile;

    #[test]
    fn by_phase_and_with_threads_apart() {
        let profile = profile();
        let of = |phase, threads| text(&folded(&[&profile], phase, threads));
        assert_eq!(of(Some(Phase::Prefill), Threads::Merged), "main;prefill 4\nwalk;walk;walk 6\n");
        assert_eq!(of(Some(Phase::Prefill), Threads::Apart), "main;main;prefill 4\nworker;walk;walk;walk 6\n");
        assert_eq!(
            of(Some(Phase::Decode), Threads::Merged),
            "main;decode 10\nmain;decode;copy<a: b>::\"go\" & 20\n",
            "a name keeps the line and the frame"
        );
        let all = folded(&[&profile, &profile], None, Threads::Merged);
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 2 * 41);
        assert!(all.contains(&("main;[unknown]".to_owned(), 2)), "a frame outside the table: {all:?}");
    }

    #[test]
    fn names_are_no_counts_and_no_comments() {
        let mut profile = profile();
        profile.functions[0] = "# main".to_owned();
        profile.functions[2] = "operator 7 3".to_owned();
        let decode = text(&folded(&[&profile], Some(Phase::Decode), Threads::Merged));
        assert!(decode.lines().any(|line| line == "#\u{a0}main;operator 7\u{a0}3 10"), "{decode}");
    }
}
