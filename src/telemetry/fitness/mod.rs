//! Whether this machine, as it is now, is fit to measure: what was seen, how bad it is, and what to do about it.
//!
//! What cannot be seen is said to be not visible; there is no figure that was not measured.

mod limits;
#[cfg(any(test, target_os = "linux"))]
mod linux;
#[cfg(any(test, target_os = "macos"))]
mod macos;
mod window;

use std::path::Path;

use serde::Serialize;

use super::{GROUPS, machine, peak};
use crate::clock::{CLOCK_ID, now_ns};
use crate::spec::Machine;
use crate::units;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    Ok,
    /// Worth knowing when reading results.
    Note,
    /// Results will be worse for it.
    Warning,
}

impl Grade {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Note => "note",
            Grade::Warning => "warning",
        }
    }
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub topic: &'static str,
    pub grade: Grade,
    pub seen: String,
    /// What to do, where something can be done.
    pub advice: Option<String>,
}

impl Finding {
    #[must_use]
    pub fn ok(topic: &'static str, seen: impl Into<String>) -> Self {
        Self { topic, grade: Grade::Ok, seen: seen.into(), advice: None }
    }

    #[must_use]
    pub fn new(topic: &'static str, grade: Grade, seen: impl Into<String>, advice: &str) -> Self {
        Self { topic, grade, seen: seen.into(), advice: Some(advice.to_owned()) }
    }

    /// The system does not show it. Nothing to do, and nothing is claimed.
    #[must_use]
    pub fn not_visible(topic: &'static str, what: &str) -> Self {
        Self { topic, grade: Grade::Note, seen: format!("not visible: {what}"), advice: None }
    }
}

/// Looks at the machine for about a second. `results` is the folder that records go to; it need not exist yet.
#[must_use]
pub fn look(results: &Path) -> Vec<Finding> {
    let machine = machine::machine();
    let window = window::Window::watch(std::time::Duration::from_secs(1));
    let mut findings = vec![build(), load(&window, &machine), steal(&window, &machine), memory(&window, &machine)];
    findings.extend([swap(&window), virtual_machine(&machine), power(&machine)]);
    findings.extend(frequency(&machine));
    findings.extend(limits::findings(&machine));
    findings.extend([clock(), disk(results), gauges()]);
    findings
}

fn build() -> Finding {
    if cfg!(debug_assertions) {
        let advice = "measure with a release build (`cargo build --release`)";
        Finding::new(
            "build",
            Grade::Warning,
            "this inferometer is a debug build: its engines are many times slower",
            advice,
        )
    } else {
        Finding::ok("build", "release build")
    }
}

fn load(window: &window::Window, machine: &Machine) -> Finding {
    let (Some(percent), Some(cores)) = (window.busy_percent, machine.logical_cores) else {
        return Finding::not_visible("load", "the system does not say how busy its cores are");
    };
    let busy = percent / 100.0 * f64::from(cores);
    let seen = format!("{} of {cores} cores busy over one second", units::significant(busy));
    // A desktop at rest keeps about a tenth of a core busy.
    let grade = match busy {
        b if b < 0.15 => return Finding::ok("load", seen),
        b if b < 0.5 => Grade::Note,
        _ => Grade::Warning,
    };
    let busiest: Vec<String> = window.busiest.iter().map(|(name, percent)| format!("{name} {percent:.0} %")).collect();
    let seen = if busiest.is_empty() { seen } else { format!("{seen}: {}", busiest.join(", ")) };
    Finding::new("load", grade, seen, "end other programs, or wait until they are done")
}

fn steal(window: &window::Window, machine: &Machine) -> Finding {
    let Some(percent) = window.steal_percent else {
        return Finding::not_visible("stolen time", "the system does not count time taken by a hypervisor");
    };
    let seen = format!("{} % of CPU time taken by other guests", units::significant(percent));
    let grade = match percent {
        0.0 if machine.virtual_machine == Some(true) => return Finding::ok("stolen time", seen + " in this second"),
        0.0 => return Finding::ok("stolen time", seen),
        p if p < 1.0 => Grade::Note,
        _ => Grade::Warning,
    };
    Finding::new("stolen time", grade, seen, "use a machine of your own, or a larger guest")
}

