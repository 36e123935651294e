//! A fetched model on disk: `<models>/<name>/`, with the file, where it came from, and licence
//! texts.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FetchError;
use super::catalogue::Model;

/// Beside the model's file.
const ORIGIN: &str = "origin.json";
const LONGEST_ORIGIN: u64 = 64 << 10;

/// Where a file came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub source: String,
    pub licence: String,
    pub sha256: String,
    pub bytes: u64,
}

/// What is on disk of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Absent,
    /// Every byte is as it was fetched.
    Whole,
    Damaged,
}

/// The path of a model's file, whether it is there or not.
#[must_use]
pub fn path(model: &Model, models: &Path) -> PathBuf {
    models.join(model.name).join(model.file)
}

/// Whether a model's file is there in full length. Its content is not read.
#[must_use]
pub fn is_there(model: &Model, models: &Path) -> bool {
    let expected = origin(model, models).map_or(model.bytes, |origin| origin.bytes);
    fs_err::metadata(path(model, models)).is_ok_and(|data| data.is_file() && data.len() == expected)
}

/// Reads the whole file and compares it with what was fetched.
///
/// # Errors
/// When it cannot be read.
pub fn state(model: &Model, models: &Path) -> Result<State, FetchError> {
    let file = path(model, models);
    if !file.exists() {
        return Ok(State::Absent);
    }
    if !is_there(model, models) {
        return Ok(State::Damaged);
    }
    let found = sha256(&file)?;
    // A file that was copied there by hand has no origin.
    let fetched = origin(model, models).is_some_and(|origin| origin.sha256 == found);
    Ok(if fetched || found == model.sha256 { State::Whole } else { State::Damaged })
}

/// Moves the file at `from` into its place. `texts` are written beside it. The file comes last: a
/// model whose file is there is complete.
///
/// # Errors
/// When the folder cannot be written.
pub fn keep(
    model: &Model,
    models: &Path,
    from: &Path,
    origin: &Origin,
    texts: &[(&str, Vec<u8>)],
) -> Result<PathBuf, FetchError> {
    let folder = models.join(model.name);
    fs_err::create_dir_all(&folder)?;
    for (name, text) in texts {
        crate::fs::write_atomic(&folder.join(name), text)?;
    }
    let json = serde_json::to_vec_pretty(origin).map_err(std::io::Error::other)?;
    crate::fs::write_atomic(&folder.join(ORIGIN), &json)?;
    let file = path(model, models);
    fs_err::rename(from, &file)?;
    crate::fs::sync_folder(&folder)?;
    Ok(file)
}

fn origin(model: &Model, models: &Path) -> Option<Origin> {
    let path = models.join(model.name).join(ORIGIN);
    serde_json::from_slice(&inferometer_protocol::bounded::read_limited(&path, LONGEST_ORIGIN).ok()?).ok()
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(file: &Path) -> std::io::Result<String> {
    let mut reader = fs_err::File::open(file)?;
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(hex(digest)),
            count => digest.update(&chunk[..count]),
        }
    }
}

/// The digest in hex.
pub fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
