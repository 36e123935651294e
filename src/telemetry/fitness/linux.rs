//! What changes the CPU's clock on Linux, from sysfs.

use std::path::Path;

use super::{Finding, Grade};
use inferometer_protocol::units;

fn number(path: &Path) -> Option<u64> {
    fs_err::read_to_string(path).ok()?.trim().parse().ok()
}

/// `cpus` is `/sys/devices/system/cpu`.
pub(super) fn turbo(cpus: &Path) -> Finding {
    let on = match (number(&cpus.join("intel_pstate/no_turbo")), number(&cpus.join("cpufreq/boost"))) {
        (Some(off), _) => off == 0,
        (None, Some(on)) => on != 0,
        (None, None) => return Finding::not_visible("turbo", "the CPU's clock driver does not report it"),
    };
    if !on {
        return Finding::ok("turbo", "off: the clock does not depend on temperature");
    }
    let advice =
        "a cool CPU is faster than a warm one: warm up, interleave, or disable turbo for the most precise comparisons";
    Finding::note("turbo", "on", advice)
}

/// `throttles_per_s`: how often cores were throttled during the check, if the system counts that.
pub(super) fn heat(cpus: &Path, throttles_per_s: Option<f64>) -> Finding {
    let advice = "improve the cooling, or add pauses with `cooldown_s`";
    if let Some(rate) = throttles_per_s.filter(|rate| *rate > 0.0) {
        let seen = format!("heat throttles the cores {} times per second", units::significant(rate));
        return Finding::warning("heat", seen, advice).at_best(Grade::D);
    }
    let cores = fs_err::read_dir(cpus).into_iter().flatten().flatten();
    let counts: Vec<u64> =
        cores.filter_map(|core| number(&core.path().join("thermal_throttle/core_throttle_count"))).collect();
    if counts.is_empty() {
        return Finding::not_visible("heat", "no core reports how often it was throttled");
    }
    match counts.iter().sum::<u64>() {
        0 => Finding::ok("heat", "no core was throttled since boot"),
        n => Finding::note("heat", format!("heat throttled the cores {n} times since boot, but not now"), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    #[test]
    fn turbo_and_throttling_are_read_where_there_are_files() {
        let dir = tempfile::tempdir().unwrap();
        let cpus = dir.path();
        assert!(turbo(cpus).seen.starts_with("not visible"));
        assert!(heat(cpus, Some(0.0)).seen.starts_with("not visible"));
        put(cpus, "cpufreq/boost", "1\n");
        assert_eq!(turbo(cpus).level, Level::Note);
        put(cpus, "intel_pstate/no_turbo", "1\n");
        assert_eq!(turbo(cpus).level, Level::Ok);
        put(cpus, "cpu0/thermal_throttle/core_throttle_count", "0\n");
        assert_eq!(heat(cpus, None).level, Level::Ok);
        put(cpus, "cpu1/thermal_throttle/core_throttle_count", "12\n");
        assert!(heat(cpus, Some(0.0)).seen.contains("12 times"));
        assert_eq!(heat(cpus, Some(0.0)).at_best, Grade::A, "long ago");
        assert_eq!(heat(cpus, Some(3.0)).at_best, Grade::D);
    }
}
