//! Judges iterations that are too short for the gauges, by the kernel's counters before and after
//! each request: they need no samples.

use std::time::Duration;

use super::causes::{ExternalCause, Finding, STOLEN_PERCENT};
use crate::telemetry::waits::Waits;

/// Share of their time that the engine's threads may wait for a CPU because of others. An engine
/// that fills all cores reaches it at a load of a tenth of them, a little below what the gauges
/// tolerate.
const WAITED_SHARE: f64 = 0.1;
/// What giving a CPU to a thread costs without any load, at most: waking an idle core takes that
/// long on a virtual machine. It also counts as waiting.
const WAKE_UP: Duration = Duration::from_micros(50);
/// Largest error of the machine's CPU time on each core: one tick.
const TICK: Duration = Duration::from_millis(10);
/// Two ticks: one may belong to the time before the iteration.
const STOLEN_AT_LEAST: Duration = Duration::from_millis(20);
/// Share of the engine's CPU time whose threads may be unknown, or share of the iteration's time.
const UNSEEN_SHARE: f64 = 0.1;
const UNSEEN_OF_TIME: f64 = 0.05;

/// The engine's own use of the machine during an iteration.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnUse {
    /// CPU time of the host, if the system reports it.
    pub cpu: Option<Duration>,
    /// CPU time of what the host has started.
    pub helpers: Duration,
    pub waits: Option<Waits>,
}

/// What the counters say about load: the findings, or `None` if they cannot tell.
#[must_use]
pub fn findings(own: &OwnUse, cores: Option<f64>) -> Option<Vec<Finding>> {
    let waits = own.waits.filter(|waits| !waits.over.is_zero())?;
    let waited = waited_for_others(own, &waits, cores)?.as_secs_f64() / time_of_threads(&waits).as_secs_f64();
    let found = (waited > WAITED_SHARE).then(|| {
        let words = format!("the engine waited for a CPU during more than {} % of the time", WAITED_SHARE * 100.0);
        Finding::new(ExternalCause::Waiting, words, Some(waited * 100.0))
    });
    Some(stolen(&waits, cores).into_iter().chain(found).collect())
}

/// The iteration's time for each of the engine's threads that can run at once.
fn time_of_threads(waits: &Waits) -> Duration {
    waits.over * waits.threads.min(waits.cpus).max(1)
}

/// Time that the engine's threads waited because others had the CPUs, at least. `None` if it cannot
/// be told from their waiting for each other.
fn waited_for_others(own: &OwnUse, waits: &Waits, cores: Option<f64>) -> Option<Duration> {
    let used = own.cpu? + own.helpers;
    let unseen = used.saturating_sub(waits.running).as_secs_f64();
    let tolerated = (UNSEEN_SHARE * used.as_secs_f64()).max(UNSEEN_OF_TIME * waits.over.as_secs_f64());
    if unseen > tolerated {
        return None;
    }
    let wake_ups = WAKE_UP.checked_mul(u32::try_from(waits.slices).unwrap_or(u32::MAX)).unwrap_or(Duration::MAX);
    let waited = waits.waiting.saturating_sub(wake_ups);
    let limit = time_of_threads(waits).mul_f64(WAITED_SHARE);
    // Threads wait for each other only while their own engine has all CPUs, and then only as many
    // as are left over. The rest of the waiting is due to others.
    let left_over = f64::from(waits.threads_at_most.saturating_sub(waits.cpus)) / f64::from(waits.cpus.max(1));
    let due = waited.saturating_sub(used.mul_f64(left_over));
    if due > limit || waited <= limit {
        return Some(due);
    }
    // Others are not to blame for more time than they ran.
    let error = TICK.mul_f64(cores?);
    let others = waits.busy?.saturating_sub(used);
    match (others > limit + error, others + error <= limit) {
        (true, _) => Some(waited.min(others.saturating_sub(error))),
        (_, true) => Some(others),
        _ => None,
    }
}

