//! A request, checked against the loaded model.

use inferometer_host::Result;
use inferometer_host::protocol::toggle::{DEFAULT_PREFILL_CHUNK, KV_REUSE, PREFILL_CHUNK_SIZE, Scope, find};
use inferometer_host::protocol::{EngineError, Request, Settings, Value};

use crate::offer::offer;
use crate::options::{BATCH, CONTEXT};
use crate::sampling::Chain;

/// What a request must fit into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Token ids are below this.
    pub vocabulary: u32,
    /// Positions of the KV cache.
    pub context: usize,
    /// Most tokens in one forward pass.
    pub pass: usize,
}

/// The checked parameters of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub prompt: Vec<u32>,
    pub chain: Chain,
    /// Tokens in one prefill forward pass.
    pub chunk: usize,
    /// Whether a common prefix with the cache is kept.
    pub reuse: bool,
    /// Most tokens to generate, at least 1.
    pub limit: usize,
    pub forced: Option<Vec<u32>>,
    /// Whether an end-of-sequence token ends the generation.
    pub ends: bool,
}

impl Wanted {
    /// Checks `request`, whose prompt has these token ids.
    ///
    /// # Errors
    /// `unsupported` for a toggle that is not honoured, `bad_request` for anything else.
    pub fn of(request: &Request, prompt: Vec<u32>, limits: Limits) -> Result<Self> {
        check_toggles(&request.toggles)?;
        let chain = Chain::of(&request.sampling, &request.toggles)?;
        if prompt.is_empty() {
            return Err(EngineError::bad_request("the prompt is empty; it needs at least one token"));
        }
        check_ids("prompt", &prompt, limits.vocabulary)?;
        let mut limit = request.max_tokens as usize;
        if let Some(forced) = &request.forced_tokens {
            check_ids("forced_tokens", forced, limits.vocabulary)?;
            limit = limit.min(forced.len());
        }
        if limit == 0 {
            return Err(EngineError::bad_request(
                "max_tokens is 0 or forced_tokens is empty; at least one token is generated",
            ));
        }
        check_context(prompt.len(), limit, limits.context)?;
        let asked = request.toggles.get(PREFILL_CHUNK_SIZE).and_then(Value::as_count).unwrap_or(DEFAULT_PREFILL_CHUNK);
        let chunk = usize::try_from(asked).unwrap_or(usize::MAX);
        check_pass(chunk, prompt.len(), limits.pass)?;
        Ok(Self {
            chunk,
            reuse: request.toggles.get(KV_REUSE).and_then(Value::as_text) != Some("none"),
            limit,
            ends: !request.ignore_eos && request.forced_tokens.is_none(),
            forced: request.forced_tokens.clone(),
            prompt,
            chain,
        })
    }

    /// Tokens of the prompt that `cached`, the tokens in the KV cache, begins with too. The last
    /// token of the prompt is always computed, because its logits are needed.
    #[must_use]
    pub fn common(&self, cached: &[u32]) -> usize {
        let most = if self.reuse { self.prompt.len() - 1 } else { 0 };
        cached.iter().zip(&self.prompt[..most]).take_while(|(a, b)| a == b).count()
    }
}

fn check_toggles(toggles: &Settings) -> Result<()> {
    if toggles.is_empty() {
        return Ok(());
    }
    let honours = offer().honours;
    let at_request =
        |name: &str| find(name).filter(|t| t.scope == Scope::Request && honours.honours(name) == Some(true));
    for (name, value) in toggles {
        let toggle = at_request(name).ok_or_else(|| {
            let reason = honours.reason(name).map(|reason| format!(": {reason}")).unwrap_or_default();
            let names = honours.toggles.iter().flatten().copied().filter(|name| at_request(name).is_some());
            EngineError::unsupported(format!(
                "toggle {name} is not honoured with a request{reason}; these are: {}",
                names.collect::<Vec<_>>().join(", ")
            ))
        })?;
        toggle.check(value).map_err(|problem| EngineError::bad_request(format!("toggle {name} {problem}")))?;
    }
    Ok(())
}

fn check_ids(what: &str, ids: &[u32], vocabulary: u32) -> Result<()> {
    match ids.iter().position(|id| *id >= vocabulary) {
        None => Ok(()),
        Some(at) => Err(EngineError::bad_request(format!(
            "{what}: token id {} at index {at} is not below the vocabulary's size, {vocabulary}",
            ids[at]
        ))),
    }
}

/// The last generated token is not run through the model, so it needs no position.
fn check_context(prompt: usize, limit: usize, context: usize) -> Result<()> {
    let needed = prompt + limit - 1;
    if needed <= context {
        return Ok(());
    }
    Err(EngineError::bad_request(format!(
        "{prompt} prompt tokens and {limit} to generate need {needed} positions, but the KV cache has {context}; set \
         the engine option `{CONTEXT}`, shorten the prompt or lower max_tokens"
    )))
}

