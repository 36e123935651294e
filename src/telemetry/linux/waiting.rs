//! Run-queue delay and involuntary switches of a process's threads
//! (`/proc/<pid>/task/*/schedstat` and `status`), with the machine's CPU time (`/proc/stat`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::group::TICKS_PER_SECOND;
use super::super::waits::Waits;
use super::file::{Root, number_after};
use super::system::CpuTicks;
use inferometer_protocol::clock::now_ns;

/// Most threads to read: each costs about 20 µs before and after a request.
const THREADS_AT_MOST: usize = 256;
/// A thread took part in the work if it ran for one part in this many of the process's time.
/// Others, such as a reader of standard input, delay nothing when they wait.
const TOOK_PART: u64 = 20;

/// Counters of a process at one moment.
#[derive(Debug)]
pub(in crate::telemetry) struct Waiting {
    root: Root,
    pid: u32,
    at_ns: u64,
    threads: Vec<(u32, Counts)>,
    machine: Option<CpuTicks>,
}

/// Sums of one thread since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    running_ns: u64,
    waiting_ns: u64,
    slices: u64,
    preempted: u64,
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            running_ns: self.running_ns.saturating_sub(before.running_ns),
            waiting_ns: self.waiting_ns.saturating_sub(before.waiting_ns),
            slices: self.slices.saturating_sub(before.slices),
            preempted: self.preempted.saturating_sub(before.preempted),
        }
    }
}

impl Waiting {
    /// `None` if the process has ended, the kernel does not count, or there are too many threads.
    pub fn of(pid: u32) -> Option<Self> {
        Self::below(Root::of_system(), pid)
    }

    fn below(root: Root, pid: u32) -> Option<Self> {
        let threads = read(&root.process(pid, "task"))?;
        let machine = fs_err::read_to_string(root.path("proc/stat")).ok().as_deref().and_then(CpuTicks::parse);
        Some(Self { root, pid, at_ns: now_ns(), threads, machine })
    }

    /// What was counted since this reading.
    pub fn since(self) -> Option<Waits> {
        let cpus = cpus(self.pid)?;
        let now = Self::below(self.root, self.pid)?;
        let over_ns = now.at_ns.saturating_sub(self.at_ns);
        let mut waits = Waits { over: Duration::from_nanos(over_ns), cpus, ..Waits::default() };
        // All of a new thread is new. What a thread did that has ended is lost.
        let before = |thread: &u32| self.threads.iter().find(|(other, _)| other == thread).map(|(_, counts)| *counts);
        let threads: Vec<Counts> =
            now.threads.iter().map(|(thread, counts)| counts.since(before(thread).unwrap_or_default())).collect();
        let running: u64 = threads.iter().map(|thread| thread.running_ns).sum();
        waits.running = Duration::from_nanos(running);
        waits.preempted = Some(threads.iter().map(|thread| thread.preempted).sum());
        let took_part = |thread: &&Counts| thread.running_ns > 0 && thread.running_ns * TOOK_PART >= running;
        for thread in threads.iter().filter(took_part) {
            waits.waiting += Duration::from_nanos(thread.waiting_ns);
            waits.slices += thread.slices;
            waits.threads += 1;
        }
        waits.threads_at_most = waits.threads;
        if let (Some(before), Some(now)) = (self.machine, now.machine) {
            let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
            let stolen = now.steal.saturating_sub(before.steal);
            waits.stolen = Some(time(stolen));
            waits.busy = Some(time(now.busy.saturating_sub(before.busy).saturating_sub(stolen)));
        }
        Some(waits)
    }
}

/// CPUs that the process may use: those that it is bound to, if the control group allows as many.
fn cpus(pid: u32) -> Option<u32> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    let bound = rustix::thread::sched_getaffinity(Some(pid)).ok()?.count();
    let own = std::thread::available_parallelism().ok()?.get();
    Some(bound.min(u32::try_from(own).unwrap_or(u32::MAX)))
}

