//! The host process: CPU time, memory, threads, switches and faults.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::ClockId;

use super::super::pace::{Pace, Rate};
use super::super::{Source, gauge, percent};
use super::file::{OfTarget, ProcFile, Root, number_after};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

/// CPU clock of another process: the time used by all its threads, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(in crate::telemetry) struct CpuClock(ClockId);

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

/// The time and the CPU time, both in nanoseconds. `None` when this thread was preempted during
/// every attempt: a CPU time with the wrong time stamp would show a load that never existed.
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
pub(super) struct ProcessCpu {
    target: Option<(u32, CpuClock)>,
    /// Time and CPU time of the previous sample.
    last: Option<(u64, u64)>,
}

impl Source for ProcessCpu {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = CpuClock::of(std::process::id())
            .and_then(CpuClock::read)
            .is_none()
            .then(|| "the kernel does not provide the CPU clock of a process".to_owned());
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

/// Threads and page faults.
const STAT_EVERY_MS: u64 = 100;

/// Lines of `/proc/<pid>/status` (proc_pid_status(5)), in KiB.
const MEMORY_LINES: [(&str, &str); 5] = [
    ("rss_bytes", "VmRSS:"),
    ("rss_anon_bytes", "RssAnon:"),
    ("rss_file_bytes", "RssFile:"),
    ("process_swap_bytes", "VmSwap:"),
    ("locked_bytes", "VmLck:"),
];

const STATUS_BYTES: usize = 4096;

/// Resident, swapped and locked memory from one read of `/proc/<pid>/status`.
pub(super) struct ProcessMemory {
    root: Root,
    target: OfTarget<ProcFile>,
    absent: Vec<Option<String>>,
}

impl ProcessMemory {
    pub fn new(root: &Root) -> Self {
        let own = ProcFile::tried(root.path("proc/self/status"), STATUS_BYTES);
        let text = own.map(|mut file| file.read().unwrap_or_default().to_owned());
        let reason = |line: &str| match &text {
            Err(reason) => Some(reason.clone()),
            Ok(text) => number_after(text, line).is_none().then(|| format!("/proc/<pid>/status has no line {line}")),
        };
        let absent = MEMORY_LINES.iter().map(|(_, line)| reason(line)).collect();
        Self { root: root.clone(), target: OfTarget::default(), absent }
    }
}

impl Source for ProcessMemory {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let named = MEMORY_LINES.iter().zip(&self.absent);
        named
            .map(|((name, line), absent)| {
                let line = line.trim_end_matches(':');
                gauge(name, &format!("{line} of /proc/<pid>/status"), absent.clone())
            })
            .collect()
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        let open = |pid| ProcFile::open(self.root.process(pid, "status"), STATUS_BYTES).ok();
        let Some(text) = self.target.of(target, open).0.and_then(ProcFile::read) else { return };
        for (value, (_, line)) in values.iter_mut().zip(MEMORY_LINES) {
            *value = number_after(text, line).map(|kib| kib as f64 * 1024.0);
        }
    }
}

/// Proportional set size. The kernel walks the page tables for it, so it is read rarely.
pub(super) struct Pss {
    root: Root,
    target: OfTarget<ProcFile>,
    pace: Pace,
    absent: Option<String>,
}

const ROLLUP_BYTES: usize = 1024;
const PSS_EVERY_MS: u64 = 1000;

impl Pss {
    pub fn new(root: &Root) -> Self {
        let absent = ProcFile::tried(root.path("proc/self/smaps_rollup"), ROLLUP_BYTES).err();
        Self { root: root.clone(), target: OfTarget::default(), pace: Pace::at_most_every(PSS_EVERY_MS), absent }
    }
}

impl Source for Pss {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("pss_bytes", "Pss of /proc/<pid>/smaps_rollup", self.absent.clone())]
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        let open = |pid| ProcFile::open(self.root.process(pid, "smaps_rollup"), ROLLUP_BYTES).ok();
        let Some(file) = self.target.of(target, open).0 else { return };
        self.pace.when_due(|| {
            values[0] = file.read().and_then(|text| number_after(text, "Pss:")).map(|kib| kib as f64 * 1024.0);
        });
    }
}

/// Threads and page faults of the whole process, including ended threads, from `/proc/<pid>/stat`.
pub(super) struct ProcessStat {
    root: Root,
    target: OfTarget<ProcFile>,
    minor: Rate,
    major: Rate,
    pace: Pace,
    absent: Option<String>,
}

const PROCESS_STAT_BYTES: usize = 1024;

/// The fields of `/proc/<pid>/stat` that are used (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    minor_faults: f64,
    major_faults: f64,
    threads: f64,
}

