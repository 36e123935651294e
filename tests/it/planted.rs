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
    for name in ["constant-cost", "kv-copy", "reorder", "stamps", "token"] {
        assert!(told.contains(&format!("{name}: the anchor")), "{name}: {told}");
    }
    let crates = tree.path().join("crates/moved/src");
    fs_err::create_dir_all(&crates).unwrap();
    let anchor = "    fn greedy(logits: &[f32]) -> Option<u32> {\n";
    fs_err::write(crates.join("once.rs"), anchor).unwrap();
    assert!(!fits(tree.path()).1.contains("constant-cost"), "a moved file is found, however it is indented");
    fs_err::write(crates.join("twice.rs"), anchor).unwrap();
    assert!(fits(tree.path()).1.contains("found 2 times"));
}
