//! Finds keys and passwords in command lines and texts, so that no record stores them.
//!
//! A value is a secret if its name says so (`--api-key X`, `token=X`, `"password": "X"`), if it has
//! the shape of a known kind of key (`sk-…`, `hf_…`), or if it is a long random text.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

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
                let awaited = std::mem::take(&mut before).awaits;
                if let Some((name, _)) = word.split_once('=').filter(|(name, _)| names_secret(name)) {
                    return format!("{name}={MASK}");
                }
                return if awaited { MASK.to_owned() } else { masked_text(word) };
            }
            let found = spans.into_iter().flat_map(|span| before.word(word, span)).collect();
            replaced(word, found)
        })
        .collect()
}

/// A text in which every secret is [`MASK`].
#[must_use]
pub fn masked_text(text: &str) -> String {
    let mut before = Before::default();
    let found = spans(text).into_iter().flat_map(|span| before.word(text, span)).collect();
    replaced(text, found)
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

/// Secrets that are known, to be found in any text.
#[derive(Debug, Clone, Default)]
pub struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Fewest characters of a secret that is searched for; a shorter one would be found in every
    /// figure.
    const LEAST: usize = 5;
    /// Fewest characters of a secret made of small letters alone: a plain word such as `finished`
    /// also stands where it is no secret.
    const LEAST_WORD: usize = 16;

    /// The secrets in the engines' options and the build's commands.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        let mut secrets = Self::default();
        for options in scenario.engines.iter().map(|engine| &engine.options) {
            for ((_, value), shown) in options.iter().zip(masked_settings(options).values()) {
                match (value, shown) {
                    (Value::Text(text), Value::Text(shown)) => secrets.add(text, shown),
                    (Value::List(items), Value::List(shown)) => {
                        let text = |item: &Value| item.as_text().unwrap_or_default().to_owned();
                        items.iter().zip(shown).for_each(|(item, shown)| secrets.add(&text(item), &text(shown)));
                    }
                    _ => {}
                }
            }
        }
        let build = scenario.build.iter().flat_map(|build| [&build.command, &build.program, &build.toolchain]);
        build.for_each(|words| secrets.add_words(words));
        secrets
    }

    /// Adds the secrets of a command line.
    pub fn add_words(&mut self, words: &[String]) {
        words.iter().zip(masked(words)).for_each(|(word, shown)| self.add(word, &shown));
    }

    fn can_be_found(secret: &str) -> bool {
        let word = secret.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        secret.len() >= if word { Self::LEAST_WORD } else { Self::LEAST }
    }

    /// Adds what `shown` masks in `word`: the part between what both have at their ends.
    fn add(&mut self, word: &str, shown: &str) {
        let mut parts = shown.split(MASK);
        let Some(mut rest) = parts.next().and_then(|first| word.strip_prefix(first)) else { return };
        for part in parts {
            let end = if part.is_empty() { Some(rest.len()) } else { rest.find(part) };
            let Some(end) = end else { return };
            if Self::can_be_found(&rest[..end]) {
                self.0.insert(rest[..end].to_owned());
            }
            rest = &rest[(end + part.len()).min(rest.len())..];
        }
    }

    /// Adds the secrets of another scenario or command line.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` without these secrets in its texts.
    ///
    /// # Errors
    /// When JSON cannot express it.
    pub fn hidden_in<T: Serialize + DeserializeOwned + Clone>(&self, value: &T) -> Result<T, serde_json::Error> {
        if self.is_empty() {
            return Ok(value.clone());
        }
        let mut json = serde_json::to_value(value)?;
        texts(&mut json, &|text| self.hidden(text));
        serde_json::from_value(json)
    }

    /// `text` without these secrets.
    #[must_use]
    pub fn hidden(&self, text: &str) -> String {
        // The longest first: one may be a part of another.
        let mut values: Vec<&String> = self.0.iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.into_iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), MASK))
    }
}

/// Changes every text of a JSON value, but not the names of its fields.
pub fn texts(value: &mut Json, change: &dyn Fn(&str) -> String) {
    match value {
        Json::String(text) => *text = change(text),
        Json::Array(items) => items.iter_mut().for_each(|item| texts(item, change)),
        Json::Object(fields) => fields.values_mut().for_each(|field| texts(field, change)),
        _ => {}
    }
}

