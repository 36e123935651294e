//! The protocol's page and schema match the types.

use std::collections::BTreeSet;

use inferometer_protocol::messages::{Envelope, FromHost, MAX_LINE_BYTES, MAX_TOKENS, ToHost, VERSION, schema};
use proptest::prelude::*;
use serde_json::Value;

use super::repository;

/// The example lines of the page in one direction (`to-host` or `from-host`).
fn examples(direction: &str) -> Vec<String> {
    let page = fs_err::read_to_string(repository("docs/reference/protocol.md")).unwrap();
    let fence = format!("```json {direction}\n");
    let blocks = page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Every field of `example` must be in `known`, with the same value.
fn assert_within(example: &Value, known: &Value, at: &str) {
    match (example, known) {
        (Value::Object(example), Value::Object(known)) => {
            for (key, value) in example {
                let at = format!("{at}.{key}");
                let known = known.get(key).unwrap_or_else(|| panic!("docs/reference/protocol.md: no such field: {at}"));
                assert_within(value, known, &at);
            }
        }
        (Value::Array(example), Value::Array(known)) => {
            assert_eq!(example.len(), known.len(), "{at}");
            example.iter().zip(known).for_each(|(example, known)| assert_within(example, known, at));
        }
        _ => assert_eq!(example, known, "{at}"),
    }
}

/// Reads every example with the real type; gives the message types seen.
fn read_examples<T: serde::de::DeserializeOwned + serde::Serialize>(direction: &str) -> BTreeSet<String> {
    let schema = fs_err::read_to_string(repository("docs/reference/protocol.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut one_way = schema.clone();
    one_way["anyOf"] = serde_json::json!([{ "$ref": format!("#/$defs/{}", direction.replace('-', "_")) }]);
    let validator = jsonschema::validator_for(&one_way).unwrap();
    let mut seen = BTreeSet::new();
    for line in examples(direction) {
        let parsed: Envelope<T> = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}\n{e}"));
        let example: Value = serde_json::from_str(&line).unwrap();
        assert_within(&example, &serde_json::to_value(&parsed).unwrap(), "");
        assert!(validator.is_valid(&example), "the schema refuses {line}");
        seen.insert(example["type"].as_str().unwrap().to_owned());
    }
    seen
}

#[test]
fn the_page_has_an_example_of_every_message() {
    assert_eq!(read_examples::<ToHost>("to-host"), ToHost::TYPES.map(str::to_owned).into());
    let answers =
        ["hello", "pong", "ready", "progress", "token", "result", "fitted", "memory", "profile", "done", "error"];
    assert_eq!(read_examples::<FromHost>("from-host"), answers.map(str::to_owned).into());
    let page = fs_err::read_to_string(repository("docs/reference/protocol.md")).unwrap();
    assert!(page.starts_with(&format!("# The engine protocol, version {VERSION}\n")));
    for limit in ["67,108,864 bytes", "1,048,576 tokens"] {
        assert!(page.contains(limit), "{limit}");
    }
    assert_eq!((MAX_LINE_BYTES, MAX_TOKENS), (67_108_864, 1_048_576), "the page states the limits");
}

#[test]
fn the_schema_on_disk_is_that_of_the_types() {
    let file = repository("docs/reference/protocol.schema.json");
    let current = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    assert!(
        fs_err::read_to_string(&file).unwrap() == current,
        "out of date; run `inferometer schema protocol > docs/reference/protocol.schema.json`"
    );
}

#[test]
fn the_schema_refuses_what_the_types_refuse() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for wrong in [
        r#"{"type": "ping"}"#,
        r#"{"id": 1, "type": "dance"}"#,
        r#"{"id": -1, "type": "ping"}"#,
        r#"{"id": 1, "type": "generate", "max_tokens": 3}"#,
        r#"{"id": 1, "type": "pong", "clock": "c"}"#,
        r#"{"id": 1, "type": "result", "tokens": [-4]}"#,
    ] {
        assert!(!validator.is_valid(&serde_json::from_str(wrong).unwrap()), "{wrong}");
        assert!(serde_json::from_str::<Envelope<ToHost>>(wrong).is_err(), "{wrong}");
        assert!(serde_json::from_str::<Envelope<FromHost>>(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_line_makes_a_parser_panic(line in prop_oneof![any::<Vec<u8>>(), mangled_example()]) {
        let _ = serde_json::from_slice::<Envelope<ToHost>>(&line);
        let _ = serde_json::from_slice::<Envelope<FromHost>>(&line);
    }
}

/// Lines that nearly are messages: an example with one byte replaced, or cut off.
fn mangled_example() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<String> = [examples("to-host"), examples("from-host")].concat();
    (proptest::sample::select(lines), any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
        |(line, at, byte, cut)| {
            let mut bytes = line.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(if cut { at } else { bytes.len() });
            bytes
        },
    )
}
