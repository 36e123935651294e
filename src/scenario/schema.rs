//! The JSON Schema of the scenario file, generated from the parser's key table.
//!
//! Editors find it through the `#:schema` comment at the start of a scenario. It does not cover
//! what depends on a build's engines (names, options) or conditions between keys; `inferometer
//! check` does.

use serde_json::{Map, Value, json};

use super::keys::{self, GATE, Key, SCENARIO, Section, Shape};
use crate::spec::{GateMetric, Scale};
use inferometer_protocol::Kind;
use inferometer_protocol::toggle::{Scope, ToggleSpec};

/// The schema as a JSON value (draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("Inferometer scenario"));
    schema.extend(section(&SCENARIO));
    Value::Object(schema)
}

fn section(section: &Section) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("description".to_owned(), json!(section.meaning));
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    let required: Vec<&str> = section.keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if !section.one_of.is_empty() {
        let one: Vec<Value> = section.one_of.iter().map(|key| json!({ "required": [key] })).collect();
        schema.insert("oneOf".to_owned(), one.into());
    }
    let properties: Map<String, Value> = section.keys.iter().map(|k| (k.name.to_owned(), key(k))).collect();
    schema.insert("properties".to_owned(), Value::Object(properties));
    if std::ptr::eq(section, &raw const GATE) {
        schema.insert("allOf".to_owned(), SCALES.map(deltas_of).into());
    }
    schema
}

const SCALES: [Scale; 3] = [Scale::Ratio, Scale::Count, Scale::Bytes];

/// Valid values of a gate's `delta`, except that only the parser rejects 0.
fn delta(scale: Scale) -> Vec<Value> {
    let number = json!({ "type": "number", "exclusiveMinimum": 0 });
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match scale {
        Scale::Ratio => vec![text(r"^[0-9]{0,2}(\.[0-9]+)? ?%$")],
        Scale::Count => vec![number, text(r"^[0-9]+(\.[0-9]+)?$")],
        Scale::Bytes => vec![number, text(r"^[0-9]+(\.[0-9]+)?( *[KMG]iB)?$")],
    }
}

/// The rule that gates on metrics of this scale have such a `delta`.
fn deltas_of(scale: Scale) -> Value {
    let names: Vec<&str> = GateMetric::ALL.iter().filter(|m| m.scale() == scale).map(|m| m.name()).collect();
    let metric = json!({ "properties": { "metric": { "enum": names } }, "required": ["metric"] });
    json!({ "if": metric, "then": { "properties": { "delta": { "anyOf": delta(scale) } } } })
}

fn key(key: &Key) -> Value {
    let mut schema = shape(key.shape);
    // A section's own description is better than its key's.
    schema.entry("description").or_insert_with(|| json!(description(key)));
    if let Some(default) = key.default_value() {
        schema.insert("default".to_owned(), default);
    }
    Value::Object(schema)
}

/// The key's meaning; for a toggle also its default and when it takes effect.
fn description(key: &Key) -> String {
    let Shape::Toggle(spec) = key.shape else { return key.meaning.to_owned() };
    let default = if spec.default.is_empty() { "the engine's choice" } else { spec.default };
    let scope = match spec.scope {
        Scope::Load => "applied when the model is opened",
        Scope::Request => "applied to each request",
    };
    format!("{} ({scope}; default: {default})", key.meaning)
}

fn shape(shape: Shape) -> Map<String, Value> {
    let schema = match shape {
        Shape::Text => json!({ "type": "string", "minLength": 1 }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Choice(choices) => json!({ "enum": choices }),
        Shape::Size(sizes) => json!({ "enum": sizes }),
        Shape::Count { least, most, or_zero: false } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Count { least, most, or_zero: true } => {
            json!({ "type": "integer", "anyOf": [{ "const": 0 }, { "minimum": least, "maximum": most }] })
        }
        Shape::Number { least, open: false, most } => {
            json!({ "type": "number", "minimum": least, "maximum": most })
        }
        Shape::Number { least, open: true, most } => {
            json!({ "type": "number", "exclusiveMinimum": least, "maximum": most })
        }
        Shape::Counts { least, most } => list(&json!({ "type": "integer", "minimum": least, "maximum": most }), 1),
        Shape::Numbers { least, most } => {
            list(&json!({ "type": "number", "exclusiveMinimum": least, "maximum": most }), 1)
        }
        Shape::Choices(choices) => list(&json!({ "enum": choices }), 0),
        Shape::Texts { or_none } => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": u32::from(!or_none) })
        }
        // The section states which metric takes which.
        Shape::Delta => json!({ "anyOf": SCALES.map(delta).concat() }),
        Shape::Section(inner) => Value::Object(section(inner)),
        Shape::AllOr(inner) => json!({ "anyOf": [{ "enum": ["all"] }, section(inner)] }),
        Shape::Kinds(kinds) => json!({ "type": "object", "oneOf": kinds.iter().map(kind).collect::<Vec<_>>() }),
        Shape::Sections(inner) => json!({ "type": "array", "minItems": 1, "items": section(inner) }),
        Shape::Options | Shape::AnyTable => json!({ "type": "object" }),
        Shape::AnyTables => json!({ "type": "array", "items": { "type": "object" } }),
        Shape::Toggle(spec) => {
            let one = toggle(spec);
            json!({ "anyOf": [one, list(&one, 1)] })
        }
        Shape::ToggleValue(spec) => toggle(spec),
    };
    match schema {
        Value::Object(map) => map,
        _ => unreachable!("every shape is an object"),
    }
}

/// A section of one kind. The first kind is the default.
fn kind((name, of): &(&str, &'static Section)) -> Value {
    let mut schema = section(of);
    schema["properties"][keys::KIND]["enum"] = json!([name]);
    if schema["properties"][keys::KIND]["default"] != json!(name) {
        let required = schema.entry("required").or_insert_with(|| json!([]));
        required.as_array_mut().expect("required keys are a list").push(json!(keys::KIND));
        schema["properties"][keys::KIND].as_object_mut().expect("a key's schema is an object").remove("default");
    }
    Value::Object(schema)
}

fn list(item: &Value, least: u32) -> Value {
    json!({ "type": "array", "items": item, "minItems": least, "uniqueItems": true })
}

/// One value of a toggle.
fn toggle(spec: &ToggleSpec) -> Value {
    let most = keys::most(spec);
    match spec.kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Count => json!({ "type": "integer", "minimum": spec.least as u64, "maximum": most as u64 }),
        Kind::Float => json!({ "type": "number", "minimum": spec.least, "maximum": most }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Text if spec.choices.is_empty() => json!({ "type": "string" }),
        Kind::Text => {
            let (numbered, plain): (Vec<&str>, Vec<&str>) = spec.choices.iter().partition(|c| c.ends_with(':'));
            let patterns =
                numbered.iter().map(|head| json!({ "type": "string", "pattern": format!("^{head}[1-9][0-9]*$") }));
            match numbered.is_empty() {
                true => json!({ "enum": plain }),
                false => {
                    json!({ "anyOf": std::iter::once(json!({ "enum": plain })).chain(patterns).collect::<Vec<_>>() })
                }
            }
        }
    }
}
