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
mod tests {
    use super::super::{memory, process};
    use super::*;

    /// A row of a source, by gauge. An absent gauge never has a value.
    fn row(source: &mut dyn Source, target: Option<u32>) -> Vec<(String, Option<f64>)> {
        let gauges = source.gauges();
        let mut values = vec![None; gauges.len()];
        source.sample(target, &mut values);
        assert!(gauges.iter().zip(&values).all(|(gauge, value)| gauge.absent.is_none() || value.is_none()));
        gauges.into_iter().map(|gauge| gauge.name).zip(values).collect()
    }

    fn value(row: &[(String, Option<f64>)], name: &str) -> Option<f64> {
        row.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no {name}: {row:?}")).1
    }

    #[test]
    fn a_process_has_sizes_at_once_and_rates_from_the_second_sample_on() {
        let mut count = 1_000;
        let mut source = ProcessUsage::new(
            move |pid| {
                count += 24_000_000;
                if pid == 9 {
                    Err("no such process".to_owned())
                } else {
                    Ok(process::tests::usage(count, 1 << 30, count))
                }
            },
            (125, 3),
        );
        let first = row(&mut source, Some(7));
        assert_eq!(value(&first, "rss_bytes"), Some(f64::from(1 << 30)));
        assert_eq!(value(&first, "footprint_bytes"), Some(f64::from((1 << 30) + 7)));
        assert_eq!(value(&first, "process_wired_bytes"), Some(16384.0));
        assert_eq!(value(&first, "process_cpu_percent"), None);
        let begun = now_ns();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let second = row(&mut source, Some(7));
        let most_s = 0.005;
        // One second of CPU time in an interval of at least 5 ms.
        let (cpu, instructions) =
            (value(&second, "process_cpu_percent").unwrap(), value(&second, "process_instructions_per_s"));
        assert!(cpu > 0.0 && cpu <= 100.0 / most_s, "{cpu} after {begun}");
        assert!((instructions.unwrap() / (cpu / 100.0) - 24e6).abs() < 1.0, "the same interval");
        assert_eq!(value(&row(&mut source, Some(8)), "process_cpu_percent"), None, "another process");
        assert!(row(&mut source, Some(9)).iter().all(|(_, value)| value.is_none()), "it has ended");
        assert!(row(&mut source, None).iter().all(|(_, value)| value.is_none()));
    }

    #[test]
    fn where_nothing_is_counted_there_are_no_instructions() {
        let mut source = ProcessUsage::new(|_| Ok(process::tests::usage(1, 2, 0)), (1, 1));
        let gauges = source.gauges();
        let absent = |name: &str| gauges.iter().find(|gauge| gauge.name == name).unwrap().absent.clone();
        assert!(absent("process_instructions_per_s").unwrap().contains("virtual machine"));
        assert_eq!(absent("rss_bytes"), None);
        row(&mut source, Some(1));
        assert_eq!(value(&row(&mut source, Some(1)), "process_instructions_per_s"), None);
        let refused = ProcessUsage::new(|_| Err("proc_pid_rusage: refused".to_owned()), (1, 1));
        assert!(refused.gauges().iter().all(|gauge| gauge.absent.as_deref() == Some("proc_pid_rusage: refused")));
    }

