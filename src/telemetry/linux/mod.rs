//! Sources on Linux: `/proc`, kept open and read again from the start.

use std::fmt::Write as _;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::ClockId;

use super::{Source, gauge, percent};
use crate::clock::now_ns;
use crate::spec::GaugeInfo;

pub(super) fn sources() -> Vec<Box<dyn Source>> {
    vec![
        Box::new(ProcessCpu::default()),
        Box::new(SystemCpu::new()),
        Box::new(ProcessMemory::new()),
        Box::new(SystemMemory::new()),
    ]
}

/// A file of `/proc` that is read again and again. One read call gives one consistent moment.
pub(super) struct ProcFile {
    file: fs_err::File,
    buffer: Vec<u8>,
}

impl ProcFile {
    /// `most` is the number of bytes from the start that are of interest.
    pub fn open(path: &str, most: usize) -> std::io::Result<Self> {
        Ok(Self { file: fs_err::File::open(path)?, buffer: vec![0; most] })
    }

    /// The text now; `None` when it cannot be read (a process that has ended).
    pub fn read(&mut self) -> Option<&str> {
        let length = self.file.file().read_at(&mut self.buffer, 0).ok()?;
        let valid = match std::str::from_utf8(&self.buffer[..length]) {
            Ok(_) => length,
            // A character cut by the end of the buffer, or a process name that is no text.
            Err(e) => e.valid_up_to(),
        };
        std::str::from_utf8(&self.buffer[..valid]).ok()
    }
}

/// The first number on the line that begins with `name`, such as `VmRSS:    1234 kB`.
pub(super) fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// CPU clock of another process: what all its threads have used, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuClock(ClockId);

impl CpuClock {
    pub fn of(pid: u32) -> Option<Self> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).ok().filter(|pid| *pid > 0)?);
        ClockId::pid_cpu_clock_id(pid).ok().map(Self)
    }

    pub fn read(self) -> Option<Duration> {
        let now = self.0.now().ok()?;
        u64::try_from(now.num_nanoseconds()).ok().map(Duration::from_nanos)
    }
}

/// Longest time between the two clock readings around a reading of CPU time.
const READING_NS: u64 = 200_000;

/// When (nanoseconds) and how much CPU time (nanoseconds). `None` when this thread was taken off its core in between
/// each time: a CPU time with the wrong date would show a load that never was.
fn dated(clock: CpuClock) -> Option<(u64, u64)> {
    (0..3).find_map(|_| {
        let before = now_ns();
        let used = clock.read()?.as_nanos() as u64;
        let after = now_ns();
        (after - before <= READING_NS).then_some((before.midpoint(after), used))
    })
}

/// `process_cpu_percent`.
#[derive(Default)]
struct ProcessCpu {
    target: Option<(u32, CpuClock)>,
    /// Time of the previous sample and CPU time until then.
    last: Option<(u64, u64)>,
}

impl Source for ProcessCpu {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = CpuClock::of(std::process::id())
            .and_then(CpuClock::read)
            .is_none()
            .then(|| "the kernel does not give the CPU clock of a process".to_owned());
        vec![gauge("process_cpu_percent", "CPU clock of the process", absent)]
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        if self.target.map(|(pid, _)| pid) != target {
            self.target = target.and_then(|pid| Some((pid, CpuClock::of(pid)?)));
            self.last = None;
        }
        let reading = self.target.and_then(|(_, clock)| dated(clock));
        if let (Some((last_now, last_used)), Some((now, used))) = (self.last, reading) {
            values[0] = percent(used.checked_sub(last_used), now.checked_sub(last_now));
        }
        self.last = reading;
    }
}

/// `rss_bytes`, `rss_anon_bytes`, `rss_file_bytes` from one read of `/proc/<pid>/status`.
struct ProcessMemory {
    target: Option<(u32, ProcFile)>,
    /// Why there is nothing to read, in the order of the gauges.
    absent: [Option<String>; 3],
}

const STATUS_BYTES: usize = 4096;
const STATUS_LINES: [&str; 3] = ["VmRSS:", "RssAnon:", "RssFile:"];

impl ProcessMemory {
    fn new() -> Self {
        let absent = match ProcFile::open("/proc/self/status", STATUS_BYTES) {
            Err(e) => STATUS_LINES.map(|_| Some(e.to_string())),
            Ok(mut file) => {
                let text = file.read().unwrap_or_default().to_owned();
                STATUS_LINES.map(|line| {
                    number_after(&text, line).is_none().then(|| format!("/proc/<pid>/status has no line {line}"))
                })
            }
        };
        Self { target: None, absent }
    }
}