impl Stat {
    /// The process's name is in parentheses and may contain any character: fields are counted from
    /// the last parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let (_, after) = text.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace();
        // The first field here is the page's third, the state.
        let minor_faults = fields.nth(10 - 3)?.parse().ok()?;
        let major_faults = fields.nth(12 - 10 - 1)?.parse().ok()?;
        let threads = fields.nth(20 - 12 - 1)?.parse().ok()?;
        Some(Self { minor_faults, major_faults, threads })
    }
}

impl ProcessStat {
    pub fn new(root: &Root) -> Self {
        let own = ProcFile::tried(root.path("proc/self/stat"), PROCESS_STAT_BYTES);
        let absent = own.and_then(|mut file| {
            let known = file.read().and_then(Stat::parse);
            known.ok_or_else(|| "/proc/<pid>/stat has an unknown format".to_owned())
        });
        let (target, minor, major) = Default::default();
        let pace = Pace::at_most_every(STAT_EVERY_MS);
        Self { root: root.clone(), target, minor, major, pace, absent: absent.err() }
    }
}

impl Source for ProcessStat {
    fn gauges(&self) -> Vec<GaugeInfo> {
        [("process_threads", "num_threads"), ("minor_faults_per_s", "minflt"), ("major_faults_per_s", "majflt")]
            .map(|(name, field)| gauge(name, &format!("{field} of /proc/<pid>/stat"), self.absent.clone()))
            .to_vec()
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        let open = |pid| ProcFile::open(self.root.process(pid, "stat"), PROCESS_STAT_BYTES).ok();
        let (file, changed) = self.target.of(target, open);
        if changed {
            self.minor.forget();
            self.major.forget();
            self.pace = Pace::at_most_every(STAT_EVERY_MS);
        }
        let (minor, major) = (&mut self.minor, &mut self.major);
        self.pace.when_due(|| {
            let stat = file.and_then(ProcFile::read).and_then(Stat::parse);
            let now = now_ns();
            values[0] = stat.as_ref().map(|stat| stat.threads);
            values[1] = minor.per_s(now, stat.as_ref().map(|stat| stat.minor_faults));
            values[2] = major.per_s(now, stat.as_ref().map(|stat| stat.major_faults));
        });
    }
}

/// Context switches: each thread has its own count in `/proc/<pid>/task/<thread>/status`, so all
/// are read.
pub(super) struct Switches {
    root: Root,
    target: OfTarget<Threads>,
    pace: Pace,
    absent: Option<String>,
}

const SWITCHES_EVERY_MS: u64 = 1000;
const SWITCH_LINES: [&str; 2] = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];

/// The threads of a process and their counts at the last reading.
struct Threads {
    folder: PathBuf,
    counted: Vec<(u32, [u64; 2])>,
    /// Switches of all threads since the first reading. Switches between a thread's last reading
    /// and its end are missed.
    sums: [u64; 2],
    begun: bool,
    rates: [Rate; 2],
    text: String,
}

impl Threads {
    fn of(folder: PathBuf) -> Self {
        let (counted, sums, begun, rates, text) = Default::default();
        Self { folder, counted, sums, begun, rates, text }
    }

    fn read(&mut self) -> Option<[Option<f64>; 2]> {
        let mut counted = Vec::with_capacity(self.counted.len() + 1);
        for entry in fs_err::read_dir(&self.folder).ok()?.flatten() {
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Some(counts) = self.counts(&entry.path().join("status")) else { continue };
            // The whole count of a new thread is new, except at the first reading.
            let before = self.counted.iter().find(|(other, _)| *other == thread).map(|(_, counts)| *counts);
            if let Some(before) = before.or_else(|| self.begun.then_some([0; 2])) {
                for (sum, (now, before)) in self.sums.iter_mut().zip(counts.into_iter().zip(before)) {
                    *sum += now.saturating_sub(before);
                }
            }
            counted.push((thread, counts));
        }
        let now = now_ns();
        (self.counted, self.begun) = (counted, true);
        let [first, second] = &mut self.rates;
        Some([first.per_s(now, Some(self.sums[0] as f64)), second.per_s(now, Some(self.sums[1] as f64))])
    }

    fn counts(&mut self, status: &std::path::Path) -> Option<[u64; 2]> {
        self.text.clear();
        fs_err::File::open(status).ok()?.read_to_string(&mut self.text).ok()?;
        let [voluntary, involuntary] = SWITCH_LINES.map(|line| number_after(&self.text, line));
        Some([voluntary?, involuntary?])
    }
}

