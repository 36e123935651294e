//! Peak memory from the kernel's high-water mark, which misses no peak between two samples.
//!
//! Linux can reset a process's mark (`clear_refs`, proc_pid_clear_refs(5)), so that it covers one
//! request. macOS keeps only a mark over the life of a process, which says nothing about a later
//! request, so there is no peak there.

/// The high-water mark of a process since a [`reset`]. A mark can only be read through this value,
/// so it is never stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    pid: u32,
}

/// Sets the high-water mark of the process's resident memory to its current size.
///
/// # Errors
/// Why the peak cannot be measured: the system has no such reset, or does not permit it.
pub fn reset(pid: u32) -> Result<Peak, String> {
    #[cfg(target_os = "linux")]
    {
        let path = format!("/proc/{pid}/clear_refs");
        // "5": reset the peak resident set size.
        match fs_err::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut f| std::io::Write::write_all(&mut f, b"5"))
        {
            Ok(()) => Ok(Peak { pid }),
            Err(e) => Err(format!("cannot reset the kernel's high-water mark: {e}")),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        Err("this system cannot reset the high-water mark of memory".to_owned())
    }
}

impl Peak {
    /// Highest resident memory in bytes since the reset; `None` when the process has ended.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        #[cfg(target_os = "linux")]
        {
            let status = fs_err::read(format!("/proc/{}/status", self.pid)).ok()?;
            super::linux::number_after(&String::from_utf8_lossy(&status), "VmHWM:").map(|kib| kib * 1024)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = self.pid;
            None
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_peak_between_two_looks_is_seen_and_a_reset_forgets_it() {
        let own = std::process::id();
        let mark = reset(own).unwrap();
        // The allocator gets a block of this size directly from the kernel and returns it at once.
        drop(std::hint::black_box(vec![1_u8; 256 * MIB as usize]));
        let high = mark.read().unwrap();
        assert!(high > 256 * MIB, "{high}");
        let after = reset(own).unwrap().read().unwrap();
        assert!(after < high - 128 * MIB, "{after} after {high}");
    }

    #[test]
    fn a_process_that_has_ended_has_no_peak() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mark = reset(child.id()).unwrap();
        assert!(mark.read().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(mark.read(), None);
        assert!(reset(child.id()).unwrap_err().contains("cannot reset"));
    }
}
