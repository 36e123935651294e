//! `perf` of Linux.
//!
//! It samples the CPU clock and not cycles. This needs no hardware counters, which virtual machines
//! often lack, and each sample stands for the same CPU time at any clock rate. Stacks are unwound
//! with the tables that compilers emit for exceptions (`dwarf`), because most programs omit frame
//! pointers. Samples have times on `CLOCK_MONOTONIC`, the clock of the harness, so that spans
//! determine their phases.

use std::io;
use std::path::Path;
use std::time::Duration;

use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;

use super::stacks::{Stacks, unfold};
use crate::telemetry::group;
use inferometer_host::guard::catch;
use inferometer_protocol::Phase;

/// Time from opening the counters to counting.
pub const SETTLING: Duration = Duration::from_millis(150);
/// The system's setting for access to counters.
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Command that records the process group of `pid` into `data` until interrupted.
pub fn record(pid: u32, frequency_hz: u32, data: &Path) -> Vec<String> {
    let others = group::members(pid).into_iter().filter(|other| *other != pid);
    let pids: Vec<String> = std::iter::once(pid).chain(others).map(|pid| pid.to_string()).collect();
    let frequency = frequency_hz.to_string();
    let (pids, data) = (pids.join(","), data.display().to_string());
    let words = ["perf", "record", "-q", "-e", "cpu-clock", "-F", &frequency, "--call-graph", "dwarf,8192"];
    let more = ["-k", "mono", "--max-size", "256M", "-p", &pids, "-o", &data];
    words.into_iter().chain(more).map(str::to_owned).collect()
}

/// Command that prints the recorded samples as blocks of lines.
pub fn script(data: &Path) -> Vec<String> {
    let data = data.display().to_string();
    // perf looks up inlined calls with another program each, which is slow.
    let words = ["perf", "script", "-i", &data, "-F", "comm,tid,time,event,ip,sym,dso", "--ns", "--no-inline"];
    words.into_iter().map(str::to_owned).collect()
}

/// How to permit perf; empty if permissions are not the reason.
pub fn hint() -> String {
    let level = fs_err::read_to_string(PARANOID).ok().and_then(|text| text.trim().parse::<i32>().ok());
    match level {
        Some(level) if level > 2 => format!(
            "; kernel.perf_event_paranoid is {level}: `sudo sysctl kernel.perf_event_paranoid=2` permits profiling your own programs"
        ),
        _ => "; in a container it needs the capability PERFMON and a seccomp profile that permits perf_event_open"
            .to_owned(),
    }
}

/// Parses the output of `perf script`. `phase` maps a sample's time, in nanoseconds of
/// `CLOCK_MONOTONIC`, to its phase.
pub fn stacks(printed: &[u8], phase: impl Fn(u64) -> Option<Phase>) -> Result<Stacks, String> {
    let mut by_phase: Vec<(Option<Phase>, Vec<u8>)> = Vec::new();
    let mut current = None;
    for line in printed.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"#") {
            continue;
        }
        if !line.first().is_some_and(u8::is_ascii_whitespace) {
            let phase = time_ns(&String::from_utf8_lossy(line)).and_then(&phase);
            let known = by_phase.iter().position(|(other, _)| *other == phase);
            current = Some(known.unwrap_or_else(|| {
                by_phase.push((phase, Vec::new()));
                by_phase.len() - 1
            }));
        }
        if let Some(at) = current {
            by_phase[at].1.extend_from_slice(line);
        }
    }
    let mut stacks = Stacks::default();
    for (phase, text) in by_phase {
        let mut folded = Vec::new();
        let parsed = catch(|| Folder::default().collapse(text.as_slice(), &mut folded));
        parsed
            .unwrap_or_else(|stopped| Err(io::Error::other(stopped.to_string())))
            .map_err(|e| format!("cannot parse the output of `perf script`: {e}"))?;
        for line in String::from_utf8_lossy(&folded).lines() {
            // The first entry is the name of the thread.
            if let Some((mut frames, count)) = unfold(line)
                && let Some(thread) = frames.next()
            {
                stacks.add(phase, thread, frames, count);
            }
        }
    }
    Ok(stacks)
}

