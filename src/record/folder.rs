//! The folders of records: what they hold on disk, and how they are found and removed.

use std::fs::{self, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::error::RecordError;
use super::{ab, csv, manifest, profile, quality};

/// Everything that the folder of a record may hold.
const OWN: [&str; 11] = [
    manifest::FILE,
    ab::MANIFEST,
    ab::PAIRS,
    csv::REQUESTS,
    csv::TOKENS,
    csv::SPANS,
    csv::TELEMETRY,
    profile::FOLDER,
    quality::FILE,
    LOGS,
    "a",
];
const LOGS: &str = "logs";
/// The second side's folder.
const B: &str = "b";

/// Whether `dir` holds a run or a session, or what is left of one. A link is none.
#[must_use]
pub fn is_record(dir: &Path) -> bool {
    let own = [manifest::FILE, ab::MANIFEST, csv::REQUESTS, ab::PAIRS];
    is_folder(dir) && own.iter().any(|name| dir.join(name).is_file())
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

/// The folders of records in `results`, by name; hidden ones are left out.
///
/// # Errors
/// When `results` cannot be read.
pub fn all(results: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(results)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') && is_record(&entry.path()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Bytes of all files below `dir`. Links are not followed.
///
/// # Errors
/// When a folder cannot be read.
pub fn bytes(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let about = fs_err::symlink_metadata(entry.path())?;
        sum += if about.is_dir() { bytes(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}

/// Whether a process is writing the record in `dir`.
///
/// # Errors
/// When the file with the lock cannot be opened.
pub fn is_busy(dir: &Path) -> io::Result<bool> {
    let locked = if ab::is_session(dir) { ab::PAIRS } else { csv::REQUESTS };
    let file = match fs_err::File::open(dir.join(locked)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared, so that two who look do not take each other for a writer. The lock ends with the
    // file.
    Ok(matches!(file.file().try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Removes the record in `dir`. Links in it are removed, never what they lead to.
///
/// # Errors
/// When `dir` is no record or holds anything else, when a process is writing it, or when it cannot
/// be removed.
pub fn remove(dir: &Path) -> Result<(), RecordError> {
    check_removable(dir)?;
    // First out of sight: a half removed record would look like a broken one.
    let (Some(results), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(RecordError::NoRecord { path: dir.to_owned() });
    };
    let hidden = results.join(format!(".removed-{}", name.to_string_lossy()));
    // Left over from a removal that was killed.
    match fs_err::symlink_metadata(&hidden) {
        Ok(about) if about.is_dir() => fs_err::remove_dir_all(&hidden)?,
        Ok(_) => fs_err::remove_file(&hidden)?,
        Err(_) => {}
    }
    fs_err::rename(dir, &hidden)?;
    fs_err::remove_dir_all(&hidden)?;
    Ok(())
}

/// Refuses what [`remove`] must not remove.
///
/// # Errors
/// As [`remove`].
pub fn check_removable(dir: &Path) -> Result<(), RecordError> {
    if !is_record(dir) {
        return Err(RecordError::NoRecord { path: dir.to_owned() });
    }
    if is_busy(dir)? {
        return Err(RecordError::Busy { path: dir.to_owned() });
    }
    for entry in fs_err::read_dir(dir)? {
        let name = entry?.file_name();
        if !name.to_str().is_some_and(|name| OWN.contains(&name) || name == B) {
            return Err(RecordError::Foreign { path: dir.to_owned(), name: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

/// Replaces the record in `dir` by that in `by`, which is beside it.
///
/// # Errors
/// When a folder cannot be renamed or removed; the record in `dir` is then either the old or the
/// new one.
pub fn replace(dir: &Path, by: &Path) -> Result<(), RecordError> {
    let old = by.with_extension("old");
    fs_err::rename(dir, &old)?;
    if let Err(error) = fs_err::rename(by, dir) {
        fs_err::rename(&old, dir)?;
        return Err(error.into());
    }
    fs_err::remove_dir_all(&old)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(dir: &Path) -> PathBuf {
        let run = dir.join("run");
        fs_err::create_dir_all(run.join("logs")).unwrap();
        fs_err::write(run.join("run.json"), "{}").unwrap();
        fs_err::write(run.join("logs/host-0.log"), "12345").unwrap();
        run
    }

    #[test]
    fn links_are_neither_followed_nor_records() {
        let dir = tempfile::tempdir().unwrap();
        let run = record(dir.path());
        let other = dir.path().join("other");
        fs_err::create_dir(&other).unwrap();
        fs_err::write(other.join("precious"), "x".repeat(1000)).unwrap();
        std::os::unix::fs::symlink(&other, run.join("logs/link")).unwrap();
        std::os::unix::fs::symlink(&run, dir.path().join("same")).unwrap();
        assert_eq!(all(dir.path()).unwrap(), std::slice::from_ref(&run));
        assert!(matches!(remove(&dir.path().join("same")), Err(RecordError::NoRecord { .. })));
        assert!(bytes(&run).unwrap() < 1000);
        remove(&run).unwrap();
        assert!(!run.exists() && other.join("precious").exists());
    }

    #[test]
    fn who_looks_is_not_taken_for_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let run = record(dir.path());
        fs_err::write(run.join("requests.csv"), "").unwrap();
        let looks = fs_err::File::open(run.join("requests.csv")).unwrap();
        looks.file().lock_shared().unwrap();
        assert!(!is_busy(&run).unwrap());
    }

    #[test]
    fn what_an_earlier_removal_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let run = record(dir.path());
        fs_err::create_dir_all(dir.path().join(".removed-run/logs")).unwrap();
        fs_err::write(dir.path().join(".removed-run/logs/host-0.log"), "old").unwrap();
        remove(&run).unwrap();
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_a_record_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let run = record(dir.path());
        fs_err::write(run.join("thesis.txt"), "").unwrap();
        assert!(remove(&run).unwrap_err().to_string().contains("thesis.txt"));
        assert!(matches!(remove(&run.join("logs")), Err(RecordError::NoRecord { .. })));
        fs_err::remove_file(run.join("thesis.txt")).unwrap();
        fs_err::write(run.join("requests.csv"), "").unwrap();
        let held = fs_err::File::open(run.join("requests.csv")).unwrap();
        held.file().lock().unwrap();
        assert!(matches!(remove(&run), Err(RecordError::Busy { .. })));
        drop(held);
        remove(&run).unwrap();
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
    }
}
