//! Engines that `inferometer engines install` makes: which there are, and what is on disk of them.
//!
//! `<engines>/<name>/<version>/` holds a virtual environment, the adapter, and `installed.json`,
//! which is written last: without it the environment is half-made.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::models::places;
use inferometer_protocol::bounded::read_limited;
use inferometer_protocol::{EngineSpec, Value};

/// The option with the version to run.
pub const VERSION: &str = "version";
const MANIFEST: &str = "installed.json";
const LONGEST_MANIFEST: u64 = 1 << 20;
const ENVIRONMENT: &str = "venv";

/// An engine that can be installed.
#[derive(Debug)]
pub struct Package {
    /// Of the engine.
    pub name: &'static str,
    pub what: &'static str,
    pub licence: &'static str,
    pub licence_page: &'static str,
    /// The version that this program was tested with.
    pub version: &'static str,
    /// What pip downloads, and what is then on disk, on Linux.
    pub download_bytes: u64,
    pub disk_bytes: u64,
    /// What pip installs for a version.
    pub requirements: fn(version: &str) -> Vec<String>,
    /// File name and text of the adapter.
    pub adapter: (&'static str, &'static str),
}

/// The engines that can be installed.
pub const PACKAGES: &[&Package] = &[&super::mlx_lm::PACKAGE];

/// One installed version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub engine: String,
    pub version: String,
    /// What pip was asked for.
    pub requirements: Vec<String>,
    /// What pip installed.
    pub packages: Vec<Installed>,
}

/// An element of the list that pip prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    pub name: String,
    pub version: String,
}

/// What is on disk of a version.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    Absent,
    /// The installation was ended before it was whole.
    HalfMade,
    /// The Python that it was made with is gone.
    NoPython,
    /// Whole, but the adapter is of another version of this program.
    OtherAdapter,
    Whole,
}

/// The folder of one version.
#[derive(Debug, Clone)]
pub struct Place {
    pub package: &'static Package,
    pub version: String,
    pub folder: PathBuf,
}

/// The engine of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Package> {
    PACKAGES.iter().copied().find(|package| package.name == name)
}

impl Package {
    /// Where a version is or would be.
    #[must_use]
    pub fn place(&'static self, version: &str, engines: &Path) -> Place {
        Place { package: self, version: version.to_owned(), folder: engines.join(self.name).join(version) }
    }

    /// The versions of which there is anything on disk, sorted by their names.
    #[must_use]
    pub fn places(&'static self, engines: &Path) -> Vec<Place> {
        let entries = fs_err::read_dir(engines.join(self.name)).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
        let mut versions: Vec<String> =
            folders.filter_map(|name| name.into_string().ok()).filter(|name| fault(name).is_none()).collect();
        versions.sort();
        versions.iter().map(|version| self.place(version, engines)).collect()
    }

    /// The command that hosts the engine: the version of its options, else the tested one, else the
    /// only one that is installed.
    ///
    /// # Errors
    /// One sentence: what is missing, and the command that installs it.
    pub fn command(&'static self, spec: &EngineSpec) -> Result<Vec<String>, String> {
        let engines = places::engines_folder().map_err(|error| error.to_string())?;
        let place = match spec.options.get(VERSION).and_then(Value::as_text) {
            Some(version) => fault(version).map_or_else(|| Ok(self.place(version, &engines)), Err)?,
            None => self.chosen(&engines),
        };
        let again = place.install_command();
        match place.state() {
            State::Whole => {}
            State::Absent => return Err(format!("{} is not installed; `{again}` installs it", place.named())),
            State::HalfMade => {
                return Err(format!("the installation of {} did not end; `{again}` repeats it", place.named()));
            }
            State::NoPython => {
                return Err(format!(
                    "the Python that {} was installed with is gone; `{again} --force` installs it again",
                    place.named()
                ));
            }
            State::OtherAdapter => {
                return Err(format!(
                    "{} was installed by another version of inferometer; `{again}` replaces its adapter",
                    place.named()
                ));
            }
        }
        // -I: no module of the working folder, of PYTHONPATH or of the user is imported.
        let words = [place.python().into_os_string(), "-I".into(), place.adapter().into_os_string()];
        let text = |word: std::ffi::OsString| {
            word.into_string().map_err(|word| format!("{} is not UTF-8", word.to_string_lossy()))
        };
        words.into_iter().map(text).collect()
    }

    fn chosen(&'static self, engines: &Path) -> Place {
        let tested = self.place(self.version, engines);
        let mut others = self.places(engines);
        match (tested.state(), others.len()) {
            (State::Absent, 1) => others.remove(0),
            _ => tested,
        }
    }
}

impl Place {
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.folder.join(ENVIRONMENT).join("bin/python3")
    }

    #[must_use]
    pub fn environment(&self) -> PathBuf {
        self.folder.join(ENVIRONMENT)
    }

    #[must_use]
    pub fn adapter(&self) -> PathBuf {
        self.folder.join(self.package.adapter.0)
    }

    #[must_use]
    pub fn manifest_file(&self) -> PathBuf {
        self.folder.join(MANIFEST)
    }

    /// The packages of the environment; `None` if it is not whole.
    #[must_use]
    pub fn manifest(&self) -> Option<Manifest> {
        serde_json::from_slice(&read_limited(&self.manifest_file(), LONGEST_MANIFEST).ok()?).ok()
    }

    #[must_use]
    pub fn state(&self) -> State {
        let adapter = || fs_err::read(self.adapter()).ok();
        match () {
            () if !self.folder.exists() => State::Absent,
            () if self.manifest().is_none() => State::HalfMade,
            // A link to a Python that was removed does not exist.
            () if !self.python().exists() => State::NoPython,
            () if adapter().as_deref() != Some(self.package.adapter.1.as_bytes()) => State::OtherAdapter,
            () => State::Whole,
        }
    }

    /// `mlx-lm 0.32.2`.
    #[must_use]
    pub fn named(&self) -> String {
        format!("{} {}", self.package.name, self.version)
    }

    /// The command that installs it.
    #[must_use]
    pub fn install_command(&self) -> String {
        let name = self.package.name;
        match self.version == self.package.version {
            true => format!("inferometer engines install {name}"),
            false => format!("inferometer engines install {name} --version {}", self.version),
        }
    }
}

/// Why a text is no version: it becomes the name of a folder and an argument of pip.
#[must_use]
pub fn fault(version: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '!' | '-' | '_');
    let right = version.starts_with(|c: char| c.is_ascii_digit()) && version.chars().all(fits) && version.len() < 64;
    (!right).then(|| format!("{version:?} is not a version such as 0.32.2"))
}
