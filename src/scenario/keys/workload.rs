//! The keys of `[workload]`, by kind.

use super::MOST_TOKENS;
use super::shape::{Key, Section, Shape, count, key, required};

pub const KIND: &str = "kind";
pub const WORKLOADS: &[&str] = &["prompt", "conversation", "chat"];
/// Workloads of later versions, rejected by name.
pub const LATER_WORKLOADS: &[&str] = &["batch", "embed", "tokenize", "train"];
/// The sections of `[workload]`, by its `kind`.
pub const WORKLOAD_KINDS: &[(&str, &Section)] =
    &[("prompt", &PROMPT), ("conversation", &CONVERSATION), ("chat", &CHAT)];

const KIND_KEY: Key = key(
    KIND,
    Shape::Choice(WORKLOADS),
    "\"prompt\"",
    "kind of workload: `prompt` is one generation from one text, `chat` one from a list of messages, `conversation` one per \
     turn",
);

pub static PROMPT: Section = Section {
    title: "[workload]",
    meaning: "One generation from one text. Exactly one of `text` and `text_file`.",
    one_of: &["text", "text_file"],
    keys: &[
        KIND_KEY,
        key("text", Shape::Text, "", "the prompt's text"),
        key(
            "text_file",
            Shape::Text,
            "",
            "file with the prompt's text (UTF-8, at most 64 MiB), relative to the scenario's folder",
        ),
        key(
            "lengths",
            Shape::Counts { least: 1, most: MOST_TOKENS },
            "",
            "exact prompt lengths in tokens: the text's tokens are cut or repeated; default: the unchanged text",
        ),
        key(
            "chat",
            Shape::Flag,
            "false",
            "render the text as a user message with the model's chat template; not together with `lengths`",
        ),
        key("max_tokens", count(1, MOST_TOKENS), "128", "most tokens to generate"),
        IGNORE_EOS,
    ],
};

const IGNORE_EOS: Key = key(
    "ignore_eos",
    Shape::Flag,
    "false",
    "continue past the model's end-of-sequence tokens, so that all generations have equal length",
);

pub static CONVERSATION: Section = Section {
    title: "[workload]",
    meaning: "A conversation: each turn is a request with all earlier messages, rendered with the model's chat template. \
              Exactly one of `turn` and `turns_file`.",
    one_of: &["turn", "turns_file"],
    keys: &[
        KIND_KEY,
        key("system", Shape::Text, "", "the system message, first in every prompt; default: none"),
        key(
            "system_file",
            Shape::Text,
            "",
            "file with the system message (UTF-8, at most 64 MiB), relative to the scenario's folder; instead of `system`",
        ),
        key("turn", Shape::Sections(&TURN), "", "the turns, in order"),
        key(
            "turns_file",
            Shape::Text,
            "",
            "TOML file (at most 1 MiB) that contains only the turns as `[[turn]]` tables, relative to the scenario's folder",
        ),
        key(
            "replies",
            Shape::Choice(REPLIES),
            "\"generated\"",
            "the assistant's message in the history: the `generated` text, or the turn's `reply` (`fixed`), \
             whatever was generated",
        ),
        TOOLS,
        TEMPLATE_ARGUMENTS,
        key("max_tokens", count(1, MOST_TOKENS), "128", "most tokens to generate in each turn"),
        IGNORE_EOS,
    ],
};

pub static CHAT: Section = Section {
    title: "[workload]",
    meaning: "One generation from a chat that the model's chat template renders: messages of any role, with tools and tool \
              calls. Exactly one of `message` and `chat_file`.",
    one_of: &["message", "chat_file"],
    keys: &[
        KIND_KEY,
        key(
            "message",
            Shape::AnyTables,
            "",
            "the messages as `[[workload.message]]`: `role`, `content` (a text, or a list of `{ type = \"text\", text = \"...\" }`), \
             and what else the template reads: `tool_calls`, `tool_call_id`, `name`, `reasoning_content`",
        ),
        key(
            "chat_file",
            Shape::Text,
            "",
            "file with the chat, JSON or (`.toml`) TOML: `messages`, `tools` and `template_arguments`; relative to the scenario's \
             folder",
        ),
        TOOLS,
        TEMPLATE_ARGUMENTS,
        key("max_tokens", count(1, MOST_TOKENS), "128", "most tokens to generate"),
        IGNORE_EOS,
    ],
};

const TOOLS: Key = key(
    "tools",
    Shape::AnyTables,
    "",
    "functions that the model may call, as JSON Schemas; needs an engine with the capability `tools`",
);

const TEMPLATE_ARGUMENTS: Key = key(
    "template_arguments",
    Shape::AnyTable,
    "",
    "further variables of the chat template, such as `enable_thinking = false`; needs an engine with the capability `tools`",
);

pub const REPLIES: &[&str] = &["generated", "fixed"];

const TURN_KEYS: &[Key] = &[
    required("user", Shape::Text, "the user's message"),
    key(
        "reply",
        Shape::Text,
        "",
        "the assistant's message in the history; with `replies = \"fixed\"` every turn except the last needs one, otherwise it is \
         unused",
    ),
];

pub static TURN: Section =
    Section { title: "[[workload.turn]]", meaning: "A turn of the conversation.", one_of: &[], keys: TURN_KEYS };

/// The content of a `turns_file`: the same tables at its top level.
pub static TURNS_FILE: Section = Section {
    title: "a file of turns",
    meaning: "The turns of a conversation.",
    one_of: &[],
    keys: &[required("turn", Shape::Sections(&FILE_TURN), "the turns, in order")],
};

static FILE_TURN: Section =
    Section { title: "[[turn]]", meaning: "A turn of the conversation.", one_of: &[], keys: TURN_KEYS };
