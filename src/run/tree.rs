//! Ends a process together with everything it started.
//!
//! A process group ends by one signal, but a process can leave its group. On Linux the rest is
//! found by parent and by a mark in the environment, which a process inherits wherever it goes.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A child process that leads its own group, and all processes that it started.
#[derive(Debug, Clone)]
pub struct Tree {
    leader: Pid,
    /// `NAME=VALUE` in the environment of these processes and of no others.
    mark: Option<String>,
}

impl Tree {
    #[must_use]
    pub fn new(leader: Pid, mark: Option<String>) -> Self {
        Self { leader, mark }
    }

    /// Kills them all, whatever they do about signals. The leader must not be reaped yet: until
    /// then no other process can have its id or its group's.
    pub fn kill(&self) {
        // The descendants are known by their parents only as long as those live.
        let found = strays::descendants(self.leader);
        // Errors mean that they have ended. The leader may have left its own group.
        let _ = kill_process_group(self.leader, Signal::KILL);
        let _ = kill_process(self.leader, Signal::KILL);
        strays::kill(found);
        if let Some(mark) = &self.mark {
            strays::kill_marked(mark);
        }
    }
}

#[cfg(target_os = "linux")]
mod strays {
    use std::collections::BTreeSet;
    use std::os::fd::OwnedFd;

    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// A process that is killed may have started another in the meantime.
    const ROUNDS: usize = 8;

    /// The processes that `root` and its descendants started and that still have their parent.
    /// Descriptors name processes even after an id is used again.
    pub fn descendants(root: Pid) -> Vec<OwnedFd> {
        let parents: Vec<(i32, i32)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
        let mut known = BTreeSet::from([root.as_raw_nonzero().get()]);
        let mut found = Vec::new();
        loop {
            let next: Vec<i32> = parents
                .iter()
                .filter(|(pid, parent)| known.contains(parent) && !known.contains(pid))
                .map(|p| p.0)
                .collect();
            if next.is_empty() {
                return found;
            }
            for pid in next {
                known.insert(pid);
                // Opened, then read again: an id that was used again in between has another parent.
                let process = open(pid);
                found.extend(process.filter(|_| parent(pid).is_some_and(|parent| known.contains(&parent))));
            }
        }
    }

    pub fn kill(processes: Vec<OwnedFd>) {
        for process in processes {
            // An error means that it has ended, or belongs to another user.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    /// Kills the processes with `mark` in their environment.
    pub fn kill_marked(mark: &str) {
        for _ in 0..ROUNDS {
            let found: Vec<OwnedFd> = all()
                .filter(|pid| is_marked(*pid, mark))
                .filter_map(|pid| open(pid).filter(|_| is_marked(pid, mark)))
                .collect();
            if found.is_empty() {
                return;
            }
            kill(found);
        }
    }

    fn open(pid: i32) -> Option<OwnedFd> {
        pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
    }

    fn all() -> impl Iterator<Item = i32> {
        let entries = fs_err::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    }

    /// "12 (name) S 1 ...": the name may contain any character.
    fn parent(pid: i32) -> Option<i32> {
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// A process that has ended, or that belongs to another user, has no environment here.
    fn is_marked(pid: i32, mark: &str) -> bool {
        let environment = fs_err::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    }
}

/// Elsewhere the group is all that is known.
#[cfg(not(target_os = "linux"))]
mod strays {
    use rustix::process::Pid;

    pub fn descendants(_root: Pid) -> Vec<()> {
        Vec::new()
    }

    pub fn kill(_processes: Vec<()>) {}

    pub fn kill_marked(_mark: &str) {}
}
