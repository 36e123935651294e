//! Checks whether a program speaks the engine protocol: named checks that every adapter author can
//! run.
//!
//! Checks of capabilities that the receipt does not declare are skipped.

mod checks;
mod rules;
mod sampling;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::host::{Host, HostError, Launch, Talk};
use super::interrupt::Interrupt;
use inferometer_protocol::messages::{Generate, Open, Ready};
use inferometer_protocol::{Chat, EngineSpec, Instrumentation, Message, Prompt, Request, Sampling};

/// Number of tokens in most checks.
const FEW: u32 = 8;

/// The program under check.
#[derive(Debug, Clone)]
pub struct Target {
    pub command: Vec<String>,
    /// Sent with `open`.
    pub engine: EngineSpec,
    /// Sent with `open`, if the engine takes a model.
    pub model: Option<PathBuf>,
    /// The program's stderr goes here.
    pub log: PathBuf,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Ends the program and everything it started.
    pub interrupt: Interrupt,
}

/// A check and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    /// Why it failed or was skipped; empty if it passed.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Why a check did not pass.
enum Fault {
    Fail(String),
    Skip(String),
}

impl From<HostError> for Fault {
    fn from(error: HostError) -> Self {
        Fault::Fail(error.to_string())
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Fault::Fail(text)
    }
}

type Verdict = Result<(), Fault>;

/// Fails the check unless `holds`.
fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Fault::Fail(otherwise())) }
}

/// The names of all checks, in execution order.
#[must_use]
pub fn names() -> Vec<&'static str> {
    checks::ALL.iter().map(|(name, _)| *name).collect()
}

/// Runs the checks whose names are `wanted`, and passes each finished check to `seen`.
pub fn check(target: &Target, wanted: impl Fn(&str) -> bool, seen: &mut dyn FnMut(&Check)) -> Vec<Check> {
    let mut bench = Bench { target, opened: None, hopeless: None };
    let mut mute = false;
    let run = |(name, check): &(&'static str, checks::Run)| {
        let verdict =
            if mute { Err(Fault::Skip("it does not answer the greeting".to_owned())) } else { check(&mut bench) };
        let (outcome, reason) = match verdict {
            Ok(()) => (Outcome::Passed, String::new()),
            Err(Fault::Fail(reason)) => (Outcome::Failed, reason),
            Err(Fault::Skip(reason)) => (Outcome::Skipped, reason),
        };
        if outcome == Outcome::Failed {
            // The next check starts from a fresh host.
            bench.opened = None;
            mute |= *name == checks::GREETS;
        }
        let check = Check { name, outcome, reason };
        seen(&check);
        check
    };
    checks::ALL.iter().filter(|(name, _)| wanted(name)).map(run).collect()
}

/// A host with its model open.
struct Opened {
    host: Host,
    ready: Ready,
    /// The model's folder, whose tokenizer counts too.
    model: Option<PathBuf>,
}

/// State shared by the checks.
struct Bench<'a> {
    target: &'a Target,
    opened: Option<Opened>,
    /// Why no model can be opened; tried only once.
    hopeless: Option<String>,
}

impl Bench<'_> {
    fn launch(&self) -> Launch {
        let Target { command, log, timeout, .. } = self.target.clone();
        Launch { command, env: Vec::new(), log, timeout }
    }

    /// A fresh host that was not greeted.
    fn stranger(&self) -> Result<Talk, HostError> {
        Talk::start(&self.launch(), Some(&self.target.interrupt))
    }

    /// A fresh, greeted host.
    fn greeted(&self) -> Result<Host, HostError> {
        Host::start_under(&self.launch(), &self.target.interrupt)
    }

    fn open_message(&self) -> Open {
        let model = self.target.model.as_ref().map(|path| path.to_string_lossy().into_owned());
        Open { engine: self.target.engine.clone(), model, toggles: Default::default(), memory_interval_ms: None }
    }

    /// The host shared by most checks, opened when first needed and after each failure.
    fn opened(&mut self) -> Result<&mut Opened, Fault> {
        if let Some(reason) = &self.hopeless {
            return Err(Fault::Skip(reason.clone()));
        }
        if self.opened.is_none() {
            let open = self.open_message();
            let model = self.target.model.clone();
            let opened = self.greeted().and_then(|mut host| Ok(Opened { ready: host.open(open)?, host, model }));
            match opened {
                Ok(opened) => self.opened = Some(opened),
                Err(error) => {
                    self.hopeless = Some("no model could be opened".to_owned());
                    return Err(error.into());
                }
            }
        }
        Ok(self.opened.as_mut().expect("it was opened just now"))
    }

    /// The shared host, if it declares a capability.
    fn with(&mut self, name: &str, declared: impl Fn(&Ready) -> bool) -> Result<&mut Opened, Fault> {
        let opened = self.opened()?;
        if declared(&opened.ready) { Ok(opened) } else { Err(Fault::Skip(format!("it does not declare `{name}`"))) }
    }
}

impl Opened {
    /// A request of a prompt kind that the engine takes.
    fn instrumented(&self, max_tokens: u32, instrumentation: Instrumentation) -> Result<Generate, Fault> {
        Ok(Generate { instrumentation, ..self.request(max_tokens)? })
    }

    fn request(&self, max_tokens: u32) -> Result<Generate, Fault> {
        let text = "The quick brown fox jumps over the lazy dog.".to_owned();
        self.prompted((1..=FEW).collect(), text, max_tokens)
    }

    /// A request of `ids` or `text`, whichever the engine takes.
    fn prompted(&self, ids: Vec<u32>, text: String, max_tokens: u32) -> Result<Generate, Fault> {
        let capabilities = self.ready.receipt.capabilities;
        let prompt = if capabilities.tokens {
            let vocabulary = self.ready.receipt.model.vocabulary.unwrap_or(16).max(1);
            Prompt::Tokens(ids.into_iter().map(|id| id % vocabulary).collect())
        } else if capabilities.text {
            Prompt::Text(text)
        } else if capabilities.messages {
            Prompt::Messages(Chat::of(vec![Message::new("user", &text)]))
        } else {
            return Err(Fault::Fail(
                "its receipt declares none of the prompt kinds `tokens`, `text` and `messages`".to_owned(),
            ));
        };
        let request = Request {
            prompt,
            sampling: Sampling::default(),
            toggles: Default::default(),
            max_tokens,
            ignore_eos: true,
            conversation: None,
            forced_tokens: None,
        };
        Ok(Generate { request, instrumentation: Instrumentation::default(), concurrent: false })
    }
}
