//! The machine-wide lock: two measuring processes would disturb each other.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use inferometer_protocol::bounded::clean;

/// Overrides the lock file's path, so that tests do not wait for a real measurement.
pub const LOCK_VARIABLE: &str = "INFEROMETER_LOCK";

/// A fixed path instead of the user's temporary folder, because the lock is for the whole machine.
const PLACE: &str = "/tmp/inferometer-measuring.lock";
const HOLDER_BYTES: usize = 400;

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another measurement is running on this machine ({holder}); wait for it, or run without `--no-wait`")]
    Busy { holder: String },
    #[error("interrupted while another measurement was running on this machine ({holder})")]
    Interrupted { holder: String },
    #[error("cannot take the machine-wide lock {}: {source}; set {LOCK_VARIABLE} to another path if it is not usable", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Holds the lock. Dropping it, or the end of the process in any way, releases the lock.
#[derive(Debug)]
pub struct Measuring {
    file: File,
}

impl Measuring {
    /// Takes the lock. If another process holds it, calls `note` with a description of the holder
    /// and waits until `stop` is true, unless `wait` is off.
    ///
    /// # Errors
    /// `Busy` when another process holds it and `wait` is off; `Interrupted` when `stop` ended the
    /// wait; `Io` when the lock file cannot be used.
    pub fn acquire(wait: bool, stop: &dyn Fn() -> bool, note: impl FnOnce(&str)) -> Result<Self, LockError> {
        let path = std::env::var_os(LOCK_VARIABLE).map_or_else(|| PathBuf::from(PLACE), PathBuf::from);
        Self::acquire_at(&path, wait, stop, note)
    }

    fn acquire_at(
        path: &Path,
        wait: bool,
        stop: &dyn Fn() -> bool,
        note: impl FnOnce(&str),
    ) -> Result<Self, LockError> {
        let named = |source| LockError::Io { path: path.to_owned(), source };
        let mut file = open(path).map_err(named)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(named(error)),
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&mut file);
                if !wait {
                    return Err(LockError::Busy { holder });
                }
                note(&holder);
                wait_for(&file, path, holder, stop)?;
            }
        }
        // The description only informs others; the lock works without it.
        let _ = write_holder(&mut file);
        Ok(Self { file })
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

/// Waits until the lock is free, or `stop` is true.
fn wait_for(file: &File, path: &Path, holder: String, stop: &dyn Fn() -> bool) -> Result<(), LockError> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => return Err(LockError::Io { path: path.to_owned(), source }),
            Err(TryLockError::WouldBlock) if stop() => return Err(LockError::Interrupted { holder }),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Opens the lock file with access for every user of the machine. Does not follow a link at its
/// path.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    // First without O_CREAT: Linux refuses that flag for another user's file in a shared folder.
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match options.create_new(true).open(path) {
        Ok(file) => {
            file.set_permissions(PermissionsExt::from_mode(0o666))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.create_new(false).open(path),
        Err(error) => Err(error),
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    let command: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let command: String = command.join(" ").chars().take(200).collect();
    let text = format!("process {}, `{command}`, since {}\n", std::process::id(), crate::origin::utc_now());
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

/// The holder's description of itself. Any user can write it, so it is only shown.
fn read_holder(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.take(HOLDER_BYTES as u64).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    match text.lines().next() {
        Some(line) if !line.trim().is_empty() => clean(line.trim()),
        _ => "unknown process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never(_: &str) {
        panic!("nobody holds it");
    }

    #[test]
    fn one_holder_at_a_time_and_the_other_learns_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Measuring::acquire_at(&path, false, &|| false, never).unwrap();
        let refused = Measuring::acquire_at(&path, false, &|| false, never).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");

        let (told, waiting) = std::sync::mpsc::channel();
        let waiter = {
            let path = path.clone();
            std::thread::spawn(move || {
                Measuring::acquire_at(&path, true, &|| false, |holder| told.send(holder.to_owned()).unwrap()).map(drop)
            })
        };
        assert!(waiting.recv().unwrap().contains("process"));
        let stopped = Measuring::acquire_at(&path, true, &|| true, |_| {}).unwrap_err();
        assert!(matches!(stopped, LockError::Interrupted { .. }), "{stopped}");
        drop(held);
        waiter.join().unwrap().unwrap();
        Measuring::acquire_at(&path, false, &|| false, never).unwrap();
    }

    #[test]
    fn a_link_in_the_lock_s_place_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("lock"), dir.path().join("precious"));
        fs_err::write(&precious, "kept").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let error = Measuring::acquire_at(&path, true, &|| false, never).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs_err::read(&precious).unwrap(), b"kept");
    }
}
