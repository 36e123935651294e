//! One call at a time over all sessions of a process, for libraries whose state belongs to the process.
//!
//! MLX is such a library: its allocator's limits, counters and peak, its compiler's cache and its default device are the
//! process's own. Two sessions at once would measure each other. (MLX 0.32.2 on the CPU gave right tokens even without this.)

use std::mem::ManuallyDrop;
use std::sync::{Mutex, PoisonError};

use inferometer_host::{MemoryProbe, Result, Session, TokenSink};
use inferometer_protocol::{Completion, EngineMemory, Receipt, Request, SpanTiming};

static CALL: Mutex<()> = Mutex::new(());

/// Runs `f` while no session behind [`Serial`] is opened, called or dropped. Not to be nested: it would wait for itself.
pub fn alone<T>(f: impl FnOnce() -> T) -> T {
    // After a panic the host ends; what else runs in this process is no worse off for going on.
    let _held = CALL.lock().unwrap_or_else(PoisonError::into_inner);
    f()
}

/// A session whose calls never overlap with those of another one behind this type.
pub struct Serial<S: Session>(ManuallyDrop<S>);

impl<S: Session> Serial<S> {
    /// Opens a session while no other one works.
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
    /// The probe itself does not wait for calls under way: it is there to look at them.
    fn memory_probe(&self) -> Option<MemoryProbe> {
        alone(|| self.0.memory_probe())
    }
    fn decode(&self, tokens: &[u32]) -> Option<String> {
        alone(|| self.0.decode(tokens))
    }
}

#[cfg(test)]
mod tests;