/// The time in the first line of a sample: `python3 25518 37838.065078947: cpu-clock:`; the thread
/// name may contain anything.
fn time_ns(line: &str) -> Option<u64> {
    line.split_whitespace().filter_map(|word| word.strip_suffix(':')).find_map(|word| {
        let (seconds, fraction) = word.split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
            return None;
        }
        let ns = fraction.parse::<u64>().ok()? * 10_u64.pow(9 - u32::try_from(fraction.len()).ok()?);
        seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(ns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of `perf script` 6.1, shortened.
    const PRINTED: &str = "\
engine 25518 37838.065078947: cpu-clock: 
\t          178107 float_sub (/usr/lib/libpython3.11.so.1.0)
\t          2508e3 PyEval_EvalCode (/usr/lib/libpython3.11.so.1.0)
\t            1080 _start (/usr/bin/python3.11)

a worker 25519 37838.5: cpu-clock: 
\tffffffff8158c3ac next_uptodate_folio ([kernel.kallsyms])
\t          2508e3 core::ops::function::FnOnce::call_once (/usr/bin/engine)

engine 25518 37839.000000001: cpu-clock: 
\t          178107 float_sub (/usr/lib/libpython3.11.so.1.0)
\t          2508e3 PyEval_EvalCode (/usr/lib/libpython3.11.so.1.0)
\t            1080 _start (/usr/bin/python3.11)

engine 25518 37839.000000002: cpu-clock: 
\t    7546005f6e65 [unknown] ([unknown])

";

    #[test]
    fn samples_fall_into_phases_by_their_times() {
        let phase = |ns: u64| match ns / 1_000_000_000 {
            37_838 => Some(Phase::Prefill),
            _ => None,
        };
        let (functions, parts) =
            stacks(PRINTED.as_bytes(), phase).unwrap().parts(&[(Some(Phase::Prefill), 1), (None, 2)]);
        let named = |part: usize| -> Vec<(String, Vec<&str>, u64)> {
            let name = |place: &u32| functions[*place as usize].as_str();
            let all = parts[part].stacks.iter();
            all.map(|s| (s.thread.clone(), s.frames.iter().map(name).collect(), s.count)).collect()
        };
        let python = vec!["_start", "PyEval_EvalCode", "float_sub"];
        let worker = vec!["core::ops::function::FnOnce::call_once", "next_uptodate_folio"];
        assert_eq!(named(0), [("a_worker".to_owned(), worker, 1), ("engine".to_owned(), python.clone(), 1)]);
        assert_eq!(named(1), [("engine".to_owned(), python, 1), ("engine".to_owned(), vec!["[unknown]"], 1)]);
    }

    #[test]
    fn a_time_is_found_whatever_the_thread_is_called() {
        assert_eq!(time_ns("x: 1.x: 12 37838.065078947: cpu-clock:"), Some(37_838_065_078_947));
        assert_eq!(time_ns("x 12 1.5: cycles:"), Some(1_500_000_000));
        for bad in ["", "x 12 : cycles:", "x 99999999999999999999.1: cycles:", "x 1.0000000001: c:"] {
            assert_eq!(time_ns(bad), None, "{bad}");
        }
    }

    #[test]
    fn garbage_is_no_stack() {
        let lines = ["\u{0}\u{1}", "\n\n\n", "x", "\tffff a (b)\n", "a 1 1.0: c:\n\t(", "((((;;;; 5"];
        for text in lines {
            let (_, parts) = stacks(text.as_bytes(), |_| None).unwrap().parts(&[(None, 0)]);
            assert!(parts[0].stacks.len() <= 1, "{text:?}");
        }
    }
}
