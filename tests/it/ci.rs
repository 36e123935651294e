//! CI workflows and their scripts: a stranger's pull request must not be able to abuse them.

mod comment;
mod gate;
mod release;

use std::path::{Path, PathBuf};

use serde_json::Value;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

fn workflows() -> Vec<(String, Value)> {
    let files = fs_err::read_dir(repository(".github/workflows")).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, yaml(&fs_err::read_to_string(&path).unwrap()))
        })
        .collect()
}

fn triggers(workflow: &Value) -> Vec<&str> {
    match &workflow["on"] {
        Value::String(one) => vec![one],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        table => table.as_object().into_iter().flat_map(|table| table.keys()).map(String::as_str).collect(),
    }
}

fn steps(job: &Value) -> &[Value] {
    job["steps"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn writes(permissions: &Value) -> bool {
    permissions.as_str() == Some("write-all")
        || permissions.as_object().is_some_and(|table| table.values().any(|value| value == "write"))
}

/// Faults of steps in workflows and actions.
fn in_steps(steps: &[Value]) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    for step in steps {
        if step["run"].as_str().is_some_and(|script| script.contains("${{")) {
            wrong.push("an expression inside a script: what it stands for would be run; pass it by `env`");
        }
        let Some(uses) = step["uses"].as_str() else { continue };
        if !uses.starts_with("./") && !uses.contains('@') {
            wrong.push("an action without a version");
        }
        if uses.contains("github-script") {
            wrong.push("a script in a workflow, where no test reaches it");
        }
        if uses.starts_with("actions/checkout@") && step["with"]["persist-credentials"] != false {
            wrong.push("a checkout that leaves its token behind");
        }
    }
    wrong
}

/// Faults of a workflow.
fn violations(workflow: &Value) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    let text = workflow.to_string();
    let on = triggers(workflow);
    if on.contains(&"pull_request_target") {
        wrong.push("pull_request_target: a stranger's change with the project's token");
    }
    if workflow["permissions"].is_null() || writes(&workflow["permissions"]) {
        wrong.push("no permissions block that only reads");
    }
    if workflow["concurrency"]["group"].is_null() {
        wrong.push("no concurrency group");
    }
    if on.contains(&"pull_request")
        && ["secrets.", "github.token", "GITHUB_TOKEN", "write"].iter().any(|s| text.contains(s))
    {
        wrong.push("a secret or a right where a pull request's code runs");
    }
    for job in workflow["jobs"].as_object().unwrap().values() {
        if job["timeout-minutes"].is_null() {
            wrong.push("a job without a time limit");
        }
        wrong.extend(in_steps(steps(job)));
        let runner = job["runs-on"].to_string();
        // A condition would not help, because a pull request brings its own copy of the workflow.
        let own = runner.contains("self-hosted") || runner.contains("vars.") || !job["runs-on"]["group"].is_null();
        if own && on.iter().any(|event| event.starts_with("pull_request")) {
            wrong.push("a machine of one's own in a workflow of pull requests");
        }
        if writes(&job["permissions"]) {
            wrong.extend(with_rights(workflow, job));
        }
    }
    wrong
}

/// Whether only a pushed tag starts a workflow. Only people with the right to push can do that.
fn of_tags_alone(workflow: &Value) -> bool {
    let push = workflow["on"]["push"].as_object();
    triggers(workflow) == ["push"] && push.is_some_and(|push| push.keys().eq(["tags"]))
}

/// Faults of a job that can write.
fn with_rights(workflow: &Value, job: &Value) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    let release = of_tags_alone(workflow);
    if triggers(workflow) != ["workflow_run"] && !release {
        wrong.push("a right to write outside of workflow_run and of pushed tags");
    }
    for step in steps(job) {
        let uses = step["uses"].as_str().unwrap_or_default();
        let trusted = "${{ github.event.repository.default_branch }}";
        if uses.starts_with("actions/checkout@") && (release || step["with"]["ref"] != trusted) {
            wrong.push("another checkout than the default branch beside a right to write");
        }
        // The artifacts of a release's other jobs come from the tag's own code.
        if uses.starts_with("./") || (uses.contains("download-artifact") && !release) {
            wrong.push("code or files of a pull request beside a right to write");
        }
        if uses.contains("download-artifact") && !step["with"]["run-id"].is_null() {
            wrong.push("files of another run beside a right to write");
        }
        if step["run"].as_str().is_some_and(|script| script.contains("cargo") || script.contains("git ")) {
            wrong.push("something built beside a right to write");
        }
    }
    wrong
}

