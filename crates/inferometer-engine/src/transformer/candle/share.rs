//! Work in parts that whoever is free takes from, without waiting for those who never get to run.
//!
//! rayon's own ways do not fit. A scope waits until every job that it spawned has run. A thread that waits in `join`
//! yields its processor at once, and where other programs want it, that costs a turn of the scheduler: the same parts
//! by `join` took 1.0 to 1.5 times as long (medians) at a load of 5 to 10 on two processors.
//!
//! # Why this is sound
//!
//! Helpers are started with a pointer to the caller's stack, which they may reach after [`share`] has returned. They
//! follow the pointer only between [`Gate::enter`] and the drop of what it gives:
//!
//! 1. `enter` and `close` change one atomic, so one of them comes first. A helper that enters first is counted, and
//!    `close` waits until it has left. One that comes later sees `CLOSED` and does not follow the pointer.
//! 2. [`share`] leaves the stack frame through the drop of [`Closing`], which closes the gate, also when `f` panics.
//! 3. Leaving is a release and `close` reads with acquire, so what helpers wrote is seen by who called [`share`].
//! 4. `next` gives each part to one thread, and parts do not overlap: no two `&mut` to one value.
//!
//! The tests run under Miri every night: `cargo +nightly miri test -p inferometer-engine --lib share::` with
//! `MIRIFLAGS=-Zmiri-disable-isolation`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `f` with each `size` values of `out` and their number. This thread does, and those of at most `helpers` others
/// that get to run meanwhile take a share: `spawn` hands work to one, and must end the process where that panics.
///
/// None is waited for that has not begun, so a busy machine slows this down by what it takes and no more, and short work
/// costs no hand-over.
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
    // SAFETY: `work` is of the type that `run` is for, and is in this frame.
    unsafe { (job.run)(job.work) };
    drop(closing);
}

/// What is to be done, on the stack of who shares it.
struct Work<F> {
    f: F,
    out: *mut f32,
    len: usize,
    size: usize,
    /// The part that is taken next.
    next: AtomicUsize,
}

impl<F: Fn(usize, &mut [f32]) + Sync> Work<F> {
    /// Does parts until none is left.
    ///
    /// # Safety
    /// `work` points to a `Work<F>`, and that and its `out` stay where they are, used by nobody but `run`, until this
    /// returns.
    unsafe fn run(work: *const ()) {
        // SAFETY: as the caller says. Several threads read it at once: `F` is `Sync`, and the rest is numbers.
        let work = unsafe { &*work.cast::<Self>() };
        loop {
            let at = work.next.fetch_add(1, Ordering::Relaxed);
            let begin = at.saturating_mul(work.size);
            if begin >= work.len {
                return;
            }
            let count = work.size.min(work.len - begin);
            // SAFETY: inside `out`, and part `at` was given to nobody else.
            (work.f)(at, unsafe { std::slice::from_raw_parts_mut(work.out.add(begin), count) });
        }
    }
}

/// A pointer to [`Work`] whose type is forgotten, so that it can be sent to threads that may outlive it.
#[derive(Clone)]
struct Job {
    work: *const (),
    run: unsafe fn(*const ()),
    gate: Arc<Gate>,
}

// SAFETY: `work` is followed inside the gate only, see above. What it points to may be used by several threads at once:
// `f` is `Sync`, `next` is atomic, and each `f32` of `out` belongs to one part.
unsafe impl Send for Job {}

impl Job {
    fn help(&self) {
        if let Some(_inside) = self.gate.enter() {
            let abort = AbortOnPanic;
            // SAFETY: who shares the work waits in `close` until `_inside` is dropped.
            unsafe { (self.run)(self.work) };
            std::mem::forget(abort);
        }
    }
}

/// Ends the process when dropped: a part that a helper left half done must not look done to the caller.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Helpers at work, and `CLOSED` when no more may begin.
#[derive(Default)]
struct Gate(AtomicUsize);

const CLOSED: usize = 1 << 31;
/// Looks at the helpers before the processor is offered to others.
const SPINS: usize = 1 << 12;

/// A helper at work.
struct Inside<'a>(&'a Gate);

impl Gate {
    fn enter(&self) -> Option<Inside<'_>> {
        let more = |inside: usize| (inside & CLOSED == 0).then_some(inside + 1);
        // Not `then_some`: a value that is made and dropped would leave without having entered.
        self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_ok().then(|| Inside(self))
    }

    /// Lets no more helpers in and waits for those at work.
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
