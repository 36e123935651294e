//! The host reads the harness: the serve loop with a small engine, in this process.
#![no_main]

use std::io::Cursor;

use inferometer_host::protocol::{Completion, EngineError, FinishReason, Offer, Phase, Prompt, Receipt, Request};
use inferometer_host::serve::{serve_at_once, serve_on};
use inferometer_host::{Engine, Load, Result, Session, TokenSink};

struct Small;

impl Engine for Small {
    fn name(&self) -> &'static str {
        "small"
    }

    fn offer(&self) -> Offer {
        Offer { name: "small", label: "small", ..Offer::default() }
    }

    fn open(&self, _: &Load) -> Result<Box<dyn Session>> {
        Ok(Box::new(Small))
    }
}

impl Session for Small {
    fn receipt(&self) -> Receipt {
        serde_json::from_str(r#"{"engine":"small","version":"1"}"#).expect("a receipt")
    }

    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion> {
        let prompt_tokens = match &request.prompt {
            Prompt::Tokens(ids) => ids.len() as u32,
            _ => return Err(EngineError::unsupported("token ids only")),
        };
        let span = sink.begin(Phase::Decode);
        for id in 0..request.max_tokens.min(4) {
            sink.token(id);
        }
        sink.end(span);
        let effective = request.toggles.clone();
        let finish_reason = FinishReason::Length;
        Ok(Completion {
            finish_reason,
            prompt_tokens,
            reused_tokens: 0,
            prefill_tokens: prompt_tokens,
            cache_tokens: None,
            effective,
            speculation: None,
            served: None,
        })
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The profiler takes a signal handler of the whole process, so it is left out here.
    if bytes.windows(13).any(|word| word == b"profile_start") || bytes.contains(&b'\\') {
        return;
    }
    // A thread for each input is slow, and makes the same input reach different code.
    if bytes.len() % 64 == 0 {
        serve_on(Cursor::new(bytes.to_vec()), std::io::sink(), &[&Small], || {});
    } else {
        serve_at_once(bytes, std::io::sink(), &[&Small]);
    }
});
