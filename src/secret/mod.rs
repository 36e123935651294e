//! Finds keys and passwords in command lines and texts, so that no record stores them.
//!
//! A value is a secret if its name says so (`--api-key X`, `token=X`, `"password": "X"`), if it has
//! the shape of a known kind of key (`sk-…`, `hf_…`), or if it is a long random text.

mod known;

use std::ops::Range;

pub use known::{Secrets, fill, texts};

use crate::spec::Scenario;
use inferometer_protocol::{Settings, Value};

/// Stands in a record where a secret was.
pub const MASK: &str = "[secret]";

/// Names whose value is a secret, as the last part of a name such as `--api-key`.
const NAMES: &[&str] = &[
    "key",
    "apikey",
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "credentials",
    "bearer",
    "auth",
    "authorization",
    "cookie",
];

/// Parts before `key` and `token` with which they name no secret: `--eos-token`, `--sort-key`.
const HARMLESS: &[&str] = &[
    "bos", "eos", "pad", "unk", "sep", "cls", "mask", "stop", "eot", "fim", "special", "image", "audio", "max", "min",
    "per", "first", "last", "next", "new", "num", "draft", "sort", "cache", "group", "kv", "type",
];

/// Prefixes of keys that services give out.
const PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "hf_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AIza",
    "eyJ",
    "nvapi-",
    "gsk_",
    "r8_",
];

/// Names of long hexadecimal values that are public.
const HASHES: &[&str] = &["revision", "rev", "commit", "sha", "sha256", "hash", "digest", "fingerprint", "checksum"];

/// Fewest characters of a key after its prefix.
const LEAST_AFTER_PREFIX: usize = 8;
/// Fewest characters of a random text that is taken for a key.
const LEAST_RANDOM: usize = 32;

/// Most rounds over a text: each masks at least one more part, and three are rare.
const MOST_ROUNDS: u32 = 8;

/// A command line in which every secret is [`MASK`].
#[must_use]
pub fn masked(words: &[String]) -> Vec<String> {
    let mut before = Before::default();
    words
        .iter()
        .map(|word| {
            let spans = spans(word);
            // An argument of several words is one value, or a text of its own, such as a header.
            if spans.len() > 1 {
                if std::mem::take(&mut before).awaits {
                    return MASK.to_owned();
                }
                return settled(word, |word| match word.split_once('=').filter(|(name, _)| names_secret(name)) {
                    Some((name, _)) => format!("{}={MASK}", masked_text(name)),
                    None => masked_text(word),
                });
            }
            before.shown(word, spans)
        })
        .collect()
}

/// A text in which every secret is [`MASK`].
#[must_use]
pub fn masked_text(text: &str) -> String {
    settled(text, |text| Before::default().shown(text, spans(text)))
}

/// Settings in which every secret is [`MASK`].
#[must_use]
pub fn masked_settings(settings: &Settings) -> Settings {
    let of = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Text(text) if names_secret(name) && !text.is_empty() => Value::Text(MASK.to_owned()),
            Value::Text(text) => Value::Text(masked_text(text)),
            Value::List(items) => Value::List(masked_items(items)),
            other => other.clone(),
        };
        (name.clone(), value)
    };
    settings.iter().map(of).collect()
}

fn masked_items(items: &[Value]) -> Vec<Value> {
    let words: Vec<String> = items.iter().map(|item| item.as_text().unwrap_or_default().to_owned()).collect();
    let masked = masked(&words);
    items
        .iter()
        .zip(masked)
        .map(|(item, word)| if item.as_text().is_some() { word.into() } else { item.clone() })
        .collect()
}

/// The scenario as a record stores it: without the secrets in the engines' options, in the build's
/// commands and in the overrides.
#[must_use]
pub fn masked_scenario(scenario: &Scenario) -> Scenario {
    let mut shown = scenario.clone();
    for engine in &mut shown.engines {
        engine.options = masked_settings(&engine.options);
    }
    if let Some(build) = &mut shown.build {
        for words in [&mut build.command, &mut build.program, &mut build.toolchain] {
            *words = masked(words);
        }
    }
    let secrets = Secrets::of(scenario);
    shown.overrides = scenario.overrides.iter().map(|setting| secrets.hidden(&masked_text(setting))).collect();
    shown
}

