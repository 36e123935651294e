//! Sources on Linux: `/proc` and `/sys`, the processor's counters, and GPU drivers.
//!
//! Each source reads below a [`file::Root`], so that a test can replace the machine with a folder.

mod cgroup;
mod counters;
mod file;
mod gpu_amd;
mod gpu_nvidia;
mod lacking;
mod power;
mod pressure;
mod process;
mod system;
mod thermal;
mod waiting;

use super::Source;

pub(super) use counters::Counters;
pub(super) use file::number_after;
pub(super) use lacking::footprint;
pub(super) use process::CpuClock;
pub(super) use waiting::Waiting;

pub(super) fn sources() -> Vec<Box<dyn Source>> {
    let root = file::Root::of_system();
    if super::lacking::macos() { lacking::sources(&root) } else { sources_below(&root) }
}

/// The sources of a machine without any files.
#[cfg(test)]
pub(super) fn sources_of_nothing() -> Vec<Box<dyn Source>> {
    sources_below(&file::Root::at(testing::root().path()))
}

fn sources_below(root: &file::Root) -> Vec<Box<dyn Source>> {
    let mut all: Vec<Box<dyn Source>> = vec![
        Box::new(process::ProcessCpu::default()),
        Box::new(process::ProcessMemory::new(root)),
        Box::new(process::ProcessStat::new(root)),
        Box::new(process::Switches::new(root)),
        Box::new(process::Pss::new(root)),
        Box::new(counters::ProcessCounters::new(root)),
        Box::new(system::SystemCpu::new(root)),
        Box::new(system::Load::new(root)),
        Box::new(system::SystemMemory::new(root)),
        Box::new(system::Swapping::new(root)),
        Box::new(cgroup::Cgroup::new(root)),
        Box::new(thermal::Frequency::new(root)),
        Box::new(thermal::Throttles::new(root)),
        Box::new(thermal::Temperature::new(root)),
        Box::new(power::Rapl::new(root)),
        Box::new(power::Supply::new(root)),
        Box::new(gpu_nvidia::Nvidia::new()),
        Box::new(gpu_amd::Amd::new(root)),
    ];
    all.extend(pressure::Pressure::all(root));
    all
}

/// Shared by the tests of sources: a machine made of files.
#[cfg(test)]
mod testing {
    use std::path::Path;

    use super::Source;

    pub fn root() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    pub fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs_err::create_dir_all(path.parent().expect("a file below the root")).expect("a folder");
        fs_err::write(path, text).expect("a file");
    }

    /// One sample.
    pub fn read(source: &mut dyn Source, target: Option<u32>) -> Vec<Option<f64>> {
        let mut values = vec![None; source.gauges().len()];
        source.sample(target, &mut values);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::super::panel::Panel;
    use super::super::{GROUPS, lacking, table};
    use super::*;

    fn values(panel: &mut Panel, target: Option<u32>) -> Vec<(String, Option<f64>)> {
        let row = panel.sample(target);
        panel.gauges().iter().map(|info| info.name.clone()).zip(row).collect()
    }

    fn all() -> Vec<String> {
        GROUPS.map(str::to_owned).to_vec()
    }

    #[test]
    fn a_process_that_has_ended_gives_nothing() {
        if lacking::leaves_out("gauges that only /proc has") {
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut panel = Panel::of_groups(&all(), sources());
        let value = |row: &[(String, Option<f64>)], name: &str| row.iter().find(|(n, _)| n == name).unwrap().1;
        let first = values(&mut panel, Some(child.id()));
        assert_eq!(value(&first, "process_threads"), Some(1.0), "read less often than the others");
        let alive = values(&mut panel, Some(child.id()));
        let own = ["process_cpu_percent", "rss_bytes", "locked_bytes"];
        assert!(own.iter().all(|name| value(&alive, name).is_some()), "{alive:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        let dead = values(&mut panel, Some(child.id()));
        assert!(own.iter().all(|name| value(&dead, name).is_none()), "{dead:?}");
        let none = values(&mut panel, None);
        assert!(own.iter().all(|name| value(&none, name).is_none()), "{none:?}");
    }

    /// Without files of `/proc` and `/sys`, only system calls, libraries and the engine are left.
    #[test]
    fn a_machine_that_shows_nothing_gives_a_reason_for_every_gauge() {
        let dir = testing::root();
        let mut panel = Panel::of_groups(&all(), sources_below(&file::Root::at(dir.path())));
        let elsewhere = |name: &str| {
            name == "process_cpu_percent" || name.starts_with("gpu_") || table::FROM_ENGINE.contains(&name)
        };
        let row = values(&mut panel, Some(std::process::id()));
        for (info, (_, value)) in panel.gauges().iter().zip(row).filter(|(info, _)| !elsewhere(&info.name)) {
            let reason = info.absent.as_ref().unwrap_or_else(|| panic!("{} is there", info.name));
            assert!(!reason.is_empty() && value.is_none(), "{info:?}");
        }
    }

    #[test]
    fn a_gauge_is_never_both_absent_and_there() {
        let mut panel = Panel::of_groups(&all(), sources());
        for _ in 0..3 {
            let row = values(&mut panel, Some(std::process::id()));
            for (info, (_, value)) in panel.gauges().iter().zip(row) {
                assert!(value.is_none() || info.absent.is_none(), "{info:?}");
                assert!(value.is_none_or(f64::is_finite), "{info:?}");
            }
        }
    }
}
