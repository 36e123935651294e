//! Which server answers, and what it can do beyond the API that all have in common.

use inferometer_host::Result;
use inferometer_host::protocol::{EngineError, sampling};
use serde::Deserialize;

use crate::http::Client;
use crate::options::Options;

/// How generated token ids are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// The server sends text only: each piece gets an id of its own, from its text.
    OfTexts,
    /// `choices[].token_ids`, if the request has `return_token_ids`.
    Listed,
    /// `tokens` of llama-server's own `/completion`.
    Native,
}

/// How a request is kept from reusing the prompts of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh {
    /// The server offers nothing.
    Never,
    /// `cache_prompt = false`
    CachePrompt,
    /// A `cache_salt` of its own.
    Salt,
}

/// How a server is asked for the number of tokens of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// llama-server's `/tokenize`: a list of ids.
    LlamaTokenize,
    /// vLLM's `/tokenize`: a count.
    VllmTokenize,
    /// The usage of a request for one token.
    Usage,
}

/// What a kind of server can do.
#[derive(Debug, PartialEq)]
pub struct Flavour {
    pub name: &'static str,
    /// Prompts as token ids.
    pub takes_ids: bool,
    pub ids: Ids,
    /// Knows `ignore_eos`.
    pub ignores_eos: bool,
    pub fresh: Fresh,
    pub counts: Counts,
    /// Fields of `sampling` that its documentation names; all have the names of this project.
    pub sampling: &'static [&'static str],
    /// Passes `chat_template_kwargs` to the chat template.
    pub template_arguments: bool,
    /// Equal requests give equal tokens, if they come one at a time.
    pub deterministic: bool,
}

use sampling::{MIN_P, SEED, TEMPERATURE, TOP_K, TOP_P};

const USUAL: Flavour = Flavour {
    name: "other",
    takes_ids: false,
    ids: Ids::OfTexts,
    ignores_eos: false,
    fresh: Fresh::Never,
    counts: Counts::Usage,
    sampling: &[TEMPERATURE, SEED, TOP_P],
    template_arguments: false,
    deterministic: false,
};
const ALL_SAMPLING: &[&str] = &[TEMPERATURE, SEED, TOP_P, TOP_K, MIN_P];

/// From the documentation of each server: llama.cpp's tools/server/README.md, vLLM's protocol of
/// `CompletionRequest`, SGLang's sampling parameters, mlx_lm's SERVER.md, Ollama's and LM Studio's
/// pages about compatibility with OpenAI.
static FLAVOURS: [Flavour; 7] = [
    Flavour {
        name: "llama-server",
        takes_ids: true,
        ids: Ids::Native,
        ignores_eos: true,
        fresh: Fresh::CachePrompt,
        counts: Counts::LlamaTokenize,
        sampling: ALL_SAMPLING,
        template_arguments: true,
        deterministic: true,
    },
    Flavour {
        name: "vllm",
        takes_ids: true,
        ids: Ids::Listed,
        ignores_eos: true,
        fresh: Fresh::Salt,
        counts: Counts::VllmTokenize,
        sampling: ALL_SAMPLING,
        template_arguments: true,
        ..USUAL
    },
    Flavour {
        name: "sglang",
        takes_ids: true,
        ignores_eos: true,
        sampling: &[TEMPERATURE, TOP_P, TOP_K, MIN_P],
        template_arguments: true,
        ..USUAL
    },
    Flavour { name: "mlx-lm", sampling: ALL_SAMPLING, template_arguments: true, deterministic: true, ..USUAL },
    Flavour { name: "ollama", ..USUAL },
    Flavour { name: "lm-studio", ..USUAL },
    USUAL,
];

impl Flavour {
    pub fn named(name: &str) -> Result<&'static Self> {
        let found = FLAVOURS.iter().find(|flavour| flavour.name == name);
        found.ok_or_else(|| EngineError::bad_request(format!("engine `openai` knows no server {name:?}")))
    }

    /// The flavour of that name, which is in the table.
    fn of(name: &str) -> &'static Self {
        FLAVOURS.iter().find(|flavour| flavour.name == name).unwrap_or(&FLAVOURS[FLAVOURS.len() - 1])
    }
}

