//! Sources on Linux with no more than what macOS has, see [`lacking`]. Memory that a Mac charges to
//! a process stands in as anonymous memory plus swap.

use super::super::table::{self, Gauge};
use super::super::{Source, gauge, lacking};
use super::file::{Root, number_after};
use crate::spec::GaugeInfo;

pub(super) fn sources(root: &Root) -> Vec<Box<dyn Source>> {
    let without = |source| Box::new(Without(source)) as Box<dyn Source>;
    std::iter::once(Box::new(Footprint(root.clone())) as _)
        .chain(super::sources_below(root).into_iter().map(without))
        .collect()
}

/// Gauges that Linux has and macOS does not, though the table does not call them Linux's own.
const ALSO: &[&str] = &["involuntary_switches_per_s", "rss_anon_bytes", "rss_file_bytes", "thermal_throttles_per_s"];

/// Whether macOS has the gauge too.
fn kept(name: &str) -> bool {
    !ALSO.contains(&name) && table::find(name).is_some_and(|gauge: &Gauge| gauge.elsewhere != table::LINUX)
}

/// A source without the gauges that macOS lacks.
struct Without(Box<dyn Source>);

impl Source for Without {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let without = |info: GaugeInfo| match kept(&info.name) {
            true => info,
            false => GaugeInfo { absent: Some(lacking::WHY.to_owned()), ..info },
        };
        self.0.gauges().into_iter().map(without).collect()
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        self.0.sample(target, values);
        for (info, value) in self.0.gauges().iter().zip(values) {
            *value = value.filter(|_| kept(&info.name));
        }
    }
}

/// `footprint_bytes` from what Linux knows: anonymous memory and swap of the process.
struct Footprint(Root);

impl Source for Footprint {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = read(&self.0, std::process::id()).is_none().then(|| "no /proc/<pid>/status".to_owned());
        vec![gauge("footprint_bytes", "RssAnon and VmSwap, in place of macOS's figure", absent)]
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        values[0] = target.and_then(|pid| read(&self.0, pid)).map(|bytes| bytes as f64);
    }
}

/// The same figure, read once; `None` if there is no such process.
pub(in crate::telemetry) fn footprint(pid: u32) -> Option<u64> {
    read(&Root::of_system(), pid)
}

fn read(root: &Root, pid: u32) -> Option<u64> {
    let status = fs_err::read_to_string(root.process(pid, "status")).ok()?;
    let kib = |line: &str| number_after(&status, line);
    Some((kib("RssAnon:")? + kib("VmSwap:").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    use super::super::super::GROUPS;
    use super::super::super::panel::Panel;
    use super::*;

    #[test]
    fn only_what_a_mac_has_is_left() {
        let mut panel = Panel::of_groups(&GROUPS.map(str::to_owned), sources(&Root::of_system()));
        let row = panel.sample(Some(std::process::id()));
        let value = |name: &str| {
            let at = panel.gauges().iter().position(|info| info.name == name).unwrap();
            (row[at], panel.gauges()[at].absent.clone())
        };
        for name in ["rss_anon_bytes", "pss_bytes", "steal_percent", "memory_pressure_some_percent", "locked_bytes"] {
            assert!(value(name).0.is_none() && value(name).1.is_some(), "{name}");
        }
        assert!(value("rss_bytes").0.unwrap() > 1e6);
        assert!(value("footprint_bytes").0.unwrap() > 1e5);
    }
}
