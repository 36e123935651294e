//! A toy engine: the next token is (31 * last + 7 * position + 1) mod 1000, as its receipt says.

use inferometer_host::protocol::{
    Capabilities, Completion, EngineError, FinishReason, Honours, ModelIdentity, Offer, Phase, Prompt, Receipt,
    Request, Settings, TokenTiming,
};
use inferometer_host::{Engine, Load, Result, Session, TokenSink};

const VOCABULARY: u32 = 1000;

/// What `main` hands to the serve loop.
pub struct Custom;

impl Engine for Custom {
    fn name(&self) -> &'static str {
        "custom"
    }

    fn offer(&self) -> Offer {
        Offer {
            name: self.name(),
            label: self.name(),
            meaning: "a toy that computes token ids by a formula",
            honours: Honours { toggles: Some(Vec::new()), sampling: Some(&[]), ..Honours::default() },
            ..Offer::default()
        }
    }

    fn open(&self, _load: &Load) -> Result<Box<dyn Session>> {
        // A real engine loads `_load.model` here, or refuses it with `EngineError::model`.
        Ok(Box::new(CustomSession))
    }
}

/// A loaded engine; a real one holds weights and the KV cache.
struct CustomSession;

impl Session for CustomSession {
    fn receipt(&self) -> Receipt {
        Receipt {
            engine: "custom".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: None,
            backend: Some("none: a formula".to_owned()),
            device: Some("cpu".to_owned()),
            model: ModelIdentity {
                name: "toy formula (no model)".to_owned(),
                vocabulary: Some(VOCABULARY),
                synthetic: true,
                ..ModelIdentity::default()
            },
            capabilities: Capabilities { tokens: true, cancel: true, reset: true, ..Capabilities::default() },
            toggles: Vec::new(),
            sampling: Vec::new(), // the toy ignores `request.sampling`, so it declares none of its fields
            not_honoured: Default::default(),
            token_timing: TokenTiming::Exact,
            works_in: None,
            deterministic: true,
            includes: Vec::new(),
            settings: Settings::new(),
            details: Default::default(),
        }
    }

    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        let Prompt::Tokens(prompt) = &request.prompt else {
            return Err(EngineError::unsupported("this engine takes prompts as token ids only"));
        };
        if let Some(stray) = prompt.iter().find(|id| **id >= VOCABULARY) {
            return Err(EngineError::bad_request(format!(
                "token id {stray} is outside the vocabulary of {VOCABULARY}"
            )));
        }
        let prefill = sink.begin(Phase::Prefill);
        let mut last = *prompt.last().ok_or_else(|| EngineError::bad_request("the prompt has no tokens"))?;
        sink.end(prefill);

        let decode = sink.begin(Phase::Decode);
        let mut finish_reason = FinishReason::Length;
        for step in 0..request.max_tokens {
            if sink.cancelled() {
                finish_reason = FinishReason::Cancelled;
                break;
            }
            let position = prompt.len() as u64 + u64::from(step);
            last = ((31 * u64::from(last) + 7 * position + 1) % u64::from(VOCABULARY)) as u32;
            sink.token(last); // now, when the token can be read; this stamps it
        }
        sink.end(decode);

        let prompt_tokens = prompt.len() as u32;
        Ok(Completion {
            finish_reason,
            prompt_tokens,
            reused_tokens: 0,
            prefill_tokens: prompt_tokens,
            cache_tokens: None,
            effective: Settings::new(),
            speculation: None,
            served: None,
        })
    }

    fn reset(&mut self) -> Result<()> {
        Ok(()) // the toy has no KV cache to drop
    }
}
