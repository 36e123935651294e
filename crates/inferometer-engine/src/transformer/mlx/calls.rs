//! Wraps every call of MLX: converts errors, and counts how long the calls took and how often the
//! host waited for the device, for a benchmark.

use std::cell::Cell;
use std::time::Instant;

use mlx_rs::error::Exception;
#[cfg(not(feature = "mlx"))]
use mlx_rs::mlx_sys;
use mlx_rs::{Array, Stream};

use inferometer_host::Result;
use inferometer_protocol::EngineError;

/// Totals of this thread's calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls of MLX. Counted while [`measure`] is on.
    pub calls: u64,
    /// Nanoseconds in them, including the time of reading the clock. Counted while [`measure`] is
    /// on.
    pub ns: u64,
    /// How often work was submitted to the device. Always counted.
    pub submits: u64,
    /// How often the host waited for it. Always counted.
    pub waits: u64,
}

thread_local! {
    static MEASURED: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<Calls> = const { Cell::new(Calls { calls: 0, ns: 0, submits: 0, waits: 0 }) };
}

/// Turns the timing of this thread's calls on or off; it reads the clock twice per call.
pub fn measure(on: bool) {
    MEASURED.set(on);
}

/// The totals on this thread since the last call of this function.
pub fn take() -> Calls {
    CALLS.take()
}

/// The overhead of timing one call, in nanoseconds: inside and outside of the counted time.
/// Subtract it to get the time of the calls and the time between them.
#[must_use]
pub fn cost() -> (f64, f64) {
    const CALLS: u32 = 100_000;
    let before = take();
    let was = MEASURED.replace(true);
    let began = Instant::now();
    for _ in 0..CALLS {
        let nothing: Result<()> = mlx(|| std::hint::black_box(Ok::<(), Exception>(())));
        std::hint::black_box(nothing).ok();
    }
    let total = began.elapsed().as_nanos() as f64;
    let inside = take().ns as f64;
    MEASURED.set(was);
    self::CALLS.set(before);
    (inside / f64::from(CALLS), (total - inside).max(0.0) / f64::from(CALLS))
}

fn count(change: impl FnOnce(&mut Calls)) {
    let mut calls = CALLS.get();
    change(&mut calls);
    CALLS.set(calls);
}

pub(super) fn submitted() {
    count(|calls| calls.submits += 1);
}

pub(super) fn waited() {
    count(|calls| calls.waits += 1);
}

/// How often two threads called MLX at the same time, which `serial.rs` must prevent. For tests
/// only.
#[cfg(test)]
pub fn overlaps() -> u64 {
    inside::OVERLAPS.load(std::sync::atomic::Ordering::SeqCst)
}

/// Runs `f`, which calls MLX, and counts the call.
pub(super) fn mlx<T, E: std::fmt::Display>(f: impl FnOnce() -> std::result::Result<T, E>) -> Result<T> {
    #[cfg(test)]
    let _call = inside::Call::begin();
    if !MEASURED.get() {
        return f().map_err(failed);
    }
    let began = Instant::now();
    let result = f();
    let ns = began.elapsed().as_nanos() as u64;
    count(|calls| {
        calls.calls += 1;
        calls.ns += ns;
    });
    result.map_err(failed)
}

/// An error of the library that should not occur on checked input.
pub(super) fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::internal(format!("mlx: {error}"))
}

/// A size for MLX, which uses 32 bits.
pub(super) fn size(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| failed(format!("{n} does not fit its 32-bit shapes")))
}

/// Strides of whole slices; no array here has more axes.
const ONES: [i32; 4] = [1; 4];

/// x[start .. stop] along every axis.
///
/// The crate's own indexing would add operations that reshape and broadcast.
pub(super) fn slice(x: &Array, start: &[i32], stop: &[i32]) -> std::result::Result<Array, Exception> {
    let (stream, strides) = (Stream::thread_local_or_default(), &ONES[..start.len()]);
    new_array("slice", |out| {
        // SAFETY: the pointers point to slices of the given lengths, which live until the call
        // returns.
        unsafe {
            mlx_sys::mlx_slice(
                out,
                x.as_ptr(),
                start.as_ptr(),
                start.len(),
                stop.as_ptr(),
                stop.len(),
                strides.as_ptr(),
                strides.len(),
                stream.as_ptr(),
            )
        }
    })
}

/// x with [start .. stop] along every axis replaced by `part`; in place if nothing else holds x's
/// memory.
pub(super) fn replace(x: &Array, part: &Array, start: &[i32], stop: &[i32]) -> std::result::Result<Array, Exception> {
    let (stream, strides) = (Stream::thread_local_or_default(), &ONES[..start.len()]);
    new_array("slice_update", |out| {
        // SAFETY: as in `slice`.
        unsafe {
            mlx_sys::mlx_slice_update(
                out,
                x.as_ptr(),
                part.as_ptr(),
                start.as_ptr(),
                start.len(),
                stop.as_ptr(),
                stop.len(),
                strides.as_ptr(),
                strides.len(),
                stream.as_ptr(),
            )
        }
    })
}

fn new_array(what: &str, f: impl FnOnce(*mut mlx_sys::mlx_array) -> i32) -> std::result::Result<Array, Exception> {
    // SAFETY: a new handle owns nothing; the call fills it, and `Array` frees it in any case.
    let mut handle = unsafe { mlx_sys::mlx_array_new() };
    let status = f(&mut handle);
    let array = unsafe { Array::from_ptr(handle) };
    if status == 0 { Ok(array) } else { Err(Exception::custom(format!("{what} failed"))) }
}

#[cfg(test)]
mod inside {
    use std::sync::atomic::{AtomicU64, Ordering};

    static CALLERS: AtomicU64 = AtomicU64::new(0);
    pub static OVERLAPS: AtomicU64 = AtomicU64::new(0);

    /// A call in progress.
    pub struct Call;

    impl Call {
        pub fn begin() -> Self {
            if CALLERS.fetch_add(1, Ordering::SeqCst) > 0 {
                OVERLAPS.fetch_add(1, Ordering::SeqCst);
            }
            Self
        }
    }

    impl Drop for Call {
        fn drop(&mut self) {
            CALLERS.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
