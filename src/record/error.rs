//! Errors of a record on disk. Every error names the file.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// `fs_err` and [`crate::fs`] put the path into the message.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("cannot {what} {path}: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is not a record of a run: it has no run.json")]
    NoRecord { path: PathBuf },
    #[error("{path} is not an A/B session: it has no ab.json")]
    NoSession { path: PathBuf },
    #[error("{path}: not a valid ab.json: {message}")]
    AbManifest { path: PathBuf, message: String },
    /// Its files contradict each other.
    #[error("{path} is not a valid A/B session: {message}")]
    Session { path: PathBuf, message: String },
    #[error(
        "{path} has record schema {found}, but this build reads up to {known}: use a newer inferometer to read it",
        known = super::schema::SCHEMA_VERSION
    )]
    Newer { path: PathBuf, found: u64 },
    #[error("{path}: not a valid run.json: {message}")]
    Manifest { path: PathBuf, message: String },
    #[error("{path}, line {line}, column `{column}`: {message}")]
    Value { path: PathBuf, line: u64, column: String, message: String },
    #[error("{path}, line {line}: {message}")]
    Row { path: PathBuf, line: u64, message: String },
    #[error("{path} is being written by another inferometer: wait for it to end, or stop it")]
    Busy { path: PathBuf },
    #[error(
        "{path} also holds {name:?}, which is no part of a record: move it elsewhere, or remove the folder by hand"
    )]
    Foreign { path: PathBuf, name: String },
    #[error("{path} was deleted, moved or replaced while it was being written")]
    Gone { path: PathBuf },
    /// A caller passed rows that do not belong together: a defect of the program, not of the data.
    #[error("cannot commit to {path}: {message}")]
    Commit { path: PathBuf, message: String },
}

impl RecordError {
    /// Whether the cause is a lack of disk space (or a quota, or a limit on file size).
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let (Self::Io(source) | Self::File { source, .. }) = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
    }
}

/// For `map_err`: adds the operation and the file.
pub(super) fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::File { what, path, source }
}
