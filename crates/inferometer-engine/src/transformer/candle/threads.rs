//! How many threads compute. Thread pools live as long as the process, so the number can be set once.
//!
//! candle has a pool of its own for quantized products, sized by `CANDLE_NUM_THREADS`, and splits f32 products into
//! `RAYON_NUM_THREADS` parts, read before each product, which run on whatever rayon pool calls it. This module keeps
//! that pool: rayon's global one may be in use by others already.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::utils::{barrier_pool, get_num_threads};
use rayon::{ThreadPool, ThreadPoolBuilder};

use inferometer_host::Result;
use inferometer_protocol::EngineError;

const RAYON: &str = "RAYON_NUM_THREADS";
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Threads in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// For f32 products, attention and element-wise work.
    pub rayon: usize,
    /// For quantized products.
    pub quantized: usize,
}

static SET: Mutex<Option<Threads>> = Mutex::new(None);
static POOL: OnceLock<ThreadPool> = OnceLock::new();

/// Runs `f` on the pool, so that what is parallel in it uses the pool's threads. Costs a hand-over between threads.
pub fn install<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    match POOL.get() {
        Some(pool) if pool.current_num_threads() > 1 => pool.install(f),
        _ => f(),
    }
}

/// Threads that compute.
#[must_use]
pub fn count() -> usize {
    POOL.get().map_or(1, ThreadPool::current_num_threads)
}

/// Calls `f` with each `size` values of `out` and their number: this thread does, and those of the pool that get to run
/// meanwhile take a share. None is waited for that has not begun, so a busy machine slows this down by what it takes and
/// no more, and short work costs no hand-over.
pub fn share(out: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    share_on(POOL.get(), out, size, f);
}

fn share_on(pool: Option<&ThreadPool>, out: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let parts = out.len().div_ceil(size);
    let helpers = pool.map_or(1, ThreadPool::current_num_threads).min(parts).saturating_sub(1);
    let Some(pool) = pool.filter(|_| helpers > 0) else {
        return out.chunks_mut(size).enumerate().for_each(|(at, out)| f(at, out));
    };
    let (start, len) = (out.as_mut_ptr() as usize, out.len());
    let part = |at: usize| {
        let begin = at * size;
        // SAFETY: within `out`, which is borrowed until all is done; each part is given out once.
        f(at, unsafe { std::slice::from_raw_parts_mut((start as *mut f32).add(begin), size.min(len - begin)) });
    };
    let work: &(dyn Fn(usize) + Sync) = &part;
    // SAFETY: only the lifetime changes: helpers that enter use it, and `Job::finish` below waits for them to leave.
    let work: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(work) };
    let job = Arc::new(Job { work, parts, next: AtomicUsize::new(0), inside: AtomicUsize::new(0) });
    for _ in 0..helpers {
        let job = job.clone();
        pool.spawn(move || job.help());
    }
    // Also when `f` panics.
    let finish = Finish(&job);
    job.run();
    drop(finish);
}

/// Work in parts that whoever is free takes from.
struct Job {
    work: &'static (dyn Fn(usize) + Sync),
    parts: usize,
    next: AtomicUsize,
    /// Helpers at work, and `CLOSED` when no more may begin.
    inside: AtomicUsize,
}

const CLOSED: usize = 1 << 31;
/// Looks at the helpers before the processor is offered to others.
const SPINS: usize = 1 << 12;

impl Job {
    fn run(&self) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            if at >= self.parts {
                return;
            }
            (self.work)(at);
        }
    }

    fn help(&self) {
        let enter = |inside: usize| (inside & CLOSED == 0).then_some(inside + 1);
        if self.inside.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).is_ok() {
            // A panic here ends the process: the pool's threads have nobody to tell.
            self.run();
            self.inside.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Lets no more helpers in and waits for those at work.
struct Finish<'a>(&'a Job);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_or(CLOSED, Ordering::AcqRel);
        let mut looks = 0;
        while self.0.inside.load(Ordering::Acquire) != CLOSED {
            looks += 1;
            if looks < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

/// Puts `wanted` threads into force (`None`: what the environment says, else one a physical core, but no more than
/// CPUs that this process may use) and says what is.
///
/// # Errors
/// When this process already computes with another number.
pub fn set(wanted: Option<usize>) -> Result<Threads> {
    let mut set = SET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let in_force = match *set {
        Some(threads) => threads,
        None => *set.insert(start(wanted)?),
    };
    match wanted {
        Some(n) if in_force != (Threads { rayon: n, quantized: n }) => Err(EngineError::unsupported(format!(
            "threads = {n}: this process already computes with {} (and {} for quantized products); use a fresh engine host",
            in_force.rayon, in_force.quantized
        ))),
        _ => Ok(in_force),
    }
}

/// As many threads as this process may use CPUs, where that is fewer than there are cores: candle's threads spin while they
/// wait for each other, and two that share a CPU wait for the scheduler.
fn own_choice() -> Option<usize> {
    let allowed = std::thread::available_parallelism().ok()?.get();
    (std::env::var_os(CANDLE).is_none() && allowed < get_num_threads()).then_some(allowed)
}

fn start(wanted: Option<usize>) -> Result<Threads> {
    let wanted = wanted.or_else(own_choice);
    if let Some(n) = wanted
        && (get_num_threads() != n || std::env::var_os(CANDLE).is_some())
    {
        for name in [RAYON, CANDLE] {
            // SAFETY: nothing else in this program writes the environment, its readers go through the standard
            // library, which locks it, and no C code that reads it runs beside the opening of a model.
            unsafe { std::env::set_var(name, n.to_string()) };
        }
    }
    let pool =
        ThreadPoolBuilder::new().num_threads(get_num_threads()).thread_name(|at| format!("compute-{at}")).build();
    let pool = pool.map_err(|e| EngineError::internal(format!("cannot start {} threads: {e}", get_num_threads())))?;
    let rayon = POOL.get_or_init(|| pool).current_num_threads();
    Ok(Threads { rayon, quantized: barrier_pool().n_workers() + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once_whoever_does_it() {
        let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for round in 0..200 {
            let mut out = vec![0.0; 101 + round];
            share_on(Some(&pool), &mut out, 7, |at, part| {
                for (i, x) in part.iter_mut().enumerate() {
                    *x += (at * 7 + i) as f32;
                }
            });
            assert!(out.iter().enumerate().all(|(i, x)| *x == i as f32));
        }
    }

    #[test]
    fn a_helper_that_does_not_get_to_run_is_not_waited_for() {
        let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let (go, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        // Both of the pool's threads are busy until this test is through.
        pool.spawn_broadcast(move |_| _ = held.lock().unwrap().recv());
        let mut out = vec![0.0; 64];
        share_on(Some(&pool), &mut out, 1, |at, part| part.fill(at as f32));
        assert!(out.iter().enumerate().all(|(i, x)| *x == i as f32));
        drop(go);
    }

    #[test]
    fn the_number_cannot_change_within_a_process() {
        // The other tests of this process ask for one thread too.
        let first = set(Some(1)).unwrap();
        assert_eq!(first, Threads { rayon: 1, quantized: 1 });
        assert_eq!(set(None).unwrap(), first);
        let error = set(Some(2)).unwrap_err();
        assert!(error.message.contains("fresh engine host"), "{error}");
    }
}
