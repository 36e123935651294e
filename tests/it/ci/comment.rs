//! `scripts/gate-comment` against a stand-in for GitHub's API.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::repository;

/// Answers from files named after the requested paths, and logs what is sent.
const GH: &str = r#"#!/usr/bin/env python3
import pathlib, re, sys
here = pathlib.Path(__file__).parent
words = sys.argv[2:]
if "--method" in words:
    with open(here / "sent", "a") as file:
        file.write(f"{words[1]} {words[2]}\n{sys.stdin.read()}\n")
else:
    path = re.sub(r"[?&]per_page=100&page=1$", "", words[0])
    sys.stdout.buffer.write((here / re.sub(r"[^a-z0-9]+", "-", path)).read_bytes())
"#;

/// Packs a file into an archive like an artifact.
const ZIP: &str = "import sys, zipfile\nzipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED).writestr(sys.argv[2], sys.stdin.read())";

struct Hub {
    dir: tempfile::TempDir,
}

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

impl Hub {
    /// A fork's pull request 7, without comments and artifacts.
    fn new() -> Self {
        let hub = Self { dir: tempfile::tempdir().unwrap() };
        hub.write("gh", GH);
        fs_err::set_permissions(hub.dir.path().join("gh"), PermissionsExt::from_mode(0o755)).unwrap();
        hub.pulls(&[(7, SHA, "fork/engine")]);
        hub.answer("repos-own-engine-issues-7-comments", &json!([]));
        hub.answer("repos-own-engine-actions-runs-99-artifacts", &json!({"artifacts": []}));
        hub
    }

    fn write(&self, name: &str, content: &str) {
        fs_err::write(self.dir.path().join(name), content).unwrap();
    }

    fn answer(&self, path: &str, value: &Value) {
        self.write(path, &value.to_string());
    }

    fn pulls(&self, pulls: &[(u64, &str, &str)]) {
        let pulls = pulls
            .iter()
            .map(|(number, sha, repo)| json!({"number": number, "head": {"sha": sha, "repo": {"full_name": repo}}}));
        self.answer("repos-own-engine-pulls-state-open-head-fork-3-fix-2-231", &pulls.collect());
    }

    /// Artifacts by name, each with one file.
    fn artifacts(&self, artifacts: &[(&str, &str, &str)]) {
        let listed = artifacts.iter().enumerate().map(|(id, (name, file, text))| {
            let archive = self.dir.path().join(format!("repos-own-engine-actions-artifacts-{id}-zip"));
            let mut python = Command::new("python3");
            python.args(["-c", ZIP]).arg(&archive).arg(file).stdin(std::process::Stdio::piped());
            let mut child = python.spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
            let size = fs_err::metadata(archive).unwrap().len();
            json!({"id": id, "name": name, "size_in_bytes": size, "expired": false})
        });
        let listed: Vec<Value> = listed.collect();
        self.answer("repos-own-engine-actions-runs-99-artifacts", &json!({"artifacts": listed}));
    }

