//! Samples the engine's memory during a generation, on a separate thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::MemoryProbe;
use inferometer_protocol::MemorySample;
use inferometer_protocol::clock::now_ns;

/// Most samples kept; when the buffer is full, every second sample is dropped and the interval
/// doubles.
const ROOM: usize = 1 << 14;

/// Samples a probe between [`MemoryWatch::begin`] and [`MemoryWatch::end`]. Dropping it ends its
/// thread.
pub struct MemoryWatch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    active: bool,
    samples: Vec<MemorySample>,
    /// How often the buffer has filled up in this generation.
    thinned: u32,
}

impl Shared {
    /// A panic elsewhere leaves the state usable: no update is partial.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryWatch {
    /// Starts the thread, which sleeps until a generation begins. `None` when no thread can be
    /// started.
    pub fn start(probe: MemoryProbe, interval: Duration) -> Option<Self> {
        let shared = Arc::<Shared>::default();
        let thread = std::thread::Builder::new().name("memory".into());
        let own = Arc::clone(&shared);
        thread.spawn(move || sample(&own, &probe, interval)).ok()?;
        Some(Self(shared))
    }

    /// Starts sampling a generation; the first sample is taken now.
    pub fn begin(&self) {
        {
            let mut state = self.0.lock();
            state.samples.clear();
            state.samples.reserve(ROOM);
            state.thinned = 0;
            state.active = true;
        }
        self.0.wake.notify_all();
    }

    /// Stops sampling and returns the samples in order of time.
    pub fn end(&self) -> Vec<MemorySample> {
        let mut state = self.0.lock();
        state.active = false;
        state.samples.clone()
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.0.lock().stop = true;
        self.0.wake.notify_all();
    }
}

fn sample(shared: &Shared, probe: &MemoryProbe, interval: Duration) {
    let mut state = shared.lock();
    while !state.stop {
        if !state.active {
            state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        if state.samples.len() == ROOM {
            thin(&mut state.samples);
            state.thinned += 1;
        }
        state.samples.push(MemorySample { t_ns: now_ns(), memory: probe() });
        let every = interval * 2_u32.saturating_pow(state.thinned);
        state = shared.wake.wait_timeout(state, every).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Drops every second sample.
fn thin(samples: &mut Vec<MemorySample>) {
    let mut keep = false;
    samples.retain(|_| {
        keep = !keep;
        keep
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use inferometer_protocol::EngineMemory;

    #[test]
    fn samples_are_of_the_generation_alone_and_rise() {
        let asked = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&asked);
        let probe: MemoryProbe = Arc::new(move || EngineMemory {
            active_bytes: Some(counter.fetch_add(1, Ordering::SeqCst)),
            ..EngineMemory::default()
        });
        let watch = MemoryWatch::start(probe, Duration::from_millis(1)).unwrap();
        let mut last = 0;
        for _ in 0..2 {
            let begun = now_ns();
            watch.begin();
            let floor = asked.load(Ordering::SeqCst);
            while asked.load(Ordering::SeqCst) < floor + 3 {
                std::thread::sleep(Duration::from_millis(1));
            }
            let samples = watch.end();
            assert!(samples.len() >= 3 && samples.is_sorted_by(|a, b| a.t_ns <= b.t_ns), "{samples:?}");
            assert!(samples[0].t_ns >= begun && samples[0].memory.active_bytes >= Some(last));
            last = asked.load(Ordering::SeqCst);
        }
        assert_eq!(watch.end().len(), watch.end().len());
    }

    #[test]
    fn a_full_buffer_keeps_the_whole_stretch() {
        let sample = |t_ns| MemorySample { t_ns, memory: EngineMemory::default() };
        let mut samples: Vec<_> = (0..5).map(sample).collect();
        thin(&mut samples);
        assert_eq!(samples.iter().map(|s| s.t_ns).collect::<Vec<_>>(), [0, 2, 4]);
    }
}
