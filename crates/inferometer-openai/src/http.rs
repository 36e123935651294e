//! HTTP: one agent for each host process, no retries, no redirects, no proxy, bounded replies.

use std::cell::RefCell;
use std::io::{ErrorKind as IoKind, Read};
use std::num::NonZeroUsize;

use bytes::{Buf, Bytes};
use inferometer_host::Result;
use inferometer_host::protocol::{EngineError, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sse_core::{SseDecoder, SseEvent};
use ureq::http::header::HeaderName;
use ureq::http::{Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, BodyReader, Error};

use crate::options::{Key, Options};

/// Most bytes of an answer that is read whole.
const MAX_ANSWER: u64 = 8 << 20;
/// Most bytes of one event of a stream.
const MAX_EVENT: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();
/// Most bytes of a stream: a million tokens with their JSON, and more.
const MAX_STREAM: u64 = 1 << 30;
/// Most characters of a server's own words in an error.
const MAX_WORDS: usize = 500;
/// Most of a stream that is read at once.
const CHUNK: usize = 16 << 10;

/// Most connections to the server at once.
pub const CONNECTIONS: usize = 1024;

/// The connection to one server.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    key: Option<Key>,
    /// `Server` of the last answer: some servers say nothing else about themselves.
    program: RefCell<String>,
}

impl Client {
    pub fn new(options: &Options) -> Self {
        let config = Agent::config_builder()
            .tls_config(tls())
            // A proxy would be measured with the server.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .timeout_connect(Some(options.connect))
            .timeout_per_read(Some(options.idle))
            .timeout_per_write(Some(options.idle))
            .timeout_recv_response(Some(options.idle))
            .timeout_global(Some(options.request))
            .max_idle_connections(CONNECTIONS)
            .max_idle_connections_per_host(CONNECTIONS)
            .user_agent(concat!("inferometer/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), key: options.key.clone(), program: RefCell::default() }
    }

    /// The value of `Server` in the last answer; empty if there was none.
    pub fn program(&self) -> String {
        self.program.borrow().clone()
    }

    /// An answer in JSON.
    ///
    /// # Errors
    /// `Unsupported` if the server has nothing at this address; `Server` for anything else that
    /// is no answer in JSON.
    pub fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T> {
        let request = self.agent.get(url);
        let request = match &self.key {
            Some(key) => request.header(header::AUTHORIZATION, bearer(key)),
            None => request,
        };
        let mut response = self.checked(url, request.call())?;
        self.json(url, response.body_mut())
    }

    /// The answer to a request that is not streamed.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post<T: DeserializeOwned>(&self, url: &str, body: &impl Serialize) -> Result<T> {
        let mut response = self.send(url, body)?;
        self.json(url, response.body_mut())
    }

    /// Sends a request whose answer is a stream of events. Returns when the head of the answer was
    /// read.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn stream(&self, url: &str, body: &impl Serialize) -> Result<Events<BodyReader<'static>>> {
        let response = self.send(url, body)?;
        let of = |name| text_of(&response, name).unwrap_or_default();
        let (kind, encoding) = (of(header::CONTENT_TYPE), of(header::CONTENT_ENCODING));
        if !encoding.is_empty() && encoding != "identity" {
            // Unpacking untrusted data could take all memory; no server needs to pack a stream.
            return Err(failed(
                url,
                &format!("sends its stream packed with {encoding:?} although nobody asked for it"),
            ));
        }
        if !kind.starts_with("text/event-stream") {
            let words = self.words(response.into_body());
            return Err(failed(url, &format!("answers {kind:?} and not a stream of events: {words}")));
        }
        Ok(Events::new(url, response.into_body().into_with_config().limit(u64::MAX).reader()).hiding(self.key.as_ref()))
    }

    fn send(&self, url: &str, body: &impl Serialize) -> Result<Response<Body>> {
        let bytes = serde_json::to_vec(body).map_err(|error| EngineError::internal(error.to_string()))?;
        let request = self.agent.post(url).header(header::CONTENT_TYPE, "application/json");
        let request = match &self.key {
            Some(key) => request.header(header::AUTHORIZATION, bearer(key)),
            None => request,
        };
        self.checked(url, request.send(&bytes[..]))
    }

