//! How long the threads of a process waited for a CPU, from the kernel's sums.
//!
//! `ri_runnable_time` is the time that a process's threads were able to run, ended ones included:
//! XNU starts a thread's `runnable_timer` when the thread is made runnable (`thread_unblock` in
//! `osfmk/kern/sched_prim.c`) and stops it when the thread blocks (`thread_dispatch`). So it
//! contains the time on a CPU, and the rest of it was waiting for one. A thread's sum grows only
//! when the thread blocks: a reading tells nothing while one can run. Nobody has run this on a Mac.

use std::time::Duration;

use super::super::waits::Waits;
use super::process::{Task, Usage};

/// The sums of a process at one moment, while no thread of it can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) struct Reading {
    at_ns: u64,
    cpu_ns: u64,
    runnable_ns: u64,
    switches: u64,
    threads: u32,
}

impl Reading {
    /// `tick`: duration of the kernel's tick as a fraction of nanoseconds. `None` while a thread
    /// can run, and where the kernel does not count.
    pub(super) fn of(usage: &Usage, task: &Task, tick: (u32, u32), at_ns: u64) -> Option<Self> {
        if task.running != 0 {
            return None;
        }
        let runnable_ns = usage.runnable_ns(tick).filter(|ns| *ns > 0)?;
        Some(Self { at_ns, cpu_ns: usage.cpu_ns(tick)?, runnable_ns, switches: task.switches?, threads: task.threads })
    }

    /// What was counted since an earlier reading. `None` if the sums contradict each other.
    pub fn since(&self, before: &Self, cpus: u32) -> Option<Waits> {
        let over_ns = self.at_ns.checked_sub(before.at_ns).filter(|ns| *ns > 0)?;
        let running_ns = self.cpu_ns.checked_sub(before.cpu_ns)?;
        let runnable_ns = self.runnable_ns.checked_sub(before.runnable_ns)?;
        // The timers stop at slightly different moments.
        if running_ns > runnable_ns + runnable_ns / 100 + 1_000_000 {
            return None;
        }
        let threads_at_most = self.threads.max(before.threads);
        // The system does not say which threads did the work: as many as could run on average.
        let average = u32::try_from(runnable_ns.div_ceil(over_ns)).unwrap_or(u32::MAX);
        Some(Waits {
            over: Duration::from_nanos(over_ns),
            waiting: Duration::from_nanos(runnable_ns.saturating_sub(running_ns)),
            running: Duration::from_nanos(running_ns),
            slices: self.switches.saturating_sub(before.switches),
            preempted: None,
            threads: average.clamp(1, threads_at_most.max(1)),
            threads_at_most,
            cpus,
            busy: None,
            stolen: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::tests::{task, usage};
    use super::*;

    const MS: u64 = 1_000_000;
    const TICK: (u32, u32) = (1, 1);

    fn reading(at_ms: u64, cpu_ms: u64, runnable_ms: u64, switches: i32, running: u32) -> Option<Reading> {
        let usage = Usage { runnable_ticks: runnable_ms * MS, ..Usage::of(&usage(cpu_ms * MS, 1, 1)).unwrap() };
        let task = Task { running, ..Task::of(&task(1, 1, switches, 9)).unwrap() };
        Reading::of(&usage, &task, TICK, at_ms * MS)
    }

    #[test]
    fn what_a_thread_could_run_and_did_not_is_waiting() {
        let begun = reading(100, 40, 50, 7, 0).unwrap();
        let waits = reading(300, 40 + 190, 50 + 260, 27, 0).unwrap().since(&begun, 4).unwrap();
        let ms = Duration::from_millis;
        assert_eq!((waits.over, waits.running, waits.waiting), (ms(200), ms(190), ms(70)));
        assert_eq!((waits.slices, waits.threads, waits.threads_at_most, waits.cpus), (20, 2, 9, 4));
        assert_eq!((waits.preempted, waits.busy, waits.stolen), (None, None, None));
    }

    #[test]
    fn sums_that_do_not_hold_tell_nothing() {
        assert_eq!(reading(100, 40, 50, 7, 1), None, "a thread can still run: its time is not in the sum");
        assert_eq!(reading(100, 40, 0, 7, 0), None, "a kernel that does not count");
        let begun = reading(100, 40, 50, 7, 0).unwrap();
        assert_eq!(reading(300, 240, 60, 7, 0).unwrap().since(&begun, 4), None, "more on a CPU than able to run");
        assert_eq!(begun.since(&begun, 4), None, "no time");
    }
}