fn stolen(waits: &Waits, cores: Option<f64>) -> Option<Finding> {
    let stolen = waits.stolen.filter(|stolen| *stolen >= STOLEN_AT_LEAST)?;
    let percent = stolen.as_secs_f64() / (waits.over.as_secs_f64() * cores?) * 100.0;
    (percent > STOLEN_PERCENT).then(|| Finding::steal(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Two threads on two cores for 200 ms, which they keep busy.
    fn quiet() -> OwnUse {
        let waits = Waits {
            over: ms(200),
            waiting: ms(1),
            running: ms(390),
            slices: 20,
            preempted: Some(0),
            threads: 2,
            threads_at_most: 2,
            cpus: 2,
            busy: Some(ms(400)),
            stolen: Some(ms(0)),
        };
        OwnUse { cpu: Some(ms(395)), helpers: ms(0), waits: Some(waits) }
    }

    fn with(change: impl FnOnce(&mut OwnUse, &mut Waits)) -> Option<Vec<ExternalCause>> {
        let mut own = quiet();
        let mut waits = own.waits.unwrap();
        change(&mut own, &mut waits);
        waits.threads_at_most = waits.threads_at_most.max(waits.threads);
        own.waits = Some(waits);
        findings(&own, Some(2.0)).map(|found| found.into_iter().map(|finding| finding.cause).collect())
    }

    #[test]
    fn a_machine_of_its_own_is_judged_and_fine() {
        assert_eq!(with(|_, _| {}), Some(vec![]));
        assert_eq!(with(|_, waits| waits.waiting = ms(40)), Some(vec![]), "a tenth");
        let woken = |_: &mut OwnUse, waits: &mut Waits| (waits.waiting, waits.slices) = (ms(60), 500);
        assert_eq!(with(woken), Some(vec![]), "500 wake-ups of 120 µs each");
    }

    #[test]
    fn waiting_beyond_a_tenth_of_the_time_is_due_to_others() {
        assert_eq!(with(|_, waits| waits.waiting = ms(42)), Some(vec![ExternalCause::Waiting]));
        let found =
            findings(&OwnUse { waits: Some(Waits { waiting: ms(61), ..quiet().waits.unwrap() }), ..quiet() }, None);
        assert_eq!(found.unwrap()[0].amount.map(f64::round), Some(15.0));
        let one = |_: &mut OwnUse, waits: &mut Waits| (waits.threads, waits.waiting) = (1, ms(22));
        assert_eq!(with(one), Some(vec![ExternalCause::Waiting]), "one thread");
    }

    /// Four threads on two cores wait for each other; only what others ran can be their fault.
    #[test]
    fn an_engine_with_more_threads_than_cores_delays_itself() {
        let crowded =
            |busy: u64| with(move |_, waits| (waits.threads, waits.waiting, waits.busy) = (4, ms(390), Some(ms(busy))));
        assert_eq!(crowded(395), Some(vec![]), "nobody else ran");
        assert_eq!(crowded(430), None, "35 ms of others are above the limit only by the ticks' error");
        assert_eq!(crowded(595), Some(vec![ExternalCause::Waiting]), "others ran for 200 ms");
        let long = |busy: u64| {
            with(move |own, waits| {
                own.cpu = Some(ms(790));
                (waits.over, waits.running, waits.threads) = (ms(400), ms(790), 4);
                (waits.waiting, waits.busy) = (ms(780), Some(ms(busy)));
            })
        };
        assert_eq!(long(800), Some(vec![]));
        assert_eq!(long(900), Some(vec![ExternalCause::Waiting]));
        // Of three threads two can run: the third waits for its own engine at most 195 ms.
        let three =
            |waiting: u64| with(move |_, waits| (waits.threads, waits.waiting, waits.busy) = (3, ms(waiting), None));
        assert_eq!((three(190), three(260)), (None, Some(vec![ExternalCause::Waiting])));
        let idle = |_: &mut OwnUse, waits: &mut Waits| (waits.threads, waits.busy) = (4, None);
        assert_eq!(with(idle), Some(vec![]), "they hardly waited at all");
    }

    /// macOS tells an average of the threads that can run, and how many there are at all.
    #[test]
    fn where_the_threads_are_not_known_only_little_waiting_is_judged() {
        let many = |waiting: u64| {
            with(move |_, waits| {
                (waits.threads_at_most, waits.waiting, waits.busy) = (12, ms(waiting), None);
            })
        };
        assert_eq!((many(30), many(80)), (Some(vec![]), None));
    }

    #[test]
    fn what_the_seen_threads_did_not_do_is_not_judged() {
        assert_eq!(with(|own, _| own.helpers = ms(100)), None, "children did the work");
        assert_eq!(with(|_, waits| waits.running = ms(100)), None, "the threads that worked have ended");
        assert_eq!(with(|own, _| own.cpu = None), None);
        assert!(findings(&OwnUse { waits: None, ..quiet() }, Some(2.0)).is_none());
        let asleep = |own: &mut OwnUse, waits: &mut Waits| (own.cpu, waits.running) = (Some(ms(9)), ms(1));
        assert_eq!(with(asleep), Some(vec![]), "an engine that hardly runs");
    }

    #[test]
    fn stolen_time_is_seen_from_two_ticks_on() {
        assert_eq!(with(|_, waits| waits.stolen = Some(ms(10))), Some(vec![]));
        assert_eq!(with(|_, waits| waits.stolen = Some(ms(20))), Some(vec![ExternalCause::Steal]));
    }
}
