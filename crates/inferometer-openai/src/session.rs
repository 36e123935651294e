//! One server as a session: a request is one generation.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use inferometer_host::protocol::clock::now_ns;
use inferometer_host::protocol::toggle::KV_REUSE;
use inferometer_host::protocol::{
    Capabilities, Completion, EngineError, FinishReason, ModelIdentity, Prompt, Receipt, Request, Sampling, Served,
    Settings, TokenTiming, Value,
};
use inferometer_host::{Result, Session, TokenSink};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::fit;
use crate::http::{CONNECTIONS, Client};
use crate::options::Options;
use crate::request::{Api, Call};
use crate::server::{Counts, Fresh, Ids, Server};
use crate::stream;
use crate::stream::Streamed;

/// Tokens of the request that `open` sends.
const FIRST_TOKENS: u32 = 16;
/// The prompt of the request that `open` sends.
const FIRST_PROMPT: &str = "One, two, three,";

/// A server that answered, and what is known about it.
pub struct ServerSession {
    client: Client,
    options: Options,
    server: Server,
    /// Folder of the same model on this machine, if the scenario names one.
    folder: Option<String>,
    timing: TokenTiming,
    /// The streams have counts.
    counts: bool,
    /// Prompt tokens of earlier requests to a server whose streams have no counts; all sessions
    /// share them.
    counted: Arc<Mutex<HashMap<[u8; 32], u32>>>,
    /// The text of the last generation.
    text: String,
    /// Requests since the last reset; 0: nothing may be reused.
    since_reset: u32,
    resets: u64,
}

impl ServerSession {
    /// Asks the server what it is, and sends a first short request: it loads the model where a
    /// server does that late, and shows whether each token comes in an event of its own.
    ///
    /// # Errors
    /// When the server cannot be reached, has no such model, or cannot stream.
    pub fn open(options: Options, folder: Option<&Path>) -> Result<Self> {
        let client = Client::new(&options);
        let server = Server::ask(&client, &options)?;
        let mut session = Self {
            client,
            options,
            server,
            folder: folder.map(|path| path.display().to_string()),
            timing: TokenTiming::Inexact,
            counts: true,
            counted: Arc::default(),
            text: String::new(),
            since_reset: 0,
            resets: 0,
        };
        session.first()?;
        Ok(session)
    }

    fn first(&mut self) -> Result<()> {
        let request = asked(Prompt::Text(FIRST_PROMPT.to_owned()), FIRST_TOKENS);
        let streamed = self.stream(&request, &mut Unwatched)?;
        self.counts = streamed.usage.completion_tokens.is_some();
        let single = streamed.pieces > 1 && streamed.several().is_none() && self.counts;
        if single || self.server.flavour.ids != Ids::OfTexts {
            self.timing = TokenTiming::Exact;
        }
        Ok(())
    }

    fn fresh(&self, request: &Request) -> bool {
        self.since_reset == 0 || request.toggles.get(KV_REUSE).and_then(Value::as_text) == Some("none")
    }

    /// Sends a request and hands each token to the sink as it arrives.
    fn stream(&self, request: &Request, sink: &mut dyn TokenSink) -> Result<Streamed> {
        let fresh = self.fresh(request);
        let salt = match fresh {
            true => format!("{}-{}-{}", std::process::id(), self.resets, now_ns()),
            false => format!("{}-{}", std::process::id(), self.resets),
        };
        let call = Call::of(request, &self.server, fresh, &salt)?;
        let base = if call.api == Api::Native { &self.options.root } else { &self.options.api };
        let mut events = self.client.stream(&format!("{base}{}", call.path()), &call.body)?;
        stream::read(&mut events, call.api, request.max_tokens, sink).map_err(|error| self.shown(error))
    }

    fn shown(&self, error: EngineError) -> EngineError {
        EngineError { message: self.client.hidden(&error.message), ..error }
    }

