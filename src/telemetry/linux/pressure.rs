//! Pressure stall information (<https://docs.kernel.org/accounting/psi.html>): time during which
//! tasks waited for a resource.

use super::super::pace::{Pace, Rate};
use super::super::{Source, gauge};
use super::file::{ProcFile, Root};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

const EVERY_MS: u64 = 250;

/// Gauge, file below `/proc/pressure`, line.
const STALLS: [(&str, &str, &str); 4] = [
    ("cpu_pressure_some_percent", "cpu", "some"),
    ("io_pressure_some_percent", "io", "some"),
    ("memory_pressure_some_percent", "memory", "some"),
    ("memory_pressure_full_percent", "memory", "full"),
];

/// One file and its gauges.
pub(super) struct Pressure {
    resource: &'static str,
    file: Result<ProcFile, String>,
    pace: Pace,
    stalls: Vec<(&'static str, &'static str, Rate)>,
}

impl Pressure {
    pub fn all(root: &Root) -> Vec<Box<dyn Source>> {
        ["cpu", "io", "memory"].into_iter().map(|resource| Box::new(Self::of(root, resource)) as _).collect()
    }

    fn of(root: &Root, resource: &'static str) -> Self {
        let own = STALLS.iter().filter(|(_, file, _)| *file == resource);
        Self {
            resource,
            file: ProcFile::tried(root.path(&format!("proc/pressure/{resource}")), 256),
            pace: Pace::at_most_every(EVERY_MS),
            stalls: own.map(|(name, _, line)| (*name, *line, Rate::default())).collect(),
        }
    }
}

/// Microseconds of stall since boot on the line of that name.
fn total_us(text: &str, line: &str) -> Option<f64> {
    let line = text.lines().find(|l| l.starts_with(line))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("total="))?.parse().ok()
}

impl Source for Pressure {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = self.file.as_ref().err();
        let source = |line: &str| format!("{line} of /proc/pressure/{}", self.resource);
        self.stalls.iter().map(|(name, line, _)| gauge(name, &source(line), absent.cloned())).collect()
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(file) = &mut self.file else { return };
        let stalls = &mut self.stalls;
        self.pace.when_due(|| {
            let Some(text) = file.read() else { return };
            let now = now_ns();
            for (value, (_, line, rate)) in values.iter_mut().zip(stalls) {
                // One microsecond per second is a ten-thousandth of a percent.
                *value = rate.per_s(now, total_us(text, line)).map(|us| (us / 1e4).min(100.0));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{put, read, root};
    use super::*;

    const TEXT: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";

    #[test]
    fn a_stall_is_a_share_of_the_time() {
        assert_eq!((total_us(TEXT, "some"), total_us(TEXT, "full")), (Some(2e6), Some(5.0)));
        assert_eq!(total_us("some avg10=0.00\n", "some"), None);
        let dir = root();
        put(dir.path(), "proc/pressure/memory", TEXT);
        let mut memory = Pressure::of(&Root::at(dir.path()), "memory");
        assert_eq!(read(&mut memory, None), [None, None]);
        put(dir.path(), "proc/pressure/memory", &TEXT.replace("2000000", "2000001"));
        memory.pace = Pace::at_most_every(0);
        let values = read(&mut memory, None);
        assert!(values[0] > Some(0.0) && values[0] <= Some(100.0) && values[1] == Some(0.0), "{values:?}");
    }

    #[test]
    fn a_kernel_without_it_gives_the_reason() {
        let dir = root();
        for source in Pressure::all(&Root::at(dir.path())) {
            for info in source.gauges() {
                assert!(info.absent.unwrap().contains("proc/pressure/"), "{}", info.name);
            }
        }
    }
}
