//! `engines install`: what is installed, kept and left behind, and how an engine runs by its name.
//! A script of the tests stands in for python3 and pip, so that no test needs a network.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::lab::{Done, Lab};

/// A machine whose `python3` makes environments without a network.
struct Machine {
    lab: Lab,
}

impl Machine {
    /// The environments' Python answers pip and runs the example adapter in place of any other.
    fn new() -> Self {
        let lab = Lab::new();
        fs_err::create_dir(lab.path("bin")).unwrap();
        let adapter = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/minimal_adapter.py");
        let machine = Self { lab };
        let (log, inner) = (machine.lab.path("log"), machine.lab.path("inner"));
        machine.script(
            "inner",
            &format!(
                "echo \"$@\" >> '{log}'\ncase \"$1 $2 $3\" in\n'-m pip install')\n\
                 [ -e '{fail}' ] && {{ echo 'no matching distribution' >&2; exit 1; }}\nexit 0;;\n\
                 '-m pip list') echo '[{{\"name\": \"mlx-lm\", \"version\": \"0.32.2\"}}]';;\n\
                 '-I '*) PATH='{path}' exec python3 '{adapter}';;\nesac\n",
                log = log.display(),
                fail = machine.lab.path("fail").display(),
                path = std::env::var("PATH").unwrap(),
            ),
        );
        machine.script(
            "bin/python3",
            &format!(
                "[ \"$1 $2\" = '-m venv' ] || exit 9\nmkdir -p \"$3/bin\" && cp '{}' \"$3/bin/python3\"\n",
                inner.display()
            ),
        );
        machine
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.lab.path(name);
        fs_err::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.program(arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.lab.path("bin").display()));
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.lab.done(self.command(arguments).output().unwrap())
    }

    fn install(&self, more: &[&str]) -> Done {
        self.run(&[&["engines", "install", "mlx-lm"], more].concat())
    }

    fn folder(&self, version: &str) -> PathBuf {
        self.lab.path("engines").join("mlx-lm").join(version)
    }

    /// Calls of pip.
    fn calls(&self) -> Vec<String> {
        let log = fs_err::read_to_string(self.lab.path("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Why `mlx-lm` does not run here.
    fn missing(&self) -> Option<String> {
        let listed: serde_json::Value =
            serde_json::from_str(&self.run(&["engines", "--format", "json"]).expect(0).stdout).unwrap();
        let engine = listed.as_array().unwrap().iter().find(|engine| engine["name"] == "mlx-lm").unwrap();
        assert_eq!(engine["runs_here"], engine["missing"].is_null());
        engine["missing"].as_str().map(str::to_owned)
    }

    fn greets(&self, more: &[&str]) -> Done {
        self.run(&[&["engines", "check", "--engine", "mlx-lm", "--only", "greets"], more].concat())
    }
}

#[test]
fn an_engine_is_installed_once_and_runs_by_its_name() {
    let machine = Machine::new();
    machine.install(&[]).expect(0).says("licence: MIT").says("installing mlx-lm==0.32.2").says("on disk");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs_err::read(machine.folder("0.32.2").join("installed.json")).unwrap()).unwrap();
    assert_eq!(manifest["packages"][0]["version"], "0.32.2");
    assert_eq!(manifest["requirements"][0], "mlx-lm==0.32.2");
    assert!(!machine.folder("0.32.2").join("tmp").exists());
    let calls = machine.calls();
    assert!(calls[0].starts_with("-m pip install --only-binary :all: ") && calls[0].contains("mlx-lm==0.32.2"));
    assert_eq!((calls.len(), machine.missing()), (2, None));
    machine.greets(&[]).expect(0);

    machine.install(&[]).expect(0).says("it is there already; --force installs it again");
    let calls = machine.calls();
    assert!(!calls[2..].iter().any(|call| call.contains("pip")), "{calls:?}");
    machine.install(&["--force"]).expect(0);
    assert!(machine.calls().iter().filter(|call| call.contains("pip install")).count() == 2);

    let listed = machine.run(&["engines", "install", "--format", "json"]).expect(0).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let there = &listed[0]["installed"];
    assert_eq!((&there[0]["version"], &there[0]["whole"]), (&"0.32.2".into(), &true.into()), "{listed}");
    assert_eq!(there[0]["packages"][0]["name"], "mlx-lm");
    machine.run(&["engines", "uninstall", "mlx-lm"]).expect(0);
    assert!(!machine.folder("0.32.2").exists());
    machine.run(&["engines", "uninstall", "mlx-lm"]).expect(2).says("mlx-lm is not installed");
}

#[test]
fn an_installation_that_fails_leaves_what_was_there() {
    let machine = Machine::new();
    fs_err::write(machine.lab.path("fail"), "").unwrap();
    let failed = machine.install(&[]).expect(2).says("was not installed, and nothing was kept");
    assert!(failed.stderr.contains("no matching distribution"), "{}", failed.stderr);
    assert!(!machine.folder("0.32.2").exists());
    fs_err::remove_file(machine.lab.path("fail")).unwrap();
    machine.install(&[]).expect(0);
    fs_err::write(machine.lab.path("fail"), "").unwrap();
    machine.install(&["--force"]).expect(2);
    assert_eq!(machine.missing(), None, "the earlier installation is there");
    machine.greets(&[]).expect(0);

    fs_err::remove_file(machine.lab.path("bin/python3")).unwrap();
    let mut without = machine.lab.program(&["engines", "install", "mlx-lm", "--force"]);
    let without = machine.lab.done(without.env("PATH", machine.lab.path("bin")).output().unwrap());
    without.expect(2).says("there is no program `python3` in PATH");
}

#[test]
fn half_made_and_outdated_installations_are_not_taken_for_whole_ones() {
    let machine = Machine::new();
    machine.install(&[]).expect(0);
    let folder = machine.folder("0.32.2");

    fs_err::write(folder.join("mlx_lm_adapter.py"), "of another version").unwrap();
    assert_eq!(
        machine.missing().unwrap(),
        "mlx-lm 0.32.2 was installed by another version of inferometer; `inferometer engines install mlx-lm` replaces \
         its adapter"
    );
    let calls = machine.calls().len();
    machine.install(&[]).expect(0).says("its adapter was replaced");
    assert_eq!((machine.calls().len(), machine.missing()), (calls, None), "without pip");

    fs_err::remove_file(folder.join("venv/bin/python3")).unwrap();
    assert!(machine.missing().unwrap().contains("the Python that mlx-lm 0.32.2 was installed with is gone"));
    machine.install(&[]).expect(0);
    assert_eq!(machine.missing(), None);

    fs_err::remove_file(folder.join("installed.json")).unwrap();
    assert!(machine.missing().unwrap().contains("the installation of mlx-lm 0.32.2 did not end"));
    machine.greets(&[]).expect(2).says("`inferometer engines install mlx-lm` repeats it");
    machine.install(&[]).expect(0).says("an earlier installation did not end; it is repeated");
    assert_eq!(machine.missing(), None);
}

#[test]
fn versions_lie_beside_each_other() {
    let machine = Machine::new();
    machine.install(&["--version", "0.31.0"]).expect(0);
    assert_eq!(machine.missing(), None, "the only one that is there");
    machine.greets(&["--option", "version=0.32.2"]).expect(2).says("mlx-lm 0.32.2 is not installed");
    machine.greets(&["--option", "version=\"0.31.0\""]).expect(0);
    machine.install(&["--version", "0.30.0"]).expect(0);
    assert!(machine.missing().unwrap().contains("mlx-lm 0.32.2 is not installed"), "neither of the two is meant");
    machine.run(&["engines", "uninstall", "mlx-lm", "--version", "0.31.0"]).expect(0);
    assert!(!machine.folder("0.31.0").exists() && machine.folder("0.30.0").exists());
    for wrong in ["../0.1", "-e", "1 2", ""] {
        machine.install(&[&format!("--version={wrong}")]).expect(2).says("is not a version such as 0.32.2");
    }
}

#[test]
fn without_an_installation_the_message_has_the_command() {
    let machine = Machine::new();
    insta::assert_snapshot!(machine.run(&["engines", "install"]).expect(0).shown(&machine.lab), @r#"
    exit 0
    --- stdout
    name    engine           version  download  on disk  licence  installed
    ────────────────────────────────────────────────────────────────────────
    mlx-lm  Python's mlx_lm  0.32.2   58.2 MiB  352 MiB  MIT      no

    Installed engines are kept in [LAB]/engines.
    "#);
    insta::assert_snapshot!(machine.run(&["engines", "install", "vllm"]).expect(2).shown(&machine.lab), @r#"
    exit 2
    --- stderr
    error: there is no engine `vllm` to install; there is mlx-lm
    "#);
    insta::assert_snapshot!(machine.run(&["engines", "install", "exec"]).expect(2).shown(&machine.lab), @r#"
    exit 2
    --- stderr
    error: engine `exec` is not installed with this command; it installs mlx-lm
    "#);
    insta::assert_snapshot!(machine.run(&["engines", "check"]).expect(2).shown(&machine.lab), @r#"
    exit 2
    --- stderr
    error: give the program to check after `--`, or an engine that has one with --engine
    "#);
    let scenario = |options: &str| {
        let text = format!(
            "name = \"s\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\" }}\n[[engine]]\nname = \"mlx-lm\"\n\
             {options}[workload]\ntext = \"a b c\"\nmax_tokens = 2\n"
        );
        fs_err::write(machine.lab.path("s.toml"), text).unwrap();
        machine.run(&["check", "s.toml"])
    };
    insta::assert_snapshot!(scenario("").expect(2).shown(&machine.lab), @r#"
    exit 2
    --- stderr
    error: engine `mlx-lm` cannot run: mlx-lm 0.32.2 is not installed; `inferometer engines install mlx-lm` installs it
    "#);
    insta::assert_snapshot!(scenario("options = { kv_bit = 4 }\n").expect(2).shown(&machine.lab), @r#"
    exit 2
    --- stderr
    error: engine `mlx-lm` has no option `kv_bit`
     --> s.toml:6:13
      |
    6 | options = { kv_bit = 4 }
      |             ^^^^^^ did you mean `kv_bits`?
      |
      = help: valid options: `version`, `prefill_step_size`, `max_kv_size`,
              `kv_bits`, `kv_group_size` and `quantized_kv_start`
    "#);
    insta::assert_snapshot!(scenario("toggles = { prefill_chunk_size = 64 }\n").expect(2).shown(&machine.lab), @r#"
    exit 2
    --- stderr
    error: engine `mlx-lm` does not honour `prefill_chunk_size`
     --> s.toml:6:13
      |
    6 | toggles = { prefill_chunk_size = 64 }
      |             ^^^^^^^^^^^^^^^^^^ mlx_lm runs the last prompt token alone, whatever the step; see the option prefill_step_size
      |
      = help: remove it; `mlx-lm` honours `repetition_penalty`,
              `repetition_context_size`, `repetition_window_cap`, `kv_reuse`,
              `kv_cache`, `memory_limit`, `cache_limit`, `lazy_pipeline`,
              `num_draft_tokens`, `draft_model` and `sampling_order`
    "#);
}
