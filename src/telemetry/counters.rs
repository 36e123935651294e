//! Counts the instructions and cycles of another process over an interval.
//!
//! Linux counts in user mode, for the threads that exist at the start and all threads that they
//! start. macOS counts the whole process, including the kernel's work for it.

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub instructions: u64,
    pub cycles: u64,
}

/// Running counters.
#[derive(Debug)]
pub struct Counters {
    #[cfg(target_os = "linux")]
    counters: super::linux::Counters,
    /// The process, and its counts at the start.
    #[cfg(target_os = "macos")]
    before: (u32, (u64, u64)),
}

impl Counters {
    /// Starts counting.
    ///
    /// # Errors
    /// Why counting is impossible: no counters on this machine, no permission, no such process.
    pub fn start(pid: u32) -> Result<Self, String> {
        if super::lacking::macos() {
            return Err(super::lacking::WHY.to_owned());
        }
        #[cfg(target_os = "linux")]
        return Ok(Self { counters: super::linux::Counters::start(pid)? });
        #[cfg(target_os = "macos")]
        {
            let none = || "this processor does not count instructions".to_owned();
            Ok(Self { before: (pid, super::apple::counts(pid)?.ok_or_else(none)?) })
        }
        #[cfg(not(any(target_os = "linux", target_os = "macos")))]
        {
            let _ = pid;
            Err("counters are not supported on this system".to_owned())
        }
    }

    /// The counts since the start; `None` if the process has ended, or the processor never had a
    /// free counter.
    #[must_use]
    pub fn stop(self) -> Option<Counts> {
        #[cfg(target_os = "linux")]
        {
            let mut counters = self.counters;
            let [instructions, cycles] = counters.read()?;
            Some(Counts { instructions: instructions as u64, cycles: cycles as u64 })
        }
        #[cfg(target_os = "macos")]
        {
            let (pid, (instructions, cycles)) = self.before;
            let now = super::apple::counts(pid).ok()??;
            Some(Counts { instructions: now.0.checked_sub(instructions)?, cycles: now.1.checked_sub(cycles)? })
        }
        #[cfg(not(any(target_os = "linux", target_os = "macos")))]
        None
    }
}
