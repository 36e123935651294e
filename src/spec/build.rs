//! How a commit becomes a program that hosts an engine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The scenario's `[build]`. Programs are started as they are, never by a shell.
///
/// `{shared}` in `command` and `program` is a folder that all builds of the repository share, such as cargo's target folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildSettings {
    /// Builds it, run in the commit's worktree.
    pub command: Vec<String>,
    /// The program that then hosts the engine, with its arguments; relative to the worktree.
    pub program: Vec<String>,
    /// Prints what the build depends on beside the commit, such as the compiler's version; none if empty.
    pub toolchain: Vec<String>,
    /// Longest time a build may take, in seconds.
    pub timeout_s: f64,
}

impl Default for BuildSettings {
    /// This project's own.
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            command: words(&[
                "cargo",
                "build",
                "--release",
                "--locked",
                "--bin",
                "inferometer",
                "--target-dir",
                "{shared}",
            ]),
            program: words(&["{shared}/release/inferometer", "host"]),
            toolchain: words(&["rustc", "-Vv"]),
            timeout_s: 3600.0,
        }
    }
}
