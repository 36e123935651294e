//! A loaded model that answers requests.

use std::path::Path;

use inferometer_host::protocol::effective::{EFFECTIVE_CHUNK, EFFECTIVE_PENALTY, EFFECTIVE_WINDOW};
use inferometer_host::protocol::toggle::{KV_REUSE, SAMPLING_ORDER};
use inferometer_host::protocol::{
    Completion, EngineError, EngineMemory, Message, Phase, Prompt, Receipt, Request, SpanTiming, Value,
};
use inferometer_host::{Result, Session, TokenSink};
use llama_cpp_2::model::LlamaChatMessage;
use llama_cpp_2::token::LlamaToken;

use crate::generation::Generation;
use crate::identity;
use crate::loaded::Loaded;
use crate::printed::Buffers;
use crate::request::Wanted;

/// Longest text that llama.cpp tokenizes: it counts bytes in `i32`.
const LONGEST_TEXT: usize = i32::MAX as usize / 2;

/// The session of one model. It has one KV cache, as a server with one slot: another conversation
/// begins with an empty one.
pub struct LlamaSession {
    loaded: Loaded,
    receipt: Receipt,
    buffers: Buffers,
    /// The conversation whose tokens are in the KV cache.
    conversation: Option<String>,
    /// The tokens in the KV cache.
    cached: Vec<u32>,
}

impl LlamaSession {
    /// # Errors
    /// When the model's file cannot be read.
    pub fn new(loaded: Loaded, file: &Path) -> Result<Self> {
        let receipt = identity::receipt(&loaded, file)?;
        let buffers = Buffers::of(loaded.printed.lines());
        Ok(Self { loaded, receipt, buffers, conversation: None, cached: Vec::new() })
    }

    fn ids(&self, prompt: &Prompt, sink: &mut dyn TokenSink) -> Result<Vec<u32>> {
        if let Prompt::Tokens(ids) = prompt {
            return Ok(ids.clone());
        }
        let span = sink.begin(Phase::Tokenize);
        let ids = match prompt {
            Prompt::Text(text) => self.tokenize(text),
            Prompt::Messages(chat) => self.render(&chat.messages).and_then(|text| self.tokenize(&text)),
            Prompt::Tokens(_) => Ok(Vec::new()),
        };
        sink.end(span);
        ids
    }

    /// Ids of a text, with the special tokens that the tokenizer adds. llama.cpp's rendering of a
    /// chat leaves these out, so they are added there too.
    fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        if !self.receipt.capabilities.text {
            return Err(EngineError::unsupported("this model has no tokenizer; send the prompt as token ids"));
        }
        if text.len() > LONGEST_TEXT {
            return Err(EngineError::bad_request(format!(
                "the text has {} bytes, more than {LONGEST_TEXT}",
                text.len()
            )));
        }
        let ids = self.loaded.model().vocab().tokenize(text.as_bytes(), true, true);
        Ok(ids.into_iter().map(|id| id.0 as u32).collect())
    }

    fn render(&self, messages: &[Message]) -> Result<String> {
        let bad = |problem: String| EngineError::bad_request(format!("these messages cannot be rendered: {problem}"));
        let model = self.loaded.model();
        let template = model.chat_template(None).map_err(|error| bad(error.to_string()))?;
        let mut chat = Vec::with_capacity(messages.len());
        for message in messages {
            let message = LlamaChatMessage::new(message.role().to_owned(), message.text());
            chat.push(message.map_err(|error| bad(error.to_string()))?);
        }
        model.apply_chat_template(&template, &chat, true).map_err(|error| bad(error.to_string()))
    }
}

impl Session for LlamaSession {
    fn receipt(&self) -> Receipt {
        self.receipt.clone()
    }

    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        let prompt = self.ids(&request.prompt, sink)?;
        let wanted = Wanted::of(request, prompt, self.loaded.limits())?;
        if self.conversation != request.conversation {
            self.loaded.keep(0);
            self.cached.clear();
            self.conversation.clone_from(&request.conversation);
        }
        let ran = Generation::new(&mut self.loaded, &mut self.cached, &wanted).run(sink);
        if ran.is_err() {
            self.loaded.clear();
            self.cached.clear();
        }
        let progress = ran?;
        let mut effective = self.receipt.settings.clone();
        effective.extend([
            (EFFECTIVE_PENALTY.to_owned(), Value::Float(wanted.chain.penalty.factor)),
            (EFFECTIVE_WINDOW.to_owned(), progress.window.into()),
            (EFFECTIVE_CHUNK.to_owned(), progress.largest_chunk.into()),
            (KV_REUSE.to_owned(), if wanted.reuse { "prefix" } else { "none" }.into()),
            (SAMPLING_ORDER.to_owned(), wanted.chain.order.into()),
        ]);
        Ok(Completion {
            finish_reason: progress.finish,
            prompt_tokens: wanted.prompt.len() as u32,
            reused_tokens: progress.reused as u32,
            prefill_tokens: progress.prefilled as u32,
            cache_tokens: Some(self.loaded.cached() as u32),
            effective,
            speculation: None,
            served: None,
        })
    }

    fn reset(&mut self) -> Result<()> {
        self.loaded.clear();
        self.cached = Vec::new();
        self.conversation = None;
        Ok(())
    }

    /// llama.cpp allocates at loading only, so these figures do not change.
    fn memory(&self) -> EngineMemory {
        EngineMemory {
            active_bytes: self.buffers.total(),
            kv_cache_bytes: self.buffers.kv_cache,
            ..EngineMemory::default()
        }
    }

    fn span_timing(&self, _: bool) -> Option<SpanTiming> {
        Some(SpanTiming::Done)
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        if !self.receipt.capabilities.text {
            return None;
        }
        let tokens: Vec<LlamaToken> = tokens.iter().map(|id| LlamaToken(*id as i32)).collect();
        let text = self.loaded.model().vocab().detokenize(&tokens, false, true);
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}
