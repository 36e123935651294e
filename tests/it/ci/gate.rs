//! `scripts/ci-gate`, which the composite action runs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::repository;

struct Place {
    dir: tempfile::TempDir,
    base: String,
    head: String,
}

impl Place {
    /// A repository whose `main` has commits after the start of the branch `change`.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| git(dir.path(), arguments);
        git(&["init", "-q", "-b", "main"]);
        fs_err::write(dir.path().join("a b.toml"), "rules").unwrap();
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "one"]);
        let base = git(&["rev-parse", "HEAD"]);
        git(&["checkout", "-q", "-b", "change"]);
        git(&["commit", "-q", "--allow-empty", "-m", "two"]);
        let head = git(&["rev-parse", "HEAD"]);
        git(&["checkout", "-q", "main"]);
        git(&["commit", "-q", "--allow-empty", "-m", "three"]);
        Self { dir, base, head }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs the script with a stand-in for the program that logs its arguments, one per line.
    fn gate(&self, program: &str, variables: &[(&str, &str)]) -> Option<i32> {
        let fake = self.path("fake");
        fs_err::write(&fake, format!("#!/bin/sh\nfor word; do echo \"$word\"; done > arguments\n{program}\n")).unwrap();
        fs_err::set_permissions(&fake, PermissionsExt::from_mode(0o755)).unwrap();
        let output = Command::new("bash")
            .arg(repository("scripts/ci-gate"))
            .current_dir(self.dir.path())
            .env("INFEROMETER", "./fake")
            .envs([("SCENARIO", "a b.toml"), ("BASE", "main"), ("HEAD", "change"), ("OUT", "out")])
            .env("GITHUB_STEP_SUMMARY", self.path("summary"))
            .env("GITHUB_OUTPUT", self.path("outputs"))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        output.status.code()
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").current_dir(folder).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Stands for a gate that says so.
const REGRESSED: &str = "while [ \"$1\" != --markdown ]; do shift; done; echo '**regressed**' > \"$2\"; exit 1";

#[test]
fn the_merge_base_is_the_base_and_the_exit_code_is_the_gate_s() {
    let place = Place::new();
    assert_eq!(place.gate(REGRESSED, &[("NAME", "linux")]), Some(1));
    let arguments = place.read("arguments");
    let words: Vec<&str> = arguments.lines().collect();
    assert_eq!(words[..6], ["gate", "a b.base.toml", "--base", &place.base, "--head", &place.head]);
    assert!(!words.contains(&"--delta") && !words.contains(&"--set") && !words.contains(&"--neutral-ok"));
    for text in [place.read("out/comment.md"), place.read("summary")] {
        assert_eq!(text, "**linux**\n\n**regressed**\n");
    }
    assert_eq!(place.read("outputs"), "exit-code=1\n");
}

/// A change that loosens its rules is judged by the rules of the target branch, and the comment
/// says so.
#[test]
fn the_rules_are_the_base_s() {
    let place = Place::new();
    let write = |name: &str, text: &str| fs_err::write(place.path(name), text).unwrap();
    let commit = |branch: &str| {
        git(place.dir.path(), &["add", "a b.toml", "prompts"]);
        git(place.dir.path(), &["commit", "-q", "-m", branch]);
    };
    write("a b.toml", "stricter rules");
    write("prompts", "long");
    commit("main went on");
    git(place.dir.path(), &["checkout", "-q", "change"]);
    let read = "cat \"$2\" > seen; exit 0";
    assert_eq!(place.gate(read, &[]), Some(0));
    assert_eq!(place.read("seen"), "stricter rules");
    assert!(!place.read("out/comment.md").contains('>'), "the change itself altered nothing");

    write("a b.toml", "no rules");
    write("prompts", "short");
    commit("change");
    assert_eq!(place.gate(read, &[]), Some(0));
    assert_eq!(place.read("seen"), "stricter rules");
    insta::assert_snapshot!(place.read("out/comment.md"), @r#"
    **this machine**

    > This change alters a b.toml. It was judged by the scenario of the base, not by its own.

    > This change alters other files in the folder of the scenario. Where the scenario reads them, as prompts, the change's are used.

    No verdict (exit code 0). The end of the log:

        note: This change alters a b.toml. It was judged by the scenario of the base, not by its own.
        note: This change alters other files in the folder of the scenario. Where the scenario reads them, as prompts, the change's are used.
    "#);
    assert!(!place.path("a b.base.toml").exists(), "nothing is left behind");

    assert_eq!(place.gate(read, &[("SCENARIO_FROM", "head")]), Some(0));
    assert_eq!(place.read("seen"), "no rules");
    insta::assert_snapshot!(place.read("out/comment.md"), @r#"
    **this machine**

    > This change alters a b.toml and is judged by its own rules, as the workflow says.

    No verdict (exit code 0). The end of the log:

        note: This change alters a b.toml and is judged by its own rules, as the workflow says.
    "#);
    assert_eq!(place.gate(read, &[("SCENARIO", "prompts")]), Some(0));
    assert_eq!(place.gate(read, &[("SCENARIO", "fake")]), Some(0));
    insta::assert_snapshot!(place.read("out/comment.md"), @r#"
    **this machine**

    > The base has no scenario fake: this change is judged by rules that it brings itself.

    No verdict (exit code 0). The end of the log:

        note: The base has no scenario fake: this change is judged by rules that it brings itself.
    "#);
    // A word that is none of the two is no way around the base's rules.
    assert_eq!(place.gate(read, &[("SCENARIO_FROM", "heads")]), Some(2));
}

#[test]
fn what_a_stranger_may_have_written_stays_a_word() {
    let place = Place::new();
    let hostile = "$(touch owned) `touch owned`; touch owned";
    let set = format!("run.warmup=2\n\nname={hostile}\n");
    let variables =
        [("DELTA", hostile), ("BUILD", hostile), ("PROGRAM", hostile), ("SET", &set), ("NEUTRAL_OK", "true")];
    assert_eq!(place.gate("exit 0", &variables), Some(0));
    let arguments = place.read("arguments");
    let words: Vec<&str> = arguments.lines().collect();
    let after = |flag: &str| words[words.iter().position(|word| *word == flag).unwrap() + 1];
    assert_eq!((after("--delta"), after("--build"), after("--program")), (hostile, hostile, hostile));
    assert_eq!(words[words.len() - 4..], ["--set", "run.warmup=2", "--set", &format!("name={hostile}")]);
    assert!(words.contains(&"--neutral-ok"));
    assert_eq!(place.gate("exit 0", &[("HEAD", hostile)]), Some(2));
    assert_eq!(place.gate("exit 0", &[("HEAD", "--help")]), Some(2));
    assert!(!place.path("owned").exists());
}

#[test]
fn without_a_verdict_the_comment_has_the_log_s_end() {
    let place = Place::new();
    assert_eq!(place.gate("echo 'the build failed' >&2; exit 2", &[]), Some(2));
    insta::assert_snapshot!(place.read("out/comment.md"), @r#"
    **this machine**

    No verdict (exit code 2). The end of the log:

        the build failed
    "#);

    assert_eq!(place.gate("exit 0", &[("BASE", "0000000000000000000000000000000000000000")]), Some(2));
    insta::assert_snapshot!(place.read("out/comment.md"), @r#"
    **this machine**

    No verdict (exit code 2). The end of the log:

        error: there is no commit 0000000000000000000000000000000000000000 here: check out with the whole history (fetch-depth: 0)
    "#);
}