/// Lines of a workflow or an action that use a foreign action by a reference that its owner can
/// move: anything but a full commit hash with its version in a comment.
fn movable(text: &str) -> Vec<&str> {
    let pinned = |line: &str| {
        let (uses, comment) = line.split_once(" # v")?;
        let (_, hash) = uses.split_once('@')?;
        let sound = hash.len() == 40 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (sound && comment.starts_with(|first: char| first.is_ascii_digit())).then_some(())
    };
    let named = |line: &&str| line.trim_start_matches("- ").starts_with("uses:") && !line.contains("uses: ./");
    text.lines().map(str::trim).filter(named).filter(|line| pinned(line).is_none()).collect()
}

#[test]
fn actions_of_others_are_pinned_to_a_commit() {
    let mut files: Vec<PathBuf> = vec![repository("action.yml")];
    files.extend(fs_err::read_dir(repository(".github/workflows")).unwrap().map(|entry| entry.unwrap().path()));
    for file in files {
        let text = fs_err::read_to_string(&file).unwrap();
        assert_eq!(movable(&text), Vec::<&str>::new(), "{file:?}");
    }
    let hash = "0123456789abcdef0123456789abcdef01234567";
    for good in [format!("- uses: a/b@{hash} # v1.2.3"), "uses: ./".into(), format!("  uses: a/b/c@{hash} # v2")] {
        assert_eq!(movable(&good), Vec::<&str>::new(), "{good}");
    }
    for bad in ["- uses: a/b@v4".into(), format!("uses: a/b@{hash}"), format!("uses: a/b@{} # v4", &hash[1..])] {
        assert_eq!(movable(&bad).len(), 1, "{bad}");
    }
}

#[test]
fn every_workflow_keeps_the_rules() {
    let found = workflows();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["ci.yml", "comment.yml", "gate.yml", "nightly.yml", "release.yml", "self-hosted.yml"] {
        assert!(names.contains(&name), "{name} is missing of {names:?}");
    }
    for (name, workflow) in &found {
        assert_eq!(violations(workflow), Vec::<&str>::new(), "{name}");
        assert!(!triggers(workflow).is_empty() && workflow["name"].as_str() == name.strip_suffix(".yml"), "{name}");
    }
    let of = |wanted: &str| &found.iter().find(|(name, _)| name == wanted).unwrap().1;
    assert_eq!(of("comment.yml")["on"]["workflow_run"]["workflows"], yaml("[gate]"));
    assert!(writes(&of("comment.yml")["jobs"]["comment"]["permissions"]), "it could not comment");
    let release = of("release.yml");
    assert!(of_tags_alone(release));
    assert!(release["jobs"]["build"]["permissions"].is_null() && writes(&release["jobs"]["publish"]["permissions"]));
    assert_eq!(release["jobs"]["publish"]["needs"], "build", "nothing untested is published");
    let judged = steps(&of("gate.yml")["jobs"]["hosted"]);
    assert_eq!(judged[1]["with"]["ref"], "${{ github.event.pull_request.base.sha }}");
    assert_eq!(judged.last().unwrap()["uses"], format!("./{}", judged[1]["with"]["path"].as_str().unwrap()));
    let own = of("self-hosted.yml");
    assert_eq!(triggers(own), ["push", "workflow_dispatch"], "nothing that a stranger can set off");
    assert_eq!(own["on"]["push"]["branches"], yaml("[main]"));
    for job in [of("gate.yml"), own].iter().flat_map(|workflow| workflow["jobs"].as_object().unwrap().values()) {
        let checkout = &steps(job)[0];
        assert_eq!(checkout["with"]["fetch-depth"], 0, "a merge base needs the history");
    }
}

