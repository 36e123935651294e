//! What llama.cpp prints: warnings and errors go to standard error, which the harness keeps as the
//! host's log. While a model is loaded, everything is kept as well, because some facts and the
//! reasons of failures are told nowhere else.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Most lines kept of one load; llama.cpp prints some hundreds.
const MOST_LINES: usize = 20_000;
/// Most lines of a reason.
const MOST_REASONS: usize = 6;

/// The bindings' own module, which warns of llama.cpp's progress dots. llama.cpp's output has the
/// target `llama-cpp-2`.
const BINDINGS: &str = "llama_cpp_2";

/// What has been printed since [`keep`]; `None`: nothing is kept.
static KEPT: Mutex<Option<Vec<(Level, String)>>> = Mutex::new(None);

/// Redirects llama.cpp's output, once for the process.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A process that has a subscriber already keeps it, and nothing is known of llama.cpp then.
        let _ = tracing::subscriber::set_global_default(ToStandardError);
        llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
    });
}

/// Begins to keep what is printed, and drops what was kept.
pub fn keep() {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
}

/// Ends keeping.
pub fn take() -> Printed {
    Printed(KEPT.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default())
}

/// The lines of one load.
#[derive(Default)]
pub struct Printed(Vec<(Level, String)>);

impl Printed {
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, line)| line.as_str())
    }

    /// The last warnings and errors, for a message.
    pub fn reasons(&self) -> String {
        let grave = self.0.iter().filter(|(level, _)| *level <= Level::WARN).map(|(_, line)| line.as_str());
        let grave: Vec<&str> = grave.collect();
        match &grave[grave.len().saturating_sub(MOST_REASONS)..] {
            [] => "llama.cpp gives no reason".to_owned(),
            last => format!("llama.cpp says: {}", last.join("; ")),
        }
    }
}

struct ToStandardError;

impl Subscriber for ToStandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::INFO && !metadata.target().starts_with(BINDINGS)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let (level, text) = (*event.metadata().level(), message.0.trim_end());
        if level <= Level::WARN {
            // There is nothing to do about a log that cannot be written.
            let _ = writeln!(std::io::stderr(), "{level}: {text}");
        }
        if let Some(kept) = &mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner)
            && kept.len() < MOST_LINES
        {
            kept.push((level, text.to_owned()));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
