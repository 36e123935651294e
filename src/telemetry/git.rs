//! The commit of the working folder.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::spec::GitState;

/// State of the repository that contains `folder`; `None` without a repository, commit or `git`.
#[must_use]
pub fn git_state(folder: &Path) -> Option<GitState> {
    let commit = git(folder, &["rev-parse", "--verify", "HEAD"])?;
    let changes = git(folder, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(GitState { commit: commit.trim().to_owned(), dirty: !changes.trim().is_empty() })
}

fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["--no-optional-locks", "-C"])
        .arg(folder)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if output.status.success() { String::from_utf8(output.stdout).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_and_a_change_to_it_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| {
            let done = Command::new("git")
                .arg("-C")
                .arg(dir.path())
                .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"])
                .args(args)
                .output()
                .unwrap();
            assert!(done.status.success(), "{args:?}: {done:?}");
        };
        assert_eq!(git_state(dir.path()), None);
        run(&["init", "-q"]);
        assert_eq!(git_state(dir.path()), None, "no commit yet");
        fs_err::write(dir.path().join("a"), "1").unwrap();
        run(&["add", "a"]);
        run(&["commit", "-q", "-m", "first"]);
        let state = git_state(dir.path()).unwrap();
        assert!(state.commit.len() >= 40 && !state.dirty, "{state:?}");
        fs_err::write(dir.path().join("b"), "untracked").unwrap();
        assert_eq!(git_state(dir.path()), Some(state.clone()));
        fs_err::write(dir.path().join("a"), "2").unwrap();
        assert_eq!(git_state(dir.path()), Some(GitState { dirty: true, ..state }));
    }
}