/// What the words before say about the next one.
#[derive(Debug, Clone, Default)]
struct Before {
    /// The last word is a name whose value follows.
    awaits: bool,
    /// The last word is a bare name, such as `password` before `: x`.
    named: bool,
    /// The value may also be a token id or a count: of `--token`, but not of `--password`.
    or_number: bool,
    /// The last word names a hash.
    hash: bool,
}

impl Before {
    /// `text` with the words at `spans` masked.
    fn shown(&mut self, text: &str, spans: Vec<Range<usize>>) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut from = 0;
        for span in spans {
            shown.push_str(&text[from..span.start]);
            shown.push_str(&self.word(&text[span.clone()]));
            from = span.end;
        }
        shown + &text[from..]
    }

    /// The word, masked.
    fn word(&mut self, word: &str) -> String {
        if matches!(word, ":" | "=") {
            self.awaits |= self.named;
            return word.to_owned();
        }
        let before = std::mem::take(self);
        if ["bearer", "basic"].contains(&word.to_lowercase().as_str()) {
            self.awaits = true;
            return word.to_owned();
        }
        if before.awaits && !word.starts_with("--") && !word.chars().all(|c| c.is_ascii_punctuation()) {
            return if is_plain_number(word) && before.or_number { word } else { MASK }.to_owned();
        }
        let shown = settled(word, |word| replaced(word, secrets(word, before.hash)));
        let name = shown.trim_end_matches([':', '=']);
        let names = names_secret(name);
        self.awaits = names && (shown.starts_with('-') || name.len() < shown.len());
        self.named = names;
        self.or_number = parts(name).last().is_some_and(|part| matches!(part.as_str(), "key" | "token"));
        self.hash = names_hash(name);
        shown
    }
}

/// Masks until nothing changes: what is masked may show a name or a value that was not one before,
/// and masking a text again must change nothing.
fn settled(text: &str, mask: impl Fn(&str) -> String) -> String {
    let mut shown = text.to_owned();
    for _ in 0..MOST_ROUNDS {
        let next = mask(&shown);
        if next == shown {
            break;
        }
        shown = next;
    }
    shown
}

/// The secret parts of a word; `hash`: it follows the name of a hash, so that a random text is no
/// key.
fn secrets(word: &str, hash: bool) -> Vec<Range<usize>> {
    let mut found = assigned(word);
    found.extend(user_password(word));
    found.extend(prefixed(word));
    if hash || !found.is_empty() {
        return found;
    }
    let value = match word.split_once('=') {
        Some((name, _)) if names_hash(name) => return Vec::new(),
        Some((name, value)) if !value.is_empty() && !value.starts_with('=') => name.len() + 1..word.len(),
        _ => 0..word.len(),
    };
    if is_random(&word[value.clone()]) { vec![value] } else { Vec::new() }
}

/// The words of a text, without quotes, commas and brackets. [`MASK`] belongs to a word as the
/// secret in its place did.
fn spans(text: &str) -> Vec<Range<usize>> {
    let separates =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '[' | ']' | '{' | '}' | '(' | ')');
    let mut spans = Vec::new();
    let mut start = None;
    let mut mask_ends = 0;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if at >= mask_ends && text[at..].starts_with(MASK) {
            mask_ends = at + MASK.len();
        }
        match (start, at >= mask_ends && separates(c)) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                spans.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    spans
}

