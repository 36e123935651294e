//! What the machine does while nothing is measured.

use std::time::Duration;

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use super::super::panel::Panel;
use super::super::{GROUPS, sources};

/// Figures over a short stretch of time; `None` where the system does not show them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Window {
    /// Share of all cores that was busy.
    pub busy_percent: Option<f64>,
    /// Share of CPU time that a hypervisor gave to others.
    pub steal_percent: Option<f64>,
    pub available_bytes: Option<u64>,
    pub swap_used_bytes: Option<u64>,
    /// Pages that went out to or came in from swap meanwhile.
    pub swapped_pages: Option<u64>,
    /// Other processes that used the CPU most, in percent of one core, the busiest first.
    pub busiest: Vec<(String, f64)>,
}

/// How many processes are named, and from how much CPU on.
const NAMED: usize = 3;
const NAMED_FROM_PERCENT: f64 = 5.0;

impl Window {
    /// Watches for `length`, sleeping itself.
    pub fn watch(length: Duration) -> Self {
        let mut panel = Panel::of_groups(&GROUPS.map(str::to_owned), sources());
        let mut processes = Processes::watch();
        panel.sample(None);
        let before = Counters::read();
        std::thread::sleep(length);
        let after = Counters::read();
        let values = panel.sample(None);
        let busiest = processes.busiest();
        let value = |name: &str| panel.gauges().iter().position(|gauge| gauge.name == name).and_then(|at| values[at]);
        Self {
            busy_percent: value("system_cpu_percent"),
            steal_percent: before.steal_percent(&after),
            available_bytes: value("available_memory_bytes").map(|bytes| bytes as u64),
            swap_used_bytes: swap_used(),
            swapped_pages: after.swapped.zip(before.swapped).map(|(after, before)| after.saturating_sub(before)),
            busiest,
        }
    }
}

/// What every process of the machine uses, from the call of `watch` on.
struct Processes(Option<System>);

impl Processes {
    fn watch() -> Self {
        let mut processes = Self(System::new().ok());
        processes.refresh();
        processes
    }

    fn refresh(&mut self) {
        if let Some(system) = &mut self.0 {
            let what = ProcessRefreshKind::nothing().with_cpu().without_tasks();
            system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
        }
    }

    fn busiest(&mut self) -> Vec<(String, f64)> {
        self.refresh();
        let Some(system) = &self.0 else { return Vec::new() };
        let mut all: Vec<(String, f64)> = system
            .processes()
            .values()
            .filter(|process| process.pid().as_u32() != std::process::id())
            .map(|process| (named(&process.name().to_string_lossy()), f64::from(process.cpu_usage())))
            .filter(|(_, percent)| *percent >= NAMED_FROM_PERCENT)
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(NAMED);
        all
    }
}

/// A process chooses its name itself: nothing in it reaches the terminal but plain characters.
fn named(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).take(40).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_named() {
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut processes = Processes::watch();
        let mut found = false;
        // On a machine with much else to do it may take a while to be among the first.
        for _ in 0..100 {
            std::thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
            let busiest = processes.busiest();
            assert!(busiest.len() <= NAMED && busiest.is_sorted_by(|a, b| a.1 >= b.1), "{busiest:?}");
            found = !busiest.is_empty();
            if found {
                break;
            }
        }
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(found);
        assert_eq!(named("a\x1b[31mb"), "a?[31mb");
    }
}
