//! Use and limits of this program's control group, which its hosts share.

use std::path::{Path, PathBuf};

use super::super::pace::{Pace, Rate};
use super::super::{Source, gauge};
use super::file::{ProcFile, Root, number_after, number_in};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

const EVERY_MS: u64 = 250;
/// Version 1 has no word for "no limit": it shows the highest multiple of a page.
const NO_LIMIT: f64 = (1_u64 << 60) as f64;

pub(super) struct Cgroup {
    memory: Result<ProcFile, String>,
    /// Limits of the group and those above it.
    limits: Vec<PathBuf>,
    limit: Option<String>,
    throttled: Result<Throttled, String>,
    pace: Pace,
}

/// Time for which a quota stopped tasks.
struct Throttled {
    file: ProcFile,
    line: &'static str,
    per_second: f64,
    rate: Rate,
}

/// Where a controller is mounted, the group's path below it, and whether it is version 2.
struct Controller {
    mount: PathBuf,
    group: PathBuf,
    unified: bool,
}

impl Controller {
    /// Lines of `/proc/self/cgroup` (cgroups(7)): `4:memory:/a/b` in version 1, `0::/a/b` in
    /// version 2.
    fn find(root: &Root, text: &str, controller: &str) -> Option<Self> {
        let mut second = None;
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let [Some(_), Some(controllers), Some(group)] = [parts.next(), parts.next(), parts.next()] else {
                continue;
            };
            if controllers.split(',').any(|own| own == controller) {
                let mount = root.path("sys/fs/cgroup").join(controller);
                return Some(Self { mount, group: relative(group), unified: false });
            }
            if controllers.is_empty() {
                let mount = root.path("sys/fs/cgroup");
                // If version 1 is in use too, version 2 has a separate folder.
                let hybrid = mount.join("unified");
                let mount = if hybrid.is_dir() { hybrid } else { mount };
                second = Some(Self { mount, group: relative(group), unified: true });
            }
        }
        second
    }

    /// The group's own folder. In a container the path may be that of the host machine, and the
    /// mount is the group itself.
    fn folder(&self, file: &str) -> PathBuf {
        let own = self.mount.join(&self.group);
        if own.join(file).exists() { own } else { self.mount.clone() }
    }
}

