//! Cleans and bounds all texts from a host, at the one place where they arrive: they are shown in
//! terminals, logs and the record, and may contain escape sequences or megabytes.

use std::collections::BTreeMap;

use inferometer_protocol::bounded::clean;
use inferometer_protocol::messages::{FromHost, Ready};
use inferometer_protocol::{ModelIdentity, Profile, Receipt, Settings, Value};

/// Longest text shown in one line, in characters.
const LINE_CHARS: usize = 1000;
/// Most entries of a map or list, including nested ones.
const ENTRIES: usize = 256;
/// Longest generated text, in bytes.
const TEXT_BYTES: usize = 64 << 10;
const SHORTENED: &str = "… (shortened)";

/// Cleans every text of a message. Token ids, stamps and figures are not changed.
pub(super) fn tidy(message: &mut FromHost) {
    match message {
        FromHost::Hello { host, .. } => line(host),
        FromHost::Pong { clock, .. } => line(clock),
        FromHost::Ready(ready) => receipt(ready),
        FromHost::Result(generated) => {
            settings(&mut generated.completion.effective);
            if let Some(text) = &mut generated.text {
                shorten(text, TEXT_BYTES);
            }
        }
        FromHost::Error(error) => error.message = clean(&error.message),
        FromHost::Profile(seen) => profile(seen),
        // A fitted text is sent back as it is, and shown nowhere.
        FromHost::Fitted { .. }
        | FromHost::Progress { .. }
        | FromHost::Token { .. }
        | FromHost::Memory(_)
        | FromHost::Done => {}
    }
}

fn receipt(Ready { receipt, .. }: &mut Ready) {
    // Destructured completely, so that a new field cannot be forgotten.
    let Receipt {
        engine,
        version,
        commit,
        backend,
        device,
        model,
        capabilities: _,
        toggles,
        sampling,
        not_honoured,
        token_timing: _,
        deterministic: _,
        includes,
        settings: in_force,
        details,
        // A number.
        works_in: _,
    } = receipt;
    let ModelIdentity {
        name,
        path,
        architecture,
        parameters: _,
        weight_bytes: _,
        weight_format,
        fingerprint,
        vocabulary: _,
        context_length: _,
        synthetic: _,
    } = model;
    [engine, version, name, path].into_iter().for_each(line);
    [commit, backend, device, architecture, weight_format, fingerprint].into_iter().flatten().for_each(line);
    for list in [toggles, sampling, includes] {
        list.truncate(ENTRIES);
        list.iter_mut().for_each(line);
    }
    settings(in_force);
    entries(not_honoured, line);
    entries(details, line);
}

/// The number of entries is bounded only by the length of the line.
fn profile(Profile { profiler, functions, parts, clock: _, frequency_hz: _ }: &mut Profile) {
    line(profiler);
    functions.iter_mut().for_each(line);
    parts.iter_mut().flat_map(|part| &mut part.stacks).for_each(|stack| line(&mut stack.thread));
}

fn settings(settings: &mut Settings) {
    let mut left = ENTRIES;
    entries(settings, |v| value(v, &mut left));
}

fn entries<T>(map: &mut BTreeMap<String, T>, mut tidy: impl FnMut(&mut T)) {
    *map = std::mem::take(map)
        .into_iter()
        .take(ENTRIES)
        .map(|(mut name, mut value)| {
            line(&mut name);
            tidy(&mut value);
            (name, value)
        })
        .collect();
}

