//! Gauges: series of the machine and the engine process over time, sampled by one thread.
//!
//! All gauges are in one table (`table`), which gives every system the same columns. A [`Source`]
//! reads one thing of the system and feeds one or several gauges of the table from that one read;
//! it lists only gauges that it knows, each one that it cannot read here with the reason. A gauge
//! that no source of this system lists is absent with the table's reason. Where several sources
//! list one, the first that can read it feeds it.
//!
//! Adding a gauge is a line in the table and a source, named in the list of its operating system:
//! `linux::sources`, `apple::sources` (macOS only, before the portable ones) or `portable::sources`
//! (systems other than Linux).

#[cfg(any(test, target_os = "macos"))]
mod apple;
pub mod counters;
pub mod fitness;
mod git;
pub mod group;
pub mod lacking;
mod lateness;
#[cfg(target_os = "linux")]
mod linux;
pub mod machine;
mod pace;
mod panel;
pub mod peak;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod sampler;
mod table;
pub mod waits;

use std::time::Duration;

use crate::spec::GaugeInfo;

pub use git::git_state;
pub use sampler::{Sampler, describe};
pub use table::{GAUGES, Gauge};

/// Groups of gauges that a scenario may name.
pub const GROUPS: [&str; 4] = ["cpu", "memory", "gpu", "power"];

/// Something that is read at each sample and feeds one or several gauges.
pub trait Source: Send {
    /// The gauges that it knows, made by `gauge`; one that it cannot read here has the reason.
    /// Always the same ones.
    fn gauges(&self) -> Vec<GaugeInfo>;

    /// Reads the source once. `values` has one place for each of [`Source::gauges`], all `None`
    /// before the call; what cannot be read stays so.
    ///
    /// `target` is the process that process gauges look at; a value that is a difference to the
    /// previous sample is not there in the first sample of a process. It runs at every sample: no
    /// opening of files, hardly any allocation.
    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]);
}

/// The sources of this system.
fn sources() -> Vec<Box<dyn Source>> {
    #[cfg(target_os = "linux")]
    return linux::sources();
    #[cfg(target_os = "macos")]
    return apple::sources().into_iter().chain(portable::sources()).collect();
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    return portable::sources();
}

/// The gauges that a [`Sampler`] of these groups has, in the order of its values.
#[must_use]
pub fn gauges(groups: &[String]) -> Vec<GaugeInfo> {
    panel::Panel::of_groups(groups, sources()).gauges().to_vec()
}

/// CPU time that the process has used since it began: user and system, all its threads, also those
/// that have ended.
///
/// Linux reads the process's CPU clock (nanoseconds), macOS the kernel's ticks (42 ns on Apple
/// Silicon); other systems give what `sysinfo` reads (milliseconds). `None` when there is no such
/// process.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return linux::CpuClock::of(pid)?.read();
    #[cfg(target_os = "macos")]
    return apple::cpu_time(pid);
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    return portable::cpu_time(pid);
}

/// A gauge of the table as a source knows it: where it is read, or why it cannot be.
fn gauge(name: &str, source: &str, absent: Option<String>) -> GaugeInfo {
    let known = table::find(name).expect("sources know gauges of the table only");
    GaugeInfo { name: name.to_owned(), unit: known.unit.to_owned(), source: source.to_owned(), absent }
}

/// Share in percent of a stretch of time (`from`, `to` on any clock); `None` for an empty or
/// backward stretch.
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
        let portable = panel::Panel::of_groups(&groups(), portable::sources());
        assert_eq!(names(gauges(&groups())), names(portable.gauges().to_vec()));
        assert_eq!(gauges(&groups()).len(), GAUGES.len());
        assert!(gauges(&[]).is_empty());
    }

    #[test]
    fn cpu_time_counts_work_and_knows_no_dead_process() {
        let before = cpu_time(std::process::id()).unwrap();
        let begun = inferometer_protocol::clock::now_ns();
        let mut x = 0_u64;
        while inferometer_protocol::clock::now_ns() - begun < 50_000_000 {
            x = std::hint::black_box(x.wrapping_add(1));
        }
        assert!(cpu_time(std::process::id()).unwrap() > before);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(cpu_time(pid), None);
    }

    /// The same moment read by both implementations: own process, a known kind of value in every
    /// column.
    #[test]
    fn own_process_reads_alike_through_every_source() {
        let mut read = Vec::new();
        for mut source in portable::sources().into_iter().chain(sources()) {
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

    /// The table of docs/reference/gauges.md is what the sources say, with no file of this machine
    /// looked at.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_page_lists_every_gauge() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |file: &str| fs_err::read_to_string(folder.join(file)).unwrap();
        let linux: Vec<GaugeInfo> = linux::sources_of_nothing().iter().flat_map(|source| source.gauges()).collect();
        let apple =
            ["apple/sources.rs", "apple/chip.rs", "portable.rs"].map(|file| read(&format!("src/telemetry/{file}")));
        let mut table = "| gauge | unit | group | Linux | macOS | meaning |\n|---|---|---|---|---|---|\n".to_owned();
        for Gauge { name, unit, group, meaning, .. } in GAUGES {
            let of_engine = table::FROM_ENGINE.contains(name);
            let mut own: Vec<&str> =
                linux.iter().filter(|info| info.name == *name).map(|info| info.source.as_str()).collect();
            own.dedup();
            let own = if of_engine { "from the engine".to_owned() } else { own.join(" or ") };
            // What macOS cannot fill either, its sources say with a reason.
            let empty = ["involuntary_switches_per_s", "rss_anon_bytes", "rss_file_bytes", "gpu_memory_bytes"];
            let empty = empty.contains(name) || *name == "gpu_process_memory_bytes";
            let known = !empty && apple.iter().any(|text| text.contains(&format!("\"{name}\"")));
            let mac = if of_engine {
                "from the engine"
            } else if known {
                "yes"
            } else {
                ""
            };
            table += &format!(
                "| `{name}` | {unit} | {group} | {} | {mac} | {meaning} |\n",
                own.replace('|', "\\|").replace('<', "&lt;")
            );
        }
        let page = read("docs/reference/gauges.md");
        let (before, after) = page.split_once("<!-- gauges -->\n\n").expect("a mark for the table");
        let end = after.split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum::<usize>();
        let expected = format!("{before}<!-- gauges -->\n\n{table}{}", &after[end..]);
        if page != expected && std::env::var_os("INFEROMETER_UPDATE_PAGES").is_some() {
            return fs_err::write(folder.join("docs/reference/gauges.md"), &expected).unwrap();
        }
        assert!(
            page == expected,
            "docs/reference/gauges.md is behind the code: run this test with INFEROMETER_UPDATE_PAGES=1"
        );
    }
}
