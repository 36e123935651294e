//! Options of the engine, as in `[[engine]] options`.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use inferometer_host::Result;
use inferometer_host::protocol::{EngineError, Kind, OptionSpec, Settings, Value, WorksIn};
use ureq::http::Uri;

use crate::process;
use crate::server::Flavour;

pub const URL: &str = "url";
const MODEL: &str = "model";
const KEY_ENV: &str = "key_env";
const SERVER: &str = "server";
const CONNECT_TIMEOUT: &str = "connect_timeout_s";
const IDLE_TIMEOUT: &str = "idle_timeout_s";
const REQUEST_TIMEOUT: &str = "request_timeout_s";
const PID: &str = "pid";

/// Decide nothing: what the server answers decides.
pub const AUTO: &str = "auto";

pub const OPTIONS: [OptionSpec; 8] = [
    text(URL, &[], "the server, such as http://localhost:8080"),
    text(MODEL, &[], "the model's name at the server; default: the only one that the server lists"),
    text(KEY_ENV, &[], "name of the environment variable with the API key; default: no key is sent"),
    text(
        SERVER,
        &[AUTO, "llama-server", "vllm", "sglang", "mlx-lm", "ollama", "lm-studio", "other"],
        "which server it is; `auto` asks it",
    ),
    seconds(CONNECT_TIMEOUT, "longest time to connect, in seconds; default 10"),
    seconds(IDLE_TIMEOUT, "longest wait for the next bytes of a reply, in seconds; default 120"),
    seconds(REQUEST_TIMEOUT, "longest time of a request, in seconds; default 600"),
    OptionSpec {
        name: PID,
        kind: Kind::Count,
        choices: &[],
        paths: false,
        meaning: "process of the server whose memory and CPU time are measured; default: the one that listens on the \
                  port, if it is on this machine",
    },
];