fn value(value: &mut Value, left: &mut usize) {
    match value {
        Value::Text(text) => line(text),
        Value::List(list) => {
            list.truncate(*left);
            *left -= list.len();
            list.iter_mut().for_each(|item| self::value(item, left));
        }
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}

/// Cleans a text shown in one line: removes all control characters, including newlines.
fn line(text: &mut String) {
    let cut = text.char_indices().nth(LINE_CHARS).map(|(at, _)| at);
    if cut.is_none() && !text.contains(char::is_control) {
        return;
    }
    let mut cleaned = clean(&text[..cut.unwrap_or(text.len())]).replace('\n', "\\n");
    if cut.is_some() {
        cleaned.push_str(SHORTENED);
    }
    *text = cleaned;
}

/// Cuts a text longer than `most` bytes, with a visible mark.
fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str(SHORTENED);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tidied(message: serde_json::Value) -> FromHost {
        let mut message = serde_json::from_value(message).unwrap();
        tidy(&mut message);
        message
    }

    /// Every text of a receipt contains an escape sequence; none may remain.
    #[test]
    fn no_escape_sequence_of_a_receipt_passes() {
        let evil = "2\u{1b}]0;pwned\u{7}\n\u{9b}31m";
        let ready = tidied(json!({
            "type": "ready", "engine": evil, "version": evil, "commit": evil, "backend": evil, "device": evil,
            "model": {"name": evil, "path": evil, "architecture": evil, "weight_format": evil, "fingerprint": evil},
            "toggles": [evil], "sampling": [evil], "includes": [evil], "settings": {evil: evil, "list": [evil, [evil]]},
            "details": {evil: evil}, "load_ns": 1,
        }));
        let FromHost::Ready(ready) = ready else { panic!("{ready:?}") };
        assert_eq!(ready.receipt.version, "2\\u{1b}]0;pwned\\u{7}\\n\\u{9b}31m");
        // JSON escapes control characters; clean texts have none to escape.
        let whole = serde_json::to_string(&ready).unwrap();
        assert!(
            !whole.contains("\\u00") && !whole.contains('\u{9b}') && whole.matches("pwned").count() >= 18,
            "{whole}"
        );
    }

    #[test]
    fn names_in_a_profile_are_fit_to_show() {
        let evil = "f\u{1b}]0;pwned\u{7}";
        let profile = tidied(json!({
            "type": "profile", "profiler": evil, "clock": "cpu", "frequency_hz": 99, "functions": [evil, "x".repeat(5000)],
            "parts": [{"phase": "decode", "duration_ns": 1, "stacks": [{"thread": evil, "frames": [0], "count": 1}]}],
        }));
        let FromHost::Profile(profile) = profile else { panic!("{profile:?}") };
        let clean = "f\\u{1b}]0;pwned\\u{7}";
        assert_eq!([&profile.profiler, &profile.functions[0], &profile.parts[0].stacks[0].thread], [clean; 3]);
        assert!(profile.functions[1].chars().count() < LINE_CHARS + 20);
    }

    #[test]
    fn texts_and_lists_are_bounded() {
        let long = "é".repeat(100_000);
        let many: Vec<&str> = vec!["x"; 1000];
        let nested = vec![many.clone(); 1000];
        let result = tidied(json!({
            "type": "result", "tokens": [1, 2], "token_ns": [3, 4], "accepted_ns": 1, "finished_ns": 5, "text": long,
            "finish_reason": "length", "prompt_tokens": 1, "reused_tokens": 0, "prefill_tokens": 1,
            "cache_tokens": null, "effective": {"a": long, "b": nested, "c": "a\u{1b}b"},
        }));
        let FromHost::Result(result) = result else { panic!("{result:?}") };
        let text = result.text.unwrap();
        assert!(text.len() < TEXT_BYTES + 20 && text.ends_with("é… (shortened)"), "{}", text.len());
        assert_eq!(result.tokens, [1, 2]);
        let effective = result.completion.effective;
        assert!(matches!(&effective["a"], Value::Text(a) if a.chars().count() < LINE_CHARS + 20));
        assert_eq!(effective["c"], Value::Text("a\\u{1b}b".into()));
        assert!(serde_json::to_string(&effective).unwrap().len() < 8192);
    }

    #[test]
    fn generated_text_of_ordinary_length_stays_as_it_is() {
        let mut text = "one\ttwo\n\u{1b}three".to_owned();
        shorten(&mut text, TEXT_BYTES);
        assert_eq!(text, "one\ttwo\n\u{1b}three");
    }
}
