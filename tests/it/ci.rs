//! What runs in CI: workflows that a stranger's pull request cannot turn against the project, and their two scripts.

mod comment;
mod gate;

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

/// What is wrong with steps wherever they stand.
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

/// What is wrong with a workflow.
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
        // A condition would not help: a pull request brings its own copy of the workflow.
        let own = runner.contains("self-hosted") || runner.contains("vars.") || !job["runs-on"]["group"].is_null();
        if own && on.iter().any(|event| event.starts_with("pull_request")) {
            wrong.push("a machine of one's own in a workflow of pull requests");
        }
        if writes(&job["permissions"]) {
            wrong.extend(with_rights(&on, job));
        }
    }
    wrong
}

/// What is wrong with a job that may write.
fn with_rights(on: &[&str], job: &Value) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    if on != ["workflow_run"] {
        wrong.push("a right to write outside of workflow_run");
    }
    for step in steps(job) {
        let uses = step["uses"].as_str().unwrap_or_default();
        let trusted = "${{ github.event.repository.default_branch }}";
        if uses.starts_with("actions/checkout@") && step["with"]["ref"] != trusted {
            wrong.push("another checkout than the default branch beside a right to write");
        }
        if uses.starts_with("./") || uses.contains("download-artifact") {
            wrong.push("code or files of a pull request beside a right to write");
        }
        if step["run"].as_str().is_some_and(|script| script.contains("cargo") || script.contains("git ")) {
            wrong.push("something built beside a right to write");
        }
    }
    wrong
}

#[test]
fn every_workflow_keeps_the_rules() {
    let found = workflows();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["ci.yml", "comment.yml", "gate.yml", "nightly.yml", "self-hosted.yml"] {
        assert!(names.contains(&name), "{name} is missing of {names:?}");
    }
    for (name, workflow) in &found {
        assert_eq!(violations(workflow), Vec::<&str>::new(), "{name}");
        assert!(!triggers(workflow).is_empty() && workflow["name"].as_str() == name.strip_suffix(".yml"), "{name}");
    }
    let of = |wanted: &str| &found.iter().find(|(name, _)| name == wanted).unwrap().1;
    assert_eq!(of("comment.yml")["on"]["workflow_run"]["workflows"], yaml("[gate]"));
    assert!(writes(&of("comment.yml")["jobs"]["comment"]["permissions"]), "it could not comment");
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
