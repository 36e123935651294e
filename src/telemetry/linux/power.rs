//! Power from the CPU's energy counters (RAPL,
//! <https://docs.kernel.org/power/powercap/powercap.html>), and the power source.

use std::path::{Path, PathBuf};

use super::super::pace::{Pace, Rate};
use super::super::{Source, gauge};
use super::file::{ProcFile, Root, number_in, word_in};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

/// The counters advance about every millisecond.
const RAPL_EVERY_MS: u64 = 20;
const SUPPLY_EVERY_MS: u64 = 1000;

/// Gauge and the start of the names of its zones.
const DOMAINS: [(&str, &str); 3] = [("cpu_watts", "package"), ("dram_watts", "dram"), ("system_watts", "psys")];

/// Power in watts, from the counters of all zones of each domain.
pub(super) struct Rapl {
    domains: Vec<Result<Domain, String>>,
    pace: Pace,
}

struct Domain {
    zones: Vec<Zone>,
    rate: Rate,
}

/// One counter, extended so that it never goes back.
struct Zone {
    file: ProcFile,
    /// Where it wraps to 0, in microjoules.
    range: f64,
    last: Option<f64>,
    sum: f64,
}

impl Zone {
    fn open(folder: &Path) -> Result<Self, String> {
        let file = ProcFile::of_number(folder.join("energy_uj")).map_err(|e| {
            let hint = if e.contains("ermission") { " (readable by root only on most systems)" } else { "" };
            format!("{e}{hint}")
        })?;
        let range = number_in(&folder.join("max_energy_range_uj"))?;
        Ok(Self { file, range, last: None, sum: 0.0 })
    }

    /// Microjoules since the first reading.
    fn read(&mut self) -> Option<f64> {
        let now = self.file.number()?;
        if let Some(last) = self.last {
            self.sum += if now >= last { now - last } else { now + self.range - last };
        }
        self.last = Some(now);
        Some(self.sum)
    }
}

impl Rapl {
    pub fn new(root: &Root) -> Self {
        let zones = root.list("sys/class/powercap");
        let zones = zones.map(|all| all.into_iter().filter(|path| is_zone(path)).collect::<Vec<_>>());
        let domains = DOMAINS.iter().map(|(_, name)| Domain::of(&zones, name)).collect();
        Self { domains, pace: Pace::often(RAPL_EVERY_MS) }
    }
}

/// `intel-rapl:0` or `intel-rapl:0:1`, for any CPU vendor; `intel-rapl-mmio:0` repeats the same
/// package.
fn is_zone(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("intel-rapl:"))
}

impl Domain {
    fn of(zones: &Result<Vec<PathBuf>, String>, name: &str) -> Result<Self, String> {
        let named = |path: &&PathBuf| word_in(&path.join("name")).is_some_and(|own| own.starts_with(name));
        let opened: Vec<_> =
            zones.as_ref().map_err(Clone::clone)?.iter().filter(named).map(|p| Zone::open(p)).collect();
        if opened.is_empty() {
            return Err(format!("/sys/class/powercap has no energy counter named {name}"));
        }
        // A sum that lacks a package would be wrong.
        Ok(Self { zones: opened.into_iter().collect::<Result<_, _>>()?, rate: Rate::default() })
    }

    fn watts(&mut self) -> Option<f64> {
        let microjoules = self.zones.iter_mut().map(Zone::read).sum::<Option<f64>>();
        self.rate.per_s(now_ns(), microjoules).map(|per_s| per_s / 1e6)
    }
}

impl Source for Rapl {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let named = DOMAINS.iter().zip(&self.domains);
        named
            .map(|((gauge_name, name), domain)| {
                let source = format!("energy_uj of the {name} zones of /sys/class/powercap/intel-rapl");
                gauge(gauge_name, &source, domain.as_ref().err().cloned())
            })
            .collect()
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let domains = &mut self.domains;
        self.pace.when_due(|| {
            for (value, domain) in values.iter_mut().zip(domains) {
                *value = domain.as_mut().ok().and_then(Domain::watts);
            }
        });
    }
}

/// `on_battery` and `low_power_mode`.
pub(super) struct Supply {
    /// Mains and batteries of the machine, without those of peripherals.
    mains: Vec<PathBuf>,
    batteries: Vec<PathBuf>,
    profile: PathBuf,
    pace: Pace,
}

impl Supply {
    pub fn new(root: &Root) -> Self {
        let (mut mains, mut batteries) = (Vec::new(), Vec::new());
        for supply in root.list("sys/class/power_supply").unwrap_or_default() {
            let of_device = word_in(&supply.join("scope")).is_some_and(|scope| scope == "Device");
            match word_in(&supply.join("type")).as_deref() {
                _ if of_device => {}
                Some("Battery") => batteries.push(supply.join("status")),
                Some("Mains" | "USB" | "USB_C") => mains.push(supply.join("online")),
                _ => {}
            }
        }
        let profile = root.path("sys/firmware/acpi/platform_profile");
        Self { mains, batteries, profile, pace: Pace::at_most_every(SUPPLY_EVERY_MS) }
    }

