//! Parallel work that is split into parts. Idle threads take parts, and nobody waits for a thread
//! that is never scheduled.
//!
//! rayon's `scope` and `join` do not fit. A scope waits until every job that it spawned has run. A
//! thread that waits in `join` yields its processor at once. If other programs want the processor,
//! the thread then waits for its next time slice: the same parts with `join` took 1.0 to 1.5 times
//! as long (medians) at a load of 5 to 10 on two processors.
//!
//! # Why this is sound
//!
//! Helpers get a pointer to the caller's stack, and may start after [`share`] has returned. They
//! dereference the pointer only between [`Gate::enter`] and the drop of the guard that it returns:
//!
//! 1. `enter` and `close` change one atomic, so one of them comes first. A helper that enters first
//!    is counted, and `close` waits until it has left. A helper that comes later sees `CLOSED` and
//!    does not dereference the pointer.
//! 2. [`share`] leaves the stack frame through the drop of [`Closing`], which closes the gate, also
//!    when `f` panics.
//! 3. Leaving is a release and `close` reads with acquire, so the caller of [`share`] sees what the
//!    helpers wrote.
//! 4. `next` gives each part to one thread, and parts do not overlap: no value has two `&mut`.
//!
//! The tests run under Miri every night: `cargo +nightly miri test -p inferometer-engine --lib
//! share::` with `MIRIFLAGS=-Zmiri-disable-isolation`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `f` with each part of `size` values of `out` and the part's number. This thread takes
/// parts, and so do up to `helpers` others that are scheduled in the meantime. `spawn` hands a job
/// to one helper, and must end the process if the job panics.
///
/// It does not wait for helpers that have not started, so other load costs no more than the
/// processor time that it uses, and short work needs no hand-over.
pub fn share<F: Fn(usize, &mut [f32]) + Sync>(
    helpers: usize,
    spawn: impl Fn(Box<dyn FnOnce() + Send>),
    out: &mut [f32],
    size: usize,
    f: F,
) {
    let helpers = helpers.min(out.len().div_ceil(size).saturating_sub(1));
    if helpers == 0 {
        return out.chunks_mut(size).enumerate().for_each(|(at, out)| f(at, out));
    }
    let work = Work { f, out: out.as_mut_ptr(), len: out.len(), size, next: AtomicUsize::new(0) };
    let job = Job { work: (&raw const work).cast(), run: Work::<F>::run, gate: Arc::default() };
    let closing = Closing(&job.gate);
    for _ in 0..helpers {
        let job = job.clone();
        spawn(Box::new(move || job.help()));
    }
    // SAFETY: `work` has the type that `run` expects, and is in this stack frame.
    unsafe { (job.run)(job.work) };
    drop(closing);
}

/// The work, on the stack of the caller of [`share`].
struct Work<F> {
    f: F,
    out: *mut f32,
    len: usize,
    size: usize,
    /// The next part to take.
    next: AtomicUsize,
}

impl<F: Fn(usize, &mut [f32]) + Sync> Work<F> {
    /// Runs parts until none is left.
    ///
    /// # Safety
    /// `work` points to a `Work<F>`. It and its `out` stay in place until this returns, and only
    /// `run` uses them.
    unsafe fn run(work: *const ()) {
        // SAFETY: the caller guarantees it. Several threads may read it at once: `F` is `Sync`, and
        // the rest is numbers.
        let work = unsafe { &*work.cast::<Self>() };
        loop {
            let at = work.next.fetch_add(1, Ordering::Relaxed);
            let begin = at.saturating_mul(work.size);
            if begin >= work.len {
                return;
            }
            let count = work.size.min(work.len - begin);
            // SAFETY: the part is inside `out`, and no other thread was given part `at`.
            (work.f)(at, unsafe { std::slice::from_raw_parts_mut(work.out.add(begin), count) });
        }
    }
}

/// A pointer to [`Work`] without its type, so that it can be sent to threads that may outlive it.
#[derive(Clone)]
struct Job {
    work: *const (),
    run: unsafe fn(*const ()),
    gate: Arc<Gate>,
}

// SAFETY: `work` is dereferenced only inside the gate, see above. Several threads may use its
// target at once: `f` is `Sync`, `next` is atomic, and each `f32` of `out` belongs to one part.
unsafe impl Send for Job {}

impl Job {
    fn help(&self) {
        if let Some(_inside) = self.gate.enter() {
            let abort = AbortOnPanic;
            // SAFETY: the caller of `share` waits in `close` until `_inside` is dropped.
            unsafe { (self.run)(self.work) };
            std::mem::forget(abort);
        }
    }
}

/// Ends the process when dropped: the caller must not take a part that a helper left unfinished for
/// a finished one.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Number of helpers at work, plus `CLOSED` once no more may enter.
#[derive(Default)]
struct Gate(AtomicUsize);

const CLOSED: usize = 1 << 31;
/// Checks of the helpers before the thread yields its processor.
const SPINS: usize = 1 << 12;

/// A helper at work.
struct Inside<'a>(&'a Gate);

impl Gate {
    fn enter(&self) -> Option<Inside<'_>> {
        let more = |inside: usize| (inside & CLOSED == 0).then_some(inside + 1);
        // Not `then_some`: it would always make an `Inside`, and dropping that would leave a gate
        // that was never entered.
        self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_ok().then(|| Inside(self))
    }

    /// Stops further helpers from entering and waits for those at work.
    fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
        let mut looks = 0;
        while self.0.load(Ordering::Acquire) != CLOSED {
            looks += 1;
            if looks < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

/// Closes the gate when dropped.
struct Closing<'a>(&'a Gate);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
