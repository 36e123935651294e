//! `sample` of macOS.
//!
//! It stops the process at each look and finds every thread, also those that wait: its clock is wall time. It looks for as long as it
//! was told beforehand, so a stretch after the generation is in it; its samples carry no times, so they are of no phase.

use std::path::Path;
use std::time::Duration;

use inferno::collapse::Collapse;
use inferno::collapse::sample::{Folder, Options};

use super::stacks::{Stacks, unfold};

/// Looks at process `pid` for so long and writes the report into `data`.
pub fn command(pid: u32, long: Duration, frequency_hz: u32, data: &Path) -> Vec<String> {
    let seconds = long.as_secs_f64().ceil().to_string();
    // Whole milliseconds, at least one.
    let interval_ms = (1000 / frequency_hz.max(1)).max(1).to_string();
    let (pid, data) = (pid.to_string(), data.display().to_string());
    ["sample", &pid, &seconds, &interval_ms, "-mayDie", "-file", &data].into_iter().map(str::to_owned).collect()
}

/// The call tree of its report.
pub fn stacks(report: &[u8]) -> Result<Stacks, String> {
    let mut options = Options::default();
    options.no_modules = true;
    let mut folded = Vec::new();
    Folder::from(options)
        .collapse(report, &mut folded)
        .map_err(|e| format!("the report of `sample` cannot be read: {e}"))?;
    let mut stacks = Stacks::default();
    for line in String::from_utf8_lossy(&folded).lines() {
        // The thread stands first.
        if let Some((mut frames, count)) = unfold(line)
            && let Some(thread) = frames.next()
        {
            stacks.add(None, thread, frames, count);
        }
    }
    Ok(stacks)
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
