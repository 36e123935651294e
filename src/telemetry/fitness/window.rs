//! What the machine does while nothing is measured.

use std::time::Duration;

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::super::{GROUPS, sources};

/// Figures over a short stretch of time; `None` where the system does not show them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// Share of all cores that was busy.
    pub busy_percent: Option<f64>,
    /// Share of CPU time that a hypervisor gave to others.
    pub steal_percent: Option<f64>,
    pub available_bytes: Option<u64>,
    pub swap_used_bytes: Option<u64>,
    /// Pages that went out to or came in from swap meanwhile.
    pub swapped_pages: Option<u64>,
}

impl Window {
    /// Watches for `length`, sleeping itself.
    pub fn watch(length: Duration) -> Self {
        let mut sources = sources(&GROUPS.map(str::to_owned));
        let names: Vec<Vec<String>> =
            sources.iter().map(|source| source.gauges().into_iter().map(|g| g.name).collect()).collect();
        let mut sample = || {
            let mut all = Vec::new();
            for (source, names) in sources.iter_mut().zip(&names) {
                let mut values = vec![None; names.len()];
                source.sample(None, &mut values);
                all.extend(names.iter().cloned().zip(values));
            }
            all
        };
        sample();
        let before = Counters::read();
        std::thread::sleep(length);
        let after = Counters::read();
        let gauges = sample();
        let value = |name: &str| gauges.iter().find(|(n, _)| n == name).and_then(|(_, value)| *value);
        Self {
            busy_percent: value("system_cpu_percent"),
            steal_percent: before.steal_percent(&after),
            available_bytes: value("available_memory_bytes").map(|bytes| bytes as u64),
            swap_used_bytes: swap_used(),
            swapped_pages: after.swapped.zip(before.swapped).map(|(after, before)| after.saturating_sub(before)),
        }
    }
}

fn swap_used() -> Option<u64> {
    let what = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_swap());
    System::new_with_specifics(what).ok().map(|system| system.used_swap())
}

/// Counters since boot that only Linux shows.
struct Counters {
    #[cfg(target_os = "linux")]
    ticks: Option<super::super::linux::CpuTicks>,
    swapped: Option<u64>,
}

impl Counters {
    #[cfg(target_os = "linux")]
    fn read() -> Self {
        use super::super::linux::{CpuTicks, number_after};
        let read = |path: &str| fs_err::read_to_string(path).ok();
        let pages = |text: String| Some(number_after(&text, "pswpin ")? + number_after(&text, "pswpout ")?);
        Self {
            ticks: read("/proc/stat").as_deref().and_then(CpuTicks::parse),
            swapped: read("/proc/vmstat").and_then(pages),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> Self {
        Self { swapped: None }
    }

    #[cfg(target_os = "linux")]
    fn steal_percent(&self, after: &Self) -> Option<f64> {
        let (before, after) = (self.ticks?, after.ticks?);
        super::super::percent(after.steal.checked_sub(before.steal), after.all.checked_sub(before.all))
    }

    #[cfg(not(target_os = "linux"))]
    fn steal_percent(&self, _after: &Self) -> Option<f64> {
        None
    }
}
