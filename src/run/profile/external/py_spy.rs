//! py-spy: profiles Python functions.
//!
//! It reads the process's memory without stopping it, so single samples may be inconsistent; these
//! are dropped. Waiting threads are left out. Samples have no times and so no phase.

use std::path::Path;

use super::stacks::{Stacks, unfold};

/// How to permit py-spy.
pub const HINT: &str = "to read another process's memory, run as root or set `sudo sysctl kernel.yama.ptrace_scope=0`";

/// Command that records process `pid` and its children into `data` until interrupted.
pub fn command(pid: u32, frequency_hz: u32, data: &Path) -> Vec<String> {
    let (pid, rate, data) = (pid.to_string(), frequency_hz.to_string(), data.display().to_string());
    let words = ["py-spy", "record", "--pid", &pid, "--rate", &rate, "--format", "raw", "--output", &data];
    words.into_iter().chain(["--function", "--threads", "--subprocesses", "--nonblocking"]).map(str::to_owned).collect()
}

/// Parses its `raw` format: folded lines that start with process and thread.
pub fn stacks(printed: &[u8]) -> Stacks {
    let mut stacks = Stacks::default();
    for line in String::from_utf8_lossy(printed).lines() {
        let Some((frames, count)) = unfold(line) else { continue };
        let (mut thread, mut frames) = (String::new(), frames.peekable());
        while let Some(place) = frames.next_if(|frame| is_place(frame)) {
            thread = if thread.is_empty() { place.to_owned() } else { format!("{thread} {place}") };
        }
        stacks.add(None, &thread, frames, count);
    }
    stacks
}

/// Whether a frame names a process or a thread: `process 12:"python3 x.py"`, `thread (0x7F..):
/// MainThread`, `MainThread`.
fn is_place(frame: &str) -> bool {
    let numbered = frame.strip_prefix("process ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    numbered || frame.starts_with("thread (")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines in py-spy's format with these options.
    #[test]
    fn process_and_thread_stand_before_the_functions() {
        let printed = "process 12:\"python3 x.py\";thread (0x7F01): MainThread;<module> (x.py);inner (x.py) 40\n\
                       thread (0x7F02);<module> (x.py) 2\n<module> (x.py) 1\nno count\n";
        let (functions, parts) = stacks(printed.as_bytes()).parts(&[(None, 5)]);
        assert_eq!(functions, ["<module> (x.py)", "inner (x.py)"]);
        let found: Vec<(&str, u64)> = parts[0].stacks.iter().map(|s| (s.thread.as_str(), s.count)).collect();
        let main = "process 12:\"python3 x.py\" thread (0x7F01): MainThread";
        assert_eq!(found, [("", 1), (main, 40), ("thread (0x7F02)", 2)]);
    }
}
