//! Measures a slow figure in a separate thread, so that no sample waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The latest measurement of a thread that measures as long as its values are read.
pub(super) struct Background<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// Number of measurements, and the latest one, or why there is none and will be none.
    number: u64,
    last: Option<Result<T, String>>,
    /// The value was requested since the last measurement.
    wanted: bool,
    stop: bool,
}

/// Measures over about this duration. A zero duration gives no useful value: it only starts the
/// next interval.
pub(super) type Measure<T> = Box<dyn FnMut(Duration) -> Result<T, String>>;

impl<T: Clone + Send + 'static> Background<T> {
    /// Calls `open` in the new thread, then measures: once over `first`, to see what is available,
    /// then over `window` each time.
    pub fn start(
        name: &str,
        first: Duration,
        window: Duration,
        open: impl FnOnce() -> Result<Measure<T>, String> + Send + 'static,
    ) -> Self {
        let state = State { number: 0, last: None, wanted: false, stop: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || match open().and_then(|measure| shared.measure_until_stopped(measure, first, window)) {
                Ok(()) => {}
                Err(why) => shared.publish(Err(why)),
            }
        });
        if let Err(e) = thread {
            shared.publish(Err(format!("cannot start a thread to measure in: {e}")));
        }
        Self { shared }
    }

    /// The first measurement, or why there is none; waits at most `patience`.
    pub fn first(&self, patience: Duration) -> Result<T, String> {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |state| state.last.is_none());
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.last.clone().unwrap_or_else(|| Err(format!("no answer within {} s", patience.as_secs())))
    }

    /// The latest measurement if it is newer than number `seen`, which is updated. Requests the
    /// next one.
    pub fn newer_than(&self, seen: &mut u64) -> Option<T> {
        let mut state = self.shared.lock();
        state.wanted = true;
        self.shared.changed.notify_all();
        let last = state.last.as_ref()?.as_ref().ok()?;
        (state.number > *seen).then(|| {
            *seen = state.number;
            last.clone()
        })
    }
}

impl<T> Drop for Background<T> {
    /// The thread ends after its current measurement, which is not awaited.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No update is partial, so the state stays usable after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, measurement: Result<T, String>) {
        let mut state = self.lock();
        state.number += 1;
        state.last = Some(measurement);
        self.changed.notify_all();
    }

    fn measure_until_stopped(&self, mut measure: Measure<T>, first: Duration, window: Duration) -> Result<(), String> {
        self.publish(Ok(measure(first)?));
        loop {
            let begun = Instant::now();
            let state = self.lock();
            let waited = self.changed.wait_while(state, |state| !state.wanted && !state.stop);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.stop {
                return Ok(());
            }
            state.wanted = false;
            drop(state);
            // No value was requested for a while: the next figure must not cover that time.
            if begun.elapsed() > window / 2 {
                measure(Duration::ZERO)?;
            }
            self.publish(Ok(measure(window)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Returns the values that it is sent, and reports the duration of each measurement.
    fn fed() -> (Background<u32>, Sender<Result<u32, String>>, Receiver<Duration>) {
        let (feed, fed) = channel();
        let (tell, told) = channel();
        let background = Background::start("test", Duration::from_millis(1), Duration::from_secs(3600), move || {
            Ok(Box::new(move |length| {
                tell.send(length).map_err(|e| e.to_string())?;
                fed.recv().map_err(|e| e.to_string())?
            }))
        });
        (background, feed, told)
    }

    #[test]
    fn each_value_is_given_once_and_the_next_is_measured_only_when_asked_for() {
        let (background, feed, told) = fed();
        feed.send(Ok(7)).unwrap();
        assert_eq!(background.first(PATIENCE), Ok(7));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Duration::from_millis(1));
        assert!(told.try_recv().is_err(), "no value was requested yet");
        let mut seen = 0;
        assert_eq!(background.newer_than(&mut seen), Some(7));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Duration::from_secs(3600));
        assert_eq!(background.newer_than(&mut seen), None, "not measured yet");
        feed.send(Ok(8)).unwrap();
        let value = loop {
            if let Some(value) = background.newer_than(&mut seen) {
                break value;
            }
            std::thread::yield_now();
        };
        assert_eq!((value, seen), (8, 2));
    }

    #[test]
    fn what_cannot_be_opened_or_measured_says_why() {
        let short = Duration::from_millis(1);
        let closed = Background::<u32>::start("test", short, short, || Err("no such device".to_owned()));
        assert_eq!(closed.first(PATIENCE), Err("no such device".to_owned()));
        assert_eq!(closed.newer_than(&mut 0), None);
        let (background, feed, _told) = fed();
        assert_eq!(background.first(short), Err("no answer within 0 s".to_owned()));
        feed.send(Err("gone".to_owned())).unwrap();
        assert_eq!(background.first(PATIENCE), Err("gone".to_owned()));
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let (background, feed, told) = fed();
        feed.send(Ok(1)).unwrap();
        background.first(PATIENCE).unwrap();
        drop(background);
        told.recv_timeout(PATIENCE).unwrap();
        assert!(told.recv_timeout(PATIENCE).is_err(), "the other end is gone");
    }
}