/// A server that answered.
#[derive(Debug, Clone)]
pub struct Server {
    pub flavour: &'static Flavour,
    /// Its own version, if it tells it.
    pub version: Option<String>,
    /// The model's name there.
    pub model: String,
}

/// The answer to `/v1/models`.
#[derive(Deserialize)]
struct Models {
    #[serde(default)]
    data: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    owned_by: Option<String>,
}

impl Server {
    /// Asks the server what it is and which models it has.
    ///
    /// # Errors
    /// When it does not answer, or has several models and the options name none.
    pub fn ask(client: &Client, options: &Options) -> Result<Self> {
        let models: Models = match client.get(&format!("{}/models", options.api)) {
            Ok(models) => models,
            // It may offer completions alone.
            Err(_) if options.model.is_some() => Models { data: Vec::new() },
            Err(error) => {
                let told =
                    format!("{}; if it lists no models, name one: options = {{ model = \"...\" }}", error.message);
                return Err(EngineError { message: told, ..error });
            }
        };
        let (flavour, version) = match options.flavour {
            Some(flavour) => (flavour, version(client, options, flavour)),
            None => detect(client, options, &models),
        };
        Ok(Self { flavour, version, model: model(options, &models)? })
    }
}

fn model(options: &Options, models: &Models) -> Result<String> {
    let known: Vec<&str> = models.data.iter().map(|listed| listed.id.as_str()).collect();
    match (&options.model, known.as_slice()) {
        (Some(name), _) => Ok(name.clone()),
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => Err(EngineError::model(format!(
            "the server at {} lists no models; load one there, or name one: options = {{ model = \"...\" }}",
            options.root
        ))),
        (None, several) => Err(EngineError::model(format!(
            "the server at {} has {} models; name one of them: options = {{ model = \"...\" }} with {}",
            options.root,
            several.len(),
            several.iter().take(8).copied().collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// What `owned_by` says, and where nothing is said, who answers at an address of its own.
fn detect(client: &Client, options: &Options, models: &Models) -> (&'static Flavour, Option<String>) {
    let owner = models.data.iter().find_map(|listed| listed.owned_by.as_deref()).unwrap_or_default();
    let by_owner = match owner {
        "llamacpp" => Some("llama-server"),
        "vllm" => Some("vllm"),
        "sglang" => Some("sglang"),
        _ => None,
    };
    let guesses = match by_owner {
        Some(name) => return (Flavour::of(name), version(client, options, Flavour::of(name))),
        None => ["ollama", "lm-studio", "mlx-lm"],
    };
    for name in guesses {
        let flavour = Flavour::of(name);
        let version = version(client, options, flavour);
        if version.is_some() {
            return (flavour, version);
        }
    }
    (Flavour::of("other"), None)
}

/// The version that a server of this kind tells; `None` if it does not, or is another one.
fn version(client: &Client, options: &Options, flavour: &Flavour) -> Option<String> {
    let get = |path: &str| client.get::<serde_json::Value>(&format!("{}{path}", options.root)).ok();
    let text = |value: &serde_json::Value| value.as_str().map(|text| text.chars().take(100).collect());
    match flavour.name {
        "llama-server" => text(&get("/props")?["build_info"]),
        "vllm" => text(&get("/version")?["version"]),
        "sglang" => text(&get("/get_server_info")?["version"]),
        "ollama" => text(&get("/api/version")?["version"]),
        // It tells no version; only it has this address.
        "lm-studio" => get("/api/v0/models")?["data"].is_array().then(|| "unknown".to_owned()),
        // It tells no version either: it is the module of Python that it is built on that answers.
        "mlx-lm" => {
            get("/health")?["status"].as_str()?;
            client.program().starts_with("BaseHTTP/").then(|| "unknown".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavour_can_be_named() {
        for flavour in &FLAVOURS {
            assert_eq!(Flavour::named(flavour.name).unwrap(), flavour);
        }
        let listed = crate::options::OPTIONS.iter().find(|option| option.name == "server").unwrap().choices;
        assert_eq!(listed.len(), FLAVOURS.len() + 1, "and `auto`");
        assert!(Flavour::named("x").is_err());
    }
}
