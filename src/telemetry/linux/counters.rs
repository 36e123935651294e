//! Instructions and cycles of another process, from the processor's counters (perf_event_open(2)).

use std::io::ErrorKind;

use perf_event::events::Hardware;
use perf_event::{Builder, Counter};

use super::super::pace::{Pace, Rate};
use super::super::{Source, gauge};
use super::file::{OfTarget, Root};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

/// Reading the counter of a running thread interrupts its core.
const EVERY_MS: u64 = 100;
const EVENTS: [Hardware; 2] = [Hardware::INSTRUCTIONS, Hardware::CPU_CYCLES];
/// Most threads to count, since a process may open only a limited number of files.
const THREADS_AT_MOST: usize = 256;

/// Running user-mode counters of all threads that a process had at the start and of all threads
/// that these start.
#[derive(Debug)]
pub(in crate::telemetry) struct Counters {
    /// For each thread, the counters of [`EVENTS`].
    threads: Vec<[Counter; 2]>,
}

impl Counters {
    /// # Errors
    /// Why there are none: no counters on this (virtual) machine, no permission, no such process,
    /// too many threads.
    pub fn start(pid: u32) -> Result<Self, String> {
        let folder = format!("/proc/{pid}/task");
        let listed = fs_err::read_dir(folder).map_err(|e| e.to_string())?.flatten();
        let ids: Vec<i32> = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        if ids.len() > THREADS_AT_MOST {
            return Err(format!("the process has {} threads; at most {THREADS_AT_MOST} can be counted", ids.len()));
        }
        let mut threads = Vec::with_capacity(ids.len());
        for id in ids {
            match EVENTS.map(|event| open(event, id)) {
                [Ok(first), Ok(second)] => threads.push([first, second]),
                // The thread has ended.
                [Err(e), _] | [_, Err(e)] if e.raw_os_error() == Some(ESRCH) => {}
                [Err(e), _] | [_, Err(e)] => return Err(reason(&e)),
            }
        }
        if threads.is_empty() { Err("the process has ended".to_owned()) } else { Ok(Self { threads }) }
    }

    /// Instructions and cycles since the start. `None` if the processor never had a free counter.
    pub fn read(&mut self) -> Option<[f64; 2]> {
        let mut sums = [0.0; 2];
        for (at, sum) in sums.iter_mut().enumerate() {
            for counters in &mut self.threads {
                *sum += count(&mut counters[at])?;
            }
        }
        Some(sums)
    }
}

const ESRCH: i32 = 3;

fn open(event: Hardware, thread: i32) -> std::io::Result<Counter> {
    let mut counter = Builder::new(event).observe_pid(thread).any_cpu().inherit(true).build()?;
    counter.enable()?;
    Ok(counter)
}

/// The count, scaled up if the counter was shared.
fn count(counter: &mut Counter) -> Option<f64> {
    let data = counter.read_full().ok()?;
    let (enabled, running) = (data.time_enabled()?.as_secs_f64(), data.time_running()?.as_secs_f64());
    let count = data.count() as f64;
    match (enabled > 0.0, running > 0.0) {
        (_, true) => Some(count * (enabled / running).max(1.0)),
        // The thread has not run yet.
        (false, false) => Some(count),
        (true, false) => None,
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Unsupported => {
            format!("the processor's counters are not accessible (a virtual machine?): {error}")
        }
        ErrorKind::PermissionDenied => {
            let level = fs_err::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
            format!(
                "no permission for the processor's counters: {error} (kernel.perf_event_paranoid is {})",
                level.trim()
            )
        }
        _ => format!("the processor's counters cannot be opened: {error}"),
    }
}

/// `process_instructions_per_s` and `process_cycles_per_s`.
pub(super) struct ProcessCounters {
    target: OfTarget<Counters>,
    pace: Pace,
    rates: [Rate; 2],
    absent: Option<String>,
}

impl ProcessCounters {
    /// Without `/proc`, the threads of a process are unknown.
    pub fn new(root: &Root) -> Self {
        let listed = root.list("proc/self/task").map(|_| ());
        let absent = listed.and_then(|()| Counters::start(std::process::id()).map(|_| ())).err();
        let (target, rates) = Default::default();
        Self { target, pace: Pace::at_most_every(EVERY_MS), rates, absent }
    }
}

impl Source for ProcessCounters {
    fn gauges(&self) -> Vec<GaugeInfo> {
        [("process_instructions_per_s", "instructions"), ("process_cycles_per_s", "CPU cycles")]
            .map(|(name, what)| gauge(name, &format!("perf events: {what} in user mode"), self.absent.clone()))
            .to_vec()
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        let (counters, changed) = self.target.of(target, |pid| Counters::start(pid).ok());
        let rates = &mut self.rates;
        if changed {
            self.pace = Pace::at_most_every(EVERY_MS);
            rates.iter_mut().for_each(Rate::forget);
        }
        let Some(counters) = counters else { return };
        self.pace.when_due(|| {
            let (counts, now) = (counters.read(), now_ns());
            for (at, (value, rate)) in values.iter_mut().zip(rates).enumerate() {
                *value = rate.per_s(now, counts.map(|counts| counts[at]));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters either count or give a reason.
    #[test]
    fn work_is_counted_or_the_reason_given() {
        match Counters::start(std::process::id()) {
            Err(reason) => assert!(reason.contains("counters"), "{reason}"),
            Ok(mut counters) => {
                let before = counters.read().unwrap();
                let mut x = 0_u64;
                for _ in 0..10_000_000 {
                    x = std::hint::black_box(x.wrapping_add(1));
                }
                let after = counters.read().unwrap();
                assert!(after[0] - before[0] > 1e7 && after[1] > before[1], "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn reasons_say_what_to_look_at() {
        let of = |number| reason(&std::io::Error::from_raw_os_error(number));
        assert!(of(2).contains("virtual machine"));
        assert!(of(13).contains("perf_event_paranoid"));
        assert!(of(24).contains("cannot be opened"));
        assert!(Counters::start(u32::MAX).unwrap_err().contains("/proc/"));
    }
}
