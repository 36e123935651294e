//! Activity of the machine while nothing is measured.

use std::time::Duration;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use crate::telemetry::panel::Panel;
use crate::telemetry::{GROUPS, sources};

/// Gauges over a short interval; `None` if the system does not report them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Window {
    /// Share of all cores that was busy.
    pub busy_percent: Option<f64>,
    /// Share of CPU time that a hypervisor gave to others.
    pub steal_percent: Option<f64>,
    pub available_bytes: Option<u64>,
    pub swap_used_bytes: Option<u64>,
    /// Memory swapped out and in during the interval.
    pub swap_bytes_per_s: Option<f64>,
    pub throttles_per_s: Option<f64>,
    /// 0 nominal to 3 critical.
    pub thermal_pressure: Option<f64>,
    /// 1 if on battery.
    pub on_battery: Option<f64>,
    pub low_power_mode: Option<f64>,
    pub gpu_percent: Option<f64>,
    /// NVML's bit mask.
    pub gpu_throttle_reasons: Option<f64>,
    /// Other processes with the most CPU use, in percent of one core, the busiest first.
    pub busiest: Vec<(String, f64)>,
}

/// How many processes are listed, and the smallest CPU use listed.
const NAMED: usize = 3;
const NAMED_FROM_PERCENT: f64 = 5.0;

impl Window {
    /// Samples for `length`, sleeping meanwhile.
    pub fn watch(length: Duration) -> Self {
        let mut panel = Panel::of_groups(&GROUPS.map(str::to_owned), sources());
        let mut processes = Processes::watch();
        let before = panel.sample(None);
        std::thread::sleep(length);
        let after = panel.sample(None);
        let busiest = processes.busiest();
        // Slow sources may have been read by the first sample only.
        let value = |name: &str| {
            let at = panel.gauges().iter().position(|gauge| gauge.name == name)?;
            after[at].or(before[at])
        };
        let swapped = [value("swap_in_bytes_per_s"), value("swap_out_bytes_per_s")];
        Self {
            busy_percent: value("system_cpu_percent"),
            steal_percent: value("steal_percent"),
            available_bytes: value("available_memory_bytes").map(|bytes| bytes as u64),
            swap_used_bytes: value("swap_used_bytes").map(|bytes| bytes as u64),
            swap_bytes_per_s: swapped.into_iter().flatten().reduce(|a, b| a + b),
            throttles_per_s: value("thermal_throttles_per_s"),
            thermal_pressure: value("thermal_pressure"),
            on_battery: value("on_battery"),
            low_power_mode: value("low_power_mode"),
            gpu_percent: value("gpu_percent"),
            gpu_throttle_reasons: value("gpu_throttle_reasons"),
            busiest,
        }
    }
}

/// CPU use of every process, from the call of `watch` on.
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

/// A process chooses its own name: only plain characters reach the terminal.
fn named(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_named() {
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut processes = Processes::watch();
        let mut found = false;
        // On a busy machine it may take a while to become one of the first.
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