impl Switches {
    pub fn new(root: &Root) -> Self {
        let own = ProcFile::tried(root.path("proc/self/status"), STATUS_BYTES);
        let absent = own.and_then(|mut file| {
            let text = file.read().unwrap_or_default();
            let known = SWITCH_LINES.iter().all(|line| number_after(text, line).is_some());
            known.then_some(()).ok_or_else(|| "/proc/<pid>/status does not count switches".to_owned())
        });
        let pace = Pace::at_most_every(SWITCHES_EVERY_MS);
        Self { root: root.clone(), target: OfTarget::default(), pace, absent: absent.err() }
    }
}

impl Source for Switches {
    fn gauges(&self) -> Vec<GaugeInfo> {
        [("voluntary_switches_per_s", "voluntary"), ("involuntary_switches_per_s", "nonvoluntary")]
            .map(|(name, which)| {
                let source = format!("{which}_ctxt_switches of /proc/<pid>/task/*/status");
                gauge(name, &source, self.absent.clone())
            })
            .to_vec()
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        let (threads, changed) = self.target.of(target, |pid| Some(Threads::of(self.root.process(pid, "task"))));
        if changed {
            self.pace = Pace::at_most_every(SWITCHES_EVERY_MS);
        }
        let Some(threads) = threads else { return };
        self.pace.when_due(|| {
            if let Some(rates) = threads.read() {
                values.copy_from_slice(&rates);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{put, read, root};
    use super::*;

    #[test]
    fn fields_count_from_the_end_of_the_name() {
        let text = "12 (a) b (c) S 1 12 12 0 -1 4194560 111 222 333 444 5 6 7 8 20 0 9 0 77 1 2 3\n";
        assert_eq!(Stat::parse(text), Some(Stat { minor_faults: 111.0, major_faults: 333.0, threads: 9.0 }));
        assert_eq!(Stat::parse("12 (a) S 1 2\n"), None);
        assert_eq!(Stat::parse(""), None);
    }

    fn status(switches: [u64; 2]) -> String {
        format!("Name:\tx\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n", switches[0], switches[1])
    }

    #[test]
    fn switches_are_summed_over_threads_that_come_and_go() {
        let dir = root();
        let at = |thread: u32| format!("proc/7/task/{thread}/status");
        put(dir.path(), &at(7), &status([100, 10]));
        put(dir.path(), &at(8), &status([1000, 1000]));
        let mut threads = Threads::of(dir.path().join("proc/7/task"));
        assert_eq!(threads.read(), Some([None, None]));
        put(dir.path(), &at(7), &status([105, 11]));
        put(dir.path(), &at(9), &status([3, 0]));
        fs_err::remove_dir_all(dir.path().join("proc/7/task/8")).unwrap();
        let rates = threads.read().unwrap();
        assert_eq!(threads.sums, [5 + 3, 1], "a new thread counts fully, an ended one not at all");
        assert!(rates[0].unwrap() > rates[1].unwrap() && rates[1].unwrap() > 0.0);
    }

    #[test]
    fn memory_is_given_in_bytes_and_a_missing_line_has_its_reason() {
        let dir = root();
        let text = "VmLck:\t4 kB\nVmRSS:\t100 kB\nRssAnon:\t60 kB\nRssFile:\t40 kB\n";
        put(dir.path(), "proc/self/status", text);
        put(dir.path(), "proc/7/status", text);
        put(dir.path(), "proc/7/smaps_rollup", "x\nPss:   50 kB\nPss_Anon: 1 kB\n");
        put(dir.path(), "proc/self/smaps_rollup", "x\nPss:   50 kB\n");
        let root = Root::at(dir.path());
        let mut memory = ProcessMemory::new(&root);
        let values = read(&mut memory, Some(7));
        assert_eq!(values, [Some(102_400.0), Some(61_440.0), Some(40_960.0), None, Some(4096.0)]);
        assert!(memory.gauges()[3].absent.as_ref().unwrap().contains("no line VmSwap"));
        let mut pss = Pss::new(&root);
        assert_eq!(read(&mut pss, Some(7)), [Some(51_200.0)]);
        assert_eq!(read(&mut pss, Some(7)), [None], "not again within a second");
        assert_eq!(read(&mut Pss::new(&root), Some(9)), [None]);
    }

    /// Uses this process's real figures.
    #[test]
    fn own_faults_and_threads_are_counted() {
        let mut stat = ProcessStat::new(&Root::of_system());
        let own = Some(std::process::id());
        assert_eq!(read(&mut stat, own)[1], None, "no difference yet");
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        stat.pace = Pace::at_most_every(0);
        let values = read(&mut stat, own);
        assert!(values[0].unwrap() >= 1.0 && values[1].unwrap() > 0.0 && values[2].is_some(), "{values:?}");
        drop(block);
    }
}
