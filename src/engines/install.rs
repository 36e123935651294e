//! Installs engines that are Python packages: a virtual environment made by the user's own Python,
//! and the user's pip, whose settings (index, proxy, certificates) the user has made. This program
//! itself uses no network.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::installed::{Installed, Manifest, Package, Place, State};
use crate::models::FetchError;
use crate::models::{fetch, programs};
use inferometer_protocol::units::bytes;

/// What to install, and how.
pub struct Wanted<'a> {
    pub place: &'a Place,
    /// The Python that makes the environment.
    pub python: &'a Path,
    /// Whether to install it again although it is whole.
    pub force: bool,
    /// Whether the programs may show their progress on standard error.
    pub progress: bool,
    /// Polled; when it returns true, the installation ends.
    pub stop: &'a dyn Fn() -> bool,
}

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    Installed,
    /// It was whole.
    Nothing,
    /// Only its adapter was replaced by this program's.
    AdapterReplaced,
}

/// Makes the environment, if it is not there whole. `note` is called before anything long.
///
/// An installation that fails or is interrupted leaves what was there before. One that is killed
/// leaves a half-made environment, which the next call replaces.
///
/// # Errors
/// When there is no Python, it or pip fails, or the folder cannot be written.
pub fn install(wanted: &Wanted<'_>, note: &mut dyn FnMut(&str)) -> Result<Done, FetchError> {
    let place = wanted.place;
    let parent = place.folder.parent().unwrap_or(&place.folder);
    fs_err::create_dir_all(parent)?;
    let _lock = fetch::locked(parent, "waiting for another process that installs this engine", note)?;
    match place.state() {
        State::Whole if !wanted.force => return Ok(Done::Nothing),
        State::OtherAdapter if !wanted.force => {
            write_adapter(place)?;
            return Ok(Done::AdapterReplaced);
        }
        State::HalfMade => note("an earlier installation did not end; it is repeated"),
        _ => {}
    }
    fetch::remove_partial(parent)?;
    // Environments cannot be moved: their scripts contain the path. What is there makes room.
    let aside = fetch::partial(parent)?;
    let old = aside.path().join("old");
    let replaced = place.folder.exists();
    if replaced {
        fs_err::rename(&place.folder, &old)?;
    }
    let made = make(wanted, note);
    if made.is_err() {
        if place.folder.exists() {
            fs_err::remove_dir_all(&place.folder)?;
        }
        if replaced {
            fs_err::rename(&old, &place.folder)?;
        }
    }
    made.map(|()| Done::Installed)
}

/// Removes a version.
///
/// # Errors
/// When the folder cannot be changed.
pub fn uninstall(place: &Place, note: &mut dyn FnMut(&str)) -> Result<(), FetchError> {
    let parent = place.folder.parent().unwrap_or(&place.folder);
    let _lock = fetch::locked(parent, "waiting for another process that installs this engine", note)?;
    fetch::remove_partial(parent)?;
    // Without the manifest it is half-made, should this be killed.
    for file in [place.manifest_file()].iter().filter(|file| file.exists()) {
        fs_err::remove_file(file)?;
    }
    fs_err::remove_dir_all(&place.folder)?;
    Ok(())
}

fn make(wanted: &Wanted<'_>, note: &mut dyn FnMut(&str)) -> Result<(), FetchError> {
    let place = wanted.place;
    let package: &Package = place.package;
    let requirements = (package.requirements)(&place.version);
    // Temporary files of the programs vanish with it.
    let temporary = place.folder.join("tmp");
    fs_err::create_dir_all(&temporary)?;
    note(&format!("making a virtual environment with {}", wanted.python.display()));
    let mut environment = Command::new(wanted.python);
    environment.args(["-m", "venv"]).arg(place.environment());
    run(wanted, environment, &temporary).map_err(|error| match error {
        FetchError::Failed { command, how } => FetchError::Failed {
            command,
            how: format!("{how}; Debian and Ubuntu have the module venv in the package python3-venv"),
        },
        other => other,
    })?;
    note(&format!(
        "installing {} with pip (downloads about {}, takes {} on disk)",
        requirements.join(", "),
        bytes(package.download_bytes),
        bytes(package.disk_bytes)
    ));
    let mut pip = Command::new(place.python());
    // Nothing is compiled, and no package's set-up script runs.
    pip.args(["-m", "pip", "install", "--only-binary", ":all:"]);
    pip.args(["--disable-pip-version-check", "--no-input"]);
    if !wanted.progress {
        pip.arg("--quiet");
    }
    pip.args(&requirements);
    run(wanted, pip, &temporary)?;
    let manifest = Manifest {
        engine: package.name.to_owned(),
        version: place.version.clone(),
        requirements,
        packages: packages(&place.python())?,
    };
    write_adapter(place)?;
    fs_err::remove_dir_all(&temporary)?;
    let json = serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::other)?;
    crate::fs::write_atomic(&place.manifest_file(), &json)?;
    Ok(())
}

fn write_adapter(place: &Place) -> Result<(), FetchError> {
    crate::fs::write_atomic(&place.adapter(), place.package.adapter.1.as_bytes())?;
    Ok(())
}

fn run(wanted: &Wanted<'_>, mut command: Command, temporary: &Path) -> Result<(), FetchError> {
    command.env("TMPDIR", temporary);
    match wanted.progress {
        true => command.stdout(std::io::stderr()),
        false => command.stdout(Stdio::null()),
    };
    programs::run(command, wanted.stop)
}

/// What pip says is installed.
fn packages(python: &PathBuf) -> Result<Vec<Installed>, FetchError> {
    let mut list = Command::new(python);
    list.args(["-m", "pip", "list", "--format", "json", "--disable-pip-version-check", "--no-input"]);
    let mut found = Vec::new();
    programs::read(list, |printed| {
        found = serde_json::from_reader(printed)
            .map_err(|error| FetchError::Refused(format!("the list of packages that pip prints: {error}")))?;
        Ok(())
    })?;
    Ok(found)
}
