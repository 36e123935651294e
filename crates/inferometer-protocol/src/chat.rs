//! Chats: messages, tools and arguments of the chat template.
//!
//! A message is held as the JSON object that it is, keys in their order: a chat template may read
//! any of them, or print the whole object.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One message of a chat.
///
/// `role` is a text such as `system`, `user`, `assistant` or `tool`. `content` is a text, or a list
/// of parts `{"type": "text", "text": "..."}`, or absent. Beside these, messages may have
/// `tool_calls` (a list of objects), `tool_call_id`, `name` and `reasoning_content`, and whatever
/// else the model's chat template reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Message(Map<String, Value>);

impl Message {
    /// A message that has a role and a text and nothing else.
    #[must_use]
    pub fn new(role: &str, text: &str) -> Self {
        Self(Map::from_iter([("role".to_owned(), role.into()), ("content".to_owned(), text.into())]))
    }

    #[must_use]
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The texts of its content, one behind the other; empty without content.
    #[must_use]
    pub fn text(&self) -> String {
        match self.0.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        }
    }

    /// Whether it has a role and a text and nothing else, which every engine with the capability
    /// `messages` takes.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.len() == 2 && self.0.get("content").is_some_and(Value::is_string)
    }

    /// All that it holds.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl From<Message> for Map<String, Value> {
    fn from(message: Message) -> Self {
        message.0
    }
}

impl TryFrom<Map<String, Value>> for Message {
    type Error = String;

    fn try_from(fields: Map<String, Value>) -> Result<Self, String> {
        if fields.get("role").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err("a message needs a `role`, such as \"user\"".to_owned());
        }
        match fields.get("content") {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(Value::Array(parts)) => parts.iter().enumerate().try_for_each(|(i, part)| checked(i + 1, part))?,
            Some(_) => return Err("`content` must be a text or a list of parts".to_owned()),
        }
        match fields.get("tool_calls") {
            None | Some(Value::Null) => {}
            Some(calls) if objects(calls) => {}
            Some(_) => return Err("`tool_calls` must be a list of objects".to_owned()),
        }
        Ok(Self(fields))
    }
}

fn checked(number: usize, part: &Value) -> Result<(), String> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") if part["text"].is_string() => Ok(()),
        Some("text") => Err(format!("part {number} of `content` has no `text`")),
        Some(other) => Err(format!("part {number} of `content` has the type `{other}`; only `text` is supported")),
        None => Err(format!("part {number} of `content` must be an object with `type` and `text`")),
    }
}

fn objects(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_object))
}

impl JsonSchema for Message {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Message".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One message of a chat. Templates may read further fields.",
            "type": "object",
            "properties": {
                "role": { "type": "string", "minLength": 1, "description": "`system`, `user`, `assistant`, `tool`, ..." },
                "content": {
                    "description": "A text, or parts of one.",
                    "anyOf": [
                        { "type": "string" },
                        { "type": "null" },
                        {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": { "type": { "const": "text" }, "text": { "type": "string" } },
                                "required": ["type", "text"],
                            },
                        },
                    ],
                },
                "tool_calls": { "type": ["array", "null"], "items": { "type": "object" } },
                "tool_call_id": { "type": ["string", "null"] },
                "name": { "type": ["string", "null"] },
                "reasoning_content": { "type": ["string", "null"] },
            },
            "required": ["role"],
        })
    }
}

/// All that a chat template is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Fields")]
pub struct Chat {
    pub messages: Vec<Message>,
    /// The functions that the model may call, as JSON Schemas; `None` is not the same as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Value>>,
    /// Further variables of the template, such as `enable_thinking`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub template_arguments: Map<String, Value>,
}

/// [`Chat`] before it is checked.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    template_arguments: Map<String, Value>,
}

impl TryFrom<Fields> for Chat {
    type Error = String;

    fn try_from(Fields { messages, tools, template_arguments }: Fields) -> Result<Self, String> {
        let chat = Self { messages, tools, template_arguments };
        chat.check()?;
        Ok(chat)
    }
}

impl Chat {
    /// Variables of a template that the other fields give, and the switch of the generation prompt.
    pub const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

    #[must_use]
    pub fn of(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }

    /// Whether it has messages of a role and a text and nothing else. Anything more needs the
    /// capability `tools`.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tools.is_none() && self.template_arguments.is_empty() && self.messages.iter().all(Message::is_plain)
    }

    /// # Errors
    /// When a tool is no object, or an argument has the name of a variable that is given otherwise.
    pub fn check(&self) -> Result<(), String> {
        if self.tools.iter().flatten().any(|tool| !tool.is_object()) {
            return Err("`tools` must be a list of objects: JSON Schemas of functions".to_owned());
        }
        match Self::RESERVED.iter().find(|name| self.template_arguments.contains_key(**name)) {
            Some(name) => Err(format!("`{name}` cannot be a template argument: it is given elsewhere")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(json: Value) -> Result<Message, String> {
        serde_json::from_value(json).map_err(|e| e.to_string())
    }

    #[test]
    fn a_message_keeps_all_its_fields_in_order() {
        let json = json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "role": "tool",
                          "tool_call_id": "x1", "name": "f", "own": [1]});
        let told = message(json.clone()).unwrap();
        assert_eq!((told.role(), told.text().as_str(), told.is_plain()), ("tool", "ab", false));
        assert_eq!(serde_json::to_string(&told).unwrap(), json.to_string());
        assert!(message(json!({"role": "user", "content": "hi"})).unwrap().is_plain());
        assert!(!message(json!({"role": "assistant"})).unwrap().is_plain());
    }

    #[test]
    fn what_no_template_can_take_is_refused_by_name() {
        for (json, told) in [
            (json!({"content": "hi"}), "needs a `role`"),
            (json!({"role": "user", "content": 3}), "`content` must be"),
            (
                json!({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}),
                "part 1 of `content` has the type `image_url`",
            ),
            (json!({"role": "user", "content": ["hi"]}), "part 1 of `content` must be an object"),
            (json!({"role": "assistant", "tool_calls": {}}), "`tool_calls` must be"),
        ] {
            let error = message(json).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        for (json, told) in [
            (json!({"messages": [], "tools": ["f"]}), "`tools` must be"),
            (json!({"messages": [], "template_arguments": {"messages": []}}), "`messages` cannot be"),
        ] {
            let error = serde_json::from_value::<Chat>(json).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
