//! Peak memory from the kernel's high-water mark, which misses no peak between two samples.
//!
//! Both systems can reset a process's mark, so that it covers one request. Linux keeps resident
//! memory (`clear_refs`, proc_pid_clear_refs(5)). macOS keeps the footprint (XNU's
//! `proc_reset_footprint_interval`, a function of libSystem without a public header, so it is
//! looked up at run time). Where there is no such mark, samples and [`current`] are what is left.

/// What a high-water mark is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Resident memory of the process.
    Resident,
    /// Memory that the system charges to the process, compressed memory included.
    Footprint,
}

/// The highest memory of a process since a [`reset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct High {
    pub of: Of,
    pub bytes: u64,
}

/// The high-water mark of a process since a [`reset`]. A mark can only be read through this value,
/// so it is never stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    pid: u32,
}

/// Sets the high-water mark of the process's memory to its current size.
///
/// # Errors
/// Why the peak cannot be measured: the system has no such reset, or does not permit it.
pub fn reset(pid: u32) -> Result<Peak, String> {
    if super::lacking::macos() {
        return Err(super::lacking::WHY.to_owned());
    }
    set(pid).map(|()| Peak { pid })
}

#[cfg(target_os = "linux")]
fn set(pid: u32) -> Result<(), String> {
    let mut file = fs_err::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/clear_refs"))
        .map_err(|e| format!("cannot reset the kernel's high-water mark: {e}"))?;
    // "5": reset the peak resident set size.
    std::io::Write::write_all(&mut file, b"5").map_err(|e| format!("cannot reset the kernel's high-water mark: {e}"))
}

#[cfg(target_os = "macos")]
fn set(pid: u32) -> Result<(), String> {
    super::apple::reset_peak(pid)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn set(_: u32) -> Result<(), String> {
    Err("this system cannot reset the high-water mark of memory".to_owned())
}

impl Peak {
    /// Highest memory since the reset; `None` when the process has ended.
    #[must_use]
    pub fn read(&self) -> Option<High> {
        #[cfg(target_os = "linux")]
        {
            let status = fs_err::read(format!("/proc/{}/status", self.pid)).ok()?;
            let kib = super::linux::number_after(&String::from_utf8_lossy(&status), "VmHWM:")?;
            Some(High { of: Of::Resident, bytes: kib * 1024 })
        }
        #[cfg(target_os = "macos")]
        return Some(High { of: Of::Footprint, bytes: super::apple::peak(self.pid)? });
        #[cfg(not(any(target_os = "linux", target_os = "macos")))]
        {
            let _ = self.pid;
            None
        }
    }
}

/// Memory of the process now, in bytes: its footprint on macOS, else resident memory. `None` if the
/// system does not report it or the process has ended.
#[must_use]
pub fn current(pid: u32) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        if super::lacking::macos() {
            return super::linux::footprint(pid);
        }
        let status = fs_err::read(format!("/proc/{pid}/status")).ok()?;
        super::linux::number_after(&String::from_utf8_lossy(&status), "VmRSS:").map(|kib| kib * 1024)
    }
    #[cfg(target_os = "macos")]
    return super::apple::footprint(pid);
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = pid;
        None
    }
}

/// The gauge whose samples stand for a missing mark: the first of these that can be read.
pub const SAMPLED: [&str; 2] = ["footprint_bytes", "rss_bytes"];

/// Memory of the process in huge pages, in bytes; `None` if the system does not say. Walks the
/// process's page tables: not for timed work.
#[must_use]
pub fn in_huge_pages(pid: u32) -> Option<u64> {
    if super::lacking::macos() {
        return None;
    }
    let text = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::lacking;
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_peak_between_two_looks_is_seen_and_a_reset_forgets_it() {
        if lacking::leaves_out("the kernel's high-water mark") {
            return;
        }
        let own = std::process::id();
        let mark = reset(own).unwrap();
        // The allocator gets a block of this size directly from the kernel and returns it at once.
        drop(std::hint::black_box(vec![1_u8; 256 * MIB as usize]));
        let high = mark.read().unwrap();
        assert!(high.of == Of::Resident && high.bytes > 256 * MIB, "{high:?}");
        let after = reset(own).unwrap().read().unwrap();
        assert!(after.bytes < high.bytes - 128 * MIB, "{after:?} after {high:?}");
        let now = current(own).unwrap();
        assert!(now <= after.bytes + 128 * MIB, "{now} after {after:?}");
    }

    #[test]
    fn a_process_that_has_ended_has_no_peak() {
        if lacking::leaves_out("the kernel's high-water mark") {
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mark = reset(child.id()).unwrap();
        assert!(mark.read().is_some() && current(child.id()).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((mark.read(), current(child.id())), (None, None));
        assert!(reset(child.id()).unwrap_err().contains("cannot reset"));
    }

    #[test]
    fn linux_says_how_much_is_in_huge_pages() {
        assert_eq!(in_huge_pages(std::process::id()).is_some(), !lacking::macos());
        assert_eq!(in_huge_pages(u32::MAX), None);
    }
}
