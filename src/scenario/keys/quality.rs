//! `[quality]`: the text on which the engine's probabilities are compared.

use super::shape::{Section, Shape, count, key};

pub static QUALITY: Section = Section {
    title: "[quality]",
    meaning: "A separate pass after the timed iterations: the perplexity of a fixed text under each cell's settings, and in an A/B \
              session the KL divergence between the sides. Without this table there is none. Exactly one of `text` and `text_file`.",
    one_of: &["text", "text_file"],
    keys: &[
        key("text", Shape::Text, "", "the text"),
        key(
            "text_file",
            Shape::Text,
            "",
            "file with the text (UTF-8, at most 64 MiB), relative to the scenario's folder; `prompts/us-constitution.txt` \
             is 25 kB long",
        ),
        key(
            "context",
            count(1, 1 << 16),
            "256",
            "tokens at the start of the text that are sent as the prompt and not scored",
        ),
        key("tokens", count(2, 4096), "512", "tokens after them that are scored"),
    ],
};