/// Puts the secrets of `fresh` into `recorded` where it masks them. `false` if one is still
/// missing.
pub fn fill(recorded: &mut [String], fresh: &[String]) -> bool {
    if recorded.iter().all(|word| !word.contains(MASK)) {
        return true;
    }
    if recorded.len() == fresh.len() {
        for ((word, fresh), shown) in recorded.iter_mut().zip(fresh).zip(masked(fresh)) {
            if word.contains(MASK) && *word == shown {
                fresh.clone_into(word);
            }
        }
    }
    recorded.iter().all(|word| !word.contains(MASK))
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
    /// The secret parts of the word at `span`.
    fn word(&mut self, text: &str, span: Range<usize>) -> Vec<Range<usize>> {
        let word = &text[span.clone()];
        let place = |part: Range<usize>| span.start + part.start..span.start + part.end;
        if matches!(word, ":" | "=") {
            self.awaits |= self.named;
            return Vec::new();
        }
        let before = std::mem::take(self);
        if text[..span.end].ends_with(&MASK[..MASK.len() - 1]) && text[span.end..].starts_with(']') {
            return Vec::new();
        }
        if ["bearer", "basic"].contains(&word.to_lowercase().as_str()) {
            self.awaits = true;
            return Vec::new();
        }
        if before.awaits && !word.starts_with("--") && !word.chars().all(|c| c.is_ascii_punctuation()) {
            return if is_plain_number(word) && before.or_number { Vec::new() } else { vec![place(0..word.len())] };
        }
        let name = word.trim_end_matches([':', '=']);
        let names = names_secret(name);
        self.awaits = names && (word.starts_with('-') || name.len() < word.len());
        self.named = names;
        self.or_number = parts(name).last().is_some_and(|part| matches!(part.as_str(), "key" | "token"));
        self.hash = names_hash(name);
        if before.hash {
            return Vec::new();
        }
        let mut found = assigned(word);
        found.extend(user_password(word));
        found.extend(prefixed(word));
        if !found.is_empty() {
            return found.into_iter().map(place).collect();
        }
        let value = match word.split_once('=') {
            Some((name, _)) if names_hash(name) => return Vec::new(),
            Some((name, value)) if !value.is_empty() && !value.starts_with('=') => name.len() + 1..word.len(),
            _ => 0..word.len(),
        };
        if is_random(&word[value.clone()]) { vec![place(value)] } else { Vec::new() }
    }
}

/// The words of a text, without quotes, commas and brackets.
fn spans(text: &str) -> Vec<Range<usize>> {
    let separates =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '[' | ']' | '{' | '}' | '(' | ')');
    let mut spans = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, separates(c)) {
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
mod tests {
    use super::*;

    fn words(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        masked(&words).join(" ")
    }

    #[test]
    fn secrets_in_command_lines_are_masked() {
        for (line, shown) in [
            ("host --api-key sk-test-123456 --port 80", "host --api-key [secret] --port 80"),
            ("host --api-key=hunter2", "host --api-key=[secret]"),
            ("env OPENAI_API_KEY=abc host", "env OPENAI_API_KEY=[secret] host"),
            ("host --password 123", "host --password [secret]"),
            ("host token=abc", "host token=[secret]"),
            ("host --hf-token hf_abcdefgh1234", "host --hf-token [secret]"),
            ("host https://u:pw@h/x?token=abc&n=1", "host https://u:[secret]@h/x?token=[secret]&n=1"),
            ("host hf_AbCdEfGh12345", "host [secret]"),
            ("host --x=sk-proj-abc_def-123456", "host --x=[secret]"),
            ("host 0123456789abcdef0123456789abcdef", "host [secret]"),
            ("host Q2hhcmxpZTEyMzQ1Njc4OTBBQkNERUZHSElK", "host [secret]"),
        ] {
            assert_eq!(words(line), shown, "{line}");
        }
        let header: Vec<String> = ["-H", "Authorization: Bearer abc", "--apiKey", "a b"].map(str::to_owned).into();
        assert_eq!(masked(&header), ["-H", "Authorization: Bearer [secret]", "--apiKey", MASK]);
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "python3 adapter.py --state /tmp/.tmpAbC123/state --token-ms 1.5 --tokens 12 --eos-token </s>",
            "host --model mlx-community/Qwen3-30B-A3B-Instruct-2507-MLX-4bit",
            "report 20261121T202232Z-quickstart-edb6456c",
            "host --revision 0123456789abcdef0123456789abcdef01234567",
            "/home/x/builds/0123456789abcdef0123456789abcdef01234567-program/host --key-file /x/key.pem",
            "host --token 5 --sort-key name --cache-key x --sk-learn sk-learning",
            "cargo build --release --locked --bin inferometer --target-dir {shared}",
        ] {
            assert_eq!(words(line), line);
        }
    }

    #[test]
    fn secrets_in_texts_are_masked() {
        for (text, shown) in [
            ("--api-key [secret]", "--api-key [secret]"),
            (
                "engine.0.options.command=[\"x\", \"--api-key\", \"abc\"]",
                "engine.0.options.command=[\"x\", \"--api-key\", \"[secret]\"]",
            ),
            ("engine.0.options.api_key=\"abc\"", "engine.0.options.api_key=\"[secret]\""),
            ("{\"password\": \"abc\", \"n\": 1}", "{\"password\": \"[secret]\", \"n\": 1}"),
            ("401: bad key sk-test-123456.", "401: bad key [secret]"),
            ("token 7 of turn 2", "token 7 of turn 2"),
        ] {
            assert_eq!(masked_text(text), shown);
        }
    }

    #[test]
    fn known_secrets_are_found_again_and_put_back() {
        let command: Vec<String> = ["host", "--api-key", "hunter22", "--x=1"].map(str::to_owned).into();
        let mut secrets = Secrets::default();
        secrets.add_words(&command);
        assert_eq!(secrets.hidden("hunter22 is refused"), "[secret] is refused");
        secrets.add_words(&["--password", "finished"].map(str::to_owned));
        assert_eq!(secrets.hidden("finished"), "finished", "a word of the record itself");
        let mut recorded = masked(&command);
        assert!(!fill(&mut recorded.clone(), &[]) && fill(&mut recorded, &command));
        assert_eq!(recorded, command);
        let other: Vec<String> = ["host", "--api-key", "hunter22", "--x=2"].map(str::to_owned).into();
        assert!(fill(&mut masked(&command), &other), "only the secrets are taken");
    }
}
