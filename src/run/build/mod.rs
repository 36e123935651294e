//! Commits to programs: what `ab --base REV --head REV` measures.
//!
//! Each commit is checked out into a separate worktree in the cache folder and built there by the
//! user's command. All paths have the same length, because the path of a program can change its
//! speed. The layout:
//!
//! ```text
//! <cache>/builds/<repository>/shared/            {shared}: for all builds of the repository
//! <cache>/builds/<repository>/<recipe>/<commit>/           {tree}: the worktree
//! <cache>/builds/<repository>/<recipe>/<commit>.log        output of the build
//! <cache>/builds/<repository>/<recipe>/<commit>.json       the stamp: inputs and program
//! <cache>/builds/<repository>/<recipe>/<commit>.files      the worktree's files after the build
//! <cache>/builds/<repository>/<recipe>/<commit>-program/   copy of a program from {shared}
//! ```

mod command;
mod error;
mod files;
mod git;
mod stamp;

use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use self::command::{Fault, Places, Watch, shown};
use self::files::Files;
use self::stamp::{Key, Stamp};
use crate::fs::write_atomic;
use crate::spec::BuildSettings;

pub use error::BuildError;
pub use git::{Commit, Repository, repository};

/// The program of a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    pub commit: Commit,
    /// The worktree.
    pub tree: PathBuf,
    /// The engine host's command line; its program is absolute.
    pub command: Vec<String>,
    pub program_sha256: String,
    /// What the toolchain reported; `None` if it was not asked.
    pub toolchain: Option<String>,
    /// Duration of the build.
    pub seconds: f64,
    /// Whether an earlier build was used.
    pub cached: bool,
    pub log: PathBuf,
}

/// Builds the program of `commit`, or uses an earlier build. `cache` is inferometer's cache folder;
/// `notes` receives progress messages.
///
/// # Errors
/// When the commit cannot be checked out, the build fails, or it makes no program.
pub fn build(
    repository: &Repository,
    commit: &Commit,
    settings: &BuildSettings,
    cache: &Path,
    notes: &mut dyn FnMut(&str),
) -> Result<Built, BuildError> {
    Workshop::open(repository, settings, cache, &|| false, notes)?.build(commit)
}

/// Builds the programs of two commits with the same toolchain. `stop` is polled; when it returns
/// true, the current build is ended.
///
/// # Errors
/// As [`build`], and when the two sides are built by different toolchains.
pub fn build_sides(
    repository: &Repository,
    [base, head]: [&Commit; 2],
    settings: &BuildSettings,
    cache: &Path,
    stop: &dyn Fn() -> bool,
    notes: &mut dyn FnMut(&str),
) -> Result<[Built; 2], BuildError> {
    if base.hash == head.hash {
        notes(&format!(
            "base and head are the same commit {}: this is an A/A session, any difference is noise",
            base.short()
        ));
    }
    let mut workshop = Workshop::open(repository, settings, cache, stop, notes)?;
    let sides = [workshop.build(base)?, workshop.build(head)?];
    check_same_toolchain(&sides[0], &sides[1])?;
    Ok(sides)
}

/// Refuses programs built by different toolchains: their difference might not come from the
/// commits.
///
/// # Errors
/// `Toolchains`, with what each toolchain reported.
pub fn check_same_toolchain(base: &Built, head: &Built) -> Result<(), BuildError> {
    if base.toolchain == head.toolchain {
        return Ok(());
    }
    let said = |side: &Built| side.toolchain.clone().unwrap_or_else(|| "not asked".to_owned());
    Err(BuildError::Toolchains { base: said(base), head: said(head) })
}

/// Builds commits of one repository by one recipe. Holds the repository's lock: `{shared}` is used
/// by one build at a time.
struct Workshop<'a> {
    repository: &'a Repository,
    settings: &'a BuildSettings,
    folder: PathBuf,
    shared: PathBuf,
    stop: &'a dyn Fn() -> bool,
    notes: &'a mut dyn FnMut(&str),
    _lock: fs_err::File,
}

impl<'a> Workshop<'a> {
    fn open(
        repository: &'a Repository,
        settings: &'a BuildSettings,
        cache: &Path,
        stop: &'a dyn Fn() -> bool,
        notes: &'a mut dyn FnMut(&str),
    ) -> Result<Self, BuildError> {
        settings.check().map_err(BuildError::Settings)?;
        let home = cache.join("builds").join(repository.key());
        let shared = home.join("shared");
        fs_err::create_dir_all(&shared)?;
        let home = fs_err::canonicalize(home)?;
        let folder = home.join(recipe_key(settings));
        fs_err::create_dir_all(&folder)?;
        let lock = locked(&home.join("lock"), repository, stop, notes)?;
        Ok(Self { repository, settings, folder, shared: home.join("shared"), stop, notes, _lock: lock })
    }