/// A chunk is one forward pass only if it fits into llama.cpp's micro-batch.
fn check_pass(chunk: usize, prompt: usize, pass: usize) -> Result<()> {
    let largest = chunk.min(prompt);
    if largest <= pass {
        return Ok(());
    }
    Err(EngineError::bad_request(format!(
        "{PREFILL_CHUNK_SIZE} = {chunk} and a prompt of {prompt} tokens mean a forward pass over {largest}, but the \
         model was loaded for at most {pass}; lower {PREFILL_CHUNK_SIZE} or raise the engine option `{BATCH}`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_host::protocol::{ErrorKind, Prompt, Sampling};

    const LIMITS: Limits = Limits { vocabulary: 100, context: 64, pass: 32 };

    fn request(toggles: &[(&str, Value)], max_tokens: u32) -> Request {
        Request {
            prompt: Prompt::Tokens(Vec::new()),
            sampling: Sampling::default(),
            toggles: toggles.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            max_tokens,
            ignore_eos: false,
            conversation: None,
            forced_tokens: None,
        }
    }

    fn of(prompt: Vec<u32>, request: &Request) -> Result<Wanted> {
        Wanted::of(request, prompt, LIMITS)
    }

    #[test]
    fn a_request_that_fits_is_taken_to_the_last_position() {
        let chunk = (PREFILL_CHUNK_SIZE, Value::Int(8));
        let wanted = of(vec![1; 60], &request(&[chunk], 5)).unwrap();
        assert_eq!((wanted.chunk, wanted.limit, wanted.reuse, wanted.ends), (8, 5, true, true));
        // As many as the pass has without a chunk: the protocol's default is larger than the
        // prompt.
        assert_eq!(of(vec![1; 32], &request(&[], 1)).unwrap().chunk, 2048);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_do() {
        let small = (PREFILL_CHUNK_SIZE, Value::Int(8));
        let forced = |ids: &[u32]| Request { forced_tokens: Some(ids.to_vec()), ..request(&[], 4) };
        let cases = [
            (of(vec![], &request(&[], 1)), "the prompt is empty"),
            (of(vec![1, 100], &request(&[], 1)), "token id 100 at index 1"),
            (of(vec![1, u32::MAX], &request(&[], 1)), "below the vocabulary's size, 100"),
            (of(vec![1], &forced(&[7, 200])), "forced_tokens: token id 200 at index 1"),
            (of(vec![1], &forced(&[])), "at least one token"),
            (of(vec![1], &request(&[], 0)), "max_tokens is 0"),
            (of(vec![1; 60], &request(&[small], 6)), "need 65 positions, but the KV cache has 64"),
            (of(vec![1], &request(&[], u32::MAX)), "option `context`"),
            (of(vec![1; 33], &request(&[], 1)), "raise the engine option `batch`"),
            (of(vec![1; 60], &request(&[(PREFILL_CHUNK_SIZE, Value::Int(33))], 1)), "a forward pass over 33"),
            (of(vec![1], &request(&[(PREFILL_CHUNK_SIZE, Value::Int(0))], 1)), "at least 1"),
        ];
        for (refused, part) in cases {
            let error = refused.unwrap_err();
            assert!(error.kind == ErrorKind::BadRequest && error.message.contains(part), "{part}: {error}");
        }
        for (name, part) in [("compile", "its graph"), ("threads", "with a request"), ("nonsense", "these are")] {
            let error = of(vec![1], &request(&[(name, Value::Int(1))], 1)).unwrap_err();
            assert!(error.kind == ErrorKind::Unsupported && error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn the_last_token_of_the_prompt_is_always_computed() {
        let wanted = of(vec![1, 2, 3, 4], &request(&[], 1)).unwrap();
        let common = |cached: &[u32]| wanted.common(cached);
        assert_eq!([common(&[]), common(&[9]), common(&[1, 2, 9, 4])], [0, 0, 2]);
        assert_eq!([common(&[1, 2, 3]), common(&[1, 2, 3, 4]), common(&[1, 2, 3, 4, 5])], [3, 3, 3]);
        let none = of(vec![1, 2, 3, 4], &request(&[(KV_REUSE, "none".into())], 1)).unwrap();
        assert_eq!(none.common(&[1, 2, 3, 4]), 0);
    }

    #[test]
    fn forced_tokens_bound_the_generation_and_nothing_else_ends_it() {
        let forced = Request { forced_tokens: Some(vec![5, 6]), ..request(&[], 4) };
        let wanted = of(vec![1], &forced).unwrap();
        assert_eq!((wanted.limit, wanted.ends), (2, false));
        assert!(!of(vec![1], &Request { ignore_eos: true, ..request(&[], 4) }).unwrap().ends);
    }
}
