//! The files of an A/B session: `ab.json`, `pairs.csv`, and an ordinary record of each side in `a/`
//! and `b/`.
//!
//! A row of `pairs.csv` commits a pair. Iterations of a side that no row names belong to an
//! interrupted pair.

mod schema;
mod sound;
mod store;

pub use schema::{
    AbManifest, ChosenLength, CommitInfo, Divergence, GateInfo, OutputsFinding, PairKind, PairRow, SCHEMA_VERSION,
    SideFailure, SideInfo,
};
pub use store::{AbStore, Resumed};
pub(super) use store::{parse_manifest, parse_pairs};

use std::path::Path;

use super::{Record, RecordError};

/// The session's manifest, in its folder.
pub const MANIFEST: &str = "ab.json";
/// The committed pairs.
pub const PAIRS: &str = "pairs.csv";

/// A whole session, read from disk.
#[derive(Debug, Clone, PartialEq)]
pub struct AbRecord {
    pub manifest: AbManifest,
    /// In the order of execution.
    pub pairs: Vec<PairRow>,
    pub a: Record,
    pub b: Record,
}

/// Reads the session in `dir`.
///
/// # Errors
/// A file that is missing or cannot be read, a newer schema, an invalid value, a contradiction.
/// Each error names the file, and the line or key if known.
pub fn read(dir: &Path) -> Result<AbRecord, RecordError> {
    let manifest = store::read_manifest(dir)?;
    let (pairs, _) = store::read_pairs(dir)?;
    let [a, b] = [super::read(&dir.join("a"))?, super::read(&dir.join("b"))?];
    store::check_sides(dir, &manifest, [&a, &b])?;
    Ok(AbRecord { manifest, pairs, a, b })
}

/// Reads the session in `dir` to use its figures; see [`crate::record::open`].
///
/// # Errors
/// As [`read`].
pub fn open(dir: &Path) -> Result<AbRecord, RecordError> {
    let mut record = read(dir)?;
    super::consistency::check(&mut record.a);
    super::consistency::check(&mut record.b);
    Ok(record)
}

/// Reads only the manifest of the session in `dir`.
///
/// # Errors
/// As [`read`].
pub fn manifest(dir: &Path) -> Result<AbManifest, RecordError> {
    store::read_manifest(dir)
}

/// Replaces the manifest of the session in `dir` atomically.
///
/// # Errors
/// When the file cannot be written; the old one stays unchanged.
pub(super) fn write(dir: &Path, manifest: &AbManifest) -> Result<(), RecordError> {
    store::write_manifest(dir, manifest)
}

/// `pairs.csv` with these rows.
pub(super) fn pair_lines(pairs: &[PairRow]) -> Vec<u8> {
    let lines = pairs.iter().map(store::line);
    std::iter::once(store::header()).chain(lines).flatten().collect()
}

/// Whether `dir` holds an A/B session.
#[must_use]
pub fn is_session(dir: &Path) -> bool {
    dir.join(MANIFEST).is_file()
}

#[cfg(test)]
mod tests;