    /// How many tokens the server makes of a text.
    fn count(&mut self, text: &str) -> Result<u32> {
        let Options { root, .. } = &self.options;
        let (body, field) = match self.server.flavour.counts {
            Counts::LlamaTokenize => (json!({"content": text, "add_special": true}), "tokens"),
            Counts::VllmTokenize => (json!({"model": self.server.model, "prompt": text}), "count"),
            Counts::Usage => {
                let prompt = Prompt::Text(text.to_owned());
                return self.prompt_tokens(&asked(prompt, 1));
            }
        };
        let url = format!("{root}/tokenize");
        let answer: serde_json::Value = self.client.post(&url, &body)?;
        let found = &answer[field];
        let count = found.as_array().map(|ids| ids.len() as u64).or_else(|| found.as_u64());
        count.and_then(|count| u32::try_from(count).ok()).ok_or_else(|| {
            EngineError::server(format!("the server at {url} does not say how many tokens a text has (`{field}`)"))
        })
    }

    /// How many tokens a prompt has, for a server whose streams do not say it: asked once, with a
    /// request of its own that is not streamed.
    fn prompt_tokens(&mut self, request: &Request) -> Result<u32> {
        let one = Request { max_tokens: 1, ignore_eos: false, ..request.clone() };
        let mut call = Call::of(&one, &self.server, false, "count")?;
        call.body.remove("stream_options");
        call.body.insert("stream".to_owned(), false.into());
        let key: [u8; 32] = Sha256::digest(serde_json::to_vec(&call.body).unwrap_or_default()).into();
        // Held while the server is asked, so that sessions beside each other ask once.
        let counted = Arc::clone(&self.counted);
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        match counted.entry(key) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(unknown) => {
                let url = format!("{}{}", self.options.api, call.path());
                let answer: serde_json::Value = self.client.post(&url, &call.body)?;
                let count = answer["usage"]["prompt_tokens"].as_u64().and_then(|count| u32::try_from(count).ok());
                let count = count.ok_or_else(|| {
                    EngineError::unsupported(format!("the server at {url} does not say how many tokens a prompt has"))
                })?;
                Ok(*unknown.insert(count))
            }
        }
    }
}

/// A request that is not measured.
fn asked(prompt: Prompt, max_tokens: u32) -> Request {
    Request {
        prompt,
        sampling: Sampling::default(),
        toggles: Settings::new(),
        max_tokens,
        ignore_eos: false,
        conversation: None,
        forced_tokens: None,
    }
}