    fn build(&mut self, commit: &Commit) -> Result<Built, BuildError> {
        let at = CommitFiles::new(&self.folder, &self.shared, commit);
        if let Some(built) = self.kept(commit, &at)? {
            return Ok(built);
        }
        self.make(commit, &at)
    }

    /// The kept program, if nothing it depends on has changed.
    fn kept(&mut self, commit: &Commit, at: &CommitFiles) -> Result<Option<Built>, BuildError> {
        let Some(stamp) = Stamp::read(&at.stamp).filter(|_| at.places.tree.is_dir()) else { return Ok(None) };
        let name = format!("{} ({})", commit.short(), commit.subject);
        let key = self.key(commit, at)?;
        let command = self.command(at, stamp.copied)?;
        let stale = if stamp.key != key {
            "the toolchain or the environment has changed".to_owned()
        } else if hash_of(Path::new(&command[0])).ok().as_ref() != Some(&stamp.program_sha256) {
            "its program has been changed".to_owned()
        } else if let Some(change) = changed_files(commit, at, &stamp)? {
            change
        } else {
            (self.notes)(&format!("{name} was built before, {}", stamp.built_utc));
            let toolchain = key.toolchain;
            return Ok(Some(Built {
                commit: commit.clone(),
                tree: at.places.tree.clone(),
                command,
                program_sha256: stamp.program_sha256,
                toolchain,
                seconds: stamp.seconds,
                cached: true,
                log: at.log.clone(),
            }));
        };
        (self.notes)(&format!("{name} was built before, but {stale}: building it again"));
        Ok(None)
    }

    fn make(&mut self, commit: &Commit, at: &CommitFiles) -> Result<Built, BuildError> {
        remove(fs_err::remove_file(&at.stamp))?;
        remove(fs_err::remove_dir_all(&at.programs))?;
        self.repository.check_out(commit, &at.places.tree)?;
        let submodules = self.repository.submodules(commit)?;
        if !submodules.is_empty() {
            let (name, list) = (commit.short(), submodules.join(", "));
            (self.notes)(&format!("{name} has submodules, which stay empty because nothing is fetched: {list}"));
        }
        let key = self.key(commit, at)?;
        let begun = Instant::now();
        self.run(commit, at)?;
        let seconds = begun.elapsed().as_secs_f64();
        let (command, copied) = self.placed(commit, at)?;
        let program_sha256 = hash_of(Path::new(&command[0]))?;
        if !git::is_at(&at.places.tree, commit)? {
            return Err(BuildError::Failed {
                commit: commit.short().to_owned(),
                how: "moved its worktree to another commit, or removed it".to_owned(),
                command: shown(&self.settings.command),
                log_tail: command::log_tail(&at.log),
            });
        }
        let files = Files::of(&at.places.tree)
            .map_err(|source| BuildError::Unreadable { commit: commit.short().to_owned(), source })?;
        write_atomic(&at.files, files.text().as_bytes())?;
        let toolchain = key.toolchain.clone();
        Stamp::new(key, program_sha256.clone(), copied, files.sha256(), seconds).write(&at.stamp)?;
        Ok(Built {
            commit: commit.clone(),
            tree: at.places.tree.clone(),
            command,
            program_sha256,
            toolchain,
            seconds,
            cached: false,
            log: at.log.clone(),
        })
    }

    fn run(&mut self, commit: &Commit, at: &CommitFiles) -> Result<(), BuildError> {
        let words = at.places.fill(&self.settings.command)?;
        let name = commit.short();
        if words.is_empty() {
            (self.notes)(&format!("{name} ({}): nothing to build", commit.subject));
            return Ok(fs_err::write(&at.log, "nothing to build\n")?);
        }
        let command = shown(&words);
        (self.notes)(&format!("building {name} ({}): {command}, log {}", commit.subject, at.log.display()));
        let notes = &mut *self.notes;
        let mut note = |text: &str| notes(&format!("{name}: {text}"));
        let limit = Duration::from_secs_f64(self.settings.timeout_s);
        let watch = Watch { limit, stop: self.stop, note: &mut note };
        let commit = name.to_owned();
        match command::run(&words, &at.places.tree, &at.log, watch)? {
            Ok(()) => Ok(()),
            Err(Fault::Interrupted) => Err(interrupted(&commit)),
            Err(Fault::How(how)) => {
                Err(BuildError::Failed { commit, how, command, log_tail: command::log_tail(&at.log) })
            }
        }
    }

