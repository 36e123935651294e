//! The engine `openai`: any server with an OpenAI-compatible API, such as llama-server, vLLM,
//! SGLang, mlx_lm.server, Ollama and LM Studio.
//!
//! The host process sends each request over HTTP, reads the reply as server-sent events, and stamps
//! what it reads. Nothing is retried. docs/explanation/engines/openai.md says what its figures
//! include.

mod fit;
mod http;
mod options;
mod process;
mod reply;
mod request;
mod server;
mod session;
mod stream;

use std::io::Read;

use inferometer_host::protocol::{EngineError, Honours, Offer};
use inferometer_host::{Engine, Load, Result, Session, TokenSink};

pub use request::Api;
pub use stream::Streamed;

pub const NAME: &str = "openai";

/// The engine's registry entry.
pub struct OpenAi;

impl Engine for OpenAi {
    fn name(&self) -> &'static str {
        NAME
    }

    fn offer(&self) -> Offer {
        Offer {
            name: NAME,
            label: NAME,
            meaning: "any server with an OpenAI-compatible API, over HTTP",
            options: options::OPTIONS.into(),
            required: &[options::URL],
            serves: true,
            // Which server it is, is known when it answers.
            honours: Honours::default(),
            variants: Vec::new(),
            built_in: true,
        }
    }

    fn open(&self, load: &Load) -> Result<Box<dyn Session>> {
        if let Some(name) = load.toggles.keys().next() {
            let told = format!("toggle {name} takes effect when a server starts; set it there and remove it here");
            return Err(EngineError::unsupported(told));
        }
        let options = options::Options::of(&load.engine.options)?;
        Ok(Box::new(session::ServerSession::open(options, load.model.as_deref())?))
    }
}

/// Reads the body of a streamed answer as a session does, for those who have no server. The fuzz
/// target uses it.
///
/// # Errors
/// When the stream breaks, is not of the API, or sends more than `max_tokens` tokens.
pub fn read_stream(body: impl Read, api: Api, max_tokens: u32, sink: &mut dyn TokenSink) -> Result<Streamed> {
    stream::read(&mut http::Events::new("memory", body), api, max_tokens, sink)
}
