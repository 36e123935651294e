//! Durable files: written whole (temporary name, sync, rename) or appended by line and synced.
//!
//! `fs_err` adds the path to every error; this module adds what records need beyond that.

use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` by `bytes` atomically: a reader sees the old or the new content, also after a
/// power failure.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(named)?;
    file.write_all(bytes).map_err(named)?;
    file.as_file().sync_all().map_err(named)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(named)?;
    }
    file.persist(path).map_err(|e| named(e.error))?;
    sync_folder(folder)
}

/// Makes the file names in `folder` durable (needed after a create or rename on Linux).
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    fs_err::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_write_replaces_and_names_the_path_on_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        write_atomic(&file, b"one").unwrap();
        write_atomic(&file, b"two").unwrap();
        assert_eq!(fs_err::read(&file).unwrap(), b"two");
        let gone = dir.path().join("no/such/folder.json");
        let error = write_atomic(&gone, b"x").unwrap_err().to_string();
        assert!(error.contains("folder.json"), "{error}");
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1, "no temporary file remains");
    }
}
