//! Many generations at the same time, each sent when it is due.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::error::HostError;
use super::talk::Talk;
use super::wire::Sent;
use super::{Exchange, Host};
use inferometer_protocol::Prompt;
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::messages::{Envelope, FromHost, Generate, ToHost};

const DURING: &str = "a generation under load";
/// The answers of an iteration are kept until its end.
const MOST_BYTES: u64 = 1 << 30;

/// When requests are due.
#[derive(Debug, Clone, PartialEq)]
pub enum Due {
    /// As soon as one of so many sessions is free.
    Free(usize),
    /// So many nanoseconds after the start, in order.
    After(Vec<u64>),
}

/// What became of one of the requests.
#[derive(Debug)]
pub struct Served {
    /// Its number among the requests, from 0.
    pub number: usize,
    /// When it was due, on the harness's clock. Latency counts from here.
    pub intended_ns: u64,
    /// When its line was written, on the harness's clock; 0 if it never was.
    pub sent_ns: u64,
    /// When its answer was read.
    pub ended_ns: u64,
    /// `None`: the host broke before it had answered.
    pub outcome: Option<Result<Exchange, HostError>>,
}

/// A request that was sent.
struct Flight {
    number: usize,
    intended_ns: u64,
    sent: Sent,
    deadline: Instant,
    to_tokenize: bool,
}

impl Host {
    /// Sends `count` generations when they are due, at most `most` at the same time, and returns
    /// them in the order of their answers. Requests that are due while `most` are running wait
    /// here; their intended time stays.
    ///
    /// The error is why the host broke; requests without an outcome were lost with it.
    pub fn traffic(
        &mut self,
        count: usize,
        due: &Due,
        most: usize,
        make: &mut dyn FnMut(usize) -> Generate,
        ended: &mut dyn FnMut(usize),
    ) -> (Vec<Served>, Option<HostError>) {
        let mut traffic =
            Traffic { due, count, most, start: (Instant::now(), now_ns()), next: 0, flights: HashMap::new(), bytes: 0 };
        let mut served = Vec::with_capacity(count);
        let error = loop {
            if traffic.is_over() {
                return (served, None);
            }
            match traffic.step(self.talk(), make) {
                Ok(None) => {}
                Ok(Some(one)) => {
                    served.push(one);
                    ended(served.len());
                }
                Err(error) => break error,
            }
        };
        served.extend(traffic.lost());
        (served, Some(error))
    }
}

struct Traffic<'a> {
    due: &'a Due,
    count: usize,
    most: usize,
    /// The same moment on both clocks.
    start: (Instant, u64),
    next: usize,
    flights: HashMap<u64, Flight>,
    /// Read so far.
    bytes: u64,
}

impl Traffic<'_> {
    fn is_over(&self) -> bool {
        self.next == self.count && self.flights.is_empty()
    }

    /// When the next request is to be sent; `None`: not before an answer.
    fn next_due(&self) -> Option<u64> {
        let room = match self.due {
            Due::Free(sessions) => self.flights.len() < self.most.min(*sessions),
            Due::After(_) => self.flights.len() < self.most,
        };
        (self.next < self.count && room).then(|| self.intended(self.next))
    }

    /// When a request is due, in nanoseconds after the start.
    fn intended(&self, number: usize) -> u64 {
        match self.due {
            Due::Free(_) => 0,
            Due::After(offsets) => offsets.get(number).copied().unwrap_or(u64::MAX),
        }
    }

    /// Sends what is due, or waits for the next line.
    fn step(&mut self, talk: &mut Talk, make: &mut dyn FnMut(usize) -> Generate) -> Result<Option<Served>, HostError> {
        let due = self.next_due();
        let passed = u64::try_from(self.start.0.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if due.is_some_and(|due| due <= passed) {
            self.send(talk, make)?;
            return Ok(None);
        }
        let deadline = self.flights.values().map(|flight| flight.deadline).min();
        let deadline =
            deadline.unwrap_or_else(|| Instant::now() + talk.timeout + Duration::from_nanos(due.unwrap_or(0)));
        let until = due.map_or(deadline, |due| self.start.0 + Duration::from_nanos(due));
        let Some(line) = talk.read_until(DURING, until, deadline)? else { return Ok(None) };
        let Envelope { id, body } = talk.parse(DURING, &line)?;
        if matches!(body, FromHost::Done | FromHost::Error(_)) && talk.outgoing.answers_cancel(id) {
            return Ok(None);
        }
        self.bytes += line.bytes.len() as u64;
        if self.bytes > MOST_BYTES {
            return Err(talk.broken(DURING, format!("its answers of one iteration have more than {MOST_BYTES} bytes")));
        }
        let Some(flight) = self.flights.remove(&id) else {
            return Err(talk.unfit(DURING, "an answer to a request that runs", &body));
        };
        talk.outgoing.finished(id);
        let sent_ns = flight.sent.ns();
        if sent_ns == 0 || line.received_ns < sent_ns {
            return Err(talk.broken(DURING, "it answered before the request was sent".to_owned()));
        }
        let outcome = match body {
            FromHost::Result(generated) => Ok(Exchange {
                generated: *generated,
                arrivals: Vec::new(),
                sent_ns,
                received_ns: line.received_ns,
                request_bytes: flight.sent.bytes,
                reply_bytes: line.bytes.len() + 1,
                to_tokenize: flight.to_tokenize,
                beside_others: true,
            }),
            FromHost::Error(error) => Err(HostError::Engine(error)),
            other => return Err(talk.unfit(DURING, "result", &other)),
        };
        let (number, intended_ns, ended_ns) = (flight.number, flight.intended_ns, line.received_ns);
        Ok(Some(Served { number, intended_ns, sent_ns, ended_ns, outcome: Some(outcome) }))
    }

    fn send(&mut self, talk: &mut Talk, make: &mut dyn FnMut(usize) -> Generate) -> Result<(), HostError> {
        let number = self.next;
        self.next += 1;
        let generate = make(number);
        let to_tokenize = !matches!(generate.request.prompt, Prompt::Tokens(_));
        let intended_ns = match self.due {
            // A session sends as soon as it is free: its line may wait for others to be written.
            Due::Free(_) => now_ns(),
            Due::After(_) => self.start.1.saturating_add(self.intended(number)),
        };
        let sent = talk.outgoing.send(ToHost::Generate(Box::new(generate)))?;
        let deadline = Instant::now() + talk.timeout;
        self.flights.insert(sent.id, Flight { number, intended_ns, sent, deadline, to_tokenize });
        Ok(())
    }

    /// Requests that were not answered, the unsent ones included.
    fn lost(self) -> Vec<Served> {
        let now = now_ns();
        let sent = self.flights.values().map(|flight| (flight.number, flight.intended_ns, flight.sent.ns()));
        let unsent = (self.next..self.count).map(|number| {
            let intended = match self.due {
                Due::Free(_) => now,
                Due::After(_) => self.start.1.saturating_add(self.intended(number)),
            };
            (number, intended, 0)
        });
        let lost =
            |(number, intended_ns, sent_ns)| Served { number, intended_ns, sent_ns, ended_ns: now, outcome: None };
        sent.chain(unsent).map(lost).collect()
    }
}
