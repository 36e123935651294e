//! The whole machine: CPU, load, memory and swap.

use super::super::pace::{Pace, Rate};
use super::super::{Source, gauge, percent};
use super::file::{ProcFile, Root, number_after};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

/// Ticks are 10 ms long, and the kernel also writes lines for every core and interrupt.
const STAT_EVERY_MS: u64 = 100;
const MEMORY_EVERY_MS: u64 = 250;
const SWAP_EVERY_MS: u64 = 100;
/// The kernel updates the load average every five seconds.
const LOAD_EVERY_MS: u64 = 1000;

/// `system_cpu_percent` and `steal_percent` from the first line of `/proc/stat`.
pub(super) struct SystemCpu {
    pace: Pace,
    file: Result<ProcFile, String>,
    last: Option<CpuTicks>,
}

/// Ticks of all cores since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTicks {
    pub busy: u64,
    pub all: u64,
    /// Included in busy: another guest ran while this machine had work.
    pub steal: u64,
}

impl CpuTicks {
    /// Parses the first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq,
    /// softirq, steal; later fields are already included in user and nice.
    pub fn parse(text: &str) -> Option<Self> {
        let mut ticks = [0_u64; 8];
        let mut fields = text.strip_prefix("cpu ")?.lines().next()?.split_whitespace();
        for (at, tick) in ticks.iter_mut().enumerate() {
            *tick = match fields.next() {
                Some(field) => field.parse().ok()?,
                // Kernels before 2.6.11 have fewer fields, but always the first four.
                None if at >= 4 => 0,
                None => return None,
            };
        }
        let all: u64 = ticks.iter().sum();
        Some(Self { busy: all - ticks[3] - ticks[4], all, steal: ticks[7] })
    }
}

const STAT_BYTES: usize = 256;

impl SystemCpu {
    pub fn new(root: &Root) -> Self {
        let file = ProcFile::tried(root.path("proc/stat"), STAT_BYTES);
        Self { pace: Pace::often(STAT_EVERY_MS), file, last: None }
    }
}

impl Source for SystemCpu {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = self.file.as_ref().err();
        ["system_cpu_percent", "steal_percent"].map(|name| gauge(name, "/proc/stat", absent.cloned())).to_vec()
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(file) = &mut self.file else { return };
        let last = &mut self.last;
        self.pace.when_due(|| {
            let ticks = file.read().and_then(CpuTicks::parse);
            if let (Some(last), Some(now)) = (*last, ticks) {
                let all = now.all.checked_sub(last.all);
                let share = |part: Option<u64>| percent(part, all).map(|p| p.min(100.0));
                values[0] = share(now.busy.checked_sub(last.busy));
                values[1] = share(now.steal.checked_sub(last.steal));
            }
            *last = ticks;
        });
    }
}

/// `load_1m` from `/proc/loadavg`.
pub(super) struct Load {
    file: Result<ProcFile, String>,
    pace: Pace,
}

impl Load {
    pub fn new(root: &Root) -> Self {
        Self { file: ProcFile::tried(root.path("proc/loadavg"), 64), pace: Pace::at_most_every(LOAD_EVERY_MS) }
    }
}

impl Source for Load {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("load_1m", "/proc/loadavg", self.file.as_ref().err().cloned())]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(file) = &mut self.file else { return };
        self.pace.when_due(|| {
            values[0] = file.read().and_then(|text| text.split_whitespace().next()?.parse().ok());
        });
    }
}

/// `available_memory_bytes` and `swap_used_bytes` from `/proc/meminfo`.
pub(super) struct SystemMemory {
    file: Result<ProcFile, String>,
    pace: Pace,
}

impl SystemMemory {
    pub fn new(root: &Root) -> Self {
        Self { file: ProcFile::tried(root.path("proc/meminfo"), 1024), pace: Pace::at_most_every(MEMORY_EVERY_MS) }
    }
}

impl Source for SystemMemory {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = self.file.as_ref().err();
        let named = [("available_memory_bytes", "MemAvailable"), ("swap_used_bytes", "SwapTotal - SwapFree")];
        named.map(|(name, what)| gauge(name, &format!("{what} of /proc/meminfo"), absent.cloned())).to_vec()
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(file) = &mut self.file else { return };
        self.pace.when_due(|| {
            let Some(text) = file.read() else { return };
            let bytes = |name| number_after(text, name).map(|kib| kib as f64 * 1024.0);
            values[0] = bytes("MemAvailable:");
            values[1] = bytes("SwapTotal:").zip(bytes("SwapFree:")).map(|(total, free)| total - free);
        });
    }
}

