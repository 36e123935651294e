//! Sides from commits of a toy repository, in a folder whose path has spaces.

use std::path::{Path, PathBuf};
use std::process::Command;

use inferometer::record::Cause;

use super::{DECODE, MEMORY, NO_PILOT, check, once, record, session, told};
use crate::lab::{Done, Lab, line, without_hashes};

/// A repository whose program is `engine.py` of the fixtures, and a scenario for it.
struct Toy {
    lab: Lab,
    scenario: PathBuf,
}

const ENGINE: &str = "#!/bin/sh\nexec python3 \"$(dirname \"$0\")/engine.py\" --token-ms 1";

impl Toy {
    /// The first commit's engine is fast; `build` is the scenario's `[build]`.
    fn new(gate: &str, build: &str) -> Self {
        let lab = Lab::new();
        let rest = format!("{NO_PILOT}{gate}[build]\n{build}\n[run]\ntimeout_s = 30.0\n");
        let scenario = lab.exec(&[], &rest);
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine.py");
        let toy = Self { lab, scenario };
        fs_err::create_dir_all(toy.repo()).unwrap();
        toy.git(&["init", "-q"]);
        fs_err::copy(fixture, toy.repo().join("engine.py")).unwrap();
        toy.commit(&[("engine.sh", &format!("{ENGINE}\n")), ("build.sh", "echo fine\n")]);
        toy
    }

    fn repo(&self) -> PathBuf {
        self.lab.path("a place/my repo")
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(self.repo())
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Commits files; programs are executable.
    fn commit(&self, files: &[(&str, &str)]) {
        use std::os::unix::fs::PermissionsExt;
        for (name, content) in files {
            let path = self.repo().join(name);
            fs_err::write(&path, content).unwrap();
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "a change"]);
    }

    fn arguments(&self, base: &str, head: &str) -> Vec<String> {
        let paths = [self.repo(), self.lab.path("the cache")].map(|path| path.to_str().unwrap().to_owned());
        let [repo, cache] = paths;
        ["--base", base, "--head", head, "--repo", &repo, "--cache", &cache].map(str::to_owned).to_vec()
    }

