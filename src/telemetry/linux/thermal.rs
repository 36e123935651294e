//! Clocks of the cores, thermal throttling, and the CPU's temperature.
//!
//! One or two files per core, read once per second. They are opened at each reading, since a
//! machine may have more cores than a process should have open files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::pace::{Pace, Rate};
use super::super::{Source, gauge};
use super::file::{ProcFile, Root, number_in, word_in};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

const EVERY_MS: u64 = 1000;

/// Folders of the cores, `/sys/devices/system/cpu/cpu0` and so on.
fn cores(root: &Root) -> Result<Vec<PathBuf>, String> {
    let is_core = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("cpu"));
        name.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    Ok(root.list("sys/devices/system/cpu")?.into_iter().filter(is_core).collect())
}

/// `cpu_mhz`: mean of `scaling_cur_freq` (kHz). Other files contain a nominal clock, not the
/// current one.
pub(super) struct Frequency {
    files: Result<Vec<PathBuf>, String>,
    pace: Pace,
}

impl Frequency {
    pub fn new(root: &Root) -> Self {
        let files = cores(root).and_then(|cores| {
            let files = cores.iter().map(|core| core.join("cpufreq/scaling_cur_freq"));
            let readable: Vec<PathBuf> = files.filter(|file| number_in(file).is_ok()).collect();
            let none =
                "no core has cpufreq/scaling_cur_freq: the kernel does not control the clock (a virtual machine?)";
            if readable.is_empty() { Err(none.to_owned()) } else { Ok(readable) }
        });
        Self { files, pace: Pace::at_most_every(EVERY_MS) }
    }
}

impl Source for Frequency {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let source = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq";
        vec![gauge("cpu_mhz", source, self.files.as_ref().err().cloned())]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(files) = &self.files else { return };
        self.pace.when_due(|| {
            let (sum, count) = files
                .iter()
                .filter_map(|file| number_in(file).ok())
                .fold((0.0, 0_u32), |(sum, count), khz| (sum + khz / 1000.0, count + 1));
            values[0] = (count > 0).then(|| sum / f64::from(count));
        });
    }
}

/// `thermal_throttles_per_s`: counts of all cores and packages, each once although every thread of
/// a core shows them.
pub(super) struct Throttles {
    files: Result<Vec<PathBuf>, String>,
    pace: Pace,
    rate: Rate,
}

impl Throttles {
    pub fn new(root: &Root) -> Self {
        let files = cores(root).and_then(|cores| {
            let (mut seen, mut files) = (BTreeSet::new(), Vec::new());
            for core in cores {
                let place = |file: &str| word_in(&core.join("topology").join(file));
                let (package, own) = (place("physical_package_id"), place("core_id"));
                // If the topology is unknown, every thread counts as a core.
                let own = own.unwrap_or_else(|| core.display().to_string());
                let named = |name: &str| core.join("thermal_throttle").join(name);
                for (file, key) in [
                    (named("core_throttle_count"), (package.clone(), Some(own))),
                    (named("package_throttle_count"), (package, None)),
                ] {
                    if number_in(&file).is_ok() && seen.insert(key) {
                        files.push(file);
                    }
                }
            }
            let none = "no core reports how often heat slowed it down (thermal_throttle in its sysfs folder)";
            if files.is_empty() { Err(none.to_owned()) } else { Ok(files) }
        });
        Self { files, pace: Pace::at_most_every(EVERY_MS), rate: Rate::default() }
    }
}

impl Source for Throttles {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let source = "/sys/devices/system/cpu/cpu*/thermal_throttle/{core,package}_throttle_count";
        vec![gauge("thermal_throttles_per_s", source, self.files.as_ref().err().cloned())]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(files) = &self.files else { return };
        let rate = &mut self.rate;
        self.pace.when_due(|| {
            let sum = files.iter().filter_map(|file| number_in(file).ok()).sum();
            values[0] = rate.per_s(now_ns(), Some(sum));
        });
    }
}

/// `cpu_celsius`: from the CPU's own sensors, else from its thermal zone.
pub(super) struct Temperature {
    source: String,
    files: Result<Vec<ProcFile>, String>,
    pace: Pace,
}

/// Drivers of sensors inside the CPU, and types of thermal zones for the CPU.
const CPU_CHIPS: [&str; 5] = ["coretemp", "k10temp", "zenpower", "cpu_thermal", "fam15h_power"];
const CPU_ZONES: [&str; 4] = ["x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal"];