/// `swap_in_bytes_per_s` and `swap_out_bytes_per_s` from `/proc/vmstat`.
pub(super) struct Swapping {
    file: Result<ProcFile, String>,
    pace: Pace,
    rates: [Rate; 2],
}

/// The file is long, and the lines about swapping are in the middle.
const VMSTAT_BYTES: usize = 16_384;
const SWAP_LINES: [&str; 2] = ["pswpin ", "pswpout "];

impl Swapping {
    pub fn new(root: &Root) -> Self {
        let file = ProcFile::tried(root.path("proc/vmstat"), VMSTAT_BYTES).and_then(|mut file| {
            let text = file.read().unwrap_or_default();
            let known = SWAP_LINES.iter().all(|line| number_after(text, line).is_some());
            known.then_some(file).ok_or_else(|| "/proc/vmstat does not count swapped pages".to_owned())
        });
        Self { file, pace: Pace::often(SWAP_EVERY_MS), rates: Default::default() }
    }
}

impl Source for Swapping {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = self.file.as_ref().err();
        let named = [("swap_in_bytes_per_s", "pswpin"), ("swap_out_bytes_per_s", "pswpout")];
        named.map(|(name, what)| gauge(name, &format!("{what} of /proc/vmstat"), absent.cloned())).to_vec()
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(file) = &mut self.file else { return };
        let rates = &mut self.rates;
        self.pace.when_due(|| {
            let Some(text) = file.read() else { return };
            let (now, page) = (now_ns(), page_bytes());
            for ((value, rate), line) in values.iter_mut().zip(rates).zip(SWAP_LINES) {
                *value = rate.per_s(now, number_after(text, line).map(|pages| pages as f64 * page));
            }
        });
    }
}

fn page_bytes() -> f64 {
    unsafe extern "C" {
        /// getpagesize(2)
        safe fn getpagesize() -> std::ffi::c_int;
    }
    f64::from(getpagesize())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{put, read, root};
    use super::*;

    #[test]
    fn the_line_of_all_cores_is_summed_without_counting_guests_twice() {
        let text = "cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(CpuTicks::parse(text), Some(CpuTicks { busy: 171, all: 621, steal: 8 }));
        assert_eq!(CpuTicks::parse("cpu  1 2 3 4\n"), Some(CpuTicks { busy: 6, all: 10, steal: 0 }));
        assert_eq!(CpuTicks::parse("cpu  1 2 3\n"), None);
        assert_eq!(CpuTicks::parse("cpu0 1 2 3 4 5 6 7 8\n"), None);
    }

    #[test]
    fn shares_are_of_all_cores_since_the_last_reading() {
        let dir = root();
        put(dir.path(), "proc/stat", "cpu  100 0 0 900 0 0 0 0 0 0\n");
        let mut cpu = SystemCpu::new(&Root::at(dir.path()));
        assert_eq!(read(&mut cpu, None), [None, None]);
        put(dir.path(), "proc/stat", "cpu  150 0 0 940 0 0 0 10 0 0\n");
        assert_eq!(read(&mut cpu, None), [None, None], "not due yet");
        cpu.pace = Pace::often(0);
        assert_eq!(read(&mut cpu, None), [Some(60.0), Some(10.0)]);
    }

    #[test]
    fn memory_and_swap_are_given_in_bytes() {
        let dir = root();
        put(dir.path(), "proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 4 kB\nSwapTotal: 8 kB\nSwapFree: 6 kB\n");
        put(dir.path(), "proc/vmstat", "nr_free 1\npswpin 10\npswpout 20\n");
        put(dir.path(), "proc/loadavg", "1.25 0.5 0.1 1/100 999\n");
        let root = Root::at(dir.path());
        assert_eq!(read(&mut SystemMemory::new(&root), None), [Some(4096.0), Some(2048.0)]);
        assert_eq!(read(&mut Load::new(&root), None), [Some(1.25)]);
        let mut swapping = Swapping::new(&root);
        assert_eq!(read(&mut swapping, None), [None, None]);
        put(dir.path(), "proc/vmstat", "nr_free 1\npswpin 10\npswpout 21\n");
        swapping.pace = Pace::at_most_every(0);
        let values = read(&mut swapping, None);
        assert!(values[0] == Some(0.0) && values[1] > Some(0.0), "{values:?}");
        put(dir.path(), "proc/vmstat", "nr_free 1\n");
        assert!(Swapping::new(&root).gauges()[0].absent.is_some());
    }
}
