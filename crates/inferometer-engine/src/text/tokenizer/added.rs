//! Tokens that only `tokenizer_config.json` names, in `added_tokens_decoder`.

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// Adds the tokens of `added_tokens_decoder` that the tokenizer does not have with the same flags,
/// in the order of their ids, and marks the tokens named as special ones (such as `eos_token`), as
/// the Python library `transformers` does. Their ids follow the vocabulary.
///
/// # Errors
/// When an entry is no token; the text names it.
pub fn add(tokenizer: &mut tokenizers::Tokenizer, config: &Value) -> Result<(), String> {
    let Some(listed) = config.get("added_tokens_decoder").and_then(Value::as_object) else { return Ok(()) };
    let mut tokens = listed.iter().map(|(id, fields)| token(id, fields)).collect::<Result<Vec<_>, _>>()?;
    tokens.sort_by_key(|(id, _)| *id);
    let special = special(config);
    let known = tokenizer.get_added_tokens_decoder();
    let same = |token: &AddedToken| known.values().any(|one| one == token && flags(one) == flags(token));
    let mut new: Vec<AddedToken> = tokens.into_iter().map(|(_, token)| token).filter(|token| !same(token)).collect();
    for token in &mut new {
        token.special |= special.contains(&token.content);
    }
    tokenizer.add_tokens(new).map(drop).map_err(|e| e.to_string())
}

fn flags(token: &AddedToken) -> [bool; 5] {
    [token.single_word, token.lstrip, token.rstrip, token.normalized, token.special]
}

fn token(id: &str, fields: &Value) -> Result<(u32, AddedToken), String> {
    let wrong = |problem: &str| format!("added_tokens_decoder, token {id:?}: {problem}");
    let number = id.parse().map_err(|_| wrong("the key is not a token id"))?;
    let none = Map::new();
    let fields = fields.as_object().unwrap_or(&none);
    let content = fields.get("content").and_then(Value::as_str).ok_or_else(|| wrong("it has no `content`"))?;
    let flag = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(wrong(&format!("`{name}` is neither true nor false"))),
    };
    // Unless it is said, a special token is not normalized and another one is.
    let mut token = AddedToken::from(content, flag("special")?.unwrap_or(false));
    token.single_word = flag("single_word")?.unwrap_or(false);
    token.lstrip = flag("lstrip")?.unwrap_or(false);
    token.rstrip = flag("rstrip")?.unwrap_or(false);
    token.normalized = flag("normalized")?.unwrap_or(token.normalized);
    Ok((number, token))
}

/// The texts of the tokens that the configuration names by their purpose.
fn special(config: &Value) -> Vec<String> {
    const NAMES: [&str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let text = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
    let more = config.get("additional_special_tokens").and_then(Value::as_array);
    NAMES.iter().filter_map(|name| config.get(*name)).chain(more.into_iter().flatten()).filter_map(text).collect()
}
