//! Chats of a scenario and of files: messages, tools and arguments of the chat template.

use std::path::Path;

use serde_json::{Map, Value};

use super::cursor::Table;
use super::diagnose::{Problem, Span};
use super::keys::MOST_PROMPT_BYTES;
use super::read;
use super::tree::{self, Data, Node};
use inferometer_protocol::{Chat, Message};

/// The chat in a file: JSON, or TOML if its name ends with `.toml`. An object of `messages`,
/// `tools` and `template_arguments`, or a list of messages alone.
///
/// # Errors
/// When it cannot be read or is no chat; the text names the file, the message and the key.
pub fn chat_file(path: &Path) -> anyhow::Result<Chat> {
    of_file(path).map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))
}

/// As [`chat_file`]; the problem is to be shown after the file's name.
pub(super) fn of_file(path: &Path) -> Result<Chat, String> {
    let text = read::text(path, MOST_PROMPT_BYTES)?;
    let json = if path.extension().is_some_and(|ending| ending == "toml") {
        let root = tree::document(&text, 0).map_err(|problem| problem.in_text(&text))?;
        json(&root).map_err(|(_, problem)| problem)?
    } else {
        serde_json::from_str(&text).map_err(|e| format!("it is not JSON: {e}"))?
    };
    chat(json)
}

/// The chat that JSON describes.
fn chat(json: Value) -> Result<Chat, String> {
    let mut fields = match json {
        Value::Array(messages) => Map::from_iter([("messages".to_owned(), Value::Array(messages))]),
        Value::Object(fields) => fields,
        _ => return Err("it is neither a list of messages nor an object with `messages`".to_owned()),
    };
    let messages = messages(fields.remove("messages").ok_or("it has no `messages`")?)?;
    let tools = fields.remove("tools").filter(|tools| !tools.is_null()).map(list).transpose();
    let tools = tools.map_err(|()| "`tools` must be a list of objects: JSON Schemas of functions")?;
    let template_arguments = match fields.remove("template_arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err("`template_arguments` must be a table".to_owned()),
    };
    if let Some(unknown) = fields.keys().next() {
        return Err(format!("unknown key `{unknown}`; a chat has `messages`, `tools` and `template_arguments`"));
    }
    let chat = Chat { messages, tools, template_arguments };
    chat.check()?;
    Ok(chat)
}

fn messages(json: Value) -> Result<Vec<Message>, String> {
    let items = list(json).map_err(|()| "`messages` must be a list")?;
    if items.is_empty() {
        return Err("`messages` is empty: a chat needs at least one message".to_owned());
    }
    let message = |(i, item): (usize, Value)| {
        let Value::Object(fields) = item else { return Err(format!("message {} is not an object", i + 1)) };
        Message::try_from(fields).map_err(|problem| format!("message {}: {problem}", i + 1))
    };
    items.into_iter().enumerate().map(message).collect()
}

fn list(json: Value) -> Result<Vec<Value>, ()> {
    if let Value::Array(items) = json { Ok(items) } else { Err(()) }
}

/// A value of the file as JSON, keys in their order.
fn json(node: &Node) -> Result<Value, (Span, String)> {
    Ok(match &node.data {
        Data::Bool(bool) => (*bool).into(),
        Data::Int(int) => (*int).into(),
        Data::Float(float) if float.is_finite() => Value::from(*float),
        Data::Float(_) => {
            return Err((node.span, "it has inf or nan, which JSON cannot hold; use a finite number".to_owned()));
        }
        Data::Text(text) => text.as_str().into(),
        Data::Date => return Err((node.span, "it has a date; write it as a text in quotes".to_owned())),
        Data::List(items) => items.iter().map(json).collect::<Result<_, _>>()?,
        Data::Table(entries) => {
            let pair = |entry: &tree::Entry| Ok((entry.key.clone(), json(&entry.value)?));
            Value::Object(entries.iter().map(pair).collect::<Result<_, _>>()?)
        }
    })
}

/// The JSON under a key of the scenario; a problem is reported.
fn value(table: &Table<'_>, key: &str) -> Option<Value> {
    let entry = table.entry(key)?;
    match json(&entry.value) {
        Ok(json) => Some(json),
        Err((span, problem)) => {
            table.problem(Problem::new(format!("`{key}`: {problem}")).at(span));
            None
        }
    }
}

