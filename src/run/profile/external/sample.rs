//! `sample` of macOS.
//!
//! It stops the process at each look and finds every thread, also those that wait: its clock is wall time. It looks for as long as it
//! was told beforehand, so a stretch after the generation is in it; its samples carry no times, so they are of no phase. The report
//! is read here and not by inferno, whose reader loses the samples that found a function at work between its calls.

use std::path::Path;
use std::time::Duration;

use super::stacks::Stacks;
use inferometer_protocol::bounded::quote;

/// Looks at process `pid` for so long and writes the report into `data`.
pub fn command(pid: u32, long: Duration, frequency_hz: u32, data: &Path) -> Vec<String> {
    let seconds = long.as_secs_f64().ceil().to_string();
    // Whole milliseconds, at least one.
    let interval_ms = (1000 / frequency_hz.max(1)).max(1).to_string();
    let (pid, data) = (pid.to_string(), data.display().to_string());
    ["sample", &pid, &seconds, &interval_ms, "-mayDie", "-file", &data].into_iter().map(str::to_owned).collect()
}

/// A call in the tree whose calls are being read.
struct Open {
    depth: usize,
    name: String,
    count: u64,
    /// Samples of what it called; the rest found it at work itself.
    called: u64,
}

/// The call tree of its report: a line each call with the samples that found it, deeper the further in.
pub fn stacks(report: &[u8]) -> Result<Stacks, String> {
    let text = String::from_utf8_lossy(report);
    let mut stacks = Stacks::default();
    let mut open: Vec<Open> = Vec::new();
    for line in text.lines().skip_while(|line| !line.starts_with("Call graph:")).skip(1) {
        if line.starts_with("Total number in stack") {
            close(&mut open, 0, &mut stacks);
            return Ok(stacks);
        }
        if line.trim().is_empty() {
            continue;
        }
        let (depth, count, name) = call(line)
            .ok_or_else(|| format!("the report of `sample` has a line that is no call: {}", quote(line.as_bytes())))?;
        close(&mut open, depth, &mut stacks);
        if let Some(caller) = open.last_mut() {
            caller.called = caller.called.saturating_add(count);
        }
        open.push(Open { depth, name: name.to_owned(), count, called: 0 });
    }
    Err("the report of `sample` ends before its call graph does".to_owned())
}

/// `    +     ! 60 engine::copy  (in engine) + 16  [0x104a03000]`: where the number stands, the number, the name.
fn call(line: &str) -> Option<(usize, u64, &str)> {
    // What is before it are spaces and the lines of the tree, drawn with arbitrary characters.
    let depth = line.find(|c: char| c.is_ascii_digit())?;
    let (count, rest) = line[depth..].split_once(' ')?;
    let name = rest.split("  (in ").next().unwrap_or(rest).trim();
    Some((depth, count.parse().ok()?, name))
}

/// Ends the calls that are no deeper than `depth` allows: what is left of their samples is their own.
fn close(open: &mut Vec<Open>, depth: usize, stacks: &mut Stacks) {
    while let Some(last) = open.pop_if(|call| call.depth >= depth) {
        let own = last.count.saturating_sub(last.called);
        if own == 0 {
            continue;
        }
        // The thread stands first.
        let mut path = open.iter().map(|call| call.name.as_str()).chain([last.name.as_str()]);
        let thread = path.next().unwrap_or_default();
        stacks.add(None, thread, path, own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the layout that the manual page and published reports have.
    const REPORT: &str = "\
Analysis of sampling engine (pid 4711) every 1 millisecond
Process:         engine [4711]
Path:            /usr/local/bin/engine

Call graph:
    100 Thread_900   DispatchQueue_1: com.apple.main-thread  (serial)
    + 100 start  (in dyld) + 2236  [0x18f2e60e0]
    +   100 main  (in engine) + 28  [0x104a01f80]
    +     70 engine::decode  (in engine) + 120  [0x104a02f80]
    +     ! 60 engine::copy  (in engine) + 16  [0x104a03000]
    +     30 engine::sample  (in engine) + 8  [0x104a04000]
    100 Thread_901: worker
      100 thread_start  (in libsystem_pthread.dylib) + 8  [0x18f6b6da0]
        100 engine::wait  (in engine) + 4  [0x104a05000]

Total number in stack (recursive counted multiple, when >=5):
        5       thread_start  (in libsystem_pthread.dylib) + 8  [0x18f6b6da0]

Sort by top of stack, same collapsed (when >= 5):
        engine::wait  (in engine)        100
";

    #[test]
    fn the_call_tree_becomes_stacks_of_threads() {
        let (functions, parts) = stacks(REPORT.as_bytes()).unwrap().parts(&[(None, 1)]);
        let name = |place: &u32| functions[*place as usize].as_str();
        let found: Vec<(String, u64)> = parts[0]
            .stacks
            .iter()
            .map(|s| (s.frames.iter().map(name).collect::<Vec<_>>().join(";"), s.count))
            .collect();
        for expected in [
            ("start;main;engine::decode;engine::copy", 60),
            ("start;main;engine::decode", 10),
            ("start;main;engine::sample", 30),
            ("thread_start;engine::wait", 100),
        ] {
            assert!(found.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} is not in {found:?}");
        }
        assert!(parts[0].stacks.iter().all(|stack| stack.thread.starts_with("Thread_90")), "{parts:?}");
    }

    #[test]
    fn the_command_line_has_whole_seconds_and_milliseconds() {
        let line = command(12, Duration::from_millis(2300), 997, Path::new("f")).join(" ");
        assert_eq!(line, "sample 12 3 1 -mayDie -file f");
    }

    #[test]
    fn half_a_report_is_an_error_and_no_panic() {
        for cut in 0..REPORT.len() {
            let _ = stacks(&REPORT.as_bytes()[..cut]);
        }
        assert!(stacks(b"Call graph:\n    100 Thread_1\n").is_err());
    }
}