fn memory(window: &window::Window, machine: &Machine) -> Finding {
    let Some(available) = window.available_bytes else {
        return Finding::not_visible("memory", "the system does not say how much memory is available");
    };
    let seen = match machine.memory_bytes {
        Some(all) => format!("{} of {} available", units::bytes(available), units::bytes(all)),
        None => format!("{} available", units::bytes(available)),
    };
    let share = machine.memory_bytes.map_or(1.0, |all| available as f64 / all as f64);
    let grade = match share {
        _ if available < 1 << 30 => Grade::Warning,
        s if s < 0.1 => Grade::Warning,
        s if s < 0.25 => Grade::Note,
        _ => return Finding::ok("memory", seen),
    };
    Finding::new("memory", grade, seen, "end programs that hold memory; the model, its KV cache and some room must fit")
}

fn swap(window: &window::Window) -> Finding {
    if let Some(pages @ 1..) = window.swapped_pages {
        let seen = format!("the machine swapped {pages} pages within one second");
        return Finding::new("swap", Grade::Warning, seen, "free memory before measuring");
    }
    match window.swap_used_bytes {
        None => Finding::not_visible("swap", "the system does not say how much is swapped out"),
        Some(0) => Finding::ok("swap", "nothing swapped out"),
        Some(bytes) => {
            let seen = format!("{} swapped out", units::bytes(bytes));
            Finding::new(
                "swap",
                Grade::Note,
                seen,
                "watch available memory; iterations during which the machine swaps are not comparable",
            )
        }
    }
}

fn virtual_machine(machine: &Machine) -> Finding {
    let advice = "expect drift of several percent; compare in interleaved pairs, never with a stored baseline";
    match machine.virtual_machine {
        Some(true) => Finding::new("virtual machine", Grade::Note, "this is a guest of a hypervisor", advice),
        Some(false) => Finding::ok("virtual machine", "none"),
        None => Finding::not_visible("virtual machine", "the system does not say whether it is one"),
    }
}

fn power(machine: &Machine) -> Finding {
    match machine.power_source.as_deref() {
        Some("battery") => {
            Finding::new("power", Grade::Warning, "on battery", "connect the charger: clocks are lower on battery")
        }
        Some(source) => Finding::ok("power", format!("on {source}")),
        None => Finding::not_visible("power", "no power supply shows itself"),
    }
}

/// Governor, turbo and heat: what moves the CPU's clock.
fn frequency(machine: &Machine) -> Vec<Finding> {
    let governor = match machine.governor.as_deref() {
        Some("performance") => Finding::ok("governor", "performance"),
        Some(other) => {
            let advice = "`cpupower frequency-set -g performance` keeps the clock up between tokens";
            Finding::new("governor", Grade::Note, other, advice)
        }
        None => Finding::not_visible("governor", "no frequency governor shows itself"),
    };
    #[cfg(target_os = "linux")]
    let more = [linux::turbo(Path::new("/sys/devices/system/cpu")), linux::heat(Path::new("/sys/devices/system/cpu"))];
    #[cfg(target_os = "macos")]
    let more = [macos::heat()];
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    let more = [];
    std::iter::once(governor).chain(more).collect()
}

/// The clock's step and cost, measured.
fn clock() -> Finding {
    const READS: u64 = 100_000;
    let begun = now_ns();
    let (mut last, mut step) = (begun, u64::MAX);
    for _ in 0..READS {
        let now = now_ns();
        if now > last {
            step = step.min(now - last);
        }
        last = now;
    }
    let cost = (last - begun) as f64 / READS as f64;
    let seen = format!("{CLOCK_ID}: {} ns a reading, smallest step seen {step} ns", units::significant(cost));
    if cost < 200.0 && step < 1000 {
        return Finding::ok("clock", seen);
    }
    let advice = "stamps cost more than usual; on Linux `tsc` is the clock source to have";
    Finding::new("clock", Grade::Warning, seen, advice)
}

