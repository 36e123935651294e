//! Gauges: series of the machine and the engine process over time, sampled by one thread.
//!
//! Adding a gauge is one [`Source`], named in the list of its operating system (`linux::sources` or
//! `portable::sources`). A source reads one thing of the system and may feed several gauges from that one read.

pub mod fitness;
mod git;
#[cfg(target_os = "linux")]
mod linux;
pub mod machine;
pub mod peak;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod sampler;

use std::time::Duration;

use crate::spec::GaugeInfo;

pub use git::git_state;
pub use sampler::{Sampler, SamplerStats};

/// Groups of gauges that a scenario may name.
pub const GROUPS: [&str; 4] = ["cpu", "memory", "gpu", "power"];

/// What each gauge says, in one sentence.
const MEANINGS: &[(&str, &str)] = &[
    ("process_cpu_percent", "CPU time of the host process, in percent of one core"),
    ("system_cpu_percent", "share of all cores that is busy, 0 to 100"),
    ("rss_bytes", "resident memory of the host process"),
    ("rss_anon_bytes", "of this, anonymous memory"),
    ("rss_file_bytes", "of this, pages backed by files"),
    ("available_memory_bytes", "memory that programs can still get without swapping"),
];

/// What the gauge of that name says.
#[must_use]
pub fn meaning(gauge: &str) -> Option<&'static str> {
    MEANINGS.iter().find(|(name, _)| *name == gauge).map(|(_, meaning)| *meaning)
}

/// Something that is read at each sample and feeds one or several gauges.
pub trait Source: Send {
    /// Which of [`GROUPS`] its gauges belong to.
    fn group(&self) -> &'static str;

    /// Its gauges, also those that are absent here (with the reason): columns do not depend on the machine.
    fn gauges(&self) -> Vec<GaugeInfo>;

    /// Reads the source once. `values` has one place a gauge, all `None` before the call; what cannot be read stays so.
    ///
    /// `target` is the process that process gauges look at; a value that is a difference to the previous sample is not
    /// there in the first sample of a process.
    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]);
}

/// The sources of the named groups on this system.
fn sources(groups: &[String]) -> Vec<Box<dyn Source>> {
    #[cfg(target_os = "linux")]
    let all = linux::sources();
    #[cfg(not(target_os = "linux"))]
    let all = portable::sources();
    all.into_iter().filter(|source| groups.iter().any(|group| group == source.group())).collect()
}

/// The gauges that a [`Sampler`] of these groups has, in the order of its values.
#[must_use]
pub fn gauges(groups: &[String]) -> Vec<GaugeInfo> {
    sources(groups).iter().flat_map(|source| source.gauges()).collect()
}

/// CPU time that the process has used since it began: user and system, all its threads, also those that have ended.
///
/// Linux reads the process's CPU clock (nanoseconds); other systems give what `sysinfo` reads (milliseconds on macOS).
/// `None` when there is no such process.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return linux::CpuClock::of(pid)?.read();
    #[cfg(not(target_os = "linux"))]
    return portable::cpu_time(pid);
}

fn gauge(name: &str, unit: &str, source: &str, absent: Option<String>) -> GaugeInfo {
    GaugeInfo { name: name.to_owned(), unit: unit.to_owned(), source: source.to_owned(), absent }
}

/// Share in percent of a stretch of time (`from`, `to` on any clock); `None` for an empty or backward stretch.
fn percent(used: Option<u64>, stretch: Option<u64>) -> Option<f64> {
    match (used, stretch) {
        (Some(used), Some(stretch)) if stretch > 0 => Some(used as f64 / stretch as f64 * 100.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<String> {
        GROUPS.iter().map(|g| (*g).to_owned()).collect()
    }

    #[test]
    fn the_gauges_of_every_system_are_the_same_columns() {
        let names = |gauges: Vec<GaugeInfo>| gauges.into_iter().map(|g| (g.name, g.unit)).collect::<Vec<_>>();
        let portable = portable::sources().iter().flat_map(|s| s.gauges()).collect();
        assert_eq!(names(gauges(&groups())), names(portable));
        assert_eq!(gauges(&["memory".to_owned()]).len(), 4);
        assert!(gauges(&[]).is_empty());
    }

    #[test]
    fn cpu_time_counts_work_and_knows_no_dead_process() {
        let before = cpu_time(std::process::id()).unwrap();
        let begun = crate::clock::now_ns();
        let mut x = 0_u64;
        while crate::clock::now_ns() - begun < 50_000_000 {
            x = std::hint::black_box(x.wrapping_add(1));
        }
        assert!(cpu_time(std::process::id()).unwrap() > before);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(cpu_time(pid), None);
    }

    /// The same moment read by both implementations: own process, a known kind of value in every column.
    #[test]
    fn own_process_reads_alike_through_every_source() {
        let mut read = Vec::new();
        for mut source in portable::sources().into_iter().chain(sources(&groups())) {
            let gauges = source.gauges();
            let mut values = vec![None; gauges.len()];
            source.sample(Some(std::process::id()), &mut values);
            for (gauge, value) in gauges.into_iter().zip(values) {
                if let Some(value) = value {
                    assert!(gauge.absent.is_none(), "{gauge:?} has a value");
                    read.push((gauge.name, value));
                }
            }
        }
        for name in ["rss_bytes", "available_memory_bytes"] {
            let both: Vec<f64> = read.iter().filter(|(n, _)| n == name).map(|(_, v)| *v).collect();
            assert_eq!(both.len(), 2, "{name}");
            assert!(both[0] > 1e6 && (both[0] / both[1] - 1.0).abs() < 0.5, "{name}: {both:?}");
        }
        assert!(!read.iter().any(|(name, _)| name.ends_with("cpu_percent")), "a first sample has no difference");
    }
}