    fn compare(&self, base: &str, head: &str) -> Done {
        let arguments = self.arguments(base, head);
        once(&self.lab, &self.scenario, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Nothing to build.
const AS_IT_IS: &str = "command = []\nprogram = [\"engine.sh\"]";

#[test]
fn a_commit_that_makes_it_slow_is_regressed() {
    let toy = Toy::new(DECODE, AS_IT_IS);
    toy.commit(&[("engine.sh", &format!("{ENGINE} --token-ms 20\n"))]);
    let mut arguments = toy.arguments("HEAD~1", "HEAD");
    arguments.push("--resident".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (done, found) = session(&toy.lab, &toy.scenario, &arguments, 1);
    check(&found);
    assert_eq!(told(&done)["verdict"], "regressed");
    let [a, b] = found.manifest.sides.each_ref().map(|side| side.commit.clone().unwrap());
    assert_eq!((a.revision.as_str(), b.revision.as_str(), b.subject.as_str()), ("HEAD~1", "HEAD", "a change"));
    assert_ne!(a.program_sha256, b.program_sha256);
    assert_eq!(a.program[0].len(), b.program[0].len(), "where a program lies must not tell the sides apart");
    for (side, commit) in [(&found.a, &a), (&found.b, &b)] {
        assert_eq!(side.manifest.hosts[0].command, commit.program, "the commit's program is what ran");
    }
}

#[test]
fn a_commit_that_samples_another_token_is_output_changed() {
    let toy = Toy::new(MEMORY, AS_IT_IS);
    let engine = fs_err::read_to_string(toy.repo().join("engine.py")).unwrap();
    assert_eq!(engine.matches(".encode()) % 1000)").count(), 1);
    toy.commit(&[("engine.py", &engine.replace(".encode()) % 1000)", ".encode()) % 1000 ^ (index == 5))"))]);
    let done = toy.compare("HEAD~1", "HEAD").expect(4);
    let said = told(&done);
    assert_eq!(said["verdict"], "output-changed");
    insta::assert_snapshot!(without_hashes(said["reasons"][0].as_str().unwrap()), @r#"B (HEAD ([HASH])) generates different tokens, first at position 5 (cell 0, turn 0): token 109 instead of token 108"#);
}

#[test]
fn a_commit_that_fakes_its_stamps_is_invalid() {
    let toy = Toy::new(DECODE, AS_IT_IS);
    toy.commit(&[("engine.sh", &format!("{ENGINE} --backwards\n"))]);
    let done = toy.compare("HEAD~1", "HEAD").expect(4);
    assert_eq!(told(&done)["verdict"], "invalid");
    assert!(record(&toy.lab).b.requests.iter().any(|row| row.cause == Some(Cause::Stamps)));
}

#[test]
fn what_cannot_be_built_or_found_is_an_error_with_its_cause() {
    let toy = Toy::new(MEMORY, "command = [\"sh\", \"build.sh\"]\nprogram = [\"engine.sh\"]");
    toy.commit(&[("build.sh", "echo the compiler is unhappy >&2\nexit 3\n")]);
    let mut told = vec![
        line(&toy.compare("HEAD~1", "HEAD").expect(2).stderr, "error: "),
        line(&toy.compare("HEAD~1", "no-such-branch").expect(2).stderr, "error: "),
    ];
    fs_err::write(toy.repo().join("build.sh"), "echo changed\n").unwrap();
    told.push(line(&toy.compare("HEAD~1", "HEAD").expect(2).stderr, "error: "));
    insta::assert_snapshot!(without_hashes(&toy.lab.shown(&told.join("\n"))), @r#"
    error: the build of commit [HASH] failed (exit status: 3): sh build.sh
    error: the repository [LAB]/a place/my repo has no commit `no-such-branch`: check the spelling, or fetch it first with `git fetch`
    error: uncommitted changes would not be measured: build.sh; commit or stash them, or pass `--allow-dirty`
    "#);
    let nowhere = toy.lab.path("nowhere at all");
    let scenario = toy.scenario.to_str().unwrap();
    let arguments = ["ab", scenario, "--base", "HEAD", "--head", "HEAD", "--repo", nowhere.to_str().unwrap()];
    toy.lab.run(&arguments).expect(2).says("nowhere at all");
    assert!(!toy.lab.path("results").exists(), "nothing was begun");
}

/// A build may take minutes, in which others may measure.
#[test]
fn another_run_can_measure_while_commits_are_built() {
    let toy = Toy::new(MEMORY, "command = [\"sh\", \"build.sh\"]\nprogram = [\"engine.sh\"]\ntoolchain = []");
    let command = toy.lab.program(&[]);
    let program = command.get_program().to_str().unwrap().to_owned();
    let other = toy.scenario.to_str().unwrap();
    let measure = format!(
        "cd {:?}\n{program:?} run {other:?} --no-wait --no-report --results other --set run.iterations=1 2> told\necho $? > code\n",
        toy.lab.path("")
    );
    toy.commit(&[("build.sh", &measure)]);
    toy.compare("HEAD", "HEAD");
    let read = |name: &str| fs_err::read_to_string(toy.lab.path(name)).unwrap_or_default();
    assert!(!read("told").contains("another measurement"), "{}", read("told"));
    assert!(toy.lab.path("other").is_dir(), "{} {}", read("code"), read("told"));
}

#[test]
fn a_foreign_engine_must_say_how_it_is_built() {
    let toy = Toy::new(MEMORY, AS_IT_IS);
    let text = fs_err::read_to_string(&toy.scenario).unwrap();
    fs_err::write(&toy.scenario, text.replace(&format!("[build]\n{AS_IT_IS}\n"), "")).unwrap();
    let refused = toy.compare("HEAD", "HEAD").expect(2);
    insta::assert_snapshot!(toy.lab.shown(&line(&refused.stderr, "error: ")), @r#"error: no build command for this engine: set `command` and `program` in the scenario's [build], or give --build and --program"#);
}