fn disk(results: &Path) -> Finding {
    let here = results.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let Ok(space) = rustix::fs::statvfs(here) else {
        return Finding::not_visible("disk", &format!("{} does not say how much space it has", here.display()));
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let seen = format!("{} free for records in {}", units::bytes(free), results.display());
    match free {
        f if f < 256 << 20 => {
            Finding::new("disk", Grade::Warning, seen, "free some space, or record elsewhere with `--results`")
        }
        f if f < 2 << 30 => Finding::new("disk", Grade::Note, seen, "long runs with much telemetry need more"),
        _ => Finding::ok("disk", seen),
    }
}

fn gauges() -> Finding {
    let gauges = super::gauges(&GROUPS.map(str::to_owned));
    let mut absent: Vec<String> =
        gauges.iter().filter_map(|g| g.absent.as_ref().map(|why| format!("{} ({why})", g.name))).collect();
    if let Err(why) = peak::reset(std::process::id()) {
        absent.push(format!("peak_rss_bytes ({why})"));
    }
    if absent.is_empty() {
        return Finding::ok("gauges", format!("all {} and the memory peak are there", gauges.len()));
    }
    let seen = format!("not measured here: {}", absent.join("; "));
    Finding { topic: "gauges", grade: Grade::Note, seen, advice: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> window::Window {
        window::Window {
            busy_percent: Some(1.0),
            steal_percent: Some(0.0),
            available_bytes: Some(6 << 30),
            swap_used_bytes: Some(0),
            swapped_pages: Some(0),
            busiest: vec![("python3".to_owned(), 99.6)],
        }
    }

    fn machine() -> Machine {
        Machine { logical_cores: Some(8), memory_bytes: Some(8 << 30), ..Machine::default() }
    }

    #[test]
    fn load_is_graded_by_cores_kept_busy() {
        let graded = |percent| load(&window::Window { busy_percent: percent, ..window() }, &machine());
        assert_eq!(graded(Some(1.0)).grade, Grade::Ok);
        assert_eq!(graded(Some(4.0)).grade, Grade::Note);
        let full = graded(Some(100.0));
        assert_eq!(
            (full.grade, full.seen.as_str()),
            (Grade::Warning, "8.00 of 8 cores busy over one second: python3 100 %")
        );
        let unseen = graded(None);
        assert!(unseen.seen.starts_with("not visible") && !unseen.seen.contains(char::is_numeric), "{unseen:?}");
    }

    #[test]
    fn little_memory_and_swapping_are_warned_of() {
        let with = |available| memory(&window::Window { available_bytes: Some(available), ..window() }, &machine());
        assert_eq!(with(6 << 30).grade, Grade::Ok);
        assert_eq!(with(3 << 29).grade, Grade::Note);
        assert_eq!(with(1 << 29).grade, Grade::Warning);
        assert_eq!(swap(&window()).grade, Grade::Ok);
        assert_eq!(swap(&window::Window { swap_used_bytes: Some(5), ..window() }).grade, Grade::Note);
        assert_eq!(swap(&window::Window { swapped_pages: Some(5), ..window() }).grade, Grade::Warning);
    }

    #[test]
    fn stolen_time_and_battery_are_warned_of() {
        let stolen = |percent| steal(&window::Window { steal_percent: percent, ..window() }, &machine()).grade;
        assert_eq!([stolen(Some(0.0)), stolen(Some(0.3)), stolen(Some(7.0))], [Grade::Ok, Grade::Note, Grade::Warning]);
        let on = |source: &str| power(&Machine { power_source: Some(source.to_owned()), ..machine() }).grade;
        assert_eq!([on("mains"), on("battery")], [Grade::Ok, Grade::Warning]);
    }

    #[test]
    fn a_look_covers_every_topic_once() {
        let dir = tempfile::tempdir().unwrap();
        let findings = look(&dir.path().join("not/yet"));
        let mut topics: Vec<_> = findings.iter().map(|f| f.topic).collect();
        topics.sort_unstable();
        let all = topics.len();
        topics.dedup();
        assert_eq!(all, topics.len(), "{topics:?}");
        for topic in ["load", "memory", "clock", "disk", "gauges", "build"] {
            assert!(topics.contains(&topic), "{topic}");
        }
        assert!(findings.iter().all(|f| f.grade != Grade::Warning || f.advice.is_some()), "{findings:?}");
    }
}