fn relative(group: &str) -> PathBuf {
    // A group outside the namespace shows as `/../..`; nothing above the mount is read.
    Path::new(group).components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

impl Cgroup {
    pub fn new(root: &Root) -> Self {
        let own = fs_err::read_to_string(root.path("proc/self/cgroup")).map_err(|e| e.to_string());
        let place = |controller: &str| {
            let text = own.as_ref().map_err(Clone::clone)?;
            let none = || format!("this program is in no control group with the {controller} controller");
            Controller::find(root, text, controller).ok_or_else(none)
        };
        let (memory, limits) = match place("memory") {
            Err(reason) => (Err(reason), Vec::new()),
            Ok(place) => {
                let [usage, limit] = match place.unified {
                    true => ["memory.current", "memory.max"],
                    false => ["memory.usage_in_bytes", "memory.limit_in_bytes"],
                };
                let folder = place.folder(usage);
                let up = folder.ancestors().take_while(|path| path.starts_with(&place.mount));
                (ProcFile::of_number(folder.join(usage)), up.map(|path| path.join(limit)).collect())
            }
        };
        let throttled = place("cpu").and_then(|place| Throttled::open(&place));
        let mut found = Self { memory, limits, limit: None, throttled, pace: Pace::at_most_every(EVERY_MS) };
        found.limit = match &found.memory {
            Err(reason) => Some(reason.clone()),
            Ok(_) => found.lowest_limit().is_none().then(|| "no memory limit is set".to_owned()),
        };
        found
    }

    fn lowest_limit(&self) -> Option<f64> {
        self.limits.iter().filter_map(|file| number_in(file).ok()).filter(|limit| *limit < NO_LIMIT).reduce(f64::min)
    }
}

impl Throttled {
    fn open(place: &Controller) -> Result<Self, String> {
        let (line, per_second) = if place.unified { ("throttled_usec", 1e6) } else { ("throttled_time", 1e9) };
        let mut file = ProcFile::tried(place.folder("cpu.stat").join("cpu.stat"), 1024)?;
        let known = file.read().is_some_and(|text| number_after(text, line).is_some());
        let none = || format!("cpu.stat of this control group has no line {line}: no CPU quota can be set here");
        known.then_some(Self { file, line, per_second, rate: Rate::default() }).ok_or_else(none)
    }

    /// In percent of one core.
    fn percent(&mut self) -> Option<f64> {
        let counted = self.file.read().and_then(|text| number_after(text, self.line))?;
        let seconds = counted as f64 / self.per_second;
        self.rate.per_s(now_ns(), Some(seconds)).map(|share| share * 100.0)
    }
}

impl Source for Cgroup {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![
            gauge("cgroup_throttled_percent", "cpu.stat of the control group", self.throttled.as_ref().err().cloned()),
            gauge("cgroup_memory_bytes", "memory in use of the control group", self.memory.as_ref().err().cloned()),
            gauge("cgroup_memory_limit_bytes", "memory limits of the control group", self.limit.clone()),
        ]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let mut pace = self.pace;
        pace.when_due(|| {
            values[0] = self.throttled.as_mut().ok().and_then(Throttled::percent);
            values[1] = self.memory.as_mut().ok().and_then(ProcFile::number);
            values[2] = self.lowest_limit();
        });
        self.pace = pace;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{put, read, root};
    use super::*;

    fn absent(cgroup: &Cgroup) -> Vec<bool> {
        cgroup.gauges().iter().map(|info| info.absent.is_some()).collect()
    }

    #[test]
    fn the_second_version_is_read_with_the_lowest_limit_above() {
        let dir = root();
        put(dir.path(), "proc/self/cgroup", "0::/a/b\n");
        put(dir.path(), "sys/fs/cgroup/a/b/memory.current", "500\n");
        put(dir.path(), "sys/fs/cgroup/a/b/memory.max", "max\n");
        put(dir.path(), "sys/fs/cgroup/a/memory.max", "4096\n");
        put(dir.path(), "sys/fs/cgroup/a/b/cpu.stat", "usage_usec 9\nthrottled_usec 0\n");
        let root = Root::at(dir.path());
        let mut cgroup = Cgroup::new(&root);
        assert_eq!(read(&mut cgroup, None), [None, Some(500.0), Some(4096.0)]);
        put(dir.path(), "sys/fs/cgroup/a/b/cpu.stat", "usage_usec 9\nthrottled_usec 5\n");
        cgroup.pace = Pace::at_most_every(0);
        assert!(read(&mut cgroup, None)[0] > Some(0.0));
        put(dir.path(), "sys/fs/cgroup/a/memory.max", "max\n");
        assert_eq!(absent(&Cgroup::new(&root)), [false, false, true]);
    }

    #[test]
    fn the_first_version_and_a_container_whose_path_is_the_machines_are_read() {
        let dir = root();
        put(dir.path(), "proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n");
        put(dir.path(), "sys/fs/cgroup/memory/memory.usage_in_bytes", "700\n");
        put(dir.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        put(dir.path(), "sys/fs/cgroup/cpu/x/cpu.stat", "nr_periods 0\nthrottled_time 0\n");
        let mut cgroup = Cgroup::new(&Root::at(dir.path()));
        assert_eq!(absent(&cgroup), [false, false, true]);
        assert_eq!(read(&mut cgroup, None), [None, Some(700.0), None]);
    }

    #[test]
    fn without_groups_there_are_reasons() {
        let dir = root();
        let root = Root::at(dir.path());
        assert_eq!(absent(&Cgroup::new(&root)), [true; 3]);
        put(dir.path(), "proc/self/cgroup", "0::/../../x\nnonsense\n");
        let cgroup = Cgroup::new(&root);
        assert_eq!(absent(&cgroup), [true; 3]);
        assert!(cgroup.gauges()[1].absent.as_ref().unwrap().contains("memory.current"));
    }
}
