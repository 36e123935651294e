//! Sources for systems other than Linux, through `sysinfo`. Also built for tests on Linux.

use sysinfo::{
    CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate,
};

use super::{Source, gauge, percent};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

/// `sysinfo`'s handle, or why it is unavailable.
type Reader = Result<sysinfo::System, String>;

fn reader() -> Reader {
    sysinfo::System::new().map_err(|e| format!("cannot read the system's figures: {e}"))
}

pub(super) fn sources() -> Vec<Box<dyn Source>> {
    vec![
        Box::new(ProcessCpu { system: reader(), target: None, last: None }),
        Box::new(SystemCpu { system: reader(), last_ns: None }),
        Box::new(ProcessMemory(reader())),
        Box::new(SystemMemory(reader())),
        Box::new(Load),
    ]
}

/// CPU time of a process, with a resolution of milliseconds.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn cpu_time(pid: u32) -> Option<std::time::Duration> {
    process(&mut reader(), pid, ProcessRefreshKind::nothing().with_cpu())
        .map(|process| std::time::Duration::from_millis(process.accumulated_cpu_time()))
}

fn process(system: &mut Reader, pid: u32, what: ProcessRefreshKind) -> Option<&sysinfo::Process> {
    let system = system.as_mut().ok()?;
    let pid = Pid::from_u32(pid);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
    system.process(pid)
}

fn absent(system: &Reader) -> Option<String> {
    system.as_ref().err().cloned()
}

struct ProcessCpu {
    system: Reader,
    target: Option<u32>,
    /// Time of the previous sample in nanoseconds, and CPU time until then in milliseconds.
    last: Option<(u64, u64)>,
}

impl Source for ProcessCpu {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("process_cpu_percent", "accumulated CPU time of the process", absent(&self.system))]
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        if self.target != target {
            (self.target, self.last) = (target, None);
        }
        let used = target
            .and_then(|pid| process(&mut self.system, pid, ProcessRefreshKind::nothing().with_cpu()))
            .map(sysinfo::Process::accumulated_cpu_time);
        let now = now_ns();
        if let (Some((last_now, last_used)), Some(used)) = (self.last, used) {
            let used_ns = used.checked_sub(last_used).map(|ms| ms * 1_000_000);
            values[0] = percent(used_ns, now.checked_sub(last_now));
        }
        self.last = used.map(|used| (now, used));
    }
}

struct ProcessMemory(Reader);

impl Source for ProcessMemory {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let unsaid = Some("this system does not separate anonymous and file-backed memory".to_owned());
        vec![
            gauge("rss_bytes", "resident size of the process", absent(&self.0)),
            gauge("rss_anon_bytes", "", unsaid.clone()),
            gauge("rss_file_bytes", "", unsaid),
        ]
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        values[0] = target
            .and_then(|pid| process(&mut self.0, pid, ProcessRefreshKind::nothing().with_memory()))
            .map(|process| process.memory() as f64);
    }
}

struct SystemCpu {
    system: Reader,
    last_ns: Option<u64>,
}

impl Source for SystemCpu {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("system_cpu_percent", "load of all cores as the system counts it", absent(&self.system))]
    }

    /// Gives a value only as often as the system updates its figures; the samples between stay
    /// empty.
    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let now = now_ns();
        if self.last_ns.is_some_and(|last| u128::from(now - last) < MINIMUM_CPU_UPDATE_INTERVAL.as_nanos()) {
            return;
        }
        let Ok(system) = &mut self.system else { return };
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        if self.last_ns.is_some() {
            values[0] = Some(f64::from(system.global_cpu_usage()));
        }
        self.last_ns = Some(now);
    }
}

struct SystemMemory(Reader);

impl Source for SystemMemory {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("available_memory_bytes", "memory available without swapping", absent(&self.0))]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(system) = &mut self.0 else { return };
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        values[0] = Some(system.available_memory()).filter(|bytes| *bytes > 0).map(|bytes| bytes as f64);
    }
}

struct Load;

impl Source for Load {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("load_1m", "getloadavg", None)]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        values[0] = sysinfo::System::load_average().ok().map(|load| load.one);
    }
}
