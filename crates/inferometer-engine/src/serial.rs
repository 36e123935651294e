//! Serializes the calls of all sessions of a process, for libraries with state that belongs to the
//! process.
//!
//! In MLX, the allocator's limits, counters and peak, the compiler's cache and the default device
//! belong to the process. Two sessions at once would measure each other. (MLX 0.32.2 on the CPU
//! gave correct tokens even without this.)

use std::mem::ManuallyDrop;
use std::sync::{Mutex, PoisonError};

use inferometer_host::{MemoryProbe, Result, Session, TokenSink};
use inferometer_protocol::{Completion, EngineMemory, Receipt, Request, SpanTiming};

static CALL: Mutex<()> = Mutex::new(());

/// Runs `f` while no session in a [`Serial`] is opened, called or dropped. Must not be nested:
/// that would deadlock.
pub fn alone<T>(f: impl FnOnce() -> T) -> T {
    // After a panic the host ends, so a poisoned lock can be ignored.
    let _held = CALL.lock().unwrap_or_else(PoisonError::into_inner);
    f()
}

/// A session whose calls never overlap with those of another `Serial`.
pub struct Serial<S: Session>(ManuallyDrop<S>);

impl<S: Session> Serial<S> {
    /// Opens a session while no other one is in a call.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open(open: impl FnOnce() -> Result<S>) -> Result<Self> {
        alone(open).map(|session| Self(ManuallyDrop::new(session)))
    }
}

impl<S: Session> Drop for Serial<S> {
    fn drop(&mut self) {
        // SAFETY: dropped here once, and not used after.
        alone(|| unsafe { ManuallyDrop::drop(&mut self.0) });
    }
}

impl<S: Session> Session for Serial<S> {
    fn receipt(&self) -> Receipt {
        alone(|| self.0.receipt())
    }
    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        alone(|| self.0.generate(request, sink))
    }
    fn reset(&mut self) -> Result<()> {
        alone(|| self.0.reset())
    }
    fn clear_cache(&mut self) -> Result<()> {
        alone(|| self.0.clear_cache())
    }
    fn memory(&self) -> EngineMemory {
        alone(|| self.0.memory())
    }
    fn span_timing(&self, forced_sync: bool) -> Option<SpanTiming> {
        alone(|| self.0.span_timing(forced_sync))
    }
    /// The probe does not wait for calls in progress: its purpose is to sample them.
    fn memory_probe(&self) -> Option<MemoryProbe> {
        alone(|| self.0.memory_probe())
    }
    fn decode(&self, tokens: &[u32]) -> Option<String> {
        alone(|| self.0.decode(tokens))
    }
}

#[cfg(test)]
mod tests;
