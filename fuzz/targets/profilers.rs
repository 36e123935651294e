//! What perf, macOS's `sample` and py-spy print (the first byte says which), and folded stacks.
#![no_main]

use inferometer::profile::{folded, functions};
use inferometer::run::profile::{Tool, parse};
use inferometer::spec::Threads;
use inferometer_protocol::Phase;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((which, printed)) = input.split_first() else { return };
    let tool = [Tool::Sample, Tool::Perf, Tool::PySpy][usize::from(which % 3)];
    let phase = |ns: u64| (ns % 2 == 0).then_some(Phase::Decode);
    let durations = [(None, 1_000_000), (Some(Phase::Decode), 0)];
    let Ok(profile) = parse(tool, 997, printed, phase, &durations) else { return };
    profile.check().expect("a tool's profile can be recorded");
    for threads in [Threads::Merged, Threads::Apart] {
        let stacks = folded(&[&profile], None, threads);
        for line in folded::text(&stacks).lines() {
            let (stack, count) = line.rsplit_once(' ').expect("a stack and its count");
            assert!(!stack.is_empty() && count.parse::<u64>().is_ok(), "{line:?}");
        }
    }
    let _ = functions(&[&profile], Some(Phase::Decode));
});
