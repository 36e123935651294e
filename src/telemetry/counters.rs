//! Instructions and cycles that another process uses from one moment to another.
//!
//! Linux counts in user mode, the threads that the process has at the start and all that these start. macOS counts the
//! whole process, the kernel's work for it included.

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub instructions: u64,
    pub cycles: u64,
}

/// Counting that goes on.
#[derive(Debug)]
pub struct Counters {
    #[cfg(target_os = "linux")]
    counters: super::linux::Counters,
    /// The process, and what it had used before.
    #[cfg(target_os = "macos")]
    before: (u32, (u64, u64)),
}

impl Counters {
    /// Counts what the process does from now on.
    ///
    /// # Errors
    /// Why that cannot be done here: no counters in this machine, no permission, no such process.
    pub fn start(pid: u32) -> Result<Self, String> {
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
            Err("this system's counters are not read".to_owned())
        }
    }

    /// What was counted since the start; `None` where the process has ended, or the processor was never free to count.
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
