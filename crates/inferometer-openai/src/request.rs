//! The bodies of requests.

use inferometer_host::Result;
use inferometer_host::protocol::{Chat, EngineError, Prompt, Request, Sampling, sampling};
use serde_json::{Map, Value, json};

use crate::server::{Flavour, Fresh, Ids, Server};

/// Where a request goes, and how its answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Completions,
    Chat,
    /// llama-server's `/completion`, which has token ids.
    Native,
}

/// A request as it is sent.
#[derive(Debug)]
pub struct Call {
    pub api: Api,
    pub body: Map<String, Value>,
}

impl Call {
    /// `fresh`: the prompts of earlier requests must not be reused.
    pub fn of(request: &Request, server: &Server, fresh: bool, salt: &str) -> Result<Self> {
        let flavour = server.flavour;
        let (api, mut body) = prompt(&request.prompt, server)?;
        let limit = if api == Api::Native { "n_predict" } else { "max_tokens" };
        body.insert(limit.to_owned(), request.max_tokens.into());
        body.insert("stream".to_owned(), true.into());
        if api == Api::Native {
            body.insert("return_tokens".to_owned(), true.into());
        } else {
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        if flavour.ids == Ids::Listed {
            body.insert("return_token_ids".to_owned(), true.into());
        }
        if request.ignore_eos {
            if !flavour.ignores_eos {
                return Err(EngineError::unsupported(format!(
                    "this server ({}) cannot be told to continue after the end of a text: set `workload.ignore_eos = false` (for \
                     `bench`: --set workload.ignore_eos=false)",
                    flavour.name
                )));
            }
            body.insert("ignore_eos".to_owned(), true.into());
        }
        sample(&mut body, &request.sampling, flavour);
        match flavour.fresh {
            Fresh::Never => {}
            Fresh::CachePrompt => _ = body.insert("cache_prompt".to_owned(), (!fresh).into()),
            Fresh::Salt => _ = body.insert("cache_salt".to_owned(), salt.into()),
        }
        Ok(Self { api, body })
    }

    pub fn path(&self) -> &'static str {
        match self.api {
            Api::Completions => "/completions",
            Api::Chat => "/chat/completions",
            Api::Native => "/completion",
        }
    }
}

fn prompt(prompt: &Prompt, server: &Server) -> Result<(Api, Map<String, Value>)> {
    let native = server.flavour.ids == Ids::Native;
    let api = if native { Api::Native } else { Api::Completions };
    let mut body = Map::new();
    if !native {
        body.insert("model".to_owned(), server.model.as_str().into());
    }
    match prompt {
        Prompt::Tokens(ids) if server.flavour.takes_ids => {
            body.insert("prompt".to_owned(), ids.as_slice().into());
        }
        Prompt::Tokens(_) => {
            let told = format!("this server ({}) takes text, no token ids", server.flavour.name);
            return Err(EngineError::unsupported(told));
        }
        Prompt::Text(text) => _ = body.insert("prompt".to_owned(), text.as_str().into()),
        Prompt::Messages(chat) => return Ok((Api::Chat, messages(chat, server)?)),
    }
    Ok((api, body))
}

fn messages(chat: &Chat, server: &Server) -> Result<Map<String, Value>> {
    let mut body = Map::new();
    body.insert("model".to_owned(), server.model.as_str().into());
    let messages: Vec<Value> = chat.messages.iter().map(|message| message.fields().clone().into()).collect();
    body.insert("messages".to_owned(), messages.into());
    if let Some(tools) = &chat.tools {
        body.insert("tools".to_owned(), tools.as_slice().into());
    }
    if !chat.template_arguments.is_empty() {
        if !server.flavour.template_arguments {
            let told = format!("this server ({}) takes no template arguments", server.flavour.name);
            return Err(EngineError::unsupported(told));
        }
        body.insert("chat_template_kwargs".to_owned(), chat.template_arguments.clone().into());
    }
    Ok(body)
}

/// Everything that the server obeys is said, so that no default of its own is in force.
fn sample(body: &mut Map<String, Value>, given: &Sampling, flavour: &Flavour) {
    let fields: [(&str, Value); 5] = [
        (sampling::TEMPERATURE, given.temperature.into()),
        (sampling::SEED, given.seed.into()),
        (sampling::TOP_P, given.top_p.into()),
        (sampling::TOP_K, given.top_k.into()),
        (sampling::MIN_P, given.min_p.into()),
    ];
    for (name, value) in fields {
        if flavour.sampling.contains(&name) {
            body.insert(name.to_owned(), value);
        }
    }
    // llama-server and mlx_lm have a penalty of their own unless told otherwise.
    match flavour.name {
        "llama-server" => _ = body.insert("repeat_penalty".to_owned(), 1.0.into()),
        "vllm" | "sglang" | "mlx-lm" => _ = body.insert("repetition_penalty".to_owned(), 1.0.into()),
        _ => {}
    }
}
