//! The reader and writer threads between the harness and a host's pipes, so that neither pipe can
//! block the harness.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use inferometer_protocol::bounded::{LineError, Lines};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::messages::{Envelope, MAX_LINE_BYTES, ToHost};

/// Lines read ahead of the harness. Beyond that the host blocks, as with a full pipe.
const AHEAD: usize = 4;

/// A line from the host, with the time when it was completely read.
#[derive(Debug)]
pub(crate) struct Line {
    pub bytes: Vec<u8>,
    pub received_ns: u64,
}

/// Why there is no line.
#[derive(Debug)]
pub(crate) enum NoLine {
    Late,
    /// The host closed its stdout.
    End,
    /// The host has ended, but its stdout is still open: a process that it started holds it. Said
    /// once.
    HostEnded,
    Bad(LineError),
}

/// A sent message: its id, its length, and the time just before its first byte was written (0 = not
/// yet).
#[derive(Debug)]
pub(crate) struct Sent {
    pub id: u64,
    pub bytes: usize,
    stamp: Arc<AtomicU64>,
}

impl Sent {
    /// Harness time just before the line was written; valid once an answer has arrived.
    pub(crate) fn ns(&self) -> u64 {
        self.stamp.load(Ordering::Acquire)
    }
}

enum Job {
    Write(Vec<u8>, Arc<AtomicU64>),
    Close,
}

/// The sending side, shared with cancellers: ids increase in the order of writing.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    jobs: Sender<Job>,
    next_id: u64,
    /// Ids of the current generations.
    generations: Vec<u64>,
    /// Cancel messages that are not answered yet.
    cancels: Vec<u64>,
}

impl Outgoing {
    fn new(stdin: impl Write + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = channel();
        std::thread::Builder::new().name("host-writer".into()).spawn(move || write_all(stdin, &queue))?;
        Ok(Self(Arc::new(Mutex::new(State { jobs, next_id: 1, generations: Vec::new(), cancels: Vec::new() }))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message with a new id.
    pub(crate) fn send(&self, body: ToHost) -> io::Result<Sent> {
        let mut state = self.state();
        let generates = matches!(body, ToHost::Generate(_));
        let sent = state.send(body)?;
        state.generations.extend(generates.then_some(sent.id));
        Ok(sent)
    }

    /// Sends a raw message with a new id.
    pub(crate) fn send_raw(&self, mut message: Map<String, Value>) -> Sent {
        let mut state = self.state();
        let id = state.fresh_id();
        message.insert("id".to_owned(), id.into());
        state.write(id, Value::Object(message).to_string().into_bytes())
    }

    /// Marks a message as answered.
    pub(crate) fn finished(&self, id: u64) {
        self.state().generations.retain(|running| *running != id);
    }

    /// Asks the host to stop the current generations; `false` if there is none.
    pub(crate) fn cancel(&self) -> bool {
        let mut state = self.state();
        let running = state.generations.clone();
        for request in &running {
            let Ok(sent) = state.send(ToHost::Cancel { request: *request }) else { return false };
            state.cancels.push(sent.id);
        }
        !running.is_empty()
    }

    /// Whether `id` is a cancel message without an answer; marks it as answered.
    pub(crate) fn answers_cancel(&self, id: u64) -> bool {
        let mut state = self.state();
        let position = state.cancels.iter().position(|cancel| *cancel == id);
        position.map(|at| state.cancels.swap_remove(at)).is_some()
    }

    /// Closes the host's stdin once everything sent so far is written.
    pub(crate) fn close(&self) {
        let _ = self.state().jobs.send(Job::Close);
    }
}

impl State {
    fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn send(&mut self, body: ToHost) -> io::Result<Sent> {
        let id = self.fresh_id();
        let line = to_line(&Envelope { id, body })?;
        Ok(self.write(id, line))
    }

    fn write(&mut self, id: u64, mut line: Vec<u8>) -> Sent {
        line.push(b'\n');
        let stamp = Arc::new(AtomicU64::new(0));
        let bytes = line.len();
        // The writer ends with the host; the reader reports that.
        let _ = self.jobs.send(Job::Write(line, Arc::clone(&stamp)));
        Sent { id, bytes, stamp }
    }
}

fn to_line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let line = serde_json::to_vec(message)?;
    if line.len() < MAX_LINE_BYTES {
        return Ok(line);
    }
    let told = format!("the message has {} bytes; the limit of a protocol line is {MAX_LINE_BYTES}", line.len());
    Err(io::Error::new(io::ErrorKind::InvalidInput, told))
}

fn write_all(mut stdin: impl Write, queue: &Receiver<Job>) {
    while let Ok(Job::Write(line, stamp)) = queue.recv() {
        stamp.store(now_ns(), Ordering::Release);
        if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

/// What the receiving side hears.
#[derive(Debug)]
enum Event {
    Line(Result<Line, LineError>),
    /// Its stdout is closed.
    End,
    HostEnded,
}

/// Tells the receiving side that the host has ended.
pub(crate) struct EndNotice(SyncSender<Event>);

impl EndNotice {
    pub(crate) fn send(self) {
        // An error means that nobody waits for the host any more.
        let _ = self.0.send(Event::HostEnded);
    }
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Incoming(Receiver<Event>);

impl Incoming {
    fn new(stdout: impl Read + Send + 'static) -> io::Result<(Self, EndNotice)> {
        let (events, incoming) = sync_channel(AHEAD);
        let notice = EndNotice(events.clone());
        std::thread::Builder::new().name("host-reader".into()).spawn(move || read_all(stdout, &events))?;
        Ok((Self(incoming), notice))
    }

    /// The next line; waits until `deadline`.
    pub(crate) fn next(&self, deadline: Instant) -> Result<Line, NoLine> {
        match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Line(Ok(line))) => Ok(line),
            Ok(Event::Line(Err(error))) => Err(NoLine::Bad(error)),
            Ok(Event::HostEnded) => Err(NoLine::HostEnded),
            Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => Err(NoLine::End),
            Err(RecvTimeoutError::Timeout) => Err(NoLine::Late),
        }
    }
}

fn read_all(stdout: impl Read, events: &SyncSender<Event>) {
    let mut reader = Lines::new(stdout, MAX_LINE_BYTES);
    loop {
        let line = reader.next_line();
        let received_ns = now_ns();
        let (event, last) = match line {
            Ok(Some(bytes)) => (Event::Line(Ok(Line { bytes, received_ns })), false),
            Ok(None) => (Event::End, true),
            Err(error) => (Event::Line(Err(error)), true),
        };
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// Starts both threads.
pub(crate) fn connect(
    stdin: impl Write + Send + 'static,
    stdout: impl Read + Send + 'static,
) -> io::Result<(Outgoing, Incoming, EndNotice)> {
    let (incoming, notice) = Incoming::new(stdout)?;
    Ok((Outgoing::new(stdin)?, incoming, notice))
}
