//! `run.json`: read with its version checked first, written whole.

use std::path::Path;

use super::error::RecordError;
use super::schema::{Manifest, SCHEMA_VERSION};

pub const FILE: &str = "run.json";

/// Reads the manifest of the run in `dir`. Unknown fields are ignored.
///
/// # Errors
/// No such file, not valid, or written by a newer major version.
pub fn read(dir: &Path) -> Result<Manifest, RecordError> {
    let path = dir.join(FILE);
    let text = match fs_err::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
            return Err(RecordError::NoRecord { path: dir.to_owned() });
        }
        Err(e) => return Err(e.into()),
    };
    let invalid = |message: String| RecordError::Manifest { path: path.clone(), message };
    let version = version(&text).map_err(invalid)?;
    if version > u64::from(SCHEMA_VERSION) {
        return Err(RecordError::Newer { path, found: version });
    }
    serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))
}

/// The version alone, so that a newer file is refused as such and not for what this build does not know.
fn version(text: &[u8]) -> Result<u64, String> {
    #[derive(serde::Deserialize)]
    struct Head {
        schema_version: u64,
    }
    serde_json::from_slice::<Head>(text).map(|head| head.schema_version).map_err(|e| e.to_string())
}

/// Replaces the manifest of the run in `dir` at once.
///
/// # Errors
/// When the file cannot be written; the old one is then whole and in place.
pub fn write(dir: &Path, manifest: &Manifest) -> Result<(), RecordError> {
    let path = dir.join(FILE);
    let mut text = serde_json::to_vec_pretty(manifest)
        .map_err(|e| RecordError::Manifest { path: path.clone(), message: e.to_string() })?;
    text.push(b'\n');
    crate::fs::write_atomic(&path, &text)?;
    Ok(())
}
