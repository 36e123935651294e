//! The planted commits (`scripts/lib/planted_edits.py`, judged by `scripts/check-planted`) still
//! fit this tree.

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `scripts/check-planted --fits` on a tree: whether every edit fits, and a line for each that does
/// not.
fn fits(tree: &Path) -> (bool, String) {
    let script = root().join("scripts/check-planted");
    let output = Command::new("python3").arg(script).arg("--fits").arg(tree).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_anchor_is_found_exactly_once() {
    assert_eq!(fits(root()), (true, String::new()), "mend the anchors in scripts/lib/planted_edits.py");
}

#[test]
fn an_anchor_that_is_missing_or_found_twice_is_reported() {
    let tree = tempfile::tempdir().unwrap();
    let (fit, told) = fits(tree.path());
    assert!(!fit);
    insta::assert_snapshot!(told, @r#"
    constant-cost: the anchor 'fn greedy(logits: &[f32]) -> Option<u32> {' is wanted once and found 0 times: nowhere
    kv-copy: the anchor 'let begin = over.held - len;' is wanted once and found 0 times: nowhere
    reorder: the anchor 'pub fn add_weighted(matrix: &[N], weights: &[f32], width: usize, out: &mut [f32]), S => {' is wanted once and found 0 times: nowhere
    stamps: the anchor 'let Recorder { tokens, token_ns, spans, spans_dropped, choices, logprobs, .. } = recorder;' is wanted once and found 0 times: nowhere
    token: the anchor '/// Prompt and chosen tokens.' is wanted once and found 0 times: nowhere
    token: the anchor 'sampler: Sampler::new(&choice.sampling, choice.order),' is wanted once and found 0 times: nowhere
    token: the anchor 'let chosen = self.sampler.choose(&self.logits)?;' is wanted once and found 0 times: nowhere
    "#);
    let crates = tree.path().join("crates/moved/src");
    fs_err::create_dir_all(&crates).unwrap();
    let anchor = "    fn greedy(logits: &[f32]) -> Option<u32> {\n";
    fs_err::write(crates.join("once.rs"), anchor).unwrap();
    let without: Vec<&str> = told.lines().filter(|line| !line.starts_with("constant-cost: ")).collect();
    let moved = fits(tree.path()).1;
    assert_eq!(moved.lines().collect::<Vec<_>>(), without, "a moved file is found, however it is indented");
    fs_err::write(crates.join("twice.rs"), anchor).unwrap();
    let twice = fits(tree.path()).1;
    let twice = twice.lines().find(|line| line.starts_with("constant-cost: ")).expect(&twice);
    insta::assert_snapshot!(twice.replace(tree.path().to_str().unwrap(), "[TREE]"), @r#"constant-cost: the anchor 'fn greedy(logits: &[f32]) -> Option<u32> {' is wanted once and found 2 times: [TREE]/crates/moved/src/once.rs:1, [TREE]/crates/moved/src/twice.rs:1"#);
}
