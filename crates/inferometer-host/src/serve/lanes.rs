//! Sessions that generate at the same time, each on a thread of its own.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::generation::{check, generated, run};
use super::{Output, Running, panic_text};
use crate::Session;
use crate::recorder::Recorder;
use inferometer_protocol::messages::{FromHost, Generate};
use inferometer_protocol::{Capabilities, EngineError};

/// Work for a lane.
enum Job {
    Generate {
        id: u64,
        g: Box<Generate>,
        accepted_ns: u64,
        slow_down: Option<f64>,
        /// The way to this lane, for whoever has the next job. A lane without one ends.
        lane: Sender<Job>,
    },
    Reset(Sender<Result<(), EngineError>>),
}

/// The lanes of a host. Dropping them ends their sessions.
pub struct Lanes<W> {
    output: Output<W>,
    running: Running,
    idle: Arc<Mutex<Vec<Sender<Job>>>>,
    threads: Vec<JoinHandle<()>>,
    panicked: Arc<AtomicBool>,
}

impl<W: Write + Send + 'static> Lanes<W> {
    pub fn new(output: Output<W>, running: Running) -> Self {
        Self { output, running, idle: Arc::default(), threads: Vec::new(), panicked: Arc::default() }
    }

    /// Whether an engine panicked in a lane, so that its state cannot be trusted.
    pub fn panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    /// Starts a generation in an idle lane, or in a new one; its answer comes from there.
    ///
    /// # Errors
    /// When the request is invalid, or as many generations run as the engine can.
    pub fn start(
        &mut self,
        session: &dyn Session,
        (id, g): (u64, Box<Generate>),
        accepted_ns: u64,
        slow_down: Option<f64>,
    ) -> Result<(), EngineError> {
        let can = session.receipt().capabilities;
        check(&g, &can)?;
        // Taken before the lane is made: a lane that becomes idle meanwhile is found next time.
        let idle = self.idle().pop();
        let lane = match idle {
            Some(lane) => lane,
            None => self.another(session, &can)?,
        };
        let gone = || EngineError::internal("a thread of the host has ended");
        lane.send(Job::Generate { id, g, accepted_ns, slow_down, lane: lane.clone() }).map_err(|_| gone())
    }

    /// Resets every lane.
    ///
    /// # Errors
    /// When one is at work, or the engine fails.
    pub fn reset(&mut self) -> Result<(), EngineError> {
        let idle = self.idle().clone();
        if idle.len() != self.threads.len() {
            return Err(EngineError::bad_request("`reset` while generations are running; wait for their results"));
        }
        for lane in idle {
            let (done, answer) = channel();
            if lane.send(Job::Reset(done)).is_ok() {
                answer.recv().unwrap_or(Ok(()))?;
            }
        }
        Ok(())
    }

    /// Ends every lane; the memory of its session is free afterwards.
    pub fn end(&mut self) {
        self.idle().clear();
        // A lane at work ends when its generation does, and `idle` no longer takes it.
        self.idle = Arc::default();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender<Job>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn another(&mut self, session: &dyn Session, can: &Capabilities) -> Result<Sender<Job>, EngineError> {
        let most = can.concurrent as usize;
        if most == 0 {
            return Err(EngineError::unsupported("this engine runs one generation at a time"));
        }
        if self.threads.len() >= most {
            let told = format!("{most} generations are running; the receipt says `concurrent`: {most}");
            return Err(EngineError::bad_request(told));
        }
        let session = session.another()?;
        let (jobs, work) = channel();
        let lane = Lane {
            session,
            output: self.output.clone(),
            running: self.running.clone(),
            idle: Arc::downgrade(&self.idle),
            panicked: Arc::clone(&self.panicked),
        };
        let thread = std::thread::Builder::new().name(format!("host-lane-{}", self.threads.len()));
        let started = thread.spawn(move || lane.work(&work));
        let thread = started.map_err(|error| EngineError::internal(format!("cannot start a thread: {error}")))?;
        self.threads.push(thread);
        Ok(jobs)
    }
}

/// A session and its thread.
struct Lane<W> {
    session: Box<dyn Session + Send>,
    output: Output<W>,
    running: Running,
    idle: std::sync::Weak<Mutex<Vec<Sender<Job>>>>,
    panicked: Arc<AtomicBool>,
}

impl<W: Write + Send + 'static> Lane<W> {
    fn work(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Reset(done) => _ = done.send(self.session.reset()),
                Job::Generate { id, g, accepted_ns, slow_down, lane } => {
                    let (body, sound) = self.generate(id, &g, accepted_ns, slow_down);
                    // Idle before the harness hears the answer: its next request may come at once.
                    let kept = self.idle.upgrade().filter(|_| sound);
                    kept.inspect(|idle| idle.lock().unwrap_or_else(PoisonError::into_inner).push(lane));
                    let written = self.output.send(id, body).is_ok();
                    if !sound {
                        // A destructor may rely on state that the panic left inconsistent.
                        std::mem::forget(self.session);
                        return;
                    }
                    if !written {
                        return;
                    }
                }
            }
        }
    }

    /// Runs a generation; `false` if the engine panicked.
    fn generate(&mut self, id: u64, g: &Generate, accepted_ns: u64, slow_down: Option<f64>) -> (FromHost, bool) {
        let shared = self.running.of(id);
        let (session, output) = (&mut *self.session, &self.output);
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let run = |session: &mut dyn Session, recorder: &mut Recorder| run(session, g, recorder, slow_down);
            generated(session, (id, g), accepted_ns, shared, output, run).0
        }));
        self.running.ended(id);
        match answer {
            Ok(Ok(generated)) => (FromHost::Result(Box::new(generated)), true),
            Ok(Err(error)) => (FromHost::Error(error), true),
            Err(panic) => {
                self.panicked.store(true, Ordering::Release);
                (FromHost::Error(EngineError::internal(panic_text(&*panic))), false)
            }
        }
    }
}
