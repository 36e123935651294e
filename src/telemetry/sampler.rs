//! The sampling thread: reads every source at absolute deadlines and keeps the rows until they are
//! drained.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lateness::Lateness;
use super::pace::thread_ns;
use super::panel::Panel;
use crate::origin::Origin;
use crate::spec::{GaugeInfo, SamplingInfo, TelemetryRow};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::units;

/// Samples all gauges of some groups at an interval, in its own thread, until dropped.
#[derive(Debug)]
pub struct Sampler {
    gauges: Vec<GaugeInfo>,
    interval: Duration,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: bool,
    /// Sampling is paused.
    resting: bool,
    /// Host number and process id.
    target: Option<(u32, u32)>,
    rows: Vec<TelemetryRow>,
    skipped: u64,
    late: Lateness,
    cpu_ns: u64,
    active_ns: u64,
}

impl Sampler {
    /// Starts sampling every gauge of the groups. With an interval of zero, nothing is sampled and
    /// there are no gauges.
    ///
    /// Deadlines are `interval` apart from the start on, however long a sample takes; a missed one
    /// is skipped.
    #[must_use]
    pub fn start(interval: Duration, groups: &[String], origin: Origin) -> Self {
        Self::begin(interval, origin, || Panel::of_groups(groups, super::sources()))
    }

    /// Starts sampling for an existing record, whose columns its rows have.
    #[must_use]
    pub fn go_on(interval: Duration, gauges: &[GaugeInfo], origin: Origin) -> Self {
        Self::begin(interval, origin, || Panel::of_record(gauges, super::sources()))
    }

    fn begin(interval: Duration, origin: Origin, panel: impl FnOnce() -> Panel) -> Self {
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let shared = Arc::<Shared>::default();
        if interval_ns == 0 {
            return Self { gauges: Vec::new(), interval, shared, thread: None };
        }
        let panel = panel();
        let gauges = panel.gauges().to_vec();
        let thread = std::thread::Builder::new().name("telemetry".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || sample_until_stopped(&shared, panel, interval_ns, origin)
        });
        // If the system cannot start a thread, the gauges stay empty, which the record shows.
        Self { gauges, interval, shared, thread: thread.ok() }
    }

    /// The gauges, in the order of each row's values.
    #[must_use]
    pub fn gauges(&self) -> Vec<GaugeInfo> {
        self.gauges.clone()
    }

    /// From the next sample on, process gauges sample the process of this host, given by number and
    /// process id.
    pub fn watch(&self, target: Option<(u32, u32)>) {
        self.shared.lock().target = target;
    }

    /// Pauses or resumes sampling, so that irrelevant time costs nothing.
    pub fn rest(&self, resting: bool) {
        self.shared.lock().resting = resting;
        self.shared.wake.notify_all();
    }

    /// The rows since the last call, oldest first.
    #[must_use]
    pub fn drain(&self) -> Vec<TelemetryRow> {
        std::mem::take(&mut self.shared.lock().rows)
    }

    /// Sampling statistics so far; `None` if nothing is sampled.
    #[must_use]
    pub fn info(&self) -> Option<SamplingInfo> {
        self.thread.as_ref()?;
        let state = self.shared.lock();
        Some(SamplingInfo {
            interval_ms: u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX),
            samples: state.late.count(),
            skipped: state.skipped,
            jitter_p50_ns: state.late.quantile(0.5),
            jitter_p99_ns: state.late.quantile(0.99),
            cpu_ns: state.cpu_ns,
            active_ns: state.active_ns,
        })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panicking source has reported it on stderr; its rows end there.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The state stays usable after a panic elsewhere, as no update is partial.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for the next sample and returns its target, or `None` to stop. A pause moves the
    /// deadline to its end and does not count as active time.
    fn wait(&self, grid: &mut Grid) -> Option<Option<(u32, u32)>> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            if state.resting {
                state.active_ns += grid.worked(now_ns());
                state = self.wake.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
                *grid = Grid::from(now_ns());
                continue;
            }
            let now = now_ns();
            if now >= grid.deadline_ns {
                return Some(state.target);
            }
            let left = Duration::from_nanos(grid.deadline_ns - now);
            state = self.wake.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

/// Time bookkeeping of the thread.
#[derive(Debug)]
struct Grid {
    deadline_ns: u64,
    /// Active time is counted up to here.
    counted_ns: u64,
}

impl Grid {
    fn from(now: u64) -> Self {
        Self { deadline_ns: now, counted_ns: now }
    }

    /// Active time since the last call.
    fn worked(&mut self, now: u64) -> u64 {
        let since = std::mem::replace(&mut self.counted_ns, now);
        now.saturating_sub(since)
    }
}