#[test]
fn a_workflow_that_breaks_a_rule_is_seen() {
    let good = "
on: {pull_request: }
permissions: {contents: read}
concurrency: {group: a}
jobs:
  a:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    steps:
      - uses: actions/checkout@v4
        with: {persist-credentials: false}
      - run: make
";
    assert_eq!(violations(&yaml(good)), Vec::<&str>::new());
    for (from, to, said) in [
        ("pull_request:", "pull_request_target:", "pull_request_target"),
        ("permissions: {contents: read}", "", "permissions"),
        ("contents: read", "contents: write", "permissions"),
        ("concurrency: {group: a}", "", "concurrency"),
        ("    timeout-minutes: 5\n", "", "time limit"),
        ("make", "echo ${{ github.event.pull_request.title }}", "inside a script"),
        ("make", "echo $TOKEN\n        env: {TOKEN: '${{ secrets.TOKEN }}'}", "a secret or a right"),
        ("with: {persist-credentials: false}", "", "leaves its token"),
        ("checkout@v4", "checkout", "without a version"),
        ("ubuntu-24.04", "[self-hosted, macOS]", "one's own"),
        ("ubuntu-24.04", "{group: desks}", "one's own"),
        (
            "ubuntu-24.04",
            "\"${{ fromJSON(vars.RUNNER) }}\"\n    if: github.event.pull_request.head.repo.full_name == github.repository",
            "one's own",
        ),
        ("    steps:", "    permissions: {issues: write}\n    steps:", "outside of workflow_run"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        let found = violations(&yaml(&bad));
        assert!(found.iter().any(|wrong| wrong.contains(said)), "{said}: {found:?}");
    }
    let rights = good
        .replace("pull_request:", "workflow_run: {workflows: [gate]}")
        .replace("    steps:", "    permissions: {pull-requests: write}\n    steps:");
    for (step, said) in [
        ("- uses: ./", "code or files"),
        ("- uses: actions/download-artifact@v4", "code or files"),
        ("- run: cargo build", "something built"),
    ] {
        let found = violations(&yaml(&rights.replace("- run: make", step)));
        assert!(found.iter().any(|wrong| wrong.contains(said)), "{said}: {found:?}");
    }
    assert_eq!(violations(&yaml(&rights)), ["another checkout than the default branch beside a right to write"]);
    let release = "
on: {push: {tags: [v1]}}
permissions: {contents: read}
concurrency: {group: a}
jobs:
  a:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions: {contents: write}
    steps:
      - uses: actions/download-artifact@v4
      - run: gh release create
";
    assert_eq!(violations(&yaml(release)), Vec::<&str>::new());
    for (from, to, said) in [
        ("tags: [v1]", "tags: [v1], branches: [main]", "outside of workflow_run"),
        ("{push: {tags: [v1]}}", "push", "outside of workflow_run"),
        ("{push: {tags: [v1]}}", "{push: {tags: [v1]}, workflow_dispatch: }", "outside of workflow_run"),
        ("download-artifact@v4", "download-artifact@v4\n        with: {run-id: 1}", "another run"),
        ("download-artifact@v4", "checkout@v4\n        with: {persist-credentials: false}", "another checkout"),
        ("gh release create", "cargo build", "something built"),
    ] {
        let found = violations(&yaml(&release.replacen(from, to, 1)));
        assert!(found.iter().any(|wrong| wrong.contains(said)), "{said}: {found:?}");
    }
}

#[test]
fn the_action_takes_what_it_documents_and_runs_none_of_it() {
    let action = yaml(&fs_err::read_to_string(repository("action.yml")).unwrap());
    assert_eq!(action["runs"]["using"], "composite");
    let all = action["runs"]["steps"].as_array().unwrap();
    assert_eq!(in_steps(all), Vec::<&str>::new());
    let text = action["runs"].to_string();
    for input in action["inputs"].as_object().unwrap().keys() {
        assert!(text.contains(&format!("inputs.{input}")), "{input} does nothing");
        assert!(page().contains(&format!("`{input}`")), "docs/guides/ci.md does not say what {input} is");
    }
    for (name, workflow) in workflows() {
        for job in workflow["jobs"].as_object().unwrap().values() {
            for step in steps(job).iter().filter(|step| ["./", "./judge"].iter().any(|own| step["uses"] == *own)) {
                for input in step["with"].as_object().unwrap().keys() {
                    assert!(!action["inputs"][input].is_null(), "{name}: the action has no input {input}");
                }
            }
        }
    }
}

/// The page that explains all this.
fn page() -> String {
    fs_err::read_to_string(repository("docs/guides/ci.md")).unwrap()
}

#[test]
fn the_examples_of_the_page_are_workflows_that_keep_the_rules() {
    let page = page();
    let examples: Vec<&str> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let whole: Vec<Value> = examples.iter().map(|text| yaml(text)).filter(|value| !value["jobs"].is_null()).collect();
    assert!(!whole.is_empty());
    for workflow in whole {
        assert_eq!(violations(&workflow), Vec::<&str>::new(), "{workflow}");
    }
}
