//! Gauges from the kernel's and the system's figures. Each source is constructed with the call that
//! it reads through.

use super::memory::Pages;
use super::process::{Task, Usage};
use super::state::State;
use crate::spec::GaugeInfo;
use crate::telemetry::pace::{Pace, Rate};
use crate::telemetry::{Source, gauge};
use inferometer_protocol::clock::now_ns;

/// Assigns the values to the places.
fn fill<const N: usize>(places: &mut [Option<f64>], values: [Option<f64>; N]) {
    for (place, value) in places.iter_mut().zip(values) {
        *place = value;
    }
}

fn number(value: u64) -> Option<f64> {
    Some(value as f64)
}

/// CPU time, instructions, cycles and memory of the process, from one `proc_pid_rusage`.
pub(super) struct ProcessUsage<R> {
    read: R,
    tick: (u32, u32),
    /// Why nothing can be read, or why nothing is counted.
    absent: Option<String>,
    uncounted: Option<String>,
    target: Option<u32>,
    cpu: Rate,
    instructions: Rate,
    cycles: Rate,
}

impl<R: FnMut(u32) -> Result<Vec<u8>, String>> ProcessUsage<R> {
    /// Reads this process to see what is available. `tick`: the duration of a tick of the kernel's
    /// clock in nanoseconds, as a fraction.
    pub fn new(mut read: R, tick: (u32, u32)) -> Self {
        let own = read(std::process::id());
        let usage = own.as_ref().map(|bytes| Usage::of(bytes));
        let (absent, uncounted) = match usage {
            Err(why) => (Some(why.clone()), Some(why.clone())),
            Ok(None) => (Some(SHORT.to_owned()), Some(SHORT.to_owned())),
            Ok(Some(Usage { instructions: Some(_), cycles: Some(_), .. })) => (None, None),
            Ok(Some(_)) => {
                let why = "the kernel does not count them on this machine (a virtual machine?)";
                (None, Some(why.to_owned()))
            }
        };
        let (cpu, instructions, cycles) = Default::default();
        Self { read, tick, absent, uncounted, target: None, cpu, instructions, cycles }
    }
}

/// Time between two calls of `host_statistics64`: the kernel's smallest number of fresh answers a
/// second is two.
const STATISTICS_EVERY_NS: u64 = 500_000_000;
/// A call is due this long before its time, since samples lie on a grid with jitter.
const SLACK_NS: u64 = 2_000_000;

const SHORT: &str = "this kernel does not fill in these fields";

impl<R: FnMut(u32) -> Result<Vec<u8>, String> + Send> Source for ProcessUsage<R> {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let of = |name, field: &str, absent: &Option<String>| {
            gauge(name, &format!("{field} of proc_pid_rusage"), absent.clone())
        };
        vec![
            of("process_cpu_percent", "ri_user_time and ri_system_time", &self.absent),
            of("process_instructions_per_s", "ri_instructions", &self.uncounted),
            of("process_cycles_per_s", "ri_cycles", &self.uncounted),
            of("rss_bytes", "ri_resident_size", &self.absent),
            of("footprint_bytes", "ri_phys_footprint", &self.absent),
            of("process_wired_bytes", "ri_wired_size", &self.absent),
        ]
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        if self.target != target {
            self.target = target;
            [&mut self.cpu, &mut self.instructions, &mut self.cycles].into_iter().for_each(Rate::forget);
        }
        let usage = target.and_then(|pid| Usage::of(&(self.read)(pid).ok()?));
        let now = now_ns();
        let cpu_ns = usage.and_then(|usage| usage.cpu_ns(self.tick));
        fill(
            values,
            [
                self.cpu.per_s(now, cpu_ns.and_then(number)).map(|ns_per_s| ns_per_s / 1e9 * 100.0),
                self.instructions.per_s(now, usage.and_then(|usage| usage.instructions).and_then(number)),
                self.cycles.per_s(now, usage.and_then(|usage| usage.cycles).and_then(number)),
                usage.and_then(|usage| number(usage.resident_bytes)),
                usage.and_then(|usage| number(usage.footprint_bytes)),
                usage.and_then(|usage| number(usage.wired_bytes)),
            ],
        );
    }
}

/// Threads, switches and faults of the process, from one `proc_pidinfo`.
pub(super) struct ProcessTask<R> {
    read: R,
    absent: Option<String>,
    target: Option<u32>,
    switches: Rate,
    minor: Rate,
    major: Rate,
}

impl<R: FnMut(u32) -> Result<Vec<u8>, String>> ProcessTask<R> {
    pub fn new(mut read: R) -> Self {
        let absent = match read(std::process::id()) {
            Err(why) => Some(why),
            Ok(bytes) => Task::of(&bytes).is_none().then(|| SHORT.to_owned()),
        };
        let (switches, minor, major) = Default::default();
        Self { read, absent, target: None, switches, minor, major }
    }
}

impl<R: FnMut(u32) -> Result<Vec<u8>, String> + Send> Source for ProcessTask<R> {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let of = |name, field: &str| gauge(name, &format!("{field} of proc_pidinfo"), self.absent.clone());
        let one_count = "macOS counts both kinds together: see `voluntary_switches_per_s`".to_owned();
        vec![
            of("process_threads", "pti_threadnum"),
            of("voluntary_switches_per_s", "pti_csw (switches of both kinds)"),
            gauge("involuntary_switches_per_s", "", Some(one_count)),
            of("minor_faults_per_s", "pti_faults less pti_pageins"),
            of("major_faults_per_s", "pti_pageins"),
        ]
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        if self.target != target {
            self.target = target;
            [&mut self.switches, &mut self.minor, &mut self.major].into_iter().for_each(Rate::forget);
        }
        let task = target.and_then(|pid| Task::of(&(self.read)(pid).ok()?));
        let now = now_ns();
        fill(
            values,
            [
                task.map(|task| f64::from(task.threads)),
                self.switches.per_s(now, task.and_then(|task| task.switches).and_then(number)),
                None,
                self.minor.per_s(now, task.and_then(|task| task.minor_faults).and_then(number)),
                self.major.per_s(now, task.and_then(|task| task.major_faults).and_then(number)),
            ],
        );
    }
}