/// Every thread of the process that `folder` lists; one that ends meanwhile is left out.
fn read(folder: &Path) -> Option<Vec<(u32, Counts)>> {
    let entries = fs_err::read_dir(folder).ok()?.flatten();
    let listed: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    if listed.len() > THREADS_AT_MOST {
        return None;
    }
    let counted: Vec<(u32, Counts)> =
        listed.into_iter().filter_map(|(thread, path)| Some((thread, counts(&path)?))).collect();
    (!counted.is_empty()).then_some(counted)
}

fn counts(thread: &Path) -> Option<Counts> {
    let schedstat = fs_err::read_to_string(thread.join("schedstat")).ok()?;
    let status = fs_err::read_to_string(thread.join("status")).ok()?;
    let mut fields = schedstat.split_ascii_whitespace().map(str::parse::<u64>);
    let mut field = || fields.next()?.ok();
    Some(Counts {
        running_ns: field()?,
        waiting_ns: field()?,
        slices: field()?,
        preempted: number_after(&status, "nonvoluntary_ctxt_switches:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{put, root};
    use super::*;

    fn thread(dir: &Path, pid: u32, thread: u32, schedstat: &str, preempted: u32) {
        put(dir, &format!("proc/{pid}/task/{thread}/schedstat"), schedstat);
        let status = format!("voluntary_ctxt_switches:\t9\nnonvoluntary_ctxt_switches:\t{preempted}\n");
        put(dir, &format!("proc/{pid}/task/{thread}/status"), &status);
    }

    #[test]
    fn threads_that_come_and_go_are_counted_as_far_as_they_are_seen() {
        let (dir, own) = (root(), std::process::id());
        thread(dir.path(), own, 1, "1000000 500 3\n", 2);
        thread(dir.path(), own, 2, "70 80 9\n", 1);
        put(dir.path(), "proc/stat", "cpu  100 0 50 1000 0 0 0 5 0 0\ncpu0 1\n");
        let begun = Waiting::below(Root::at(dir.path()), own).unwrap();
        thread(dir.path(), own, 1, "60001000000 700 8\n", 5);
        thread(dir.path(), own, 3, "40 30 1\n", 1);
        fs_err::remove_dir_all(dir.path().join(format!("proc/{own}/task/2"))).unwrap();
        put(dir.path(), "proc/stat", "cpu  110 0 60 1300 0 0 0 8 0 0\ncpu0 1\n");
        let waits = begun.since().unwrap();
        assert_eq!((waits.running.as_nanos(), waits.waiting.as_nanos()), (60_000_000_040, 200));
        assert_eq!((waits.slices, waits.preempted, waits.threads), (5, Some(4), 1));
        let ms = Duration::from_millis;
        assert_eq!((waits.busy, waits.stolen), (Some(ms(200)), Some(ms(30))));
        assert!(waits.cpus >= 1 && waits.over > Duration::ZERO);
    }

    #[test]
    fn without_counters_nothing_is_known() {
        let dir = root();
        assert!(Waiting::below(Root::at(dir.path()), 7).is_none());
        put(dir.path(), "proc/7/task/7/status", "nonvoluntary_ctxt_switches:\t1\n");
        assert!(Waiting::below(Root::at(dir.path()), 7).is_none(), "a kernel without schedstat");
    }

    /// More threads of this process than it may use CPUs have to wait for each other.
    #[test]
    fn real_waiting_is_seen() {
        let own = std::process::id();
        let begun = Waiting::of(own).unwrap();
        let busy = || {
            let until = now_ns() + 200_000_000;
            while now_ns() < until {
                std::hint::spin_loop();
            }
        };
        let cpus = cpus(own).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..=cpus {
                scope.spawn(busy);
            }
            std::thread::sleep(Duration::from_millis(150));
            let waits = begun.since().unwrap();
            assert!(waits.waiting > Duration::from_millis(20) && waits.preempted > Some(0), "{waits:?}");
            assert!(waits.threads > cpus && waits.busy.unwrap() >= Duration::from_millis(50), "{waits:?}");
        });
    }
}
