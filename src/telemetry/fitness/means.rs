//! What can be measured on this machine: gauges, CPU counters, energy, profilers. Missing ones do
//! not affect the grade.

use std::ffi::OsStr;
use std::path::Path;

use super::{Finding, Level};
use crate::spec::GaugeInfo;
use crate::telemetry::table;

pub(super) fn findings(gauges: &[GaugeInfo], peak: Result<(), String>) -> Vec<Finding> {
    let reason = |name: &str| gauges.iter().find(|gauge| gauge.name == name).and_then(|gauge| gauge.absent.as_deref());
    let paranoid = fs_err::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let paranoid = paranoid.ok().and_then(|text| text.trim().parse().ok());
    vec![
        counters(reason("process_instructions_per_s"), paranoid),
        energy(reason("cpu_watts"), Path::new("/sys/class/powercap/intel-rapl:0/energy_uj")),
        profilers(&std::env::var_os("PATH").unwrap_or_default()),
        all(gauges, peak),
    ]
}

/// `absent`: why instructions are not counted; `paranoid`: `kernel.perf_event_paranoid`, if it
/// exists.
fn counters(absent: Option<&str>, paranoid: Option<i32>) -> Finding {
    const TOPIC: &str = "counters";
    let Some(why) = absent else { return Finding::ok(TOPIC, "instructions and cycles are counted") };
    let seen = format!("instructions and cycles are not counted: {why}");
    match paranoid {
        // Above 2, the kernels of some distributions allow counting only for root.
        Some(level @ 3..) => {
            let seen = format!("{seen} (kernel.perf_event_paranoid is {level})");
            Finding::note(TOPIC, seen, "`sudo sysctl kernel.perf_event_paranoid=2` allows programs to count their own")
        }
        _ => Finding::note(TOPIC, seen, "only this metric is missing; a guest needs a virtual PMU for it"),
    }
}

/// `counter`: RAPL's energy counter of the first package.
fn energy(absent: Option<&str>, counter: &Path) -> Finding {
    const TOPIC: &str = "energy";
    let Some(why) = absent else { return Finding::ok(TOPIC, "the CPU's power is measured") };
    if counter.exists() && fs_err::read(counter).is_err() {
        let seen = "the CPU counts energy, but only root may read the counter";
        let advice = "`sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj`, valid until the next boot";
        return Finding::note(TOPIC, seen, advice);
    }
    Finding::not_visible(TOPIC, why)
}

/// Programs that profile engines outside of our own host.
const PROFILERS: &[(&str, &str)] = if cfg!(target_os = "macos") {
    &[("sample", "comes with macOS"), ("py-spy", "`pip install py-spy`")]
} else {
    &[("perf", "the package linux-perf or linux-tools"), ("py-spy", "`pip install py-spy`")]
};

fn profilers(path: &OsStr) -> Finding {
    let there = |name: &str| std::env::split_paths(path).any(|folder| folder.join(name).is_file());
    let (have, lack): (Vec<_>, Vec<_>) = PROFILERS.iter().partition(|(name, _)| there(name));
    let names = |tools: &[&(&str, &str)]| tools.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if lack.is_empty() {
        return Finding::ok("profilers", names(&have));
    }
    let from: Vec<String> = lack.iter().map(|(name, from)| format!("{name}: {from}")).collect();
    let advice = format!("needed for flamegraphs of external engines: {}", from.join("; "));
    Finding::note("profilers", format!("not installed: {}", names(&lack)), &advice)
}

/// Gauges whose absence another finding reports.
const TOLD: &[&str] = &[
    "process_instructions_per_s",
    "process_cycles_per_s",
    "cpu_watts",
    "dram_watts",
    "system_watts",
    "on_battery",
    "low_power_mode",
    "thermal_pressure",
    "thermal_throttles_per_s",
    "cgroup_memory_limit_bytes",
];

/// Missing gauges by reason. A gauge of other systems only is not reported.
fn all(gauges: &[GaugeInfo], peak: Result<(), String>) -> Finding {
    let elsewhere = |name: &str, why: &str| table::find(name).is_some_and(|gauge| gauge.elsewhere == why);
    let absent = gauges.iter().filter_map(|gauge| Some((gauge.name.as_str(), gauge.absent.as_deref()?)));
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    let peak = peak.err();
    let peak = peak.as_deref().map(|why| ("a high-water mark of memory", why));
    for (name, why) in absent.filter(|(name, why)| !elsewhere(name, why) && !TOLD.contains(name)).chain(peak) {
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    let there = gauges.iter().filter(|gauge| gauge.absent.is_none()).count();
    let mut seen = format!("{there} of {} available", gauges.len());
    if reasons.is_empty() {
        return Finding::ok("gauges", seen);
    }
    for (why, names) in reasons {
        seen += &format!("; missing: {} ({why})", names.join(", "));
    }
    Finding { level: Level::Note, ..Finding::ok("gauges", seen) }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn counters_that_a_setting_forbids_come_with_the_setting() {
        assert_eq!(counters(None, Some(4)).level, Level::Ok);
        let forbidden = counters(Some("permission denied"), Some(4));
        assert!(forbidden.advice.unwrap().contains("sysctl kernel.perf_event_paranoid=2"));
        let without = counters(Some("no such device"), Some(2));
        assert!(without.seen.contains("no such device") && !without.advice.unwrap().contains("sysctl"));
    }

    #[test]
    fn energy_that_cannot_be_read_is_told_from_energy_that_is_not_counted() {
        let dir = tempfile::tempdir().unwrap();
        let counter = dir.path().join("energy_uj");
        assert_eq!(energy(None, &counter).level, Level::Ok);
        assert_eq!(energy(Some("no such file"), &counter).seen, "not visible: no such file");
        // A folder exists but cannot be read as a file, not even by root.
        fs_err::create_dir(&counter).unwrap();
        assert!(energy(Some("permission denied"), &counter).advice.unwrap().contains("chmod"));
    }

    #[test]
    fn profilers_are_looked_for_on_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().as_os_str();
        let none = profilers(path);
        assert!(none.seen.contains("py-spy") && none.advice.unwrap().contains("pip install py-spy"));
        for (name, _) in PROFILERS {
            fs_err::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(profilers(path).level, Level::Ok);
    }

    #[test]
    fn absent_gauges_are_told_once_a_reason() {
        let gauge = |name: &str, absent: Option<&str>| GaugeInfo {
            name: name.to_owned(),
            unit: String::new(),
            source: String::new(),
            absent: absent.map(str::to_owned),
        };
        let other_systems = table::find("wired_bytes").unwrap().elsewhere;
        let gauges = [
            gauge("rss_bytes", None),
            gauge("wired_bytes", Some(other_systems)),
            gauge("gpu_percent", Some("no GPU")),
            gauge("gpu_mhz", Some("no GPU")),
            gauge("cpu_watts", Some("reported as energy")),
        ];
        let finding = all(&gauges, Err("no mark".to_owned()));
        assert!(TOLD.iter().all(|name| table::find(name).is_some()));
        assert_eq!(
            finding.seen,
            "1 of 5 available; missing: gpu_percent, gpu_mhz (no GPU); missing: a high-water mark of memory (no mark)"
        );
        assert_eq!((finding.level, finding.at_best), (Level::Note, Grade::A));
        assert_eq!(all(&gauges[..2], Ok(())).level, Level::Ok);
    }
}
