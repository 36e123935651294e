//! What the kernel counted over one request: how long the engine host waited for a CPU, and what
//! the whole machine did meanwhile. A sum before and a sum after, so that requests of any length
//! can be measured; gauges need several samples.
//!
//! Linux only. macOS sums the waiting of a process too (`ri_runnable_time`), but nobody has checked
//! what it contains.

use std::time::Duration;

use super::lacking;

/// Counts of a request, or their sum over the turns of an iteration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// The time from the first reading to the second.
    pub over: Duration,
    /// Time in which the threads that do the work were ready to run and had no CPU (run-queue
    /// delay), summed over them.
    pub waiting: Duration,
    /// Time of all threads on a CPU. Threads that ended in between are missing.
    pub running: Duration,
    /// How often a thread that does the work was given a CPU.
    pub slices: u64,
    /// How often a thread that could have gone on was taken off its CPU (involuntary switches).
    pub preempted: u64,
    /// Threads that do the work: each ran for a twentieth of `running` or more. Of several turns
    /// the most.
    pub threads: u32,
    /// CPUs that the process may use.
    pub cpus: u32,
    /// CPU time of all programs of the machine, in ticks of 10 ms. `None` if unknown.
    pub busy: Option<Duration>,
    /// CPU time that other guests of the host machine took, in the same ticks.
    pub stolen: Option<Duration>,
}

impl Waits {
    /// The sums of two requests of the same process.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let both = |a: Option<Duration>, b: Option<Duration>| Some(a? + b?);
        Self {
            over: self.over + other.over,
            waiting: self.waiting + other.waiting,
            running: self.running + other.running,
            slices: self.slices + other.slices,
            preempted: self.preempted + other.preempted,
            threads: self.threads.max(other.threads),
            cpus: self.cpus.min(other.cpus),
            busy: both(self.busy, other.busy),
            stolen: both(self.stolen, other.stolen),
        }
    }
}

/// Turns these counters off in a debug build, so that a test does not depend on how busy the
/// machine is.
pub const OFF_VARIABLE: &str = "INFEROMETER_NO_WAITS";

/// The first reading.
#[derive(Debug)]
pub struct WaitMeter {
    #[cfg(target_os = "linux")]
    begun: super::linux::Waiting,
}

impl WaitMeter {
    /// Reads the counters; `None` where the kernel does not have them.
    #[must_use]
    pub fn start(pid: u32) -> Option<Self> {
        if lacking::macos() || cfg!(debug_assertions) && std::env::var_os(OFF_VARIABLE).is_some() {
            return None;
        }
        #[cfg(target_os = "linux")]
        return Some(Self { begun: super::linux::Waiting::of(pid)? });
        #[cfg(not(target_os = "linux"))]
        {
            let _ = pid;
            None
        }
    }

    /// Reads them again; `None` if the process has ended.
    #[must_use]
    pub fn stop(self) -> Option<Waits> {
        #[cfg(target_os = "linux")]
        return self.begun.since();
        #[cfg(not(target_os = "linux"))]
        None
    }
}
