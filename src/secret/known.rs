//! The secrets of a scenario, found again in any text, and put back for a resume.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{MASK, masked, masked_settings};
use crate::spec::Scenario;
use inferometer_protocol::Value;

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
        // A digest may contain a short secret by chance.
        let is_digest = |text: &str| text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let keep = |text: &str| is_digest(text) && !self.0.contains(text);
        texts(&mut json, &|text| if keep(text) { text.to_owned() } else { self.hidden(text) });
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
