//! Text in and out of tokens: tokenizer and chat template.

pub mod chat;
pub mod gguf;
pub mod jinja;
pub mod tokenizer;

use std::path::PathBuf;

pub use chat::{Bounds, ChatTemplate, Limit};
pub use tokenizer::{TextStream, Tokenizer};

/// An error of a tokenizer, a template or a text. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file cannot be read; `fs_err` names it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },
    #[error("cannot tokenize the text with {}: {problem}", path.display())]
    Encode { path: PathBuf, problem: String },
    #[error("cannot turn token ids into text with {}: {problem}", path.display())]
    Decode { path: PathBuf, problem: String },
    #[error("the chat template of {} cannot be rendered: {problem}", path.display())]
    Render { path: PathBuf, problem: String },
    /// The template goes beyond a limit; it is not rendered again.
    #[error("the chat template of {} is stopped: {limit}; give the prompt as text or token ids instead of messages", path.display())]
    Limit { path: PathBuf, limit: Limit },
    /// The path is no model's folder, or the folder lacks a file.
    #[error("{0}")]
    Model(String),
    /// The text itself does not serve.
    #[error("{0}")]
    Text(String),
}
