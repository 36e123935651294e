use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Barrier, Mutex};
use std::thread::JoinHandle;

use super::*;

type Helper = Box<dyn FnOnce() + Send>;

/// A thread that runs the jobs sent to it, one after another.
struct Worker {
    send: Sender<Helper>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start() -> Self {
        let (send, work) = channel::<Helper>();
        Self { send, thread: std::thread::spawn(move || work.into_iter().for_each(|helper| helper())) }
    }

    fn end(self) {
        drop(self.send);
        self.thread.join().unwrap();
    }
}

/// `share` with these workers, one job for each.
fn share_with(workers: &[Worker], out: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let next = AtomicUsize::new(0);
    let spawn = |helper| workers[next.fetch_add(1, Ordering::Relaxed)].send.send(helper).unwrap();
    share(workers.len(), spawn, out, size, f);
}

fn assert_numbered(out: &[f32]) {
    assert!(out.iter().enumerate().all(|(at, x)| *x == at as f32), "{out:?}");
}

#[test]
fn every_part_is_done_once_whoever_does_it() {
    let workers = [Worker::start(), Worker::start()];
    for round in 0..if cfg!(miri) { 20 } else { 500 } {
        let mut out = vec![0.0; 101 + round];
        share_with(&workers, &mut out, 7, |at, part| {
            for (i, x) in part.iter_mut().enumerate() {
                *x += (at * 7 + i) as f32;
            }
        });
        assert_numbered(&out);
    }
    workers.into_iter().for_each(Worker::end);
}

/// Both threads are inside at once, and what the helper wrote is visible when `share` returns.
#[test]
fn a_helper_that_has_begun_is_waited_for() {
    let workers = [Worker::start()];
    let meet = Barrier::new(2);
    let mut out = vec![0.0; 2];
    share_with(&workers, &mut out, 1, |at, part| {
        meet.wait();
        (0..1000).for_each(|_| std::hint::spin_loop());
        part.fill(at as f32);
    });
    assert_numbered(&out);
    workers.into_iter().for_each(Worker::end);
}

/// A helper that starts after the work is gone does not touch it.
#[test]
fn a_helper_that_does_not_get_to_run_is_not_waited_for() {
    let workers = [Worker::start()];
    let (go, held) = channel::<()>();
    workers[0].send.send(Box::new(move || _ = held.recv())).unwrap();
    let inputs = vec![1.0; 64];
    let mut out = vec![0.0; 64];
    share_with(&workers, &mut out, 1, |at, part| part.fill(at as f32 * inputs[at]));
    assert_numbered(&out);
    drop((inputs, out));
    drop(go);
    workers.into_iter().for_each(Worker::end);
}

#[test]
fn a_panic_of_the_caller_waits_for_helpers_too() {
    let workers = [Worker::start()];
    let caller = std::thread::current().id();
    let meet = Barrier::new(2);
    let done = Mutex::new(false);
    let mut out = vec![0.0; 2];
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        share_with(&workers, &mut out, 1, |_, _| {
            meet.wait();
            assert_ne!(std::thread::current().id(), caller, "as planned");
            (0..1000).for_each(|_| std::hint::spin_loop());
            *done.lock().unwrap() = true;
        });
    }));
    assert!(panicked.is_err());
    assert!(*done.lock().unwrap());
    workers.into_iter().for_each(Worker::end);
}

#[test]
fn a_helper_that_comes_too_late_changes_nothing() {
    let gate = Gate::default();
    let inside = gate.enter().expect("the gate is open");
    gate.0.fetch_or(CLOSED, Ordering::AcqRel);
    for _ in 0..3 {
        assert!(gate.enter().is_none());
        assert_eq!(gate.0.load(Ordering::Relaxed), CLOSED + 1, "the one inside is still counted");
    }
    drop(inside);
    gate.close();
    assert!(gate.enter().is_none());
    assert_eq!(gate.0.load(Ordering::Relaxed), CLOSED);
}