const fn text(name: &'static str, choices: &'static [&'static str], meaning: &'static str) -> OptionSpec {
    OptionSpec { name, kind: Kind::Text, choices, paths: false, meaning }
}

const fn seconds(name: &'static str, meaning: &'static str) -> OptionSpec {
    OptionSpec { name, kind: Kind::Float, choices: &[], paths: false, meaning }
}

/// The options of one host.
#[derive(Debug, Clone)]
pub struct Options {
    /// Base of the API: ends with a path such as `/v1`, without a slash.
    pub api: String,
    /// The server itself, without the API's path and without a slash.
    pub root: String,
    pub model: Option<String>,
    pub key: Option<Key>,
    /// `None`: ask the server.
    pub flavour: Option<&'static Flavour>,
    pub connect: Duration,
    pub idle: Duration,
    pub request: Duration,
    /// The process that does the work, if it is known.
    pub works_in: WorksIn,
}

/// An API key. Never printed.
#[derive(Clone)]
pub struct Key(String);

impl Key {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Options {
    pub fn of(given: &Settings) -> Result<Self> {
        let text = |name: &str| given.get(name).and_then(Value::as_text).filter(|text| !text.is_empty());
        let (api, root, port) = bases(text(URL).unwrap_or_default())?;
        let key = text(KEY_ENV).map(key).transpose()?;
        let seconds = |name: &str, default: f64| {
            let value = given.get(name).and_then(Value::as_float).unwrap_or(default);
            Duration::try_from_secs_f64(value)
                .ok()
                .filter(|time| !time.is_zero() && *time <= Duration::from_secs(86_400))
                .ok_or_else(|| refused(format!("`{name}` must be above 0 and at most 86400 seconds, not {value}")))
        };
        Ok(Self {
            api,
            root,
            model: text(MODEL).map(str::to_owned),
            key,
            flavour: text(SERVER).filter(|name| *name != AUTO).map(Flavour::named).transpose()?,
            connect: seconds(CONNECT_TIMEOUT, 10.0)?,
            idle: seconds(IDLE_TIMEOUT, 120.0)?,
            request: seconds(REQUEST_TIMEOUT, 600.0)?,
            works_in: match given.get(PID).and_then(Value::as_count) {
                Some(pid) => {
                    WorksIn::Pid(u32::try_from(pid).map_err(|_| refused(format!("`{PID}` = {pid} is no process")))?)
                }
                None => port.and_then(process::listening).map_or(WorksIn::Elsewhere, WorksIn::Pid),
            },
        })
    }
}

fn refused(told: String) -> EngineError {
    EngineError::bad_request(format!("engine `openai`: {told}"))
}

/// Base of the API and of the server, and its port if it is on this machine. `/v1` is added unless
/// the path already ends with a version.
fn bases(given: &str) -> Result<(String, String, Option<u16>)> {
    let example = "give the server's address, such as url = \"http://localhost:8080\"";
    if given.contains('#') {
        return Err(refused(format!("`url` = {given:?} must end with a path; remove `#` and what follows")));
    }
    let wrong = |told: &str| refused(format!("`url` = {given:?} {told}; {example}"));
    let url: Uri = given.parse().map_err(|error| wrong(&format!("is no address ({error})")))?;
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(wrong("is no http or https address"));
    };
    if authority.as_str().contains('@') {
        // It would stand in the record.
        let told = "`url` must have no user and no password; name an environment variable in `key_env`";
        return Err(refused(told.to_owned()));
    }
    if url.query().is_some() {
        return Err(wrong("must end with a path, without `?` and what follows"));
    }
    let path = url.path().trim_end_matches('/');
    let root = format!("{scheme}://{authority}");
    let (before, last) = path.rsplit_once('/').unwrap_or_default();
    let is_version = last.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let (api, root) = match is_version {
        true => (format!("{root}{path}"), format!("{root}{before}")),
        false => (format!("{root}{path}/v1"), format!("{root}{path}")),
    };
    let host = authority.host().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let port = authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Ok((api, root, is_here.then_some(port)))
}

fn key(name: &str) -> Result<Key> {
    let wrong = |told: &str| refused(format!("`key_env` = {name:?}: {told}"));
    let key =
        std::env::var(name).map_err(|_| wrong("there is no such environment variable; export it, or correct it"))?;
    let is_usable = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    is_usable.then_some(Key(key)).ok_or_else(|| wrong("its value is no API key: it is empty or has spaces"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, Value)]) -> Result<Options> {
        Options::of(&options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn the_api_is_below_the_version() {
        for (given, api, root) in [
            ("http://localhost:8080", "http://localhost:8080/v1", "http://localhost:8080"),
            ("http://localhost:8080/", "http://localhost:8080/v1", "http://localhost:8080"),
            ("http://[::1]:11434/v1/", "http://[::1]:11434/v1", "http://[::1]:11434"),
            ("https://host/openai/v2", "https://host/openai/v2", "https://host/openai"),
            ("https://host/api", "https://host/api/v1", "https://host/api"),
        ] {
            let options = of(&[(URL, given.into())]).unwrap();
            assert_eq!((options.api.as_str(), options.root.as_str()), (api, root), "{given}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for (given, told) in [
            ("", "give the server's address"),
            ("localhost:8080", "no http or https address"),
            ("file:///etc/passwd", "give the server's address"),
            ("http://me:secret@host", "no user and no password"),
            ("http://host/v1?x=1", "without `?`"),
            ("http://host/#x", "remove `#`"),
        ] {
            let error = of(&[(URL, given.into())]).unwrap_err().message;
            assert!(error.contains(told) && !error.contains("secret"), "{error}");
        }
        for (name, value, told) in [
            (IDLE_TIMEOUT, Value::Float(0.0), "above 0"),
            (REQUEST_TIMEOUT, Value::Float(-1.0), "above 0"),
            (KEY_ENV, "INFEROMETER_NO_SUCH_VARIABLE".into(), "no such environment variable"),
        ] {
            let error = of(&[(URL, "http://host".into()), (name, value)]).unwrap_err().message;
            assert!(error.contains(told) && error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        // PATH is set wherever tests run; the first colon or slash is part of its text.
        let options = of(&[(URL, "http://host".into()), (KEY_ENV, "PATH".into())]).unwrap();
        assert!(options.key.as_ref().is_some_and(|key| key.as_str().contains('/')));
        assert!(!format!("{options:?}").contains(std::env::var("PATH").unwrap().as_str()));
    }
}
