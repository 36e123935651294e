//! Resource usage of a process, from `proc_pid_rusage` and `proc_pidinfo`.

use super::layout::{long, proc_taskinfo, rusage_info_v4 as at, word};

/// Figures of `struct rusage_info_v4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time in the kernel's ticks.
    pub ticks: u64,
    /// Time in which threads could run, on a CPU or not, in the kernel's ticks.
    pub runnable_ticks: u64,
    pub wired_bytes: u64,
    pub resident_bytes: u64,
    /// Memory charged to the process: anonymous memory, including compressed and swapped memory,
    /// and its GPU memory.
    pub footprint_bytes: u64,
    /// Highest footprint since it was last reset; `None` if the kernel keeps none.
    pub interval_peak_bytes: Option<u64>,
    /// `None` if the machine does not count: a virtual machine reports zero for every process.
    pub instructions: Option<u64>,
    pub cycles: Option<u64>,
}

impl Usage {
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            ticks: long(bytes, at::USER_TIME)?.checked_add(long(bytes, at::SYSTEM_TIME)?)?,
            runnable_ticks: long(bytes, at::RUNNABLE_TIME)?,
            wired_bytes: long(bytes, at::WIRED_SIZE)?,
            resident_bytes: long(bytes, at::RESIDENT_SIZE)?,
            footprint_bytes: long(bytes, at::PHYS_FOOTPRINT)?,
            interval_peak_bytes: long(bytes, at::INTERVAL_MAX_PHYS_FOOTPRINT).filter(|bytes| *bytes > 0),
            instructions: long(bytes, at::INSTRUCTIONS).filter(|count| *count > 0),
            cycles: long(bytes, at::CYCLES).filter(|count| *count > 0),
        })
    }

    /// CPU time in nanoseconds, given the duration of a tick as a fraction of nanoseconds.
    pub fn cpu_ns(&self, tick: (u32, u32)) -> Option<u64> {
        ns(self.ticks, tick)
    }

    /// Time in which threads could run, in nanoseconds.
    pub fn runnable_ns(&self, tick: (u32, u32)) -> Option<u64> {
        ns(self.runnable_ticks, tick)
    }
}

fn ns(ticks: u64, (numerator, denominator): (u32, u32)) -> Option<u64> {
    let ns = u128::from(ticks) * u128::from(numerator);
    u64::try_from(ns.checked_div(u128::from(denominator))?).ok()
}

/// Figures of `struct proc_taskinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    pub threads: u32,
    /// Threads that can run now, on a CPU or not.
    pub running: u32,
    /// Faults served without reading, as in getrusage(2): all except page-ins.
    pub minor_faults: Option<u64>,
    pub major_faults: Option<u64>,
    /// Context switches of both kinds, which this structure does not separate.
    pub switches: Option<u64>,
}

impl Task {
    pub fn of(bytes: &[u8]) -> Option<Self> {
        // The kernel's counts are wider than these fields, which saturate.
        let count = |offset| word(bytes, offset).filter(|count| *count < i32::MAX as u32).map(u64::from);
        let (faults, page_ins) = (count(proc_taskinfo::FAULTS), count(proc_taskinfo::PAGEINS));
        Some(Self {
            threads: word(bytes, proc_taskinfo::THREADNUM)?,
            running: word(bytes, proc_taskinfo::NUMRUNNING)?,
            minor_faults: faults.zip(page_ins).and_then(|(faults, page_ins)| faults.checked_sub(page_ins)),
            major_faults: page_ins,
            switches: count(proc_taskinfo::SWITCHES),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `struct rusage_info_v4` in the header's order, with distinct numbers.
    pub fn usage(ticks: u64, resident: u64, instructions: u64) -> Vec<u8> {
        let mut bytes = vec![0xab; 16];
        let mut numbers: Vec<u64> = (1..=35).map(|n| 1_000_000_000_000 + n).collect();
        // user, system, idle wake-ups, interrupts, page-ins, wired, resident, footprint
        numbers[..8].copy_from_slice(&[
            ticks / 4 * 3,
            ticks - ticks / 4 * 3,
            11,
            12,
            13,
            16384,
            resident,
            resident + 7,
        ]);
        // ..., life's highest footprint, instructions, cycles, billed energy, serviced energy, the
        // interval's highest footprint, runnable time
        numbers[28..].copy_from_slice(&[21, instructions, instructions / 2, 24, 25, 26, 27]);
        bytes.extend(numbers.iter().flat_map(|n| n.to_ne_bytes()));
        bytes
    }

    /// The same with these footprints, the second since the last reset.
    pub fn usage_of(footprint: u64, interval_peak: u64) -> Vec<u8> {
        let mut bytes = usage(1, 1, 1);
        bytes[at::PHYS_FOOTPRINT..][..8].copy_from_slice(&footprint.to_ne_bytes());
        bytes[at::INTERVAL_MAX_PHYS_FOOTPRINT..][..8].copy_from_slice(&interval_peak.to_ne_bytes());
        bytes
    }

    /// `struct proc_taskinfo` in the header's order.
    pub fn task(faults: i32, page_ins: i32, switches: i32, threads: i32) -> Vec<u8> {
        let mut bytes: Vec<u8> = (1..=6_u64).flat_map(|n| (n << 40).to_ne_bytes()).collect();
        // policy, faults, page-ins, copies on write, messages sent, received, system calls,
        // switches, threads, running, priority
        let words = [1, faults, page_ins, 44, 45, 46, 47, 48, switches, threads, 2, 31];
        bytes.extend(words.iter().flat_map(|n| n.to_ne_bytes()));
        bytes
    }

    #[test]
    fn each_figure_comes_from_its_own_field() {
        let bytes = usage(4000, 1 << 30, 900);
        assert_eq!(bytes.len(), 296, "the structure's size");
        let usage = Usage::of(&bytes).unwrap();
        let expected = Usage {
            ticks: 4000,
            runnable_ticks: 27,
            wired_bytes: 16384,
            resident_bytes: 1 << 30,
            footprint_bytes: (1 << 30) + 7,
            interval_peak_bytes: Some(26),
            instructions: Some(900),
            cycles: Some(450),
        };
        assert_eq!(usage, expected);
        let bytes = task(5000, 300, 77, 9);
        assert_eq!(bytes.len(), 96, "the structure's size");
        let task =
            Task { threads: 9, running: 2, minor_faults: Some(4700), major_faults: Some(300), switches: Some(77) };
        assert_eq!(Task::of(&bytes), Some(task));
    }

    #[test]
    fn ticks_are_nanoseconds_only_by_the_machines_fraction() {
        // 24 MHz: a second on Apple Silicon.
        let usage = Usage::of(&usage(24_000_000, 0, 0)).unwrap();
        assert_eq!(usage.cpu_ns((125, 3)), Some(1_000_000_000));
        assert_eq!(usage.cpu_ns((1, 1)), Some(24_000_000));
        assert_eq!(usage.cpu_ns((1, 0)), None);
    }

    #[test]
    fn what_is_not_counted_is_absent() {
        let usage = Usage::of(&usage(1, 1, 0)).unwrap();
        assert_eq!((usage.instructions, usage.cycles), (None, None));
        let full = Task::of(&task(i32::MAX, 300, 1, 1)).unwrap();
        assert_eq!((full.minor_faults, full.major_faults), (None, Some(300)));
        assert_eq!((Usage::of(&[0; 40]), Task::of(&[0; 40])), (None, None));
    }
}