/// The parts of a name: of `engine.0.options.api_key` `api` and `key`, of `apiKey` too.
fn parts(name: &str) -> Vec<String> {
    let last = name.rsplit(['.', '?', '&', ';', '/']).next().unwrap_or_default();
    let mut parts = vec![String::new()];
    let mut lower = false;
    for c in last.chars() {
        if matches!(c, '-' | '_') || (c.is_uppercase() && lower) {
            parts.push(String::new());
        }
        lower = c.is_lowercase();
        if !matches!(c, '-' | '_') {
            parts.last_mut().expect("there is one").extend(c.to_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Whether a value of this name is a secret.
fn names_secret(name: &str) -> bool {
    let parts = parts(name);
    let Some((last, before)) = parts.split_last() else { return false };
    let harmless = before.last().is_some_and(|part| HARMLESS.contains(&part.as_str()));
    NAMES.contains(&last.as_str()) && !(harmless && matches!(last.as_str(), "key" | "token"))
}

fn names_hash(name: &str) -> bool {
    parts(name).last().is_some_and(|part| HASHES.contains(&part.as_str()))
}

/// A token id or a count, which `--token` may also take.
fn is_plain_number(word: &str) -> bool {
    word.len() < LEAST_AFTER_PREFIX && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The values of `name=value` in a word, also in a URL's query.
fn assigned(word: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = word[from..].find('=').map(|at| from + at) {
        let value = at + 1..word[at + 1..].find(['&', ';']).map_or(word.len(), |end| at + 1 + end);
        if names_secret(&word[from..at]) && !value.is_empty() {
            found.push(value.clone());
            from = value.end;
        } else {
            from = at + 1;
        }
    }
    if let Some((name, value)) = word.split_once(':')
        && found.is_empty()
        && names_secret(name)
        && !value.is_empty()
        && !value.starts_with("//")
    {
        found.push(name.len() + 1..word.len());
    }
    found
}

/// The password of `https://user:password@host`.
fn user_password(word: &str) -> Option<Range<usize>> {
    let start = word.find("://")? + 3;
    let end = start + word[start..].split('/').next()?.rfind('@')?;
    let colon = start + word[start..end].find(':')?;
    (colon + 1 < end).then_some(colon + 1..end)
}

/// Keys with a known prefix.
fn prefixed(word: &str) -> Vec<Range<usize>> {
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut found: Vec<Range<usize>> = Vec::new();
    for prefix in PREFIXES {
        for (at, _) in word.match_indices(prefix) {
            let begins = word[..at].chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-');
            let tail = &word[at + prefix.len()..];
            let length = tail.find(|c| !is_key(c)).unwrap_or(tail.len());
            let digits = tail[..length].bytes().any(|byte| byte.is_ascii_digit());
            if begins && length >= LEAST_AFTER_PREFIX && digits && found.iter().all(|one| !one.contains(&at)) {
                found.push(at..at + prefix.len() + length);
            }
        }
    }
    found.sort_by_key(|one| one.start);
    found
}

/// Whether a text is long and looks like random hexadecimal or base64 digits.
fn is_random(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < LEAST_RANDOM || text.starts_with(['/', '.', '~', '-']) {
        return false;
    }
    let any = |is: fn(&u8) -> bool| bytes.iter().any(is);
    if bytes.iter().all(u8::is_ascii_hexdigit) {
        return any(u8::is_ascii_digit) && any(u8::is_ascii_alphabetic);
    }
    // A slash makes a path more likely than a key, unless something else says base64.
    let base64 = !text.contains('/') || text.contains('+') || text.ends_with('=');
    let digits = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(byte);
    // Names made of words, such as `Qwen3-30B-A3B-Instruct-2507-MLX-4bit`, and names of runs, which
    // begin with a time, are no keys.
    let longest = text.split(['-', '_']).max_by_key(|part| part.len()).unwrap_or_default().as_bytes();
    let any_of = |is: fn(&u8) -> bool| longest.iter().any(is);
    let mixed = any_of(u8::is_ascii_digit) && any_of(u8::is_ascii_lowercase) && any_of(u8::is_ascii_uppercase);
    base64 && mixed && longest.len() >= LEAST_RANDOM / 2 && bytes.iter().all(digits)
}

fn replaced(text: &str, mut found: Vec<Range<usize>>) -> String {
    found.sort_by_key(|span| span.start);
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for span in found {
        if span.start >= from {
            shown.push_str(&text[from..span.start]);
            shown.push_str(MASK);
            from = span.end;
        }
    }
    shown + &text[from..]
}

#[cfg(test)]
mod tests;