/// Memory of the whole machine, from one `host_statistics64`.
///
/// The kernel limits how often it answers: programs that are not Apple's get two to ten fresh
/// answers a second, all of them together, and else the last one again (XNU, `osfmk/kern/host.c`,
/// `rate_limit_host_statistics`). So it is asked rarely, and an answer that repeats the last one is
/// no value: each value has the time at which it was new. A fresh answer never equals the last one,
/// because it contains counts of the whole system's page faults.
pub(super) struct MachineMemory<R> {
    read: R,
    /// Page size, or why there is nothing to read.
    page: Result<u64, String>,
    last: Vec<u8>,
    next_ns: u64,
    swapped_in: Rate,
    swapped_out: Rate,
}

impl<R: FnMut() -> Result<Vec<u8>, String>> MachineMemory<R> {
    pub fn new(mut read: R, page_bytes: Option<u64>) -> Self {
        let page = read().and_then(|bytes| {
            Pages::of(&bytes).ok_or_else(|| SHORT.to_owned())?;
            page_bytes.ok_or_else(|| "the system does not report its page size".to_owned())
        });
        let (swapped_in, swapped_out) = Default::default();
        Self { read, page, last: Vec::new(), next_ns: 0, swapped_in, swapped_out }
    }

    /// The answer at that time, if it is due and new.
    fn fresh(&mut self, now: u64) -> Option<Pages> {
        if now.saturating_add(SLACK_NS) < self.next_ns {
            return None;
        }
        self.next_ns = now + STATISTICS_EVERY_NS;
        let answer = (self.read)().ok().filter(|answer| *answer != self.last)?;
        let pages = Pages::of(&answer);
        self.last = answer;
        pages
    }

    fn sample_at(&mut self, now: u64, values: &mut [Option<f64>]) {
        let Ok(page) = self.page else { return };
        let Some(pages) = self.fresh(now) else { return };
        let bytes = |pages: u64| Some(pages as f64 * page as f64);
        let rates = [
            self.swapped_in.per_s(now, bytes(pages.swapped_in)),
            self.swapped_out.per_s(now, bytes(pages.swapped_out)),
        ];
        let sizes = [pages.wired, pages.compressor, pages.purgeable, pages.available].map(bytes);
        fill(values, [sizes[0], sizes[1], sizes[2], sizes[3], rates[0], rates[1]]);
    }
}

impl<R: FnMut() -> Result<Vec<u8>, String> + Send> Source for MachineMemory<R> {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = self.page.as_ref().err();
        let of = |name, field: &str| {
            gauge(name, &format!("{field} of host_statistics64, twice a second at most"), absent.cloned())
        };
        vec![
            of("wired_bytes", "wire_count"),
            of("compressed_bytes", "compressor_page_count"),
            of("purgeable_bytes", "purgeable_count"),
            // Not through sysinfo, whose call at every sample would use up the kernel's fresh
            // answers.
            of("available_memory_bytes", "free_count and inactive_count"),
            of("swap_in_bytes_per_s", "swapins"),
            of("swap_out_bytes_per_s", "swapouts"),
        ]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        self.sample_at(now_ns(), values);
    }
}

/// `swap_used_bytes`.
pub(super) struct SwapUsed<R> {
    read: R,
    absent: Option<String>,
}

impl<R: FnMut() -> Result<u64, String>> SwapUsed<R> {
    pub fn new(mut read: R) -> Self {
        let absent = read().err();
        Self { read, absent }
    }
}

impl<R: FnMut() -> Result<u64, String> + Send> Source for SwapUsed<R> {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("swap_used_bytes", "xsu_used of sysctl vm.swapusage", self.absent.clone())]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        fill(values, [(self.read)().ok().and_then(number)]);
    }
}

/// The thermal and power state: at most one reading per second; the samples between stay empty.
pub(super) struct MachineState<R> {
    read: R,
    first: State,
    pace: Pace,
}

impl<R: FnMut() -> State> MachineState<R> {
    pub fn new(mut read: R) -> Self {
        let first = read();
        Self { read, first, pace: Pace::at_most_every(1000) }
    }
}

impl<R: FnMut() -> State + Send> Source for MachineState<R> {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let unsaid =
            |value: Option<f64>, what: &str| value.is_none().then(|| format!("the system does not report {what}"));
        vec![
            gauge(
                "thermal_pressure",
                "thermalState of NSProcessInfo",
                unsaid(self.first.thermal_pressure(), "a documented thermal state"),
            ),
            gauge("on_battery", "IOPSGetProvidingPowerSourceType", unsaid(self.first.on_battery(), "its power source")),
            gauge("low_power_mode", "isLowPowerModeEnabled of NSProcessInfo", None),
        ]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let read = &mut self.read;
        self.pace.when_due(|| {
            let state = read();
            fill(values, [state.thermal_pressure(), state.on_battery(), Some(state.low_power_mode())]);
        });
    }
}

#[cfg(test)]
mod tests;
