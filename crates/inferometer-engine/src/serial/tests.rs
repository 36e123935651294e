use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use inferometer_host::Instrumentation;
use inferometer_host::recorder::Recorder;
use inferometer_protocol::{EngineError, Prompt, Sampling, Settings};

/// Calls in progress, and how many overlapped with another one.
struct Watch {
    inside: AtomicU32,
    met: AtomicU32,
    /// How long a call waits for another one to begin.
    stay: Duration,
}

impl Watch {
    fn new(stay: Duration) -> Self {
        Self { inside: AtomicU32::new(0), met: AtomicU32::new(0), stay }
    }

    /// A call: lasts a while, or until two calls have overlapped.
    fn call(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let until = Instant::now() + self.stay;
        while self.met.load(Ordering::SeqCst) == 0 && Instant::now() < until {
            if self.inside.load(Ordering::SeqCst) > 1 {
                self.met.fetch_add(1, Ordering::SeqCst);
            }
            std::thread::yield_now();
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A session that notices when it is not alone.
struct Fake<'a>(&'a Watch);

impl<'a> Fake<'a> {
    fn open(watch: &'a Watch) -> Result<Self> {
        watch.call();
        Ok(Self(watch))
    }
}

impl Drop for Fake<'_> {
    fn drop(&mut self) {
        self.0.call();
    }
}

impl Session for Fake<'_> {
    fn receipt(&self) -> Receipt {
        self.0.call();
        serde_json::from_value(serde_json::json!({"engine": "fake", "version": "1"})).unwrap()
    }
    fn generate(&mut self, _: &Request, _: &mut dyn TokenSink) -> Result<Completion> {
        self.0.call();
        Err(EngineError::unsupported("a fake"))
    }
    fn reset(&mut self) -> Result<()> {
        self.0.call();
        Ok(())
    }
    fn clear_cache(&mut self) -> Result<()> {
        self.0.call();
        Ok(())
    }
    fn memory(&self) -> EngineMemory {
        self.0.call();
        EngineMemory::default()
    }
    fn decode(&self, _: &[u32]) -> Option<String> {
        self.0.call();
        None
    }
}

/// Opens a session, makes every kind of call and drops it.
fn use_one<S: Session>(open: impl Fn() -> Result<S>) {
    let request = Request {
        prompt: Prompt::Tokens(vec![1]),
        sampling: Sampling::default(),
        toggles: Settings::new(),
        max_tokens: 1,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    };
    let mut session = open().unwrap();
    session.receipt();
    let _ = session.generate(&request, &mut Recorder::new(1, Instrumentation::default(), Default::default()));
    session.reset().unwrap();
    session.clear_cache().unwrap();
    session.memory();
    session.decode(&[]);
}

/// How often calls of two threads overlapped, each thread using three sessions of its own.
fn met<S: Session>(watch: &Watch, open: impl Fn() -> Result<S> + Sync) -> u32 {
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                (0..3).for_each(|_| use_one(&open));
            });
        }
    });
    watch.met.load(Ordering::SeqCst)
}

#[test]
fn calls_of_two_sessions_never_overlap() {
    let watch = Watch::new(Duration::from_millis(2));
    assert_eq!(met(&watch, || Serial::open(|| Fake::open(&watch))), 0);
}

/// Shows that the test above can fail. The first call waits for the other thread's, however late it
/// is.
#[test]
fn without_the_lock_they_do() {
    let watch = Watch::new(Duration::from_secs(120));
    assert!(met(&watch, || Fake::open(&watch)) > 0, "two threads never met without a lock");
}