    /// A machine without a battery does not run on one, provided that it reports a power supply at
    /// all.
    fn on_battery(&self) -> Option<bool> {
        let online: Vec<bool> = self.mains.iter().filter_map(|file| number_in(file).ok()).map(|n| n > 0.0).collect();
        if online.contains(&true) {
            return Some(false);
        }
        let states: Vec<String> = self.batteries.iter().filter_map(|file| word_in(file)).collect();
        if states.is_empty() {
            return (!online.is_empty()).then_some(true);
        }
        Some(!online.is_empty() || states.iter().any(|state| state == "Discharging"))
    }

    fn low_power(&self) -> Option<bool> {
        word_in(&self.profile).map(|profile| profile == "low-power")
    }
}

impl Source for Supply {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let unsaid = self.on_battery().is_none();
        let battery = unsaid.then(|| "/sys/class/power_supply lists neither mains nor a battery".to_owned());
        let profile = fs_err::read(&self.profile).err().map(|e| e.to_string());
        vec![
            gauge("on_battery", "/sys/class/power_supply", battery),
            gauge("low_power_mode", "/sys/firmware/acpi/platform_profile", profile),
        ]
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let mut pace = self.pace;
        pace.when_due(|| {
            values[0] = self.on_battery().map(f64::from);
            values[1] = self.low_power().map(f64::from);
        });
        self.pace = pace;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{put, read, root};
    use super::*;

    fn zone(dir: &Path, zone: &str, name: &str, energy: &str) {
        let folder = format!("sys/class/powercap/{zone}");
        put(dir, &format!("{folder}/name"), name);
        put(dir, &format!("{folder}/max_energy_range_uj"), "1000\n");
        put(dir, &format!("{folder}/energy_uj"), energy);
    }

    #[test]
    fn a_counter_that_begins_again_goes_on() {
        let dir = root();
        zone(dir.path(), "intel-rapl:0", "package-0\n", "900\n");
        let mut zone = Zone::open(&dir.path().join("sys/class/powercap/intel-rapl:0")).unwrap();
        assert_eq!(zone.read(), Some(0.0));
        put(dir.path(), "sys/class/powercap/intel-rapl:0/energy_uj", "950\n");
        assert_eq!(zone.read(), Some(50.0));
        put(dir.path(), "sys/class/powercap/intel-rapl:0/energy_uj", "20\n");
        assert_eq!(zone.read(), Some(50.0 + 70.0));
    }

    #[test]
    fn packages_are_summed_and_each_domain_is_apart() {
        let dir = root();
        zone(dir.path(), "intel-rapl:0", "package-0\n", "1\n");
        zone(dir.path(), "intel-rapl:0:0", "core\n", "1\n");
        zone(dir.path(), "intel-rapl:0:1", "dram\n", "1\n");
        zone(dir.path(), "intel-rapl:1", "package-1\n", "1\n");
        zone(dir.path(), "intel-rapl-mmio:0", "package-0\n", "1\n");
        let mut rapl = Rapl::new(&Root::at(dir.path()));
        assert_eq!(rapl.domains[0].as_ref().ok().map(|d| d.zones.len()), Some(2));
        assert!(rapl.gauges()[2].absent.as_ref().unwrap().contains("psys"));
        assert_eq!(read(&mut rapl, None), [None, None, None]);
        put(dir.path(), "sys/class/powercap/intel-rapl:1/energy_uj", "900\n");
        rapl.pace = Pace::at_most_every(0);
        let values = read(&mut rapl, None);
        assert!(values[0] > Some(0.0) && values[1] == Some(0.0) && values[2].is_none(), "{values:?}");
    }

    #[test]
    fn a_counter_that_may_not_be_read_makes_its_sum_absent() {
        let dir = root();
        zone(dir.path(), "intel-rapl:0", "package-0\n", "1\n");
        zone(dir.path(), "intel-rapl:1", "package-1\n", "");
        let rapl = Rapl::new(&Root::at(dir.path()));
        assert!(rapl.gauges()[0].absent.as_ref().unwrap().contains("intel-rapl:1/energy_uj"));
        let empty = Rapl::new(&Root::at(&dir.path().join("nothing")));
        assert!(empty.gauges().iter().all(|info| info.absent.as_ref().unwrap().contains("powercap")));
    }

    #[test]
    fn mains_and_batteries_say_where_power_comes_from() {
        let dir = root();
        let root = Root::at(dir.path());
        let supply = || Supply::new(&root).on_battery();
        assert_eq!(supply(), None);
        put(dir.path(), "sys/class/power_supply/mouse/type", "Battery\n");
        put(dir.path(), "sys/class/power_supply/mouse/scope", "Device\n");
        put(dir.path(), "sys/class/power_supply/mouse/status", "Discharging\n");
        assert_eq!(supply(), None);
        put(dir.path(), "sys/class/power_supply/BAT0/type", "Battery\n");
        put(dir.path(), "sys/class/power_supply/BAT0/status", "Discharging\n");
        assert_eq!(supply(), Some(true));
        put(dir.path(), "sys/class/power_supply/AC/type", "Mains\n");
        put(dir.path(), "sys/class/power_supply/AC/online", "1\n");
        assert_eq!(supply(), Some(false));
        put(dir.path(), "sys/class/power_supply/AC/online", "0\n");
        put(dir.path(), "sys/firmware/acpi/platform_profile", "low-power\n");
        assert_eq!(read(&mut Supply::new(&root), None), [Some(1.0), Some(1.0)]);
    }
}
