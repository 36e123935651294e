//! The process group that an engine host leads: the processes that it started, unless they left the
//! group.

use std::time::Duration;

/// Unit of CPU time in `/proc/<pid>/stat`: USER_HZ, always 100 for programs, whatever the kernel's
/// tick (proc_pid_stat(5)).
pub(super) const TICKS_PER_SECOND: u64 = 100;

/// One process of a group.
struct Member {
    pid: u32,
    /// User and system time, in ticks.
    own: u64,
    /// The same for its children that have ended and been waited for.
    children: u64,
}

/// The processes of the group that `leader` leads, including itself while it lives; empty if they
/// cannot be read.
#[must_use]
pub fn members(leader: u32) -> Vec<u32> {
    read(leader).iter().map(|member| member.pid).collect()
}

/// CPU time of the group's other processes, including ended ones that were waited for; in ticks of
/// 10 ms. `None` on systems other than Linux, and when the leader is gone.
#[must_use]
pub fn helpers_cpu(leader: u32) -> Option<Duration> {
    let group = read(leader);
    group.iter().find(|member| member.pid == leader)?;
    let ticks: u64 = group.iter().map(|m| m.children + if m.pid == leader { 0 } else { m.own }).sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

fn read(leader: u32) -> Vec<Member> {
    if super::lacking::macos() {
        return Vec::new();
    }
    let entries = fs_err::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let stat = |pid: u32| Some((pid, fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?));
    numbers.filter_map(stat).filter_map(|(pid, stat)| member(pid, leader, &stat)).collect()
}

/// "12 (name) S 1 12 ...": the name may contain any character.
fn member(pid: u32, leader: u32, stat: &str) -> Option<Member> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    // Fields 5: process group; 14 and 15: own time; 16 and 17: that of children.
    (field(5)? == u64::from(leader)).then_some(())?;
    Some(Member { pid, own: field(14)? + field(15)?, children: field(16)? + field(17)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_count_from_the_end_of_the_name() {
        let stat = "12 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 1 0 5\n";
        let found = member(12, 7, stat).unwrap();
        assert_eq!((found.pid, found.own, found.children), (12, 33, 77));
        assert!(member(12, 8, stat).is_none() && member(12, 7, "12 (x) S 1").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_of_a_child_is_counted_while_it_runs_and_after() {
        if super::super::lacking::leaves_out("process groups in /proc") {
            return;
        }
        use std::os::unix::process::CommandExt;
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let script = format!("sh -c '{busy}'; sleep 60 & wait");
        let mut host = std::process::Command::new("sh").args(["-c", &script]).process_group(0).spawn().unwrap();
        let pid = host.id();
        // Once only the sleeping child is left, the time no longer grows.
        let used = (0..600).find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            helpers_cpu(pid).filter(|used| *used >= Duration::from_millis(20))
        });
        assert!(members(pid).contains(&pid));
        rustix::process::kill_process_group(
            rustix::process::Pid::from_raw(pid as i32).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        host.wait().unwrap();
        assert!(used.is_some(), "the loop of the child was not seen");
        assert_eq!(helpers_cpu(pid), None);
    }
}
