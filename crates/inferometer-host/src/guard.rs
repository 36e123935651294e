//! Runs third-party code on input that nobody vouches for: a panic becomes an error, and memory and
//! time have limits.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::alloc::Budget;

#[cfg(not(panic = "unwind"))]
compile_error!("a third-party parser's panic must unwind to become an error; do not build with panic = \"abort\"");

/// Stack of a thread that runs guarded code: as much as a main thread usually has.
const STACK: usize = 8 << 20;

/// What guarded code may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that it may hold at a time. Enforced where [`crate::alloc::Counting`] is the program's
    /// allocator.
    pub memory: u64,
    pub time: Duration,
}

/// Why guarded code gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It panicked, with this message.
    Panicked(String),
    /// It wanted to hold more than this many bytes.
    Memory(u64),
    /// It took longer than this.
    Time(Duration),
    /// No thread could be started for it.
    NoThread(String),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::Panicked(message) => write!(f, "the library that reads it panicked: {message}"),
            Stopped::Memory(bytes) => write!(f, "it needs more than {} MiB of memory", bytes >> 20),
            Stopped::Time(time) => write!(f, "it takes longer than {} s", time.as_secs_f64()),
            Stopped::NoThread(problem) => write!(f, "cannot start a thread for it: {problem}"),
        }
    }
}

thread_local! {
    /// Whether a panic of this thread is to be silent, because it will be reported as an error.
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`. Nothing is printed if it panics.
///
/// # Errors
/// The panic's message. What `f` was working on may then be in any state, and is best dropped.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Stopped> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                before(info);
            }
        }));
    });
    let silent = SILENT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    SILENT.set(silent);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Stopped::Panicked(text.unwrap_or_else(|| "without a message".to_owned()))
    })
}

/// Runs `f` on a thread of its own, within limits.
///
/// Nothing can end a thread that runs foreign code. One that is stopped for its memory sleeps from
/// then on and keeps what it holds; one that is stopped for its time sleeps from its next
/// allocation on. Do not run the same input again.
///
/// # Errors
/// When it panics or goes beyond a limit.
pub fn within<R: Send + 'static>(limits: Limits, f: impl FnOnce() -> R + Send + 'static) -> Result<R, Stopped> {
    let budget = Arc::new(Budget::new(limits.memory));
    let result = Arc::new(Mutex::new(None));
    let run = {
        let (budget, result) = (budget.clone(), result.clone());
        move || {
            // Wakes the waiting thread when it is dropped, at the end.
            let _limited = budget.begin();
            let made = catch(f);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
    };
    let thread = Builder::new().name("guarded".to_owned()).stack_size(STACK).spawn(run);
    thread.map_err(|e| Stopped::NoThread(e.to_string()))?;
    let until = Instant::now() + limits.time;
    loop {
        if let Some(made) = result.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return made;
        }
        if budget.is_used_up() {
            return Err(Stopped::Memory(limits.memory));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            budget.revoke();
            return Err(Stopped::Time(limits.time));
        }
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(catch(|| 3), Ok(3));
        let text = |result: Result<(), Stopped>| result.unwrap_err().to_string();
        assert!(text(catch(|| panic!("plain"))).ends_with("panicked: plain"));
        assert!(text(catch(|| panic!("number {}", 7))).ends_with("panicked: number 7"));
        let limits = Limits { memory: 1 << 20, time: Duration::from_secs(60) };
        assert_eq!(within(limits, || panic!("elsewhere")), Err::<(), _>(Stopped::Panicked("elsewhere".to_owned())));
        assert_eq!(within(limits, || "well"), Ok("well"));
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let time = Duration::from_millis(20);
        let limits = Limits { memory: 1 << 20, time };
        let endless = || std::thread::sleep(Duration::from_secs(600));
        assert_eq!(within(limits, endless), Err(Stopped::Time(time)));
    }
}