    #[test]
    fn faults_and_switches_are_rates() {
        let mut n = 0;
        let mut source = ProcessTask::new(move |_| {
            n += 100;
            Ok(process::tests::task(3 * n, n, 2 * n, 5))
        });
        let first = row(&mut source, Some(1));
        assert_eq!((value(&first, "process_threads"), value(&first, "minor_faults_per_s")), (Some(5.0), None));
        std::thread::sleep(std::time::Duration::from_millis(1));
        let second = row(&mut source, Some(1));
        let [minor, major, switches] = ["minor_faults_per_s", "major_faults_per_s", "voluntary_switches_per_s"]
            .map(|name| value(&second, name).unwrap());
        assert!(major > 0.0 && (minor / major - 2.0).abs() < 1e-9 && (switches / major - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_machines_memory_is_in_bytes_of_its_pages() {
        let mut faults = 0_u64;
        let mut source = MachineMemory::new(
            move || {
                faults += 1;
                Ok(memory::tests::recorded_after(12_345, faults))
            },
            Some(16384),
        );
        let first = row(&mut source, None);
        assert_eq!(value(&first, "wired_bytes"), Some(12_345.0 * 16384.0));
        assert_eq!(value(&first, "compressed_bytes"), Some(40_001.0 * 16384.0));
        assert_eq!(value(&first, "purgeable_bytes"), Some(20_001.0 * 16384.0));
        assert_eq!(value(&first, "available_memory_bytes"), Some(1_504_004.0 * 16384.0));
        assert_eq!(value(&first, "swap_in_bytes_per_s"), None);
        assert_eq!(value(&row(&mut source, None), "wired_bytes"), None, "not due yet");
        let mut later = [None; 6];
        source.sample_at(now_ns() + STATISTICS_EVERY_NS, &mut later);
        assert_eq!(later[4], Some(0.0), "pages read back from swap");
        let short = |page_bytes| MachineMemory::new(|| Ok(memory::tests::recorded(1)[..64].to_vec()), page_bytes);
        let pageless = MachineMemory::new(|| Ok(memory::tests::recorded(1)), None);
        assert!(short(Some(16384)).gauges().iter().chain(&pageless.gauges()).all(|gauge| gauge.absent.is_some()));
        let mut swap = SwapUsed::new(|| Ok(1 << 20));
        assert_eq!(row(&mut swap, None), [("swap_used_bytes".to_owned(), Some(f64::from(1 << 20)))]);
        assert!(SwapUsed::new(|| Err("refused".to_owned())).gauges()[0].absent.is_some());
    }

    /// XNU's rule (`rate_limit_host_statistics`): in a window of one second, some calls of all
    /// programs are answered, further ones get the last answer.
    struct Kernel {
        now_ns: u64,
        window_from_ns: u64,
        answered: u32,
        most: u32,
        cached: Vec<u8>,
        calls: u32,
    }

    impl Kernel {
        fn wired(now_ns: u64) -> u32 {
            // A sawtooth of three a minute.
            (now_ns / 1_000_000 % 20_000) as u32 + 1
        }

        fn ask(&mut self) -> Vec<u8> {
            self.calls += 1;
            let in_window = self.calls > 1 && self.now_ns - self.window_from_ns < 1_000_000_000;
            if in_window && self.answered >= self.most {
                return self.cached.clone();
            }
            if in_window {
                self.answered += 1;
            } else {
                // The kernel draws it from 2 to 10.
                (self.window_from_ns, self.answered, self.most) = (self.now_ns, 1, 2 + (self.now_ns / 7) as u32 % 9);
            }
            self.cached = memory::tests::recorded_after(Self::wired(self.now_ns), self.now_ns);
            self.cached.clone()
        }
    }

    /// Samples for a minute at 20 Hz while another program asks `others` times between two samples:
    /// the values with their times, and the calls of this program.
    fn watched(others: u32) -> (Vec<(u64, f64)>, u32) {
        use std::sync::{Arc, Mutex};
        let (now_ns, window_from_ns, answered, most, calls) = (1, 0, 0, 2, 0);
        let kernel = Arc::new(Mutex::new(Kernel { now_ns, window_from_ns, answered, most, cached: Vec::new(), calls }));
        let own = Arc::new(Mutex::new(0));
        let read = {
            let (kernel, own) = (Arc::clone(&kernel), Arc::clone(&own));
            move || {
                *own.lock().unwrap() += 1;
                Ok(kernel.lock().unwrap().ask())
            }
        };
        let mut source = MachineMemory::new(read, Some(1));
        let mut seen = Vec::new();
        for at_ms in (50..60_000).step_by(50) {
            let now = at_ms * 1_000_000;
            kernel.lock().unwrap().now_ns = now;
            (0..others).for_each(|_| drop(kernel.lock().unwrap().ask()));
            let mut values = [None; 6];
            source.sample_at(now, &mut values);
            seen.extend(values[0].map(|wired| (now, wired)));
        }
        let own = *own.lock().unwrap();
        (seen, own)
    }

    #[test]
    fn wired_memory_is_asked_for_twice_a_second_and_a_repeated_answer_is_no_value() {
        let (seen, calls) = watched(0);
        assert!((115..=122).contains(&calls), "{calls} calls in a minute");
        assert!(seen.len() >= 115, "alone, each answer is fresh: {}", seen.len());
        // Another program that asks 20 times a second leaves few fresh answers, or old ones.
        let (shared, calls) = watched(1);
        assert!(shared.len() < calls as usize, "some answers were repeated");
        for (now, wired) in seen {
            assert_eq!(wired, f64::from(Kernel::wired(now)), "a value of another time");
        }
        assert!(shared.windows(2).all(|pair| pair[0].1 != pair[1].1), "no value twice");
    }

    #[test]
    fn the_figures_of_a_staircase_have_its_resolution() {
        use inferometer_stats::oscillation::{Known, Sample, oscillation};
        let (seen, _) = watched(0);
        let series: Vec<Sample> =
            seen.iter().map(|(t, pages)| Sample { t_s: *t as f64 / 1e9, bytes: pages * 1e6 }).collect();
        let known = Known { shortest_cycle_s: Some(2.0), ..Known::default() };
        let found = oscillation(&[&series], &known).unwrap();
        let true_series: Vec<Sample> = (50..60_000)
            .step_by(50)
            .map(|ms| Sample { t_s: ms as f64 / 1e3, bytes: f64::from(Kernel::wired(ms * 1_000_000)) * 1e6 })
            .collect();
        let truth = oscillation(&[&true_series], &known).unwrap();
        assert_eq!((found.counted.cycles, truth.sampling.warning()), (truth.counted.cycles, None));
        assert!(found.counted.cycles > 1, "three teeth a minute");
        assert!((found.sampling.interval_s - 0.5).abs() < 1e-9, "{:?}", found.sampling);
        assert!(found.sampling.warning().unwrap().contains("0.500 s"), "{:?}", found.sampling);
    }

    #[test]
    fn the_systems_state_is_read_once_a_second() {
        let state = State { thermal: 1, low_power_mode: true, power: Some("Battery Power".to_owned()) };
        let mut source = MachineState::new(move || state.clone());
        let first: Vec<_> = row(&mut source, None).into_iter().map(|(_, value)| value).collect();
        assert_eq!(first, [Some(1.0), Some(1.0), Some(1.0)]);
        let silent = MachineState::new(|| State { thermal: 0, low_power_mode: false, power: None });
        let absent: Vec<_> = silent.gauges().iter().map(|gauge| gauge.absent.is_some()).collect();
        assert_eq!(absent, [false, true, false]);
    }
}
