//! `sample` of macOS.
//!
//! It stops the process for each sample and records every thread, including waiting ones: its clock
//! is wall time. It runs for a duration given in advance, so its samples include some time after
//! the generation. They have no times and so no phase. The report is parsed here because inferno's
//! parser loses samples of a function's own code between its calls.

use std::path::Path;
use std::time::Duration;

use super::stacks::Stacks;
use inferometer_protocol::bounded::quote;

/// Command that samples process `pid` for the duration `long` and writes the report to `data`.
pub fn command(pid: u32, long: Duration, frequency_hz: u32, data: &Path) -> Vec<String> {
    let seconds = long.as_secs_f64().ceil().to_string();
    // Whole milliseconds, at least one.
    let interval_ms = (1000 / frequency_hz.max(1)).max(1).to_string();
    let (pid, data) = (pid.to_string(), data.display().to_string());
    ["sample", &pid, &seconds, &interval_ms, "-mayDie", "-file", &data].into_iter().map(str::to_owned).collect()
}

/// A call whose callees are being read.
struct Open {
    depth: usize,
    name: String,
    count: u64,
    /// Samples in its callees; the others are its own.
    called: u64,
}

/// The sections that follow the call tree.
const ENDS: [&str; 3] = ["Total number in stack", "Sort by top of stack", "Binary Images:"];

/// Parses the call tree of the report: one line per call, with the number of its samples, indented
/// by depth.
pub fn stacks(report: &[u8]) -> Result<Stacks, String> {
    let text = String::from_utf8_lossy(report);
    let mut stacks = Stacks::default();
    let mut open: Vec<Open> = Vec::new();
    for line in text.lines().skip_while(|line| !line.starts_with("Call graph:")).skip(1) {
        if ENDS.iter().any(|end| line.starts_with(end)) {
            close(&mut open, 0, &mut stacks);
            return Ok(stacks);
        }
        if line.trim().is_empty() {
            continue;
        }
        let (depth, count, name) = call(line).ok_or_else(|| {
            format!("the report of `sample` has a line that is not a call: {}", quote(line.as_bytes()))
        })?;
        close(&mut open, depth, &mut stacks);
        if let Some(caller) = open.last_mut() {
            caller.called = caller.called.saturating_add(count);
        }
        open.push(Open { depth, name, count, called: 0 });
    }
    Err("the report of `sample` ends within its call graph".to_owned())
}

/// For `    +     ! 60 engine::copy  (in engine) + 16  [0x104a03000]`: the position of the number,
/// the number, and the name. A function without a name gets that of its library, as
/// `??? (in engine)`: else all such functions would be one.
fn call(line: &str) -> Option<(usize, u64, String)> {
    // Before the number are spaces and the lines of the tree, drawn with arbitrary characters.
    let depth = line.find(|c: char| c.is_ascii_digit())?;
    let (count, rest) = line[depth..].split_once(' ')?;
    let (name, library) = match rest.split_once("  (in ") {
        Some((name, after)) => (name, after.split(')').next()),
        None => (rest, None),
    };
    let name = match (name.trim(), library) {
        ("???", Some(library)) => format!("??? (in {library})"),
        (name, _) => name.to_owned(),
    };
    Some((depth, count.parse().ok()?, name))
}

/// Closes the calls that are not above `depth`: their remaining samples are their own.
fn close(open: &mut Vec<Open>, depth: usize, stacks: &mut Stacks) {
    while let Some(last) = open.pop_if(|call| call.depth >= depth) {
        let own = last.count.saturating_sub(last.called);
        if own == 0 {
            continue;
        }
        // The first entry is the thread.
        let mut path = open.iter().map(|call| call.name.as_str()).chain([last.name.as_str()]);
        let thread = path.next().unwrap_or_default();
        stacks.add(None, thread, path, own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The format of the manual page and of published reports.
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

    /// What reports of macOS 12 to 15 contain beyond the manual page: a heading with footprints,
    /// the tree's further characters, a call at several places, a function without a name, threads
    /// that share a queue, source lines.
    const FULL: &str = "\
Analysis of sampling engine (pid 93822) every 1 millisecond
Process:         engine [93822]
Path:            /Users/USER/*/engine
Load Address:    0x1029a0000
Identifier:      engine
Version:         0
Code Type:       ARM64
Platform:        macOS
Parent Process:  inferometer [93801]
Target Type:     live task

Date/Time:       2025-09-02 18:11:43.397 +0200
Launch Time:     2025-09-02 18:11:39.451 +0200
OS Version:      macOS 15.5 (24F74)
Report Version:  7
Analysis Tool:   /usr/bin/sample

Physical footprint:         1.2G
Physical footprint (peak):  1.3G
Idle exit:                  untracked
----

Call graph:
    842 Thread_8992773   DispatchQueue_1: com.apple.main-thread  (serial)
    + 842 start  (in dyld) + 6992  [0x1890aab98]
    +   842 main  (in engine) + 28,56,...  [0x1029a1f80,0x1029a1f9c,...]
    +     600 mlx::core::eval(std::vector<array>)  (in libmlx.dylib) + 604  [0x10a2f1040]
    +     ! 400 ???  (in AGXMetalG14X)  load address 0x10b000000 + 0x1348a0  [0x10b1348a0]
    +     ! : 400 ???  (in libmlx.dylib)  load address 0x10a000000 + 0x8a0  [0x10a0008a0]
    +     ! 150 -[MTLCommandBuffer waitUntilCompleted]  (in Metal) + 100  [0x19a2c0100]
    +     ! | 150 __psynch_cvwait  (in libsystem_kernel.dylib) + 8  [0x189400c88]
    +     242 engine::sample  (in engine) + 8  sampler.rs:77  [0x1029a4000]
    842 Thread_<multiple>   DispatchQueue_86: com.apple.metal.queue  (serial)
    + 842 start_wqthread  (in libsystem_pthread.dylib) + 8  [0x18943cb74]
    842 Thread_8992790: rayon worker 1
      842 thread_start  (in libsystem_pthread.dylib) + 8  [0x18943cb80]

Sort by top of stack, same collapsed (when >= 5):
        start_wqthread  (in libsystem_pthread.dylib)        842

Binary Images:
       0x1029a0000 -        0x1031cbfff +engine (0) <F2A6B1C0-0000-0000-0000-000000000000> /Users/*/engine
";

    #[test]
    fn a_report_as_macos_writes_it_is_read_whole() {
        let (functions, parts) = stacks(FULL.as_bytes()).unwrap().parts(&[(None, 1)]);
        let name = |place: &u32| functions[*place as usize].as_str();
        let mut found: Vec<String> = parts[0]
            .stacks
            .iter()
            .map(|s| format!("{} {}", s.frames.iter().map(name).collect::<Vec<_>>().join(";"), s.count))
            .collect();
        found.sort();
        let eval = "start;main;mlx::core::eval(std::vector<array>)";
        let mut expected = vec![
            format!("{eval} 50"),
            format!("{eval};-[MTLCommandBuffer waitUntilCompleted];__psynch_cvwait 150"),
            format!("{eval};??? (in AGXMetalG14X);??? (in libmlx.dylib) 400"),
            "start;main;engine::sample 242".to_owned(),
            "start_wqthread 842".to_owned(),
            "thread_start 842".to_owned(),
        ];
        expected.sort();
        assert_eq!(found, expected);
        for cut in 0..FULL.len() {
            let _ = stacks(&FULL.as_bytes()[..cut]);
        }
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
