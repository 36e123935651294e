//! How many tokens the requests of a session generate where the scenario does not say.

use std::path::{Path, PathBuf};

use super::{NO_PILOT, record};
use crate::lab::{Done, Lab, PATIENCE, line};

/// An engine whose requests take a few milliseconds, and `workload` besides its prompt.
fn scenario(lab: &Lab, workload: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine.py");
    lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n[model]\npath = \".\"\n[[engine]]\nname = \"exec\"\n\
             options = {{ command = [\"python3\", {script:?}] }}\n[workload]\ntext = \"one two\"\n\
             ignore_eos = true\n{workload}{NO_PILOT}[[gate]]\nmetric = \"e2e\"\ndelta = \"50%\"\n"
        ),
    )
}

/// As a user runs it: with the patience of tests no length would be enough.
fn session(lab: &Lab, scenario: &Path) -> Done {
    let arguments = ["ab", scenario.to_str().unwrap(), "--same", "--resident", "--format", "json", "--no-report"];
    lab.done(lab.program(&arguments).env_remove(PATIENCE.0).output().unwrap())
}

#[test]
fn requests_are_long_enough_for_the_gates_unless_the_scenario_says_how_long() {
    let lab = Lab::new();
    let done = session(&lab, &scenario(&lab, ""));
    let told = line(&done.stderr, "requests generate ");
    assert!(
        told.contains("because the scenario states no `workload.max_tokens`: with 128 the shortest request takes ")
    );
    let found = record(&lab);
    let length = found.manifest.length.as_ref().unwrap();
    assert!(
        length.usual == 128 && (129..=1024).contains(&length.chosen) && told.contains(&length.because),
        "{length:?} {told}"
    );
    assert!(told.starts_with(&format!("requests generate {} tokens", length.chosen)), "{told}");
    for side in [&found.a, &found.b] {
        assert_eq!(side.manifest.scenario.workload.max_tokens(), length.chosen);
        let generated = side.requests.iter().filter(|row| !row.warmup).map(|row| row.generated_tokens);
        assert!(generated.eq(side.requests.iter().filter(|row| !row.warmup).map(|_| Some(length.chosen))));
    }
    assert!(!found.a.requests.is_empty());

    let lab = Lab::new();
    let done = session(&lab, &scenario(&lab, "max_tokens = 16\n"));
    assert!(done.stderr.contains("raise `workload.max_tokens` until each request takes 100 ms"), "{}", done.stderr);
    let found = record(&lab);
    assert_eq!((found.manifest.length, found.a.manifest.scenario.workload.max_tokens()), (None, 16));
}
