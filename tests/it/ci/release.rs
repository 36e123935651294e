//! `scripts/package-release` packs a release, and `scripts/install-release` unpacks it for the
//! composite action.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::repository;

/// Returns the file at the end of a URL from the folder `served`, or fails like curl.
const CURL: &str = r#"#!/usr/bin/env bash
while [ $# -gt 1 ]; do [ "$1" = --output ] && out=$2; shift; done
echo "$1" >>"$(dirname "$0")/asked"
exec cp "$(dirname "$0")/served/$(basename "$1")" "$out" 2>/dev/null
"#;
/// Logs its arguments instead of building.
const CARGO: &str = "#!/bin/sh\necho \"$@\" >\"$(dirname \"$0\")/built\"\n";
const UNAME: &str = "#!/bin/sh\necho Linux x86_64\n";
const PROGRAM: &str = "#!/bin/sh\necho inferometer 1.2.3\n";
const ARCHIVE: &str = "inferometer-v1.2.3-x86_64-unknown-linux-gnu.tar.gz";

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        for (name, text) in [("curl", CURL), ("cargo", CARGO), ("uname", UNAME), ("program", PROGRAM)] {
            fs_err::write(place.path(name), text).unwrap();
            fs_err::set_permissions(place.path(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        fs_err::create_dir(place.path("served")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn script(&self, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let paths = std::env::var("PATH").unwrap();
        Command::new("bash")
            .arg(repository(&format!("scripts/{name}")))
            .args(arguments)
            .env("PATH", format!("{}:{paths}", self.dir.path().display()))
            .env("ROOT", self.path("root"))
            .env_remove("GITHUB_SERVER_URL")
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    fn package(&self, tag: &str) -> Output {
        self.script(
            "package-release",
            &[tag, self.path("served").to_str().unwrap(), self.path("program").to_str().unwrap()],
            &[],
        )
    }

    /// Exit code, and whether the release's program was installed and whether one was built.
    fn install(&self, variables: &[(&str, &str)]) -> (Option<i32>, bool, bool) {
        for old in ["root/bin/inferometer", "built", "asked"] {
            let _ = fs_err::remove_file(self.path(old));
        }
        let output = self.script("install-release", &[], variables);
        (output.status.code(), self.path("root/bin/inferometer").is_file(), !self.read("built").is_empty())
    }
}

const ACTION: [(&str, &str); 2] = [("ACTION_REF", "v1.2.3"), ("ACTION_REPOSITORY", "own/inferometer")];
const INSTALLED: (Option<i32>, bool, bool) = (Some(0), true, false);
const BUILT: (Option<i32>, bool, bool) = (Some(0), false, true);
const REFUSED: (Option<i32>, bool, bool) = (Some(1), false, false);

#[test]
fn the_action_runs_the_release_that_it_is_used_at() {
    let place = Place::new();
    let packed = place.package("v1.2.3");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    assert_eq!(place.install(&ACTION), INSTALLED);
    assert_eq!(place.read("root/bin/inferometer"), PROGRAM);
    let from = "https://github.com/own/inferometer/releases/download/v1.2.3";
    assert_eq!(place.read("asked"), format!("{from}/{ARCHIVE}\n{from}/{ARCHIVE}.sha256\n"));
    // A given version overrides the action's reference.
    let named = [("ACTION_REF", "main"), ("ACTION_REPOSITORY", "own/inferometer"), ("VERSION", "v1.2.3")];
    assert_eq!(place.install(&named), INSTALLED);
    assert_eq!(place.install(&[ACTION[0], ACTION[1], ("VERSION", "source")]), BUILT);
    assert!(place.read("built").starts_with("install --locked --path "), "{}", place.read("built"));
}

#[test]
fn what_is_no_release_is_built_unless_a_release_was_asked_for() {
    let place = Place::new();
    for nowhere in
        [&[][..], &[("ACTION_REF", "main"), ACTION[1]], &ACTION, &[("ACTION_REF", "v1; touch owned"), ACTION[1]]]
    {
        assert_eq!(place.install(nowhere), BUILT, "{nowhere:?}");
    }
    for version in ["v9.9.9", "latest", "../../v1.2.3", "--help"] {
        assert_eq!(place.install(&[ACTION[0], ACTION[1], ("VERSION", version)]), REFUSED, "{version}");
    }
    assert!(!place.path("owned").exists());
}

#[test]
fn an_archive_that_does_not_fit_its_sha256_is_not_installed() {
    let place = Place::new();
    assert!(place.package("v1.2.3").status.success());
    let archive = place.path("served").join(ARCHIVE);
    let mut bytes = fs_err::read(&archive).unwrap();
    bytes.push(0);
    fs_err::write(&archive, bytes).unwrap();
    assert_eq!(place.install(&ACTION), REFUSED);
    assert_eq!(place.install(&[ACTION[0], ACTION[1], ("VERSION", "v1.2.3")]), REFUSED);
    // An empty checksum does not match.
    fs_err::write(archive.with_extension("gz.sha256"), "").unwrap();
    assert_eq!(place.install(&ACTION), REFUSED);
}

#[test]
fn a_tag_other_than_the_program_s_version_is_not_packed() {
    let place = Place::new();
    let refused = place.package("v1.2.4");
    assert_eq!(refused.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8(refused.stderr).unwrap(), @r#"error: the tag is v1.2.4, the program says 1.2.3: change the version in Cargo.toml or the tag"#);
    assert_eq!(fs_err::read_dir(place.path("served")).unwrap().count(), 0);
}
