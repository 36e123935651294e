//! The sampling thread: reads every source at absolute deadlines and keeps the rows until they are drained.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Source;
use crate::clock::{Origin, now_ns};
use crate::spec::{GaugeInfo, TelemetryRow};
use crate::stats::robust;

/// Samples all gauges of some groups at an interval, in a thread of its own, until dropped.
#[derive(Debug)]
pub struct Sampler {
    gauges: Vec<GaugeInfo>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How well the sampling went, and what it cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerStats {
    pub samples: u64,
    /// Deadlines that passed while an earlier sample, or the machine, was still busy.
    pub skipped: u64,
    /// How long after its deadline a sample began; `None` before the first one.
    pub jitter_p50_ns: Option<f64>,
    pub jitter_p99_ns: Option<f64>,
    /// CPU time of the sampling thread.
    pub cpu: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: bool,
    /// Nothing is sampled for now.
    resting: bool,
    /// Host number and process id.
    target: Option<(u32, u32)>,
    rows: Vec<TelemetryRow>,
    skipped: u64,
    late_ns: Vec<u64>,
    cpu: Duration,
}

impl Sampler {
    /// Starts sampling. With an interval of zero nothing is sampled and there are no gauges.
    ///
    /// Deadlines are `interval` apart from the start on, whatever a sample takes; one that is missed is skipped.
    #[must_use]
    pub fn start(interval: Duration, groups: &[String], origin: Origin) -> Self {
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let shared = Arc::<Shared>::default();
        if interval_ns == 0 {
            return Self { gauges: Vec::new(), shared, thread: None };
        }
        let sources = super::sources(groups);
        let gauges = sources.iter().flat_map(|source| source.gauges()).collect();
        let thread = std::thread::Builder::new().name("telemetry".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || sample_until_stopped(&shared, sources, interval_ns, origin)
        });
        // Without a thread (the system is out of them) the gauges stay empty, which the record shows.
        Self { gauges, shared, thread: thread.ok() }
    }

    /// The gauges, in the order of each row's values.
    #[must_use]
    pub fn gauges(&self) -> Vec<GaugeInfo> {
        self.gauges.clone()
    }

    /// From the next sample on process gauges look at the process of this host: its number and process id.
    pub fn watch(&self, target: Option<(u32, u32)>) {
        self.shared.lock().target = target;
    }

    /// Stops sampling for a while, or goes on with it: what is not of interest shall not cost anything.
    pub fn rest(&self, resting: bool) {
        self.shared.lock().resting = resting;
        self.shared.wake.notify_all();
    }

    /// The rows since the last call, oldest first.
    #[must_use]
    pub fn drain(&self) -> Vec<TelemetryRow> {
        std::mem::take(&mut self.shared.lock().rows)
    }

    #[must_use]
    pub fn stats(&self) -> SamplerStats {
        let (late, skipped, cpu) = {
            let state = self.shared.lock();
            (state.late_ns.clone(), state.skipped, state.cpu)
        };
        let late: Vec<f64> = late.iter().map(|ns| *ns as f64).collect();
        let sorted = robust::sorted(&late);
        SamplerStats {
            samples: late.len() as u64,
            skipped,
            jitter_p50_ns: robust::quantile(&sorted, 0.5),
            jitter_p99_ns: robust::quantile(&sorted, 0.99),
            cpu,
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A source that panicked has said so on stderr; its rows end there.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The state stays usable after a panic elsewhere: every change to it is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until the clock reads `deadline_ns`, which a rest in between moves to its end; the target then, or `None` when
    /// it is time to stop.
    fn wait(&self, deadline_ns: &mut u64) -> Option<Option<(u32, u32)>> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            if state.resting {
                state = self.wake.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
                *deadline_ns = now_ns();
                continue;
            }
            let now = now_ns();
            let deadline_ns = *deadline_ns;
            if now >= deadline_ns {
                return Some(state.target);
            }
            let left = Duration::from_nanos(deadline_ns - now);
            state = self.wake.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

fn sample_until_stopped(shared: &Shared, mut sources: Vec<Box<dyn Source>>, interval_ns: u64, origin: Origin) {
    let widths: Vec<usize> = sources.iter().map(|source| source.gauges().len()).collect();
    let mut deadline = now_ns();
    while let Some(target) = shared.wait(&mut deadline) {
        let now = now_ns();
        let mut values = vec![None; widths.iter().sum()];
        let mut rest = values.as_mut_slice();
        for (source, width) in sources.iter_mut().zip(&widths) {
            let (own, others) = rest.split_at_mut(*width);
            source.sample(target.map(|(_, pid)| pid), own);
            rest = others;
        }
        let row = TelemetryRow { t_ns: origin.t_ns(now), host: target.map(|(host, _)| host), values };
        let late = now - deadline;
        let (next, skipped) = next_deadline(deadline, interval_ns, now_ns());
        deadline = next;
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let mut state = shared.lock();
        state.rows.push(row);
        state.late_ns.push(late);
        state.skipped += skipped;
        state.cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
    }
}

/// The first deadline after `now` on the grid that `deadline` lies on, and how many are left out for it.
fn next_deadline(deadline: u64, interval_ns: u64, now: u64) -> (u64, u64) {
    let skipped = now.saturating_sub(deadline) / interval_ns;
    (deadline.saturating_add((skipped + 1).saturating_mul(interval_ns)), skipped)
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
        let stats = sampler.stats();
        assert!(stats.samples >= rows.len() as u64 && stats.jitter_p50_ns <= stats.jitter_p99_ns, "{stats:?}");
        assert!(stats.cpu > Duration::ZERO);
    }

    #[test]
    fn without_an_interval_nothing_is_sampled() {
        let sampler = Sampler::start(Duration::ZERO, &["cpu".to_owned()], Origin::start());
        assert!(sampler.gauges().is_empty() && sampler.drain().is_empty());
        assert_eq!(sampler.stats().jitter_p50_ns, None);
    }
}
