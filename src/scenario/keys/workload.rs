//! The keys of `[workload]`, kind by kind.

use super::MOST_TOKENS;
use super::shape::{Key, Section, Shape, count, key, required};

pub const KIND: &str = "kind";
pub const WORKLOADS: &[&str] = &["prompt", "conversation"];
/// Workloads of later versions, refused by name.
pub const LATER_WORKLOADS: &[&str] = &["batch", "embed", "tokenize", "train"];
/// The sections of `[workload]`, by its `kind`.
pub const WORKLOAD_KINDS: &[(&str, &Section)] = &[("prompt", &PROMPT), ("conversation", &CONVERSATION)];

const KIND_KEY: Key = key(
    KIND,
    Shape::Choice(WORKLOADS),
    "\"prompt\"",
    "kind of work: `prompt` is one generation from one text, `conversation` one a turn",
);

pub static PROMPT: Section = Section {
    title: "[workload]",
    meaning: "What is generated from what: one generation from one text. Exactly one of `text` and `text_file`.",
    one_of: Some(("text", "text_file")),
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
            "exact prompt lengths in tokens: the text's tokens are cut or repeated; without it the text is used as it is",
        ),
        key(
            "chat",
            Shape::Flag,
            "false",
            "render the text as a user's message by the model's chat template; not together with `lengths`",
        ),
        key("max_tokens", count(1, MOST_TOKENS), "128", "most tokens to generate"),
        IGNORE_EOS,
    ],
};

const IGNORE_EOS: Key = key(
    "ignore_eos",
    Shape::Flag,
    "false",
    "go on past the model's end-of-sequence tokens, so that every generation is equally long",
);

pub static CONVERSATION: Section = Section {
    title: "[workload]",
    meaning: "A conversation: each turn is a request with all that was said before, rendered by the model's chat template. \
              Exactly one of `turn` and `turns_file`.",
    one_of: Some(("turn", "turns_file")),
    keys: &[
        KIND_KEY,
        key("system", Shape::Text, "", "the system message, first in every prompt; none if not given"),
        key(
            "system_file",
            Shape::Text,
            "",
            "file with the system message (UTF-8, at most 64 MiB), relative to the scenario's folder; instead of `system`",
        ),
        key("turn", Shape::Sections(&TURN), "", "the turns, in their order"),
        key(
            "turns_file",
            Shape::Text,
            "",
            "TOML file (at most 1 MiB) that has nothing but the turns as `[[turn]]` tables, relative to the scenario's folder",
        ),
        key(
            "replies",
            Shape::Choice(REPLIES),
            "\"generated\"",
            "what stands in the history as the assistant's message: what was `generated`, or the `reply` of the turn (`fixed`), \
             whatever was generated",
        ),
        key("max_tokens", count(1, MOST_TOKENS), "128", "most tokens to generate in each turn"),
        IGNORE_EOS,
    ],
};

pub const REPLIES: &[&str] = &["generated", "fixed"];

const TURN_KEYS: &[Key] = &[
    required("user", Shape::Text, "what the user says"),
    key(
        "reply",
        Shape::Text,
        "",
        "what the assistant is taken to have said; with `replies = \"fixed\"` every turn but the last needs it, otherwise it is \
         not used",
    ),
];

pub static TURN: Section =
    Section { title: "[[workload.turn]]", meaning: "A turn of the conversation.", one_of: None, keys: TURN_KEYS };

/// What a `turns_file` holds: the same tables at its top level.
pub static TURNS_FILE: Section = Section {
    title: "a file of turns",
    meaning: "The turns of a conversation.",
    one_of: None,
    keys: &[required("turn", Shape::Sections(&FILE_TURN), "the turns, in their order")],
};

static FILE_TURN: Section =
    Section { title: "[[turn]]", meaning: "A turn of the conversation.", one_of: None, keys: TURN_KEYS };
