//! How to build a commit into a program that hosts an engine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In commands: a folder that all builds of a repository share.
pub const SHARED: &str = "{shared}";
/// In commands: the folder with the commit's checkout.
pub const TREE: &str = "{tree}";

/// The scenario's `[build]`. Programs are started directly, never by a shell.
///
/// `{shared}` is a folder that all builds of the repository share, such as cargo's target folder;
/// `{tree}` is the worktree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildSettings {
    /// Build command, run in the commit's worktree. Empty: nothing to build.
    pub command: Vec<String>,
    /// The built engine host with its arguments, relative to the worktree.
    pub program: Vec<String>,
    /// Command that prints what the build depends on besides the commit, such as the compiler's
    /// version; may be empty.
    pub toolchain: Vec<String>,
    /// Longest time a build may take, in seconds.
    pub timeout_s: f64,
}

impl Default for BuildSettings {
    /// The build of this project.
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

impl BuildSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// What is wrong and what to write instead, naming the key.
    pub fn check(&self) -> Result<(), String> {
        if self.program.first().is_none_or(|word| word.trim().is_empty()) {
            let told = "`program` is empty: give the engine host and its arguments, such as [\"build/host\"]";
            return Err(told.to_owned());
        }
        for (key, words) in [("command", &self.command), ("toolchain", &self.toolchain)] {
            if words.first().is_some_and(|word| word.trim().is_empty()) {
                return Err(format!("the first word of `{key}` is empty: give a program, or leave the list empty"));
            }
        }
        if !(self.timeout_s > 0.0 && self.timeout_s <= 1e6) {
            return Err(format!("`timeout_s` is {}; it must be above 0 and at most 1000000", self.timeout_s));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_can_be_followed_and_nonsense_is_named() {
        BuildSettings::default().check().unwrap();
        let with = |change: &dyn Fn(&mut BuildSettings)| {
            let mut settings = BuildSettings::default();
            change(&mut settings);
            settings.check().map_err(|message| message.split('`').nth(1).unwrap().to_owned())
        };
        assert_eq!(with(&|s| s.program.clear()), Err("program".to_owned()));
        assert_eq!(with(&|s| s.command = vec![" ".into()]), Err("command".to_owned()));
        assert_eq!(with(&|s| s.toolchain = vec![String::new()]), Err("toolchain".to_owned()));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(with(&|s| s.timeout_s = wrong), Err("timeout_s".to_owned()));
        }
        assert_eq!(with(&|s| s.command.clear()), Ok(()));
    }
}
