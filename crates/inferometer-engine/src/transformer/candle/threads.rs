//! How many threads compute.
//!
//! candle reads the number from the environment and nowhere else: `CANDLE_NUM_THREADS` sizes its
//! pool for quantized products, `RAYON_NUM_THREADS` the number of parts of an f32 product. A
//! process must not change its environment once it has threads, so whoever starts the engine host
//! passes [`environment`], and [`set`] checks what is in force. This module owns the rayon pool
//! that runs f32 products: rayon's global pool may already be in use.

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

/// Runs `f` on the pool, so that what is parallel in it uses the pool's threads. Costs a hand-over
/// between threads.
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

/// Calls `f` with each `size` values of `out` and their number: this thread does, and those of the
/// pool that get to run meanwhile take a share, as [`share::share`] says.
pub fn share(out: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    match POOL.get() {
        Some(pool) => share::share(pool.current_num_threads() - 1, |helper| pool.spawn(helper), out, size, f),
        None => share::share(0, |_| {}, out, size, f),
    }
}

/// The environment in which a process that may use `cpus` computes with `wanted` threads. `None`:
/// one thread per physical core, but no more than CPUs. candle's threads spin while they wait for
/// each other, and two that share a CPU would wait for the scheduler.
pub fn environment(wanted: Option<usize>, cpus: Option<usize>) -> Vec<(&'static str, String)> {
    let own = || cpus.filter(|cpus| std::env::var_os(CANDLE).is_none() && *cpus < get_num_threads());
    let count = wanted.or_else(own);
    count.into_iter().flat_map(|count| [RAYON, CANDLE].map(|name| (name, count.to_string()))).collect()
}

/// Starts the threads once and returns how many compute. `wanted` is checked, not set: see
/// [`environment`].
///
/// # Errors
/// When this process computes with another number than `wanted`, or the threads cannot be started.
pub fn set(wanted: Option<usize>) -> Result<Threads> {
    let mut set = SET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let in_force = match *set {
        Some(threads) => threads,
        None => *set.insert(start()?),
    };
    match wanted {
        Some(n) if in_force != (Threads { rayon: n, quantized: n }) => Err(EngineError::unsupported(format!(
            "threads = {n}: this process computes with {} threads ({} for quantized products); start the engine host \
             with {RAYON}={n} and {CANDLE}={n} in its environment",
            in_force.rayon, in_force.quantized
        ))),
        _ => Ok(in_force),
    }
}

fn start() -> Result<Threads> {
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
    fn another_number_is_refused_and_the_error_names_the_variables() {
        let first = set(None).unwrap();
        let other = first.rayon + 1;
        let error = set(Some(other)).unwrap_err();
        assert!(error.message.contains(&format!("{RAYON}={other} and {CANDLE}={other}")), "{error}");
        assert_eq!(environment(Some(other), Some(1)), [(RAYON, other.to_string()), (CANDLE, other.to_string())]);
    }
}
