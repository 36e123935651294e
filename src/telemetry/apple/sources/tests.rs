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
            if pid == 9 { Err("no such process".to_owned()) } else { Ok(process::tests::usage(count, 1 << 30, count)) }
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
    assert!(found.sampling.warning().unwrap().contains("500 ms"), "{:?}", found.sampling);
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
