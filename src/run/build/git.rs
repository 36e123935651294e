//! Calls of `git`: always an argument vector, never a shell; no hooks, no prompts, no fetches.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};

use super::error::BuildError;

/// Variables that git sets for its hooks. If left set, they would redirect every command to another
/// repository.
const OF_HOOKS: [&str; 10] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CEILING_DIRECTORIES",
];

/// A repository with a working tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    top: PathBuf,
}

/// A commit, with the revision that the user gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The full hash.
    pub hash: String,
    /// As given: a branch, a tag, `HEAD~2`.
    pub revision: String,
    /// First line of the message.
    pub subject: String,
}

impl Commit {
    /// The first digits of the hash.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hash[..self.hash.len().min(9)]
    }
}

/// The repository that contains `path`.
///
/// # Errors
/// When `git` is missing, or there is no repository with a working tree at `path` or above.
pub fn repository(path: &Path) -> Result<Repository, BuildError> {
    let refused = |said: String| BuildError::NoRepository { path: path.to_owned(), said };
    let path = fs_err::canonicalize(path).map_err(|error| refused(error.to_string()))?;
    let output = git(&path, ["rev-parse", "--show-toplevel"])?;
    if !output.status.success() {
        return Err(refused(said(&output)));
    }
    let top = String::from_utf8(output.stdout).map_err(|_| refused("its path is not UTF-8".to_owned()))?;
    let top = fs_err::canonicalize(top.trim_end_matches('\n')).map_err(|error| refused(error.to_string()))?;
    Ok(Repository { top })
}

impl Repository {
    /// Top folder of the working tree, canonical.
    #[must_use]
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Eight hexadecimal digits that identify the repository on this machine.
    pub(super) fn key(&self) -> String {
        super::hex(&Sha256::digest(self.top.as_os_str().as_encoded_bytes()))[..8].to_owned()
    }

    /// Resolves `revision` to a commit.
    ///
    /// # Errors
    /// When the commit does not exist here; the message suggests a fix.
    pub fn commit(&self, revision: &str) -> Result<Commit, BuildError> {
        // A leading dash would be read as an option; git's `--end-of-options` is a second guard.
        if revision.is_empty() || revision.starts_with('-') || revision.contains(|c: char| c.is_control()) {
            return Err(BuildError::Revision { revision: revision.to_owned() });
        }
        let named = format!("{revision}^{{commit}}");
        let output = git(&self.top, ["rev-parse", "--verify", "--quiet", "--end-of-options", &named])?;
        let hash = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || hash.len() < 40 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            let shallow = self.ask(["rev-parse", "--is-shallow-repository"])?.trim() == "true";
            return Err(BuildError::NoCommit { repository: self.top.clone(), revision: revision.to_owned(), shallow });
        }
        let subject = self.ask(["log", "-1", "--no-show-signature", "--format=%s", &hash, "--"])?;
        let subject = inferometer_protocol::bounded::clean(subject.trim());
        Ok(Commit { hash, revision: revision.to_owned(), subject })
    }

    /// Tracked files with uncommitted changes.
    ///
    /// # Errors
    /// When git fails.
    pub fn dirty(&self) -> Result<Vec<String>, BuildError> {
        let listed = self.ask(["status", "--porcelain", "--untracked-files=no"])?;
        Ok(listed.lines().filter_map(|line| line.get(3..)).map(str::to_owned).collect())
    }

    /// Refuses a working tree with uncommitted changes: they would not be measured, which a user
    /// may not expect.
    ///
    /// # Errors
    /// `Dirty`, or when git fails.
    pub fn must_be_clean(&self) -> Result<(), BuildError> {
        let changed = self.dirty()?;
        if changed.is_empty() { Ok(()) } else { Err(BuildError::Dirty { changed }) }
    }

    /// Paths of a commit's submodules. They are not checked out, because that could need the
    /// network.
    pub(super) fn submodules(&self, commit: &Commit) -> Result<Vec<String>, BuildError> {
        let listed = self.ask(["ls-tree", "-r", "-z", "--full-tree", &commit.hash])?;
        let links = listed.split('\0').filter(|entry| entry.starts_with("160000 "));
        Ok(links.filter_map(|entry| entry.split_once('\t')).map(|(_, path)| path.to_owned()).collect())
    }

    /// Checks a commit out into `tree`, which is replaced if it exists.
    pub(super) fn check_out(&self, commit: &Commit, tree: &Path) -> Result<(), BuildError> {
        match fs_err::remove_dir_all(tree) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let commit = commit.short().to_owned();
                return Err(BuildError::NotReplaced { commit, tree: tree.to_owned(), source });
            }
            _ => {}
        }
        // `--force` replaces this worktree's registration. Nothing is pruned: pruning would make
        // git forget worktrees of the user whose folders are temporarily missing.
        let tree = tree.as_os_str();
        let words = ["worktree", "add", "--quiet", "--detach", "--force"].map(OsStr::new);
        self.ask(words.into_iter().chain([tree, OsStr::new(&commit.hash)]))?;
        Ok(())
    }

    fn ask<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String, BuildError> {
        answer(&self.top, words)
    }
}

/// Whether `tree` is a worktree at `commit`.
pub(super) fn is_at(tree: &Path, commit: &Commit) -> Result<bool, BuildError> {
    // Without `.git` in the folder, git would use a repository above it.
    if !tree.join(".git").is_file() {
        return Ok(false);
    }
    let head = git(tree, ["rev-parse", "--verify", "--quiet", "HEAD"])?;
    Ok(String::from_utf8_lossy(&head.stdout).trim() == commit.hash)
}

fn answer<S: AsRef<OsStr>>(folder: &Path, words: impl IntoIterator<Item = S>) -> Result<String, BuildError> {
    let words: Vec<_> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
    let output = git(folder, &words)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let command = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    Err(BuildError::Git { command, repository: folder.to_owned(), said: said(&output) })
}

fn git<S: AsRef<OsStr>>(folder: &Path, words: impl IntoIterator<Item = S>) -> Result<Output, BuildError> {
    let mut command = Command::new("git");
    command.args(["--no-optional-locks", "-C"]).arg(folder);
    command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "submodule.recurse=false"]);
    command.args(["-c", "core.quotePath=false", "-c", "gc.auto=0"]);
    for name in OF_HOOKS {
        command.env_remove(name);
    }
    // A partial clone would fetch missing objects, and nobody could type a password.
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    command.args(words).stdin(Stdio::null()).output().map_err(BuildError::NoGit)
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.is_empty() { output.status.to_string() } else { said }
}