fn sample_until_stopped(shared: &Shared, mut panel: Panel, interval_ns: u64, origin: Origin) {
    let mut grid = Grid::from(now_ns());
    while let Some(target) = shared.wait(&mut grid) {
        let now = now_ns();
        let values = panel.sample(target.map(|(_, pid)| pid));
        let row = TelemetryRow { t_ns: origin.t_ns(now), host: target.map(|(host, _)| host), values };
        let late = now - grid.deadline_ns;
        let (next, skipped) = next_deadline(grid.deadline_ns, interval_ns, now_ns());
        grid.deadline_ns = next;
        let worked = grid.worked(now_ns());
        let cpu_ns = thread_ns();
        let mut state = shared.lock();
        state.rows.push(row);
        state.late.add(late);
        state.skipped += skipped;
        state.cpu_ns = cpu_ns;
        state.active_ns += worked;
    }
}

/// The first deadline after `now` on the grid of `deadline`, and how many are skipped for it.
fn next_deadline(deadline: u64, interval_ns: u64, now: u64) -> (u64, u64) {
    let skipped = now.saturating_sub(deadline) / interval_ns;
    (deadline.saturating_add((skipped + 1).saturating_mul(interval_ns)), skipped)
}

/// Sampling statistics in one line.
#[must_use]
pub fn describe(info: &SamplingInfo) -> String {
    let late = |ns: Option<f64>| ns.map_or_else(|| "?".to_owned(), |ns| units::significant(ns / 1e3));
    format!(
        "{} samples, {} skipped; late by {} µs (median), {} µs (99th percentile); sampling used {} % of a core",
        info.samples,
        info.skipped,
        late(info.jitter_p50_ns),
        late(info.jitter_p99_ns),
        units::significant(100.0 * info.cpu_ns as f64 / info.active_ns.max(1) as f64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_stay_on_their_grid_and_are_skipped_not_bunched() {
        assert_eq!(next_deadline(1000, 50, 1003), (1050, 0));
        assert_eq!(next_deadline(1000, 50, 1049), (1050, 0));
        assert_eq!(next_deadline(1000, 50, 1050), (1100, 1));
        assert_eq!(next_deadline(1000, 50, 1234), (1250, 4));
    }

    fn until<T>(mut ready: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(value) = ready() {
                return value;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn rows_rise_in_time_and_follow_the_target() {
        let groups = super::super::GROUPS.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
        let sampler = Sampler::start(Duration::from_millis(2), &groups, Origin::start());
        assert_eq!(sampler.gauges(), super::super::gauges(&groups));
        let mut rows = until(|| Some(sampler.drain()).filter(|rows| !rows.is_empty()));
        assert_eq!(rows[0].host, None);
        sampler.watch(Some((7, std::process::id())));
        until(|| {
            rows.extend(sampler.drain());
            (rows.iter().filter(|row| row.host == Some(7)).count() >= 3).then_some(())
        });
        sampler.watch(None);
        until(|| {
            rows.extend(sampler.drain());
            rows.last().filter(|row| row.host.is_none()).map(|_| ())
        });
        assert!(rows.is_sorted_by(|a, b| a.t_ns < b.t_ns));
        let rss = sampler.gauges().iter().position(|g| g.name == "rss_bytes").unwrap();
        let cpu = sampler.gauges().iter().position(|g| g.name == "process_cpu_percent").unwrap();
        for row in &rows {
            assert_eq!(row.values.len(), sampler.gauges().len());
            assert_eq!(row.values[rss].is_some(), row.host.is_some(), "{row:?}");
        }
        let first = rows.iter().find(|row| row.host.is_some()).unwrap();
        assert_eq!(first.values[cpu], None, "no difference yet");
        let info = sampler.info().unwrap();
        assert!(info.samples >= rows.len() as u64 && info.jitter_p50_ns <= info.jitter_p99_ns, "{info:?}");
        assert!(info.interval_ms == 2 && info.cpu_ns > 0 && info.active_ns >= info.cpu_ns, "{info:?}");
    }

    #[test]
    fn a_rest_is_no_time_at_work() {
        let sampler = Sampler::start(Duration::from_millis(2), &["power".to_owned()], Origin::start());
        until(|| sampler.info().filter(|info| info.samples > 2));
        sampler.rest(true);
        let rested = now_ns();
        std::thread::sleep(Duration::from_millis(300));
        let rest_ns = now_ns() - rested;
        sampler.rest(false);
        let samples = sampler.info().unwrap().samples;
        until(|| sampler.info().filter(|info| info.samples > samples + 2));
        let (info, alive) = (sampler.info().unwrap(), now_ns() - rested);
        // The time before the pause is comparatively short.
        assert!(info.active_ns < alive - rest_ns + rest_ns / 2, "{info:?} of {alive} ns");
    }

    #[test]
    fn without_an_interval_nothing_is_sampled() {
        let sampler = Sampler::start(Duration::ZERO, &["cpu".to_owned()], Origin::start());
        assert!(sampler.gauges().is_empty() && sampler.drain().is_empty());
        assert_eq!(sampler.info(), None);
    }
}