impl Temperature {
    pub fn new(root: &Root) -> Self {
        let mut reasons = Vec::new();
        let mut found = Vec::new();
        let mut source = "hwmon";
        // The first sensor of a CPU's chip is that of the whole package.
        for (class, name_file, value_file, names) in
            [("hwmon", "name", "temp1_input", CPU_CHIPS.as_slice()), ("thermal", "type", "temp", CPU_ZONES.as_slice())]
        {
            if !found.is_empty() {
                break;
            }
            source = class;
            for folder in root.list(&format!("sys/class/{class}")).unwrap_or_default() {
                if word_in(&folder.join(name_file)).is_some_and(|name| names.contains(&name.as_str())) {
                    match ProcFile::of_number(folder.join(value_file)) {
                        Ok(file) => found.push(file),
                        Err(reason) => reasons.push(reason),
                    }
                }
            }
        }
        let mut none = || {
            reasons.pop().unwrap_or_else(|| {
                "neither /sys/class/hwmon nor /sys/class/thermal has a sensor of the CPU (a virtual machine?)"
                    .to_owned()
            })
        };
        let files = if found.is_empty() { Err(none()) } else { Ok(found) };
        Self { source: format!("/sys/class/{source}"), files, pace: Pace::at_most_every(EVERY_MS) }
    }
}

impl Source for Temperature {
    fn gauges(&self) -> Vec<GaugeInfo> {
        vec![gauge("cpu_celsius", &self.source, self.files.as_ref().err().cloned())]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(files) = &mut self.files else { return };
        self.pace.when_due(|| {
            values[0] = files.iter_mut().filter_map(ProcFile::number).map(|milli| milli / 1000.0).reduce(f64::max);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{put, read, root};
    use super::*;

    #[test]
    fn clocks_are_averaged_and_throttling_is_counted_once_a_core_and_package() {
        let dir = root();
        let cpu = "sys/devices/system/cpu";
        for core in 0..4 {
            put(dir.path(), &format!("{cpu}/cpu{core}/cpufreq/scaling_cur_freq"), &format!("{}000\n", 1000 + core));
            put(dir.path(), &format!("{cpu}/cpu{core}/topology/physical_package_id"), "0\n");
            // Two threads per core.
            put(dir.path(), &format!("{cpu}/cpu{core}/topology/core_id"), &format!("{}\n", core / 2));
            put(dir.path(), &format!("{cpu}/cpu{core}/thermal_throttle/core_throttle_count"), "5\n");
            put(dir.path(), &format!("{cpu}/cpu{core}/thermal_throttle/package_throttle_count"), "7\n");
        }
        put(dir.path(), &format!("{cpu}/cpufreq/boost"), "1\n");
        let root = Root::at(dir.path());
        assert_eq!(read(&mut Frequency::new(&root), None), [Some(1001.5)]);
        let mut throttles = Throttles::new(&root);
        assert_eq!(throttles.files.as_ref().unwrap().len(), 2 + 1);
        assert_eq!(read(&mut throttles, None), [None]);
        throttles.pace = Pace::at_most_every(0);
        assert_eq!(read(&mut throttles, None), [Some(0.0)]);
    }

    #[test]
    fn the_hottest_sensor_of_the_cpu_counts() {
        let dir = root();
        let root = Root::at(dir.path());
        assert!(Temperature::new(&root).gauges()[0].absent.as_ref().unwrap().contains("no"));
        put(dir.path(), "sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n");
        put(dir.path(), "sys/class/thermal/thermal_zone0/temp", "41000\n");
        assert_eq!(read(&mut Temperature::new(&root), None), [Some(41.0)]);
        put(dir.path(), "sys/class/hwmon/hwmon0/name", "nvme\n");
        put(dir.path(), "sys/class/hwmon/hwmon0/temp1_input", "80000\n");
        put(dir.path(), "sys/class/hwmon/hwmon1/name", "k10temp\n");
        put(dir.path(), "sys/class/hwmon/hwmon1/temp1_input", "52250\n");
        put(dir.path(), "sys/class/hwmon/hwmon2/name", "k10temp\n");
        put(dir.path(), "sys/class/hwmon/hwmon2/temp1_input", "55000\n");
        let mut temperature = Temperature::new(&root);
        assert_eq!(read(&mut temperature, None), [Some(55.0)]);
        assert_eq!(temperature.gauges()[0].source, "/sys/class/hwmon");
    }

    #[test]
    fn a_machine_without_any_gives_reasons() {
        let dir = root();
        let root = Root::at(dir.path());
        put(dir.path(), "sys/devices/system/cpu/cpu0/topology/core_id", "0\n");
        let sources: [Box<dyn Source>; 3] =
            [Box::new(Frequency::new(&root)), Box::new(Throttles::new(&root)), Box::new(Temperature::new(&root))];
        for mut source in sources {
            assert!(source.gauges()[0].absent.is_some());
            assert_eq!(read(source.as_mut(), None), [None]);
        }
    }
}