impl Source for ProcessMemory {
    fn gauges(&self) -> Vec<GaugeInfo> {
        ["rss_bytes", "rss_anon_bytes", "rss_file_bytes"]
            .into_iter()
            .zip(STATUS_LINES)
            .zip(&self.absent)
            .map(|((name, line), absent)| {
                let line = line.trim_end_matches(':');
                gauge(name, &format!("{line} of /proc/<pid>/status"), absent.clone())
            })
            .collect()
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        if self.target.as_ref().map(|(pid, _)| *pid) != target {
            self.target = target.and_then(|pid| {
                let mut path = String::with_capacity(32);
                write!(path, "/proc/{pid}/status").ok()?;
                Some((pid, ProcFile::open(&path, STATUS_BYTES).ok()?))
            });
        }
        let Some(text) = self.target.as_mut().and_then(|(_, file)| file.read()) else { return };
        for (value, line) in values.iter_mut().zip(STATUS_LINES) {
            *value = number_after(text, line).map(|kib| kib as f64 * 1024.0);
        }
    }
}

/// `system_cpu_percent` from the first line of `/proc/stat`.
struct SystemCpu {
    file: std::io::Result<ProcFile>,
    last: Option<CpuTicks>,
}

/// Ticks of all cores since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTicks {
    pub busy: u64,
    pub all: u64,
    /// Part of busy: another guest ran while this machine wanted to.
    pub steal: u64,
}

impl CpuTicks {
    /// Parses the first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal;
    /// what follows is contained in user and nice already.
    pub fn parse(text: &str) -> Option<Self> {
        let mut ticks = [0_u64; 8];
        let mut fields = text.strip_prefix("cpu ")?.lines().next()?.split_whitespace();
        for (at, tick) in ticks.iter_mut().enumerate() {
            *tick = match fields.next() {
                Some(field) => field.parse().ok()?,
                // Kernels before 2.6.11 end earlier; the first four are always there.
                None if at >= 4 => 0,
                None => return None,
            };
        }
        let all: u64 = ticks.iter().sum();
        Some(Self { busy: all - ticks[3] - ticks[4], all, steal: ticks[7] })
    }
}

pub(super) const STAT_BYTES: usize = 256;

impl SystemCpu {
    fn new() -> Self {
        Self { file: ProcFile::open("/proc/stat", STAT_BYTES), last: None }
    }
}

impl Source for SystemCpu {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("system_cpu_percent", "/proc/stat", reason(&self.file))]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(file) = &mut self.file else { return };
        let ticks = file.read().and_then(CpuTicks::parse);
        if let (Some(last), Some(now)) = (self.last, ticks) {
            values[0] = percent(now.busy.checked_sub(last.busy), now.all.checked_sub(last.all)).map(|p| p.min(100.0));
        }
        self.last = ticks;
    }
}

/// `available_memory_bytes` from `/proc/meminfo`.
struct SystemMemory {
    file: std::io::Result<ProcFile>,
}

impl SystemMemory {
    fn new() -> Self {
        Self { file: ProcFile::open("/proc/meminfo", 256) }
    }
}

impl Source for SystemMemory {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("available_memory_bytes", "MemAvailable of /proc/meminfo", reason(&self.file))]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(file) = &mut self.file else { return };
        values[0] = file.read().and_then(|text| number_after(text, "MemAvailable:")).map(|kib| kib as f64 * 1024.0);
    }
}

fn reason(file: &std::io::Result<ProcFile>) -> Option<String> {
    file.as_ref().err().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
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
    fn numbers_are_found_by_the_whole_name() {
        let text = "VmHWM:\t  200 kB\nVmRSS:\t     100 kB\nRssAnon:\t 60 kB\n";
        assert_eq!(number_after(text, "VmRSS:"), Some(100));
        assert_eq!(number_after(text, "RssFile:"), None);
    }

    #[test]
    fn a_process_that_has_ended_gives_nothing() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let mut sources = sources();
        let mut read = |target| {
            sources
                .iter_mut()
                .map(|s| {
                    let mut values = vec![None; s.gauges().len()];
                    s.sample(target, &mut values);
                    values
                })
                .collect::<Vec<_>>()
        };
        read(Some(pid));
        let alive = read(Some(pid));
        assert!(alive[0][0].is_some() && alive[2][0].is_some(), "{alive:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        let dead = read(Some(pid));
        assert_eq!((&dead[0], &dead[2]), (&vec![None], &vec![None, None, None]));
        assert!(dead[3][0].is_some(), "the machine's own gauges go on");
        let none = read(None);
        assert_eq!((&none[0], &none[2]), (&vec![None], &vec![None, None, None]));
    }
}