    fn checked(&self, url: &str, answer: std::result::Result<Response<Body>, Error>) -> Result<Response<Body>> {
        let response = answer.map_err(|error| failed(url, &because(&error)))?;
        *self.program.borrow_mut() = text_of(&response, header::SERVER).unwrap_or_default();
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            let to = self.hidden(&text_of(&response, header::LOCATION).unwrap_or_else(|| "nowhere".to_owned()));
            return Err(failed(url, &format!("redirects to {to}; give that address as `url`")));
        }
        let told = format!("answers {status}: {}", self.words(response.into_body()));
        let unknown = matches!(status.as_u16(), 404 | 405 | 501);
        let kind = match status.as_u16() {
            400 | 413 | 422 => ErrorKind::BadRequest,
            _ if unknown => ErrorKind::Unsupported,
            _ => ErrorKind::Server,
        };
        Err(EngineError { kind, ..failed(url, &told) })
    }

    fn json<T: DeserializeOwned>(&self, url: &str, body: &mut Body) -> Result<T> {
        let read = body.with_config().limit(MAX_ANSWER).read_to_vec();
        let bytes = read.map_err(|error| failed(url, &because(&error)))?;
        let text = self.without_key(&String::from_utf8_lossy(&bytes));
        serde_json::from_str(&text).map_err(|error| {
            let start: String = text.chars().take(MAX_WORDS).collect();
            failed(url, &format!("answers no JSON of the expected form ({error}): {start:?}"))
        })
    }

    /// The beginning of what the server says about an error.
    fn words(&self, body: Body) -> String {
        let mut bytes = Vec::new();
        let _ = body.into_reader().take(4 * MAX_WORDS as u64).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let told = serde_json::from_str(&text).ok().and_then(|json| message(&json));
        self.hidden(&told.unwrap_or_else(|| text.into_owned()))
    }

    /// A server's own words: short, and without the key, which some repeat.
    pub fn hidden(&self, words: &str) -> String {
        // The key goes before the cut, which could leave a part of it.
        self.without_key(words).chars().take(MAX_WORDS).collect()
    }

    fn without_key(&self, text: &str) -> String {
        hide(text.to_owned(), self.key.as_ref())
    }
}

/// The text of an error in JSON: `error.message`, `error` or `message`.
pub fn message(json: &serde_json::Value) -> Option<String> {
    let error = &json["error"];
    [&error["message"], error, &json["message"]].into_iter().find_map(|text| text.as_str()).map(str::to_owned)
}

fn text_of(response: &Response<Body>, name: HeaderName) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// A text of the server without the key.
fn hide(text: String, key: Option<&Key>) -> String {
    match key {
        Some(key) if text.contains(key.as_str()) => text.replace(key.as_str(), "***"),
        _ => text,
    }
}

fn bearer(key: &Key) -> String {
    format!("Bearer {}", key.as_str())
}

#[cfg(target_os = "macos")]
fn tls() -> TlsConfig {
    let builder = TlsConfig::builder().provider(ureq::tls::TlsProvider::NativeTls);
    builder.root_certs(RootCerts::PlatformVerifier).build()
}

#[cfg(not(target_os = "macos"))]
fn tls() -> TlsConfig {
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::PlatformVerifier)
        .build()
}

/// The server failed, not the request.
pub fn failed(url: &str, told: &str) -> EngineError {
    EngineError::server(format!("the server at {url} {told}"))
}

fn because(error: &Error) -> String {
    match error {
        Error::Timeout(_) => format!(
            "is late ({error}); see the options connect_timeout_s, idle_timeout_s and \
             request_timeout_s"
        ),
        Error::Io(io) if io.kind() == IoKind::ConnectionRefused => {
            "refuses the connection; is it running, and is this its port?".to_owned()
        }
        Error::HostNotFound => "has a name that is not found".to_owned(),
        _ => format!("cannot be used: {error}"),
    }
}

/// A stream of events, in the order of their arrival.
pub struct Events<R> {
    url: String,
    body: R,
    decoder: SseDecoder,
    buffer: Box<[u8]>,
    rest: Bytes,
    read: u64,
    /// What no event may repeat: generated text is recorded.
    key: Option<Key>,
}

impl<R: Read> Events<R> {
    /// `url` is what error messages name.
    pub fn new(url: &str, body: R) -> Self {
        Self {
            url: url.to_owned(),
            body,
            decoder: SseDecoder::with_limit(MAX_EVENT),
            buffer: vec![0; CHUNK].into(),
            rest: Bytes::new(),
            read: 0,
            key: None,
        }
    }

    /// The same stream without the key in it.
    fn hiding(self, key: Option<&Key>) -> Self {
        Self { key: key.cloned(), ..self }
    }

    /// The data of the next event, as soon as its last byte was read; `None` at the end of the
    /// stream.
    ///
    /// # Errors
    /// When the connection breaks, is late, or sends too much.
    pub fn next(&mut self) -> Result<Option<String>> {
        loop {
            match self.decoder.next(&mut self.rest) {
                Some(Ok(SseEvent::Message(message))) => return Ok(Some(hide(message.data, self.key.as_ref()))),
                Some(Ok(_)) => continue,
                Some(Err(_)) => {
                    return Err(self.failed(&format!("sends an event of more than {MAX_EVENT} bytes")));
                }
                None if self.rest.has_remaining() => continue,
                None => {}
            }
            let count = match self.body.read(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(error) if error.kind() == IoKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error)),
            };
            self.read += count as u64;
            if self.read > MAX_STREAM {
                return Err(self.failed(&format!("sends more than {MAX_STREAM} bytes")));
            }
            self.rest = Bytes::copy_from_slice(&self.buffer[..count]);
        }
    }

    fn broken(&self, error: std::io::Error) -> EngineError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(inner) => self.failed(&because(inner)),
            None => self.failed(&format!("breaks the stream off: {error}")),
        }
    }

    pub fn failed(&self, told: &str) -> EngineError {
        failed(&self.url, told)
    }
}
