//! Ctrl-C and SIGTERM: the first stops the run after the current iteration, the second stops it at
//! once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::tree::Tree;

/// After this many signals the process ends unconditionally.
const ENOUGH: u32 = 4;
/// Exit code of a program ended by SIGINT, by shell convention.
const EXIT_INTERRUPTED: i32 = 130;

/// Time for an engine to cancel its generation after the second signal, before its host is killed.
const CANCELLING: Duration = Duration::from_millis(300);

/// Called at the second and every later signal; asks the current work to stop.
type Stop = Box<dyn FnMut() + Send>;

#[derive(Default)]
struct State {
    signals: u32,
    stop: Option<Stop>,
    /// The running hosts, by number.
    hosts: Vec<(u64, Tree)>,
    next_host: u64,
    /// Whether the signal handler is installed.
    armed: bool,
}

struct Inner {
    state: Mutex<State>,
    signalled: Condvar,
    /// Called with the number of signals, on the handler's thread.
    said: Box<dyn Fn(u32) + Send + Sync>,
}

/// Whether the user asked to stop the run; shared between the driver and the signal handler's
/// thread.
///
/// The second signal kills every host that is [kept](Interrupt::keep): whatever the driver waits
/// for, it then sees that the host has died.
#[derive(Clone)]
pub struct Interrupt(Arc<Inner>);

impl Interrupt {
    /// No signal reaches it before [`Interrupt::arm`]. `said` is called at each signal with the
    /// number of signals, so that the user gets a response before the current iteration ends.
    #[must_use]
    pub fn new(said: impl Fn(u32) + Send + Sync + 'static) -> Self {
        let (state, signalled) = Default::default();
        Self(Arc::new(Inner { state, signalled, said: Box::new(said) }))
    }

    /// From now on SIGINT, SIGTERM and SIGHUP are counted instead of ending the process. After
    /// [`ENOUGH`] signals the process ends at once; the record survives that like a kill. A second
    /// call has no effect.
    ///
    /// # Errors
    /// When the process already has a handler, or the system refuses one.
    pub fn arm(&self) -> Result<(), ctrlc::Error> {
        if std::mem::replace(&mut self.state().armed, true) {
            return Ok(());
        }
        let own = self.clone();
        ctrlc::set_handler(move || {
            own.signal();
            if own.state().signals >= ENOUGH {
                own.state().kill_hosts();
                std::process::exit(EXIT_INTERRUPTED);
            }
        })
    }

    /// Counts one request to stop. The second asks the current work to stop by the function given
    /// to [`Interrupt::at_second`], and kills the hosts if that takes too long. Without such a
    /// function, and at the third, it kills the hosts at once.
    pub fn signal(&self) {
        let signals = {
            let mut state = self.state();
            state.signals += 1;
            state.signals
        };
        (self.0.said)(signals);
        self.0.signalled.notify_all();
        if signals < 2 {
            return;
        }
        let mut state = self.state();
        let asked = state.stop.as_mut().map(|stop| stop()).is_some();
        let later = self.clone();
        let kill_later = move || {
            std::thread::sleep(CANCELLING);
            later.state().kill_hosts();
        };
        let wait = asked && signals == 2 && std::thread::Builder::new().spawn(kill_later).is_ok();
        if !wait {
            state.kill_hosts();
        }
    }

    /// From now on the second signal kills this host, until the returned guard is dropped. If the
    /// second signal has come, it is killed now.
    #[must_use]
    pub(super) fn keep(&self, host: Tree) -> Kept {
        let mut state = self.state();
        if state.signals >= 2 {
            host.kill();
        }
        let number = state.next_host;
        state.next_host += 1;
        state.hosts.push((number, host));
        Kept { interrupt: self.clone(), number }
    }

    /// Whether the run must stop after the current iteration.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.state().signals >= 1
    }

    /// Whether the run must stop now, without finishing the current iteration.
    #[must_use]
    pub fn at_once(&self) -> bool {
        self.state().signals >= 2
    }

    /// Sets the function that the second and later signals call to ask the current work to stop,
    /// until the returned guard is dropped.
    #[must_use]
    pub fn at_second(&self, stop: impl FnMut() + Send + 'static) -> Armed<'_> {
        self.state().stop = Some(Box::new(stop));
        Armed(self)
    }

    /// Waits for `duration`, or until the user asks to stop.
    pub fn pause(&self, duration: Duration) {
        let state = self.state();
        let _unused = self.0.signalled.wait_timeout_while(state, duration, |state| state.signals == 0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is a count and a hook, valid even if a holder panicked.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kill_hosts(&self) {
        self.hosts.iter().for_each(|(_, host)| host.kill());
    }
}

/// While it exists, the second signal kills the host. Must be dropped before the host is reaped.
pub(super) struct Kept {
    interrupt: Interrupt,
    number: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.interrupt.state().hosts.retain(|(number, _)| *number != self.number);
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kept").field(&self.number).finish()
    }
}

/// While it exists, the second signal asks the current work to stop.
pub struct Armed<'a>(&'a Interrupt);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.state().stop = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_second_signal_stops_what_is_in_flight_and_only_that() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let interrupt = Interrupt::new(move |n| hears.lock().unwrap().push(n));
        let stopped = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&stopped);
        let armed = interrupt.at_second(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        interrupt.signal();
        assert!(interrupt.requested() && !interrupt.at_once());
        assert_eq!(stopped.load(Ordering::Relaxed), 0);
        interrupt.signal();
        assert!(interrupt.at_once());
        assert_eq!(stopped.load(Ordering::Relaxed), 1);
        drop(armed);
        interrupt.signal();
        assert_eq!(stopped.load(Ordering::Relaxed), 1, "no work is in flight any more");
        assert_eq!(*heard.lock().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_pause_ends_when_somebody_asks_to_stop() {
        let interrupt = Interrupt::new(|_| {});
        let other = interrupt.clone();
        let thread = std::thread::spawn(move || other.signal());
        let hour = Duration::from_secs(3600);
        let before = Instant::now();
        interrupt.pause(hour);
        thread.join().unwrap();
        assert!(before.elapsed() < hour);
    }
}
