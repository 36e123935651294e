//! Checks whether this machine, in its current state, is fit for measurements: findings, severity
//! and advice.
//!
//! What the system does not report is listed as not visible; no figure is made up.

mod disturbance;
mod grade;
mod limits;
#[cfg(any(test, target_os = "linux"))]
mod linux;
#[cfg(any(test, target_os = "macos"))]
mod macos;
mod means;
mod speed;
mod window;

use std::path::Path;

use super::{GROUPS, machine, peak};
use inferometer_protocol::clock::{CLOCK_ID, now_ns};
use inferometer_protocol::units;

pub use grade::{Finding, Grade, Level};

/// Observes the machine for about a second. `results` is the folder for records; it need not exist.
#[must_use]
pub fn look(results: &Path) -> Vec<Finding> {
    let machine = machine::machine();
    let window = window::Window::watch(std::time::Duration::from_secs(1));
    let gauges = super::gauges(&GROUPS.map(str::to_owned));
    let mut findings = vec![build()];
    findings.extend(disturbance::findings(&window, &machine));
    findings.extend(speed::findings(&window, &machine));
    findings.extend(limits::findings(&machine));
    findings.extend([clock(), disk(results)]);
    findings.extend(means::findings(&gauges, peak::reset(std::process::id()).map(|_| ())));
    findings
}

/// A debug build does not affect the grade: the machine's fitness does not depend on it, and `ab`
/// builds its own programs.
fn build() -> Finding {
    if cfg!(debug_assertions) {
        let seen = "this inferometer is a debug build: its engines are many times slower";
        Finding::warning("build", seen, "measure with a release build (`cargo build --release`)")
    } else {
        Finding::ok("build", "release build")
    }
}

/// Measured step and cost of the clock.
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
    let seen = format!("{CLOCK_ID}: {} ns per reading, smallest observed step {step} ns", units::significant(cost));
    if cost < 200.0 && step < 1000 {
        return Finding::ok("clock", seen);
    }
    let advice = "time stamps cost more than usual; on Linux prefer the clock source `tsc`";
    Finding::warning("clock", seen, advice).at_best(Grade::B)
}

fn disk(results: &Path) -> Finding {
    let here = results.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let Ok(space) = rustix::fs::statvfs(here) else {
        return Finding::not_visible("disk", &format!("the free space of {} is unknown", here.display()));
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let seen = format!("{} free for records in {}", units::bytes(free), results.display());
    match free {
        f if f < 256 << 20 => Finding::warning("disk", seen, "free some space, or record elsewhere with `--results`"),
        f if f < 2 << 30 => Finding::note("disk", seen, "long runs with much telemetry need more"),
        _ => Finding::ok("disk", seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_covers_every_topic_once() {
        let dir = tempfile::tempdir().unwrap();
        let findings = look(&dir.path().join("not/yet"));
        let mut topics: Vec<_> = findings.iter().map(|f| f.topic).collect();
        topics.sort_unstable();
        let all = topics.len();
        topics.dedup();
        assert_eq!(all, topics.len(), "{topics:?}");
        for topic in
            ["load", "memory", "clock", "disk", "gauges", "build", "counters", "energy", "profilers", "power mode"]
        {
            assert!(topics.contains(&topic), "{topic}");
        }
        let costly = |f: &&Finding| f.at_best > Grade::A;
        assert!(findings.iter().filter(costly).all(|f| f.advice.is_some() && f.level > Level::Ok), "{findings:?}");
        assert!(findings.iter().all(|f| f.level != Level::Warning || f.advice.is_some()), "{findings:?}");
    }
}
