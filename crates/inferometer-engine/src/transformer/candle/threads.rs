//! How many threads compute. Thread pools live as long as the process, so the number can be set once.
//!
//! candle has a pool of its own for quantized products, sized by `CANDLE_NUM_THREADS`, and splits f32 products into
//! `RAYON_NUM_THREADS` parts, read before each product, which run on whatever rayon pool calls it. This module keeps
//! that pool: rayon's global one may be in use by others already.

use std::sync::{Mutex, OnceLock};

use candle_core::utils::{barrier_pool, get_num_threads};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::share;
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
/// meanwhile take a share, as [`share::share`] says.
pub fn share(out: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    match POOL.get() {
        Some(pool) => share::share(pool.current_num_threads() - 1, |helper| pool.spawn(helper), out, size, f),
        None => share::share(0, |_| {}, out, size, f),
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
    fn the_number_cannot_change_within_a_process() {
        // The other tests of this process ask for one thread too.
        let first = set(Some(1)).unwrap();
        assert_eq!(first, Threads { rayon: 1, quantized: 1 });
        assert_eq!(set(None).unwrap(), first);
        let error = set(Some(2)).unwrap_err();
        assert!(error.message.contains("fresh engine host"), "{error}");
    }
}
