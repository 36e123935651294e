//! Why a commit's program is not available.

use std::io;
use std::path::PathBuf;

use crate::run::host::LogTail;
use inferometer_protocol::bounded::clean;

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot run `git`: {0}; comparing commits needs git; install it or add it to PATH")]
    NoGit(io::Error),
    #[error(
        "{} is not in a git repository with a working tree ({}); pass one with `--repo PATH`, or compare settings or engines instead of commits",
        path.display(), clean(said)
    )]
    NoRepository { path: PathBuf, said: String },
    #[error("`git {command}` failed in {}: {}", repository.display(), clean(said))]
    Git { command: String, repository: PathBuf, said: String },
    #[error("`{}` cannot name a commit: give a branch, a tag or a hash", clean(revision))]
    Revision { revision: String },
    #[error(
        "the repository {} has no commit `{}`: {}", repository.display(), clean(revision),
        if *shallow {
            "the clone is shallow; fetch the full history with `git fetch --unshallow` (in CI: check out with fetch-depth 0)"
        } else {
            "check the spelling, or fetch it first with `git fetch`"
        }
    )]
    NoCommit { repository: PathBuf, revision: String, shallow: bool },
    #[error(
        "uncommitted changes would not be measured: {}{}; commit or stash them, or pass `--allow-dirty`",
        clean(&changed[..changed.len().min(5)].join(", ")),
        if changed.len() > 5 { format!(" and {} more", changed.len() - 5) } else { String::new() }
    )]
    Dirty { changed: Vec<String> },
    #[error("[build]: {0}")]
    Settings(String),
    #[error("the build of commit {commit} {how}: {command}{}", tail_or_silence(log_tail))]
    Failed { commit: String, how: String, command: String, log_tail: LogTail },
    #[error(
        "the build of commit {commit} made no program at {}: check `program` in [build] (relative paths are in the worktree; an \
         interpreter needs an absolute path); see the build log {}",
        program.display(), log.display()
    )]
    NoProgram { commit: String, program: PathBuf, log: PathBuf },
    #[error(
        "commit {commit}: `{command}` did not report the toolchain: {how}; correct `toolchain` in [build], or make it empty"
    )]
    Toolchain { commit: String, command: String, how: String },
    #[error(
        "the two commits are built by different toolchains, which could explain a difference: base {base:?}, head {head:?}; pin one \
         toolchain for both (with rustup: `RUSTUP_TOOLCHAIN=NAME`)"
    )]
    Toolchains { base: String, head: String },
    #[error("{what} was interrupted")]
    Interrupted { what: String },
    #[error("{}: the path is not UTF-8, but recorded commands must be; set INFEROMETER_CACHE to another folder", .0.display())]
    NotUtf8(PathBuf),
    #[error(
        "the build of commit {commit} left a file that cannot be read, so that a later session could not verify the build: {source}; \
         let the build remove it or make it readable"
    )]
    Unreadable { commit: String, source: io::Error },
    #[error(
        "the earlier worktree of commit {commit} cannot be replaced: {source}; remove {} yourself", tree.display()
    )]
    NotReplaced { commit: String, tree: PathBuf, source: io::Error },
    #[error("cannot store builds: {0}; set INFEROMETER_CACHE to another folder")]
    Io(#[from] io::Error),
}

fn tail_or_silence(log: &LogTail) -> String {
    if log.lines.is_empty() { format!("\nit printed nothing (log: {})", log.path.display()) } else { log.to_string() }
}