    /// What the program of `commit` depends on. The toolchain command runs in the worktree, where a
    /// file may select the toolchain.
    fn key(&self, commit: &Commit, at: &CommitFiles) -> Result<Key, BuildError> {
        let words = at.places.fill(&self.settings.toolchain)?;
        let toolchain = if words.is_empty() {
            None
        } else {
            let said = command::ask(&words, &at.places.tree, self.stop).map_err(|fault| match fault {
                Fault::Interrupted => interrupted(commit.short()),
                Fault::How(how) => {
                    BuildError::Toolchain { commit: commit.short().to_owned(), command: shown(&words), how }
                }
            })?;
            Some(said)
        };
        Ok(Key {
            commit: commit.hash.clone(),
            command: self.settings.command.clone(),
            program: self.settings.program[0].clone(),
            toolchain,
            environment_sha256: command::environment_sha256(),
        })
    }

    /// The host's command line, with the program at its build path or its copy.
    fn command(&self, at: &CommitFiles, copied: bool) -> Result<Vec<String>, BuildError> {
        let mut command = at.places.fill(&self.settings.program)?;
        let made = at.places.tree.join(&command[0]);
        let program = match made.file_name() {
            Some(name) if copied => at.programs.join(name),
            _ => made,
        };
        command[0] = program.to_str().ok_or_else(|| BuildError::NotUtf8(program.clone()))?.to_owned();
        Ok(command)
    }

    /// The host's command line after a build, and whether its program is a copy. A program in
    /// `{shared}` is copied, because the next build may replace it.
    fn placed(&self, commit: &Commit, at: &CommitFiles) -> Result<(Vec<String>, bool), BuildError> {
        let made = at.places.tree.join(&at.places.fill(&self.settings.program)?[0]);
        let missing =
            || BuildError::NoProgram { commit: commit.short().to_owned(), program: made.clone(), log: at.log.clone() };
        // Resolves links: the target decides whether the next build may replace it.
        let real = fs_err::canonicalize(&made).map_err(|_| missing())?;
        let about = fs_err::metadata(&real)?;
        if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
            return Err(missing());
        }
        let copied = real.starts_with(&at.places.shared);
        if copied {
            fs_err::create_dir_all(&at.programs)?;
            fs_err::copy(&real, at.programs.join(made.file_name().ok_or_else(missing)?))?;
        }
        Ok((self.command(at, copied)?, copied))
    }
}

/// Why the worktree is not as the build left it, as a clause.
fn changed_files(commit: &Commit, at: &CommitFiles, stamp: &Stamp) -> Result<Option<String>, BuildError> {
    if !git::is_at(&at.places.tree, commit)? {
        return Ok(Some("its worktree has been changed".to_owned()));
    }
    // What cannot be read costs this build, not the session.
    let files = match Files::of(&at.places.tree) {
        Ok(files) => files,
        Err(error) => return Ok(Some(format!("its worktree cannot be verified ({error})"))),
    };
    if files.sha256() == stamp.files_sha256 {
        return Ok(None);
    }
    let earlier = fs_err::read_to_string(&at.files).unwrap_or_default();
    let which = files.difference(&earlier).map_or_else(String::new, |which| format!(" ({which})"));
    Ok(Some(format!("its worktree has been changed{which}")))
}

fn interrupted(commit: &str) -> BuildError {
    BuildError::Interrupted { what: format!("the build of commit {commit}") }
}

/// The paths of one commit.
struct CommitFiles {
    places: Places,
    log: PathBuf,
    stamp: PathBuf,
    files: PathBuf,
    programs: PathBuf,
}

impl CommitFiles {
    fn new(folder: &Path, shared: &Path, commit: &Commit) -> Self {
        let beside = |end: &str| folder.join(format!("{}{end}", commit.hash));
        Self {
            places: Places { tree: beside(""), shared: shared.to_owned() },
            log: beside(".log"),
            stamp: beside(".json"),
            files: beside(".files"),
            programs: beside("-program"),
        }
    }
}

/// Eight hexadecimal digits that identify a recipe, so that sessions with different recipes do not
/// replace each other's programs.
fn recipe_key(settings: &BuildSettings) -> String {
    let parts = (&settings.command, &settings.program[0], &settings.toolchain);
    let text = serde_json::to_vec(&parts).expect("a recipe is plain data");
    hex(&Sha256::digest(text))[..8].to_owned()
}

/// Waits until no other process builds for this repository.
fn locked(
    path: &Path,
    repository: &Repository,
    stop: &dyn Fn() -> bool,
    notes: &mut dyn FnMut(&str),
) -> Result<fs_err::File, BuildError> {
    let lock = fs_err::File::create(path)?;
    let mut told = false;
    loop {
        match lock.file().try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) if stop() => {
                return Err(BuildError::Interrupted { what: "the wait for another process's build".to_owned() });
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            notes(&format!("waiting for another process's build of {}", repository.top().display()));
            told = true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ignores that the path does not exist.
fn remove(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut fs_err::File::open(path)?, &mut digest)?;
    Ok(hex(&digest.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