    fn run(&self) -> Output {
        let event = json!({
            "repository": {"full_name": "own/engine"},
            "workflow_run": {
                "id": 99, "head_sha": SHA, "head_branch": "fix,#1", "html_url": "https://example.org/run",
                "head_repository": {"full_name": "fork/engine", "owner": {"login": "fork"}},
            },
        });
        self.answer("event.json", &event);
        let paths = std::env::var("PATH").unwrap();
        let output = Command::new(repository("scripts/gate-comment"))
            .arg(self.dir.path().join("event.json"))
            .env("PATH", format!("{}:{paths}", self.dir.path().display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The sent request: method and path, and the comment.
    fn sent(&self) -> Option<(String, String)> {
        let text = fs_err::read_to_string(self.dir.path().join("sent")).ok()?;
        let (line, body) = text.split_once('\n').unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        Some((line.to_owned(), body["body"].as_str().unwrap().to_owned()))
    }
}

#[test]
fn results_become_one_comment_of_the_right_pull_request() {
    let hub = Hub::new();
    // The artifact cannot choose the pull request.
    hub.artifacts(&[
        (
            "gate-comment-linux",
            "comment.md",
            "**linux**\n\n| gate | verdict |\n|---|---|\n| decode | **regressed** |\n",
        ),
        ("gate-comment-apple-silicon", "comment.md", "**apple-silicon**\n\nunchanged"),
        ("gate-linux", "comment.md", "not for a comment"),
        ("gate-comment-../x", "comment.md", "not for a comment"),
        ("gate-comment-other", "number.txt", "8"),
    ]);
    hub.run();
    let (to, body) = hub.sent().unwrap();
    assert_eq!(to, "POST repos/own/engine/issues/7/comments");
    insta::assert_snapshot!(body, @r#"
    <!-- inferometer-gate -->
    ## Inferometer: speed of 012345678 against where it left the base

    [The run](https://example.org/run) has the whole session and its report. What follows was written by code of this pull request.

    **apple-silicon**

    unchanged

    **linux**

    | gate | verdict |
    |---|---|
    | decode | **regressed** |
    "#);
}

#[test]
fn the_comment_that_is_there_is_updated_and_no_other() {
    let hub = Hub::new();
    let comment = |id: u64, login: &str, body: &str| json!({"id": id, "user": {"login": login}, "body": body});
    let comments = [
        comment(1, "stranger", "<!-- inferometer-gate -->\nnot ours"),
        comment(2, "github-actions[bot]", "of another workflow"),
        comment(3, "github-actions[bot]", "<!-- inferometer-gate -->\nours"),
    ];
    hub.answer("repos-own-engine-issues-7-comments", &json!(comments));
    hub.run();
    let (to, body) = hub.sent().unwrap();
    assert_eq!(to, "PATCH repos/own/engine/issues/comments/3");
    insta::assert_snapshot!(body, @r#"
    <!-- inferometer-gate -->
    ## Inferometer: speed of 012345678 against where it left the base

    [The run](https://example.org/run) has the whole session and its report. What follows was written by code of this pull request.

    It left no results; its log says why.
    "#);
}

#[test]
fn a_head_that_moved_on_or_another_repository_s_gets_no_comment() {
    for pulls in [vec![], vec![(7, "ffff", "fork/engine")], vec![(7, SHA, "other/engine")]] {
        let hub = Hub::new();
        hub.pulls(&pulls);
        let output = hub.run();
        insta::allow_duplicates!(
            insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @r#"no open pull request has 0123456789abcdef0123456789abcdef01234567 as its head: nothing to tell"#)
        );
        assert_eq!(hub.sent(), None);
    }
}

#[test]
fn a_stranger_s_text_reaches_nobody_and_leads_nowhere() {
    let hub = Hub::new();
    let text = "@everyone &#64;everyone #12 GH-12 https://evil.example www.evil.example _www.evil.example_ _mailto:a_ _GH-12_ éwww.evil.example [a](//evil.example) \
                ![b](x) [c]: //evil.example\n<img src=x> <!-- inferometer-gate --> <br> a&#58;b <details>\n```\n\u{202e}\u{7}\n~~~~\n";
    hub.artifacts(&[("gate-comment-linux", "comment.md", &format!("{text}{}", "x".repeat(100_000)))]);
    hub.run();
    let (_, body) = hub.sent().unwrap();
    let said = body.split_once("of this pull request.").unwrap().1;
    for live in [
        "@e", "&#64;", "#12", "GH-12", "://", "www.", "mailto:", "](", "]:", "<img", "<!--", "```", "~~~", "\u{202e}",
        "\u{7}",
    ] {
        assert!(!said.contains(live), "{live:?} in {said:.600}");
    }
    // Entities are read once, and what folds is closed.
    let visible = said.replace('\u{200b}', "[ZWSP]").replace(&"x".repeat(100), "");
    insta::assert_snapshot!(visible, @r#"


    @[ZWSP]everyone @[ZWSP]everyone #[ZWSP]12 GH[ZWSP]-12 https:[ZWSP]//evil.example www[ZWSP].evil.example _www[ZWSP].evil.example_ _mailto[ZWSP]:a_ _GH[ZWSP]-12_ éwww[ZWSP].evil.example [a][ZWSP](//evil.example) ![ZWSP][b][ZWSP](x) [c][ZWSP]: //evil.example
    &lt;img src=x> &lt;!-- inferometer-gate --> <br> a:b <details>
    `[ZWSP]`[ZWSP]`

    ~[ZWSP]~[ZWSP]~[ZWSP]~
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx

    </details>

    (cut: the rest is in the run's artifacts)
    "#);
    assert!(body.chars().count() < 16_000);
}
