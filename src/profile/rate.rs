//! The achieved sampling rate of a profiler, and the time that one sample stands for.
//!
//! The kernel's tick limits a timer on CPU time (usually to 250 or 1000 signals per second and
//! core), and a busy machine loses samples of any profiler. The requested rate is therefore never
//! taken for the achieved one.

use super::parts;
use inferometer_protocol::{Phase, Profile, ProfilePart, SampleClock};

/// Samples per second of the profiler's clock: of CPU time, or of wall time in each thread. `None`
/// without samples or if the CPU time was not read.
#[must_use]
pub fn achieved_hz(profile: &Profile) -> Option<f64> {
    achieved_hz_of(&[profile], None)
}

/// The same over several profiles, for one phase or (`None`) for all parts.
#[must_use]
pub fn achieved_hz_of(profiles: &[&Profile], phase: Option<Phase>) -> Option<f64> {
    let (mut rounds, mut ns) = (0u64, 0u64);
    for (profile, part) in parts(profiles, phase) {
        rounds = rounds.saturating_add(self::rounds(part, profile.clock));
        ns = ns.saturating_add(clock_ns(part, profile.clock)?);
    }
    (rounds > 0 && ns > 0).then(|| rounds as f64 / (ns as f64 / 1e9))
}

/// Time per sample of the part: the part's time divided by its samples, so that the samples add up
/// to its CPU time. If that time is unknown, the requested interval.
#[must_use]
pub fn ns_per_sample(profile: &Profile, part: &ProfilePart) -> f64 {
    match (clock_ns(part, profile.clock), rounds(part, profile.clock)) {
        (Some(ns), rounds @ 1..) if ns > 0 => ns as f64 / rounds as f64,
        _ => 1e9 / f64::from(profile.frequency_hz.max(1)),
    }
}

/// Time on the profiler's clock during the part.
fn clock_ns(part: &ProfilePart, clock: SampleClock) -> Option<u64> {
    match clock {
        SampleClock::Cpu => part.cpu_ns,
        SampleClock::Wall => Some(part.duration_ns),
    }
}

/// Number of sampling rounds. On wall time each round samples every thread, so this is the count of
/// the most sampled thread; threads with equal names count as one.
fn rounds(part: &ProfilePart, clock: SampleClock) -> u64 {
    let mut threads = std::collections::HashMap::<&str, u64>::new();
    for stack in &part.stacks {
        let key = if clock == SampleClock::Wall { stack.thread.as_str() } else { "" };
        let count = threads.entry(key).or_default();
        *count = count.saturating_add(stack.count);
    }
    threads.into_values().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixtures::{MS, profile};

    #[test]
    fn the_rate_is_what_came_not_what_was_asked() {
        let profile = profile();
        let near = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-9, "{a:?} {b}");
        near(achieved_hz_of(&[&profile], Some(Phase::Prefill)), 100.0);
        near(achieved_hz_of(&[&profile], Some(Phase::Decode)), 200.0);
        near(achieved_hz(&profile), 41.0 / 0.255);
        assert_eq!(achieved_hz_of(&[&profile], Some(Phase::Load)), None);
        let mut unread = profile.clone();
        unread.parts[1].cpu_ns = None;
        assert_eq!(achieved_hz(&unread), None);
        assert!((ns_per_sample(&unread, &unread.parts[1]) - 1e6).abs() < 1e-9, "the requested rate: 1000 per second");
    }

    #[test]
    fn on_wall_time_each_look_finds_every_thread() {
        let mut profile = profile();
        profile.clock = SampleClock::Wall;
        let prefill = &profile.parts[0];
        assert!((ns_per_sample(&profile, prefill) - (60 * MS) as f64 / 6.0).abs() < 1e-6, "the busiest has 6");
    }
}
