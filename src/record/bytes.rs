//! Reads the files of a record from memory, for those who do not have them on a disk. The fuzz
//! targets use it.
//!
//! Every function reads as the functions that take a folder do, with the same errors. They name a
//! file without its folder.

use std::path::Path;

use super::ab::{AbManifest, MANIFEST, PAIRS, PairRow};
use super::error::RecordError;
use super::profile::ITERATIONS;
use super::table::Table;
use super::{Manifest, ProfiledIteration, Record, manifest, read};

/// The record of a manifest and of CSV files that `file` gives by name; without its profiled pass.
///
/// # Errors
/// As [`super::read()`].
pub fn record(manifest: Manifest, file: &dyn Fn(&str) -> Vec<u8>) -> Result<Record, RecordError> {
    read::rows(manifest, &|name| Table::of_bytes(name, file(name))).map(|(record, _)| record)
}

/// `run.json`.
///
/// # Errors
/// As [`manifest::read`].
pub fn run_manifest(text: &[u8]) -> Result<Manifest, RecordError> {
    manifest::parse(Path::new(manifest::FILE), text)
}

/// The iterations of the profiled pass.
///
/// # Errors
/// A line that is no iteration or holds an impossible profile.
pub fn profiled_iterations(text: &[u8]) -> Result<Vec<ProfiledIteration>, RecordError> {
    super::profile::lines(Path::new(ITERATIONS), text).map(|(iterations, _)| iterations)
}

/// `ab.json`.
///
/// # Errors
/// As [`super::ab::manifest`].
pub fn ab_manifest(text: &[u8]) -> Result<AbManifest, RecordError> {
    super::ab::parse_manifest(Path::new(MANIFEST), text)
}

/// `pairs.csv`.
///
/// # Errors
/// A row that is no pair or contradicts the rows before it.
pub fn pairs(text: &[u8]) -> Result<Vec<PairRow>, RecordError> {
    super::ab::parse_pairs(Path::new(PAIRS), text).map(|(rows, _)| rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_memory_read_as_files_in_a_folder() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-v1");
        let file = |name: &str| fs_err::read(dir.join(name)).unwrap();
        let read = record(run_manifest(&file(manifest::FILE)).unwrap(), &file).unwrap();
        assert_eq!(read, crate::record::read(&dir).unwrap());
        let cut =
            |name: &str| if name == crate::record::csv::TOKENS { b"request,index\n0,x\n".to_vec() } else { file(name) };
        let error = record(read.manifest, &cut).unwrap_err().to_string();
        assert!(error.starts_with("tokens.csv, line 2, column `index`"), "{error}");
    }
}
