//! Builds programs from commits: toy repositories whose build is a shell script.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use inferometer::run::build;
use inferometer::run::build::{BuildError, Built, Commit, Repository};
use inferometer::spec::BuildSettings;

use crate::lab::without_hashes;

struct Toy {
    _dir: tempfile::TempDir,
    home: PathBuf,
}

/// Builds a program that prints its commit, and logs the build.
const BUILD: &str =
    "set -e\nmkdir -p \"$1\"\necho built >> \"$1/times\"\ncp engine.sh \"$1/engine\"\nchmod +x \"$1/engine\"\n";

impl Toy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A space in every path of every test: nothing may split there.
        let home = fs_err::canonicalize(dir.path()).unwrap().join("a place");
        let toy = Self { _dir: dir, home };
        fs_err::create_dir_all(toy.repo()).unwrap();
        toy.git(&["init", "-q"]);
        toy.write("build.sh", BUILD);
        toy.commit("engine.sh", "#!/bin/sh\necho first\n", "the first\tengine");
        toy.commit("engine.sh", "#!/bin/sh\necho second\n", "the second engine");
        toy
    }

    fn repo(&self) -> PathBuf {
        self.home.join("my repo")
    }

    fn cache(&self) -> PathBuf {
        self.home.join("cache")
    }

    fn write(&self, name: &str, content: &str) {
        fs_err::write(self.repo().join(name), content).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.repo())
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, file: &str, content: &str, subject: &str) -> String {
        self.write(file, content);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// What was said, for a snapshot: this toy's folder is `[HOME]`.
    fn shown(&self, said: &str) -> String {
        without_hashes(&said.replace(self.home.to_str().unwrap(), "[HOME]"))
    }

    /// Why it cannot be built, for a snapshot.
    fn error(&self, revision: &str, settings: &BuildSettings) -> String {
        self.shown(&self.build(revision, settings).unwrap_err().to_string())
    }

    fn repository(&self) -> Repository {
        build::repository(&self.repo()).unwrap()
    }

    fn build(&self, revision: &str, settings: &BuildSettings) -> Result<(Built, Vec<String>), BuildError> {
        let repository = self.repository();
        let commit = repository.commit(revision)?;
        let mut notes = Vec::new();
        let built =
            build::build(&repository, &commit, settings, &self.cache(), &mut |note| notes.push(note.to_owned()))?;
        Ok((built, notes))
    }

    /// Number of builds into `{shared}`.
    fn times(&self) -> usize {
        let builds = self.cache().join("builds");
        let repository = fs_err::read_dir(builds).unwrap().next().unwrap().unwrap().path();
        fs_err::read_to_string(repository.join("shared/times")).unwrap().lines().count()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Builds into the worktree or into the shared folder.
fn recipe(folder: &str) -> BuildSettings {
    BuildSettings {
        command: words(&["sh", "build.sh", folder]),
        program: vec![format!("{folder}/engine"), "host".to_owned(), "{tree}".to_owned()],
        toolchain: words(&["echo", "cc 1.0"]),
        timeout_s: 60.0,
    }
}

/// The output of the program. Started by `sh`, because a program that was just written is busy
/// while any thread starts a process.
fn says(built: &Built) -> String {
    let output = Command::new("sh").args(&built.command).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_commit_is_built_once_and_kept() {
    let toy = Toy::new();
    let settings = recipe("{shared}");
    let (second, notes) = toy.build("HEAD", &settings).unwrap();
    assert!(!second.cached);
    insta::assert_snapshot!(toy.shown(&notes.join("\n")), @r#"building [HASH] (the second engine): sh build.sh '[HOME]/cache/builds/[HASH]/shared', log [HOME]/cache/builds/[HASH]/[HASH]/[HASH].log"#);
    assert!(fs_err::read_to_string(&second.log).unwrap().starts_with("$ sh build.sh "));
    let (first, _) = toy.build("HEAD~1", &settings).unwrap();
    assert_eq!(first.commit.subject, "the first\\tengine", "nothing in a subject reaches the terminal as it is");

    // The second build wrote to the same path, but the first program was kept.
    assert_eq!((says(&first).as_str(), says(&second).as_str()), ("first", "second"));
    let [a, b] = [&first, &second].map(|side| side.command.clone());
    assert_eq!(a.iter().map(String::len).collect::<Vec<_>>(), b.iter().map(String::len).collect::<Vec<_>>());
    assert_eq!((a[1].as_str(), Path::new(&a[2])), ("host", first.tree.as_path()));
    assert!(Path::new(&a[0]).is_absolute() && a[0].contains("a place"));
    assert_eq!(first.toolchain.as_deref(), Some("cc 1.0"));

    let (again, notes) = toy.build(&second.commit.hash[..12], &settings).unwrap();
    assert!(again.cached);
    let [note] = &notes[..] else { panic!("{notes:?}") };
    let (told, when) = note.rsplit_once(", ").unwrap();
    insta::assert_snapshot!(toy.shown(told), @r#"[HASH] (the second engine) was built before"#);
    assert!(when.parse::<jiff::Timestamp>().is_ok(), "{note}");
    assert_eq!((&again.command, &again.program_sha256), (&second.command, &second.program_sha256));
    assert_eq!(toy.times(), 2);
}

#[test]
fn what_no_longer_holds_is_built_anew() {
    let toy = Toy::new();
    let settings = recipe("{shared}");
    let (built, _) = toy.build("HEAD", &settings).unwrap();
    let mut told = Vec::new();
    let mut anew = |what: &str| {
        let (again, notes) = toy.build("HEAD", &settings).unwrap();
        assert!(!again.cached, "{what}: {notes:?}");
        // When it was built before and where it is built now: another test shows them.
        let why =
            notes.iter().filter(|note| !note.starts_with("building ")).filter_map(|note| note.rsplit(", ").next());
        told.push(format!("{what}: [{}]", why.collect::<Vec<_>>().join("; ")));
        assert_eq!(says(&again), "second");
        assert!(toy.build("HEAD", &settings).unwrap().0.cached, "{what}");
    };
    fs_err::write(&built.command[0], "#!/bin/sh\necho planted\n").unwrap();
    anew("the program was overwritten");
    fs_err::remove_file(&built.command[0]).unwrap();
    anew("the program was deleted");
    fs_err::write(built.tree.join("engine.sh"), "edited").unwrap();
    anew("the worktree was edited");
    let marked = |mark: &str| {
        let output = Command::new("git").current_dir(&built.tree).args(["update-index", mark, "engine.sh"]).output();
        assert!(output.unwrap().status.success(), "{mark}");
        fs_err::write(built.tree.join("engine.sh"), "edited unseen").unwrap();
    };
    marked("--assume-unchanged");
    anew("a file that git shall not look at was edited");
    marked("--skip-worktree");
    anew("a file that git skips was edited");
    fs_err::write(built.tree.join("config.toml"), "fast = false").unwrap();
    anew("an untracked file was added");
    let stamp = built.tree.with_extension("json");
    fs_err::write(&stamp, "{ half a stamp").unwrap();
    anew("the stamp was cut");
    fs_err::remove_dir_all(&built.tree).unwrap();
    anew("the worktree was deleted");
    insta::assert_snapshot!(told.join("\n"), @r#"
    the program was overwritten: [but its program has been changed: building it again]
    the program was deleted: [but its program has been changed: building it again]
    the worktree was edited: [but its worktree has been changed (`engine.sh` has been changed): building it again]
    a file that git shall not look at was edited: [but its worktree has been changed (`engine.sh` has been changed): building it again]
    a file that git skips was edited: [but its worktree has been changed (`engine.sh` has been changed): building it again]
    an untracked file was added: [but its worktree has been changed (`config.toml` has been added): building it again]
    the stamp was cut: []
    the worktree was deleted: []
    "#);

    // Another recipe has its own programs, and those of this recipe stay.
    let other = BuildSettings { command: words(&["sh", "build.sh", "{shared}", "fast"]), ..settings.clone() };
    let (elsewhere, _) = toy.build("HEAD", &other).unwrap();
    assert_ne!(elsewhere.command[0], built.command[0]);
    assert!(toy.build("HEAD", &settings).unwrap().0.cached);
}

/// The program is a script that starts another file of the build.
#[test]
fn everything_that_the_build_made_is_verified() {
    let toy = Toy::new();
    let parts = "set -e\nmkdir -p out\nprintf 'echo inner\\n' > out/inner\n\
                 printf '#!/bin/sh\\n. \"$(dirname \"$0\")/inner\"\\n' > out/engine\nchmod +x out/engine\n";
    toy.commit("build.sh", parts, "in two parts");
    toy.commit(".gitignore", "out\n", "ignores what it makes");
    let (built, _) = toy.build("HEAD", &recipe("out")).unwrap();
    assert_eq!(says(&built), "inner");
    assert!(toy.build("HEAD", &recipe("out")).unwrap().0.cached);
    fs_err::write(built.tree.join("out/inner"), "echo planted\n").unwrap();
    let (again, notes) = toy.build("HEAD", &recipe("out")).unwrap();
    assert!(!again.cached && notes[0].contains("`out/inner` has been changed"), "{notes:?}");
    assert_eq!(says(&again), "inner");
}

/// Folders nested so deeply that no path reaches the innermost one. Permissions would not do: root
/// reads everything.
fn nest(folder: &Path) {
    let name = "n".repeat(250);
    let deep = format!("for i in $(seq 20); do mkdir {name} && cd -P {name} || exit 1; done");
    assert!(Command::new("sh").current_dir(folder).args(["-c", &deep]).status().unwrap().success());
}

#[test]
fn a_file_that_cannot_be_read_costs_its_build_and_no_other() {
    let toy = Toy::new();
    let settings = recipe("{shared}");
    let (first, _) = toy.build("HEAD~1", &settings).unwrap();
    let (second, _) = toy.build("HEAD", &settings).unwrap();
    nest(&second.tree);
    assert!(toy.build("HEAD~1", &settings).unwrap().0.cached);
    let (again, notes) = toy.build("HEAD", &settings).unwrap();
    assert!(!again.cached && notes[0].contains("but its worktree cannot be verified (failed to"), "{notes:?}");
    assert_eq!((says(&first).as_str(), says(&again).as_str()), ("first", "second"));

    // A build that leaves such a file is refused by name; nothing of it is taken for verified.
    let name = "n".repeat(250);
    let build = format!("for i in $(seq 20); do mkdir {name} && cd -P {name} || exit 1; done\n");
    let own = format!("mkdir -p out && printf '#!/bin/sh\\necho deep\\n' > out/engine && chmod +x out/engine\n{build}");
    let commit = toy.commit("build.sh", &own, "nests folders");
    let error = toy.build("HEAD", &recipe("out")).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("the build of commit {} left a file that cannot be read", &commit[..9])),
        "{error}"
    );
    assert!(toy.build("HEAD~2", &settings).unwrap().0.cached);
}

#[test]
fn a_toolchain_is_asked_each_time_and_must_be_one() {
    let toy = Toy::new();
    let version = toy.home.join("version");
    fs_err::write(&version, "cc 1").unwrap();
    let settings = BuildSettings { toolchain: words(&["cat", version.to_str().unwrap()]), ..recipe("out") };
    let (head, _) = toy.build("HEAD", &settings).unwrap();
    fs_err::write(&version, "cc 2").unwrap();
    let (base, _) = toy.build("HEAD~1", &settings).unwrap();
    build::check_same_toolchain(&base, &base).unwrap();
    insta::assert_snapshot!(build::check_same_toolchain(&base, &head).unwrap_err(), @r#"the two commits are built by different toolchains, which could explain a difference: base "cc 2", head "cc 1"; pin one toolchain for both (with rustup: `RUSTUP_TOOLCHAIN=NAME`)"#);
    let (again, notes) = toy.build("HEAD", &settings).unwrap();
    assert!(!again.cached);
    insta::assert_snapshot!(notes[0].rsplit(", ").next().unwrap(), @r#"but the toolchain or the environment has changed: building it again"#);

    let settings = BuildSettings { toolchain: words(&["/no/such/cc", "-v"]), ..recipe("out") };
    insta::assert_snapshot!(toy.error("HEAD", &settings), @r#"commit [HASH]: `/no/such/cc -v` did not report the toolchain: No such file or directory (os error 2); correct `toolchain` in [build], or make it empty"#);
    let settings = BuildSettings { toolchain: Vec::new(), ..recipe("out") };
    assert_eq!(toy.build("HEAD", &settings).unwrap().0.toolchain, None);
}

#[test]
fn a_failed_build_shows_the_log_s_end_and_leaves_no_stamp() {
    let toy = Toy::new();
    let script =
        "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; done; printf 'no \\033[31mred\\n' >&2; exit 3\n";
    toy.commit("build.sh", script, "broken");
    let error = toy.error("HEAD", &recipe("out"));
    insta::assert_snapshot!(error, @r#"
    the build of commit [HASH] failed (exit status: 3): sh build.sh out
    its log [HOME]/cache/builds/[HASH]/[HASH]/[HASH].log ends with:
      | line 22
      | line 23
      | line 24
      | line 25
      | line 26
      | line 27
      | line 28
      | line 29
      | line 30
      | line 31
      | line 32
      | line 33
      | line 34
      | line 35
      | line 36
      | line 37
      | line 38
      | line 39
      | line 40
      | no \u{1b}[31mred
    "#);
    assert_eq!(toy.error("HEAD", &recipe("out")), error, "it fails again, and not because of what the first left");
    let folder = toy.build("HEAD~1", &recipe("out")).unwrap().0.tree.parent().unwrap().to_owned();
    let head = toy.git(&["rev-parse", "HEAD"]);
    assert!(folder.join(format!("{head}.log")).is_file() && !folder.join(format!("{head}.json")).exists());

    toy.commit("build.sh", "true\n", "builds nothing");
    insta::assert_snapshot!(toy.error("HEAD", &recipe("out")), @r#"the build of commit [HASH] made no program at [HOME]/cache/builds/[HASH]/[HASH]/[HASH]/out/engine: check `program` in [build] (relative paths are in the worktree; an interpreter needs an absolute path); see the build log [HOME]/cache/builds/[HASH]/[HASH]/[HASH].log"#);
    toy.commit("build.sh", "mkdir out; echo x > out/engine\n", "not to be run");
    let error = toy.build("HEAD", &recipe("out")).unwrap_err();
    assert!(matches!(error, BuildError::NoProgram { .. }), "{error}");
    let absent = BuildSettings { command: words(&["/no/such/builder"]), ..recipe("out") };
    insta::assert_snapshot!(toy.error("HEAD", &absent), @r#"
    the build of commit [HASH] could not start (No such file or directory (os error 2)): /no/such/builder
    it printed nothing (log: [HOME]/cache/builds/[HASH]/[HASH]/[HASH].log)
    "#);
}

#[test]
fn a_build_that_takes_too_long_is_ended_with_all_it_started() {
    let toy = Toy::new();
    toy.commit("build.sh", "sleep 600 & echo $! > \"$1\"; wait\n", "hangs");
    let pid = toy.home.join("pid");
    let command = words(&["sh", "build.sh", pid.to_str().unwrap()]);
    let settings = BuildSettings { command, timeout_s: 3.0, ..recipe("out") };
    insta::assert_snapshot!(toy.error("HEAD", &settings), @r#"
    the build of commit [HASH] took longer than 3 s and was killed: sh build.sh '[HOME]/pid'
    it printed nothing (log: [HOME]/cache/builds/[HASH]/[HASH]/[HASH].log)
    "#);
    let started = || fs_err::read_to_string(&pid).unwrap_or_default().trim().parse::<u32>().ok();
    let sleeper = started().expect("the build wrote it within three seconds");
    crate::lab::until("the sleeper is gone", || (!crate::lab::runs(sleeper)).then_some(()));

    // Interrupted during the build.
    fs_err::remove_file(&pid).unwrap();
    let (repository, asked) = (toy.repository(), AtomicBool::new(false));
    let head = repository.commit("HEAD").unwrap();
    let settings = BuildSettings { timeout_s: 600.0, ..settings };
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::lab::until("the build has begun", &started);
            asked.store(true, Ordering::Relaxed);
        });
        let stop = || asked.load(Ordering::Relaxed);
        build::build_sides(&repository, [&head, &head], &settings, &toy.cache(), &stop, &mut |_| {}).unwrap_err()
    });
    assert!(matches!(error, BuildError::Interrupted { .. }), "{error}");
    let sleeper = started().unwrap();
    crate::lab::until("the second sleeper is gone", || (!crate::lab::runs(sleeper)).then_some(()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_build_is_ended_with_what_left_its_group() {
    let toy = Toy::new();
    let begin = "python3 -c 'import subprocess, sys, time; \
                 open(sys.argv[1], \"w\").write(str(subprocess.Popen([\"sleep\", \"600\"], start_new_session=True).pid)); \
                 time.sleep(600)' \"$1\"\n";
    toy.commit("build.sh", begin, "leaves its group");
    let pid = toy.home.join("pid");
    let command = words(&["sh", "build.sh", pid.to_str().unwrap()]);
    let error = toy.build("HEAD", &BuildSettings { command, timeout_s: 3.0, ..recipe("out") }).unwrap_err().to_string();
    assert!(error.contains("was killed"), "{error}");
    let sleeper = fs_err::read_to_string(&pid).unwrap().parse().unwrap();
    crate::lab::until("the sleeper is gone", || (!crate::lab::runs(sleeper)).then_some(()));
}

#[test]
fn output_of_a_build_without_end_does_not_fill_the_disk() {
    let toy = Toy::new();
    toy.commit(
        "build.sh",
        "echo first words; yes 'noise noise noise noise' | head -n 200000; echo last words >&2; exit 1\n",
        "noise",
    );
    let error = toy.build("HEAD", &recipe("out")).unwrap_err().to_string();
    assert!(error.contains("| last words"), "{error}");
    let log = error.split("its log ").nth(1).unwrap().split(" ends with").next().unwrap();
    let log = fs_err::read_to_string(log).unwrap();
    assert!(
        log.len() < 2 << 20 && log.contains("first words") && log.contains("[inferometer left out 3"),
        "{}",
        log.len()
    );
    toy.commit("build.sh", "yes\n", "says yes");
    let error = toy.build("HEAD", &BuildSettings { timeout_s: 2.0, ..recipe("out") }).unwrap_err().to_string();
    assert!(error.contains("took longer than 2 s"), "{error}");
    let log = error.split("its log ").nth(1).unwrap().split(" ends with").next().unwrap();
    assert!(fs_err::metadata(log).unwrap().len() < 2 << 20);
}

#[test]
fn a_commit_against_itself_is_allowed_and_said() {
    let toy = Toy::new();
    let repository = toy.repository();
    let sides = ["HEAD", "@"].map(|revision| repository.commit(revision).unwrap());
    let mut notes = Vec::new();
    let [base, head] =
        build::build_sides(&repository, sides.each_ref(), &recipe("out"), &toy.cache(), &|| false, &mut |note| {
            notes.push(note.to_owned())
        })
        .unwrap();
    assert_eq!((&base.command, base.cached, head.cached), (&head.command, false, true));
    assert_eq!((base.commit.revision.as_str(), head.commit.revision.as_str()), ("HEAD", "@"));
    insta::assert_snapshot!(toy.shown(&notes[0]), @r#"base and head are the same commit [HASH]: this is an A/A session, any difference is noise"#);
}

#[test]
fn what_names_no_commit_is_refused() {
    let toy = Toy::new();
    let repository = toy.repository();
    let blob = toy.git(&["rev-parse", "HEAD:engine.sh"]);
    let mut told = Vec::new();
    for absent in ["no-such-branch", "HEAD~99", &blob] {
        let error = repository.commit(absent).unwrap_err();
        assert!(matches!(error, BuildError::NoCommit { shallow: false, .. }), "{error}");
        told.push(toy.shown(&error.to_string()));
    }
    for option in ["--all", "-n1", "", "a\nb"] {
        assert!(matches!(repository.commit(option), Err(BuildError::Revision { .. })), "{option:?}");
    }

    let shallow = toy.home.join("shallow");
    let from = format!("file://{}", toy.repo().display());
    toy.git(&["clone", "-q", "--depth", "1", &from, shallow.to_str().unwrap()]);
    let error = build::repository(&shallow).unwrap().commit("HEAD~1").unwrap_err();
    assert!(matches!(error, BuildError::NoCommit { shallow: true, .. }), "{error}");
    told.push(toy.shown(&error.to_string()));

    for outside in [toy.home.as_path(), &toy.home.join("nowhere")] {
        let error = build::repository(outside).unwrap_err();
        let BuildError::NoRepository { path, .. } = error else { panic!("{error}") };
        assert_eq!(path, outside);
        // What git says differs between versions of it.
        told.push(toy.shown(&BuildError::NoRepository { path, said: "git's words".to_owned() }.to_string()));
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    the repository [HOME]/my repo has no commit `no-such-branch`: check the spelling, or fetch it first with `git fetch`
    the repository [HOME]/my repo has no commit `HEAD~99`: check the spelling, or fetch it first with `git fetch`
    the repository [HOME]/my repo has no commit `[HASH]`: check the spelling, or fetch it first with `git fetch`
    the repository [HOME]/shallow has no commit `HEAD~1`: the clone is shallow; fetch the full history with `git fetch --unshallow` (in CI: check out with fetch-depth 0)
    [HOME] is not in a git repository with a working tree (git's words); pass one with `--repo PATH`, or compare settings or engines instead of commits
    [HOME]/nowhere is not in a git repository with a working tree (git's words); pass one with `--repo PATH`, or compare settings or engines instead of commits
    "#);
    fs_err::create_dir(toy.repo().join("inside")).unwrap();
    assert_eq!(build::repository(&toy.repo().join("inside")).unwrap(), repository);
}

#[test]
fn uncommitted_changes_are_seen_and_never_built() {
    let toy = Toy::new();
    let repository = toy.repository();
    repository.must_be_clean().unwrap();
    toy.write("notes.txt", "of no commit, but of no build either");
    repository.must_be_clean().unwrap();
    toy.write("engine.sh", "#!/bin/sh\necho uncommitted\n");
    insta::assert_snapshot!(repository.must_be_clean().unwrap_err(), @r#"uncommitted changes would not be measured: engine.sh; commit or stash them, or pass `--allow-dirty`"#);
    assert_eq!(says(&toy.build("HEAD", &recipe("out")).unwrap().0), "second");
    assert_eq!(fs_err::read_to_string(toy.repo().join("engine.sh")).unwrap(), "#!/bin/sh\necho uncommitted\n");
}

#[test]
fn hooks_do_not_run_and_submodules_are_said_to_be_empty() {
    let toy = Toy::new();
    let hooks = toy.repo().join(".git/hooks");
    fs_err::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("post-checkout");
    fs_err::write(&hook, format!("#!/bin/sh\ntouch '{}'\n", toy.home.join("ran").display())).unwrap();
    Command::new("chmod").arg("+x").arg(&hook).status().unwrap();
    let head = toy.git(&["rev-parse", "HEAD"]);
    toy.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},third_party/lib")]);
    toy.git(&["commit", "-q", "-m", "a submodule"]);
    let (built, notes) = toy.build("HEAD", &recipe("out")).unwrap();
    insta::assert_snapshot!(toy.shown(&notes[0]), @r#"[HASH] has submodules, which stay empty because nothing is fetched: third_party/lib"#);
    assert_eq!(says(&built), "second");
    assert!(!toy.home.join("ran").exists(), "a hook ran");
}

#[test]
fn two_processes_do_not_build_at_once() {
    let toy = Toy::new();
    // The build fails if another one is running.
    let script = format!("mkdir \"$1/alone\" || exit 9\nsleep 0.3\nrmdir \"$1/alone\"\n{BUILD}");
    toy.commit("build.sh", &script, "guarded");
    toy.commit("engine.sh", "#!/bin/sh\necho third\n", "third");
    std::thread::scope(|scope| {
        let builders: Vec<_> = ["HEAD", "HEAD", "HEAD~1"]
            .map(|revision| scope.spawn(|| toy.build(revision, &recipe("{shared}")).map(|(built, _)| built.cached)))
            .into();
        let cached: Vec<bool> = builders.into_iter().map(|builder| builder.join().unwrap().unwrap()).collect();
        assert_eq!(cached.iter().filter(|cached| **cached).count(), 1, "{cached:?}");
    });
    assert_eq!(toy.times(), 2);
}

#[test]
fn the_built_program_is_an_engine_host() {
    let toy = Toy::new();
    let host = format!("#!/bin/sh\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_inferometer"));
    toy.commit("engine.sh", &host, "a host");
    let settings = BuildSettings { program: words(&["out/engine", "host"]), ..recipe("out") };
    let (built, _) = toy.build("HEAD", &settings).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    let output = check.args(["engines", "check", "--only", "greets", "--"]).args(&built.command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_script_needs_no_build() {
    let toy = Toy::new();
    toy.git(&["update-index", "--chmod=+x", "engine.sh"]);
    toy.git(&["commit", "-q", "-m", "to be run as it is"]);
    let settings = BuildSettings { command: Vec::new(), program: words(&["engine.sh"]), ..recipe("out") };
    let (built, notes) = toy.build("HEAD", &settings).unwrap();
    insta::assert_snapshot!(toy.shown(&notes.join("\n")), @r#"[HASH] (to be run as it is): nothing to build"#);
    assert_eq!(says(&built), "second");
    let Commit { hash, revision, .. } = &built.commit;
    assert_eq!((hash.as_str(), revision.as_str()), (toy.git(&["rev-parse", "HEAD"]).as_str(), "HEAD"));
}

#[test]
fn the_default_recipe_builds_a_cargo_project() {
    let toy = Toy::new();
    toy.write(
        "Cargo.toml",
        "[package]\nname = \"inferometer\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    toy.write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"inferometer\"\nversion = \"0.1.0\"\n");
    fs_err::create_dir(toy.repo().join("src")).unwrap();
    let main = |number: u32| format!("fn main() {{ std::process::exit({number}) }}\n");
    toy.commit("src/main.rs", &main(11), "one way");
    toy.commit("src/main.rs", &main(12), "another way");
    let [base, head] = ["HEAD~1", "HEAD"].map(|revision| toy.build(revision, &BuildSettings::default()).unwrap().0);
    let code = |built: &Built| Command::new(&built.command[0]).arg(&built.command[1]).status().unwrap().code();
    assert_eq!((code(&base), code(&head)), (Some(11), Some(12)));
    assert_eq!(base.command[0].len(), head.command[0].len());
    let rustc = Command::new("rustc").arg("-vV").current_dir(toy.repo()).output().unwrap();
    assert_eq!(base.toolchain.as_deref(), Some(String::from_utf8(rustc.stdout).unwrap().trim()));
    assert_eq!(base.toolchain, head.toolchain);
}

/// `inferometer ab` on the toy repository; it stops before it measures.
fn ab(toy: &Toy, repository: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/gate.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_inferometer"))
        .current_dir(&toy.home)
        .env("INFEROMETER_CACHE", toy.cache())
        // Other measurements on this machine are no concern of this test.
        .env("INFEROMETER_LOCK", toy.home.join("lock"))
        .arg("ab")
        .arg(scenario)
        .args(["--repo", repository, "--build", "sh build.sh {shared}", "--program", "{shared}/engine host"])
        .args(arguments)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_cannot_be_built_ends_the_command_with_2_and_says_why() {
    let toy = Toy::new();
    let mut told = Vec::new();
    let mut refused = |repository: &str, head: &str| {
        let (code, said) = ab(&toy, repository, &["--base", "HEAD~1", "--head", head]);
        assert_eq!(code, Some(2), "{said}");
        assert!(!toy.home.join("results").exists(), "nothing was measured, nothing is recorded");
        // What git says in parentheses differs between versions of it.
        let (before, after) = said.split_once("(fatal:").unwrap_or((&said, ""));
        told.push(toy.shown(before) + after.split_once(")").map_or("", |(_, rest)| rest));
    };
    refused("my repo", "nowhere");
    refused(".", "HEAD");
    toy.write("engine.sh", "uncommitted");
    refused("my repo", "HEAD");
    toy.commit("build.sh", "echo the compiler is cross; exit 7\n", "broken");
    refused("my repo", "HEAD");
    insta::assert_snapshot!(told.join("\n"), @r#"
    error: the repository [HOME]/my repo has no commit `nowhere`: check the spelling, or fetch it first with `git fetch`

    error: . is not in a git repository with a working tree : .git); pass one with `--repo PATH`, or compare settings or engines instead of commits

    error: uncommitted changes would not be measured: engine.sh; commit or stash them, or pass `--allow-dirty`

    building [HASH] (the second engine): sh build.sh '[HOME]/cache/builds/[HASH]/shared', log [HOME]/cache/builds/[HASH]/[HASH]/[HASH].log
    building [HASH] (broken): sh build.sh '[HOME]/cache/builds/[HASH]/shared', log [HOME]/cache/builds/[HASH]/[HASH]/[HASH].log
    error: the build of commit [HASH] failed (exit status: 7): sh build.sh '[HOME]/cache/builds/[HASH]/shared'
    its log [HOME]/cache/builds/[HASH]/[HASH]/[HASH].log ends with:
      | the compiler is cross
    "#);
}

#[test]
fn a_user_s_worktree_that_is_away_stays_registered() {
    let toy = Toy::new();
    let (here, away) = (toy.home.join("theirs"), toy.home.join("theirs, unplugged"));
    toy.git(&["worktree", "add", "-q", "--detach", here.to_str().unwrap()]);
    fs_err::rename(&here, &away).unwrap();
    let (built, _) = toy.build("HEAD", &recipe("out")).unwrap();
    // A worktree of the build whose folder is missing, but which git still lists, is replaced
    // without it.
    fs_err::remove_dir_all(&built.tree).unwrap();
    assert_eq!(says(&toy.build("HEAD", &recipe("out")).unwrap().0), "second");
    let known = toy.git(&["worktree", "list", "--porcelain"]);
    let theirs = format!("worktree {}", here.display());
    assert!(known.lines().any(|line| line == theirs), "{known}");
    fs_err::rename(&away, &here).unwrap();
    let output = Command::new("git").current_dir(&here).args(["status", "--short"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// This project's own build script, as Cargo runs it on a Mac with and without Xcode's Metal
/// compiler.
#[test]
fn a_build_without_the_metal_compiler_stops_at_once_and_names_a_way_that_works() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (script, tools) = (dir.path().join("script"), dir.path().join("tools"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc).args(["--edition", "2024", "-o"]).arg(&script).arg(&source).output().unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    fs_err::create_dir(&tools).unwrap();
    let told = |host: &str, metal: bool, xcrun: Option<&str>| {
        let _ = fs_err::remove_file(tools.join("xcrun"));
        if let Some(text) = xcrun {
            fs_err::write(tools.join("xcrun"), format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            fs_err::set_permissions(tools.join("xcrun"), mode).unwrap();
        }
        let mut run = Command::new(&script);
        run.env_clear().env("PATH", &tools).env("HOST", host);
        run.env("CARGO_CFG_TARGET_OS", "macos").env("CARGO_CFG_TARGET_ARCH", "aarch64");
        if metal {
            run.env("CARGO_FEATURE_METAL", "1");
        }
        let output = String::from_utf8(run.output().unwrap().stdout).unwrap();
        output.lines().filter_map(|line| line.strip_prefix("cargo::error=")).collect::<Vec<_>>().join("\n")
    };
    let mac = "aarch64-apple-darwin";
    let missing = "echo 'error: cannot execute tool metal due to missing Metal Toolchain' >&2; exit 1";
    insta::assert_snapshot!(told(mac, true, Some(missing)), @r#"
    the Metal compiler is missing, which MLX needs: `xcrun metal --version`: error: cannot execute tool metal due to missing Metal Toolchain
    either install it (a whole Xcode): xcodebuild -downloadComponent MetalToolchain
    or build without MLX (candle on the CPU, and mlx_lm through its adapter): cargo build --release -p inferometer --no-default-features --features engine
    "#);
    assert!(told(mac, true, None).contains("No such file"), "only the command line tools");
    assert_eq!(told(mac, true, Some("exit 0")), "");
    assert_eq!(told(mac, false, None), "", "the build without MLX");
    assert_eq!(told("x86_64-unknown-linux-gnu", true, None), "", "a lint on Linux compiles no kernels");
}
