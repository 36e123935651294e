//! What the kernel counted over one request: how long the engine host waited for a CPU, and what
//! the whole machine did meanwhile. A sum before and a sum after, so that requests of any length
//! can be measured; gauges need several samples.
//!
//! Linux counts each thread. macOS has sums of the process, which tell less: see
//! `apple/waiting.rs`.

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
    /// `None` if unknown.
    pub preempted: Option<u64>,
    /// Threads that do the work: each ran for a twentieth of `running` or more; on macOS the
    /// average number of those that could run. Of several turns the most.
    pub threads: u32,
    /// The same where it is not known exactly: no more than these.
    pub threads_at_most: u32,
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
            preempted: self.preempted.zip(other.preempted).map(|(a, b)| a + b),
            threads: self.threads.max(other.threads),
            threads_at_most: self.threads_at_most.max(other.threads_at_most),
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
    #[cfg(target_os = "macos")]
    pid: u32,
    #[cfg(target_os = "macos")]
    begun: super::apple::Reading,
}

/// How long after a request the process may take to rest.
#[cfg(target_os = "macos")]
const RESTS_WITHIN: Duration = Duration::from_millis(5);

impl WaitMeter {
    /// Reads the counters; `None` where the kernel does not have them.
    #[must_use]
    pub fn start(pid: u32) -> Option<Self> {
        if lacking::macos() || cfg!(debug_assertions) && std::env::var_os(OFF_VARIABLE).is_some() {
            return None;
        }
        #[cfg(target_os = "linux")]
        return Some(Self { begun: super::linux::Waiting::of(pid)? });
        #[cfg(target_os = "macos")]
        return Some(Self { pid, begun: super::apple::waiting(pid)? });
        #[cfg(not(any(target_os = "linux", target_os = "macos")))]
        {
            let _ = pid;
            None
        }
    }

    /// Reads them again; `None` if the process has ended, or the counters do not tell.
    #[must_use]
    pub fn stop(self) -> Option<Waits> {
        #[cfg(target_os = "linux")]
        return self.begun.since();
        #[cfg(target_os = "macos")]
        {
            let cpus = u32::try_from(std::thread::available_parallelism().ok()?.get()).ok()?;
            let asked = std::time::Instant::now();
            loop {
                match super::apple::waiting(self.pid) {
                    Some(now) => return now.since(&self.begun, cpus),
                    // The reply has just been written: its thread is about to wait for the next
                    // request.
                    None if asked.elapsed() < RESTS_WITHIN => std::thread::sleep(Duration::from_micros(200)),
                    None => return None,
                }
            }
        }
        #[cfg(not(any(target_os = "linux", target_os = "macos")))]
        None
    }
}
