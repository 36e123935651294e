//! The planted commits (`tests/planted`, judged by `scripts/check-planted`) still fit this tree.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn patches() -> Vec<PathBuf> {
    let entries = fs_err::read_dir(root().join("tests/planted")).unwrap().map(|entry| entry.unwrap().path());
    let mut patches: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "patch")).collect();
    patches.sort();
    patches
}

/// `git apply --check` of `patch` on this tree; what git says when it does not fit.
fn fits(patch: &Path) -> Result<(), String> {
    let mut git = Command::new("git");
    // Where this tree is no repository, git is not to look for one above it.
    git.env("GIT_CEILING_DIRECTORIES", root().parent().unwrap_or(Path::new("/")));
    let output = git.args(["apply", "--check"]).arg(patch).current_dir(root()).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn every_patch_applies_to_the_source() {
    let patches = patches();
    assert!(patches.len() >= 5, "{patches:?}");
    for patch in &patches {
        if let Err(told) = fits(patch) {
            panic!("{}: {told}make it anew: change the source, `git diff src > PATCH`, undo", patch.display());
        }
        let text = fs_err::read_to_string(patch).unwrap();
        let changed = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        assert!(changed.clone().count() > 0 && changed.clone().all(|file| file.starts_with("src/")), "{patch:?}");
    }
    // The proof that this can fail: a patch against what is not there.
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale.patch");
    let text = fs_err::read_to_string(&patches[0]).unwrap();
    let gone = text.lines().map(|line| if line.starts_with('-') && !line.starts_with("---") { "-gone" } else { line });
    fs_err::write(&stale, gone.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    assert!(fits(&stale).is_err());
}

#[test]
fn every_patch_is_judged() {
    let script = fs_err::read_to_string(root().join("scripts/check_planted.py")).unwrap();
    for patch in patches() {
        let name = patch.file_stem().unwrap().to_str().unwrap();
        assert!(script.contains(&format!("    (\"{name}\", ")), "scripts/check_planted.py does not judge {name}");
    }
}
