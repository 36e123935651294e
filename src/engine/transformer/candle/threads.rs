//! How many threads compute. Thread pools live as long as the process, so the number can be set once.
//!
//! candle has two: a pool of its own for quantized products, sized by `CANDLE_NUM_THREADS`, and rayon's for the rest,
//! sized by `RAYON_NUM_THREADS`, which candle also reads before each f32 product.

use candle_core::utils::{barrier_pool, get_num_threads};
use std::sync::Mutex;

use crate::engine::Result;
use crate::spec::EngineError;

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

/// Puts `wanted` threads into force (`None`: what the environment says, else one a physical core) and says what is.
///
/// # Errors
/// When this process already computes with another number.
pub fn set(wanted: Option<usize>) -> Result<Threads> {
    let mut set = SET.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let in_force = match *set {
        Some(threads) => threads,
        None => *set.insert(start(wanted)),
    };
    match wanted {
        Some(n) if in_force != (Threads { rayon: n, quantized: n }) => Err(EngineError::unsupported(format!(
            "threads = {n}: this process already computes with {} (and {} for quantized products); use a fresh engine host",
            in_force.rayon, in_force.quantized
        ))),
        _ => Ok(in_force),
    }
}

fn start(wanted: Option<usize>) -> Threads {
    if let Some(n) = wanted
        && (get_num_threads() != n || std::env::var_os(CANDLE).is_some())
    {
        for name in [RAYON, CANDLE] {
            // SAFETY: nothing else in this program writes the environment, its readers go through the standard
            // library, which locks it, and no C code that reads it runs beside the opening of a model.
            unsafe { std::env::set_var(name, n.to_string()) };
        }
    }
    // An error means that rayon's pool is there already; its size is then what is reported.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(get_num_threads()).build_global();
    Threads { rayon: rayon::current_num_threads(), quantized: barrier_pool().n_workers() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_cannot_change_within_a_process() {
        let first = set(None).unwrap();
        assert_eq!(set(None).unwrap(), first);
        assert!(first.rayon >= 1 && first.quantized >= 1);
        let error = set(Some(first.rayon + 1)).unwrap_err();
        assert!(error.message.contains("fresh engine host"), "{error}");
    }
}