impl Session for ServerSession {
    fn receipt(&self) -> Receipt {
        let Server { flavour, version, model } = &self.server;
        let takes_ids = flavour.takes_ids;
        let mut details = BTreeMap::from([
            ("server".to_owned(), flavour.name.to_owned()),
            ("url".to_owned(), self.options.api.clone()),
            (
                "token ids".to_owned(),
                match flavour.ids {
                    Ids::OfTexts => "of the texts of the pieces that the server sends",
                    Ids::Listed | Ids::Native => "of the model, as the server reports them",
                }
                .to_owned(),
            ),
        ]);
        if !self.counts {
            details.insert("counts".to_owned(), "the server's streams have no token counts".to_owned());
        }
        let reuse = match flavour.fresh {
            Fresh::Never => Vec::new(),
            Fresh::CachePrompt | Fresh::Salt => vec![KV_REUSE.to_owned()],
        };
        Receipt {
            engine: crate::NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: None,
            backend: Some(match version {
                Some(version) => format!("{} {version}", flavour.name),
                None => flavour.name.to_owned(),
            }),
            device: None,
            model: ModelIdentity {
                name: model.clone(),
                path: self.folder.clone().unwrap_or_default(),
                ..ModelIdentity::default()
            },
            capabilities: Capabilities {
                tokens: takes_ids,
                text: true,
                messages: true,
                tools: flavour.template_arguments,
                cancel: true,
                reset: flavour.fresh != Fresh::Never,
                fit: true,
                concurrent: CONNECTIONS as u32,
                ..Capabilities::default()
            },
            toggles: reuse,
            sampling: flavour.sampling.iter().map(|name| (*name).to_owned()).collect(),
            not_honoured: BTreeMap::new(),
            token_timing: self.timing,
            works_in: Some(self.options.works_in),
            deterministic: flavour.deterministic,
            includes: ["tokenization", "sampling", "detokenization", "transport"].map(str::to_owned).into(),
            settings: Settings::new(),
            details,
        }
    }

    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        if request.forced_tokens.is_some() {
            return Err(EngineError::unsupported("a server cannot be made to generate given tokens"));
        }
        self.text.clear();
        // Before the time of the request's own work: a warm-up has asked already.
        let prompt_tokens = if self.counts { None } else { Some(self.prompt_tokens(request)?) };
        let streamed = self.stream(request, sink)?;
        self.since_reset += 1;
        let of_ids = match &request.prompt {
            Prompt::Tokens(ids) => u32::try_from(ids.len()).ok(),
            Prompt::Text(_) | Prompt::Messages(_) => None,
        };
        let counted = streamed.usage.prompt_tokens.or(prompt_tokens);
        // A cancelled stream has no counts.
        let Some(prompt_tokens) = counted.or(of_ids).or(streamed.cancelled.then_some(0)) else {
            return Err(EngineError::server("the server's stream ended without `usage.prompt_tokens`"));
        };
        let reused_tokens = streamed.usage.cached_tokens.unwrap_or(0).min(prompt_tokens);
        let generated_tokens = streamed.several();
        self.text = streamed.visible;
        let reuse = (self.server.flavour.fresh != Fresh::Never).then(|| match request.toggles.get(KV_REUSE) {
            Some(asked) => asked.clone(),
            None => "prefix".into(),
        });
        Ok(Completion {
            finish_reason: match streamed.finish {
                _ if streamed.cancelled => FinishReason::Cancelled,
                Some(reason) => reason,
                None => FinishReason::Error,
            },
            prompt_tokens,
            reused_tokens,
            prefill_tokens: prompt_tokens - reused_tokens,
            cache_tokens: None,
            effective: reuse.into_iter().map(|value| (KV_REUSE.to_owned(), value)).collect(),
            speculation: None,
            served: Some(Served {
                first_byte_ns: streamed.first_byte_ns,
                first_visible_ns: streamed.first_visible_ns,
                generated_tokens,
            }),
        })
    }

    fn reset(&mut self) -> Result<()> {
        if self.server.flavour.fresh == Fresh::Never {
            return Err(EngineError::unsupported(format!(
                "this server ({}) offers no way to forget earlier prompts",
                self.server.flavour.name
            )));
        }
        self.since_reset = 0;
        self.resets += 1;
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Session + Send>> {
        Ok(Box::new(Self {
            client: self.client.clone(),
            options: self.options.clone(),
            server: self.server.clone(),
            folder: self.folder.clone(),
            timing: self.timing,
            counts: self.counts,
            counted: Arc::clone(&self.counted),
            text: String::new(),
            since_reset: self.since_reset,
            resets: self.resets,
        }))
    }

    fn fit(&mut self, text: &str, tokens: u32) -> Result<String> {
        fit::fit(text, tokens, &mut |part| self.count(part))
    }

    fn decode(&self, _: &[u32]) -> Option<String> {
        Some(self.text.clone())
    }
}

/// Takes the tokens of a request that is not measured.
struct Unwatched;

impl TokenSink for Unwatched {
    fn token(&mut self, _: u32) {}

    fn detail(&self) -> inferometer_host::Detail {
        inferometer_host::Detail::Timed
    }

    fn begin(&mut self, _: inferometer_host::protocol::Phase) -> inferometer_host::SpanKey {
        inferometer_host::SpanKey::default()
    }

    fn end(&mut self, _: inferometer_host::SpanKey) {}

    fn cancelled(&self) -> bool {
        false
    }
}
