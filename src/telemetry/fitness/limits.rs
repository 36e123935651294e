//! Limits of this process: usable cores, and the CPU time and memory of its control group.

use std::path::{Path, PathBuf};

use super::{Finding, Grade};
use crate::spec::Machine;
use inferometer_protocol::units;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::from([cores(machine)]);
    if cfg!(target_os = "linux") {
        let own = fs_err::read_to_string("/proc/self/cgroup").unwrap_or_default();
        findings.extend(groups(&own, Path::new("/sys/fs/cgroup"), machine));
    }
    findings
}

fn cores(machine: &Machine) -> Finding {
    let (Ok(mine), Some(all)) = (std::thread::available_parallelism(), machine.logical_cores) else {
        return Finding::not_visible("cores", "the system does not report how many cores this process may use");
    };
    if mine.get() >= all as usize {
        return whole(all, machine.physical_cores);
    }
    let seen = format!("this process may use {mine} of {all} cores");
    Finding::note("cores", seen, "set an engine's `threads` to at most this number")
}

/// All cores may be used: how many threads are useful.
fn whole(all: u32, physical: Option<u32>) -> Finding {
    match physical.filter(|physical| (1..all).contains(physical)) {
        None => Finding::ok("cores", format!("all {all} cores may be used")),
        Some(physical) => {
            let seen = format!("all {all} hardware threads may be used, on {physical} cores");
            let advice =
                format!("set an engine's `threads` to at most {physical}: two threads on a core slow each other down");
            Finding::note("cores", seen, &advice)
        }
    }
}

/// Limits of the control groups that `own` (the text of `/proc/self/cgroup`) names, and of those
/// above them.
fn groups(own: &str, root: &Path, machine: &Machine) -> Vec<Finding> {
    let quota = folders(own, root, "cpu").into_iter().filter_map(|folder| cpu_quota(&folder)).reduce(f64::min);
    let memory = folders(own, root, "memory")
        .into_iter()
        .filter_map(|folder| {
            number(&folder.join("memory.max")).or_else(|| number(&folder.join("memory.limit_in_bytes")))
        })
        // Version 1 represents "no limit" by a very large number.
        .filter(|bytes| machine.memory_bytes.is_none_or(|all| *bytes < all))
        .min();
    let cores = quota.map_or_else(
        || Finding::ok("CPU quota", "none"),
        |cores| {
            let seen = format!("the control group is limited to the CPU time of {} cores", units::significant(cores));
            let advice = "a quota stops all threads for the rest of each period: remove it, or pin whole cores instead";
            Finding::warning("CPU quota", seen, advice).at_best(Grade::C)
        },
    );
    let memory = memory.map_or_else(
        || Finding::ok("memory limit", "none"),
        |bytes| {
            let seen = format!("the control group is limited to {}", units::bytes(bytes));
            Finding::note("memory limit", seen, "the model, its KV cache and some reserve must fit")
        },
    );
    vec![cores, memory]
}

/// Folders that may contain limits of `controller`: version 2's, then version 1's; the process's
/// own group and all above.
fn folders(own: &str, root: &Path, controller: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let base = match controllers {
            "" => root.to_owned(),
            names if names.split(',').any(|name| name == controller) => root.join(names),
            _ => continue,
        };
        let group = base.join(path.trim_start_matches('/'));
        folders.extend(group.ancestors().take_while(|folder| folder.starts_with(&base)).map(Path::to_owned));
    }
    folders
}

/// Number of cores whose CPU time a group may use: `cpu.max` of version 2, `cpu.cfs_*` of version
/// 1.
fn cpu_quota(folder: &Path) -> Option<f64> {
    let ratio = |quota: f64, period: f64| (quota > 0.0 && period > 0.0).then_some(quota / period);
    if let Ok(text) = fs_err::read_to_string(folder.join("cpu.max")) {
        let (quota, period) = text.trim().split_once(' ')?;
        return ratio(quota.parse().ok()?, period.parse().ok()?);
    }
    let quota = number(&folder.join("cpu.cfs_quota_us"))?;
    ratio(quota as f64, number(&folder.join("cpu.cfs_period_us"))? as f64)
}

/// A number in a file; `None` for `max` and `-1`, which mean no limit.
fn number(path: &Path) -> Option<u64> {
    fs_err::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    fn seen(own: &str, root: &Path) -> [String; 2] {
        let machine = Machine { memory_bytes: Some(16 << 30), ..Machine::default() };
        let findings = groups(own, root, &machine);
        [findings[0].seen.clone(), findings[1].seen.clone()]
    }

    #[test]
    fn two_threads_to_a_core_are_told() {
        assert_eq!([whole(8, Some(8)).advice, whole(8, None).advice], [None, None]);
        assert!(whole(16, Some(8)).advice.unwrap().contains("at most 8"));
    }

    #[test]
    fn the_tightest_limit_on_the_way_up_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(seen("0::/a/b\n", root), ["none", "none"]);
        put(root, "a/b/cpu.max", "max 100000\n");
        put(root, "a/b/memory.max", "max\n");
        assert_eq!(seen("0::/a/b\n", root), ["none", "none"]);
        put(root, "a/cpu.max", "150000 100000\n");
        put(root, "a/memory.max", "1073741824\n");
        assert_eq!(
            seen("0::/a/b\n", root),
            ["the control group is limited to the CPU time of 1.50 cores", "the control group is limited to 1.00 GiB"]
        );
    }

    #[test]
    fn version_1_limits_count_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let own = "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n";
        put(root, "cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
        put(root, "memory/job/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(seen(own, root), ["none", "none"]);
        put(root, "cpu,cpuacct/job/cpu.cfs_quota_us", "50000\n");
        put(root, "cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
        assert_eq!(seen(own, root)[0], "the control group is limited to the CPU time of 0.500 cores");
    }
}