/// `tools` and `template_arguments` of a workload, with these messages.
pub(super) fn with_messages(table: &Table<'_>, messages: Vec<Message>) -> Chat {
    let mut chat = Chat::of(messages);
    if let Some(entry) = table.entry("tools") {
        match value(table, "tools").map(list) {
            Some(Ok(tools)) => chat.tools = Some(tools),
            Some(Err(())) => table.wrong("tools", &entry.value, "must be a list of tables"),
            None => {}
        }
    }
    if let Some(entry) = table.entry("template_arguments") {
        match value(table, "template_arguments") {
            Some(Value::Object(arguments)) => chat.template_arguments.extend(arguments),
            Some(_) => table.wrong("template_arguments", &entry.value, "must be a table"),
            None => {}
        }
    }
    let place = table.entry("template_arguments").or(table.entry("tools"));
    if let (Err(problem), Some(entry)) = (chat.check(), place) {
        table.problem(Problem::new(problem).at(entry.key_span));
    }
    chat
}

/// The chat of a workload of kind `chat`: messages in the scenario, or a file. What the scenario
/// says beside a file takes the place of what the file says.
pub(super) fn of_workload(table: &Table<'_>, base: &Path) -> (Chat, Option<String>) {
    let Some(key) = super::parse::one_of(table) else { return (Chat::default(), None) };
    let Some(entry) = table.entry(key) else { return (Chat::default(), None) };
    if key == "message" {
        let found = value(table, key).map(messages).transpose().unwrap_or_else(|problem| {
            table.problem(Problem::new(problem).at(entry.key_span));
            None
        });
        return (with_messages(table, found.unwrap_or_default()), None);
    }
    let Some(name) = table.text(key) else { return (Chat::default(), None) };
    let path = super::parse::resolve_path(name, entry, base);
    let file = of_file(&path).unwrap_or_else(|problem| {
        let told = Problem::new(format!("cannot use the chat {}: {problem}", super::diagnose::echo(name)));
        table.problem(told.at(entry.value.span).help(format!("looked for {}", path.display())));
        Chat::default()
    });
    let mut chat = with_messages(table, file.messages);
    chat.tools = chat.tools.or(file.tools);
    let mut arguments = file.template_arguments;
    arguments.extend(std::mem::take(&mut chat.template_arguments));
    (Chat { template_arguments: arguments, ..chat }, Some(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> Result<Chat, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        of_file(&path)
    }

    #[test]
    fn json_and_toml_say_the_same() {
        let json = file(
            "a.json",
            r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [{"z": 1, "a": 2.5}]}],
                "tools": [{"type": "function"}], "template_arguments": {"enable_thinking": false}}"#,
        );
        let toml = file(
            "a.toml",
            "messages = [{ role = \"user\", content = \"hi\" }, { role = \"assistant\", tool_calls = [{ z = 1, a = 2.5 }] }]\n\
             tools = [{ type = \"function\" }]\n[template_arguments]\nenable_thinking = false\n",
        );
        let chat = json.unwrap();
        assert_eq!(serde_json::to_string(&chat).unwrap(), serde_json::to_string(&toml.unwrap()).unwrap());
        assert_eq!(file("a.json", r#"[{"role": "user", "content": "hi"}]"#).unwrap().messages, chat.messages[..1]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, text, told) in [
            ("a.json", "{", "not JSON: EOF while parsing an object at line 1"),
            ("a.json", "3", "neither a list of messages"),
            ("a.json", "[]", "`messages` is empty"),
            ("a.json", r#"{"mesages": []}"#, "no `messages`"),
            ("a.json", r#"{"messages": [{"role": "user"}], "tool": []}"#, "unknown key `tool`"),
            ("a.json", r#"[{"role": "user"}, {"content": "x"}]"#, "message 2: a message needs a `role`"),
            (
                "a.json",
                r#"[{"role": "user", "content": [{"type": "image"}]}]"#,
                "message 1: part 1 of `content` has the type `image`",
            ),
            ("a.toml", "messages = [{ role = \"user\", at = 2026-01-01 }]", "it has a date"),
            ("a.toml", "messages = [{ role = \"user\" }]\ntools = [{ least = -inf }]", "it has inf or nan"),
            ("a.toml", "messages = [{ role = \"user\" }]\ntools = [{ most = [nan] }]", "use a finite number"),
            ("a.toml", "messages = [", "not valid TOML"),
        ] {
            let error = file(name, text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
