//! Writes `ab.json` and `pairs.csv` during the session.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::schema::{AbManifest, PairRow, SCHEMA_VERSION};
use super::{MANIFEST, PAIRS, sound};
use crate::record::error::RecordError;
use crate::record::store::{Appender, hidden, new_folder};
use crate::record::{Manifest, Record, Store};
use crate::secret::Secrets;

/// An A/B session being written. Holds a lock on it until dropped.
#[derive(Debug)]
pub struct AbStore {
    dir: PathBuf,
    manifest: AbManifest,
    pairs: Appender,
    secrets: Secrets,
}

/// A session to continue.
#[derive(Debug)]
pub struct Resumed {
    pub store: AbStore,
    /// The committed pairs.
    pub pairs: Vec<PairRow>,
    /// A's record, then B's.
    pub sides: [(Store, Record); 2],
}

impl AbStore {
    /// Creates a folder for a new session in `results` (created too if missing), named by time,
    /// scenario and `hash`, and starts its record and those of both sides there.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be created.
    pub fn create(
        results: &Path,
        mut manifest: AbManifest,
        hash: &str,
        sides: [Manifest; 2],
    ) -> Result<(Self, [Store; 2]), RecordError> {
        fs_err::create_dir_all(results)?;
        let (dir, name) = new_folder(results, &manifest.origin_utc, &format!("ab-{}", manifest.scenario), hash)?;
        manifest.session = name;
        let begin = || {
            let [a, b] = sides;
            let stores = [Store::create_in(&dir.join("a"), a)?, Store::create_in(&dir.join("b"), b)?];
            let mut pairs = Appender::open(dir.join(PAIRS), fs_err::OpenOptions::new().create_new(true))?;
            pairs.commit(&header())?;
            pairs.lock(&dir)?;
            // The manifest last: a folder with a manifest is a complete session.
            write_manifest(&dir, &manifest)?;
            Ok((pairs, stores))
        };
        let begun: Result<_, RecordError> = begin();
        let (pairs, stores) = begun.inspect_err(|_| {
            // The folder holds no data yet.
            let _ = fs_err::remove_dir_all(&dir);
        })?;
        crate::fs::sync_folder(results)?;
        Ok((Self { dir, manifest, pairs, secrets: Secrets::default() }, stores))
    }

    /// Opens the session in `dir` to continue it: returns its committed pairs and the sides'
    /// records.
    ///
    /// # Errors
    /// All errors of [`super::read`], and a session that another process is writing.
    pub fn resume(dir: &Path) -> Result<Resumed, RecordError> {
        let manifest = read_manifest(dir)?;
        let mut pairs = Appender::open(dir.join(PAIRS), &mut fs_err::OpenOptions::new())?;
        pairs.lock(dir)?;
        let (rows, bytes) = read_pairs(dir)?;
        pairs.cut_to(bytes)?;
        let sides = [Store::resume(&dir.join("a"))?, Store::resume(&dir.join("b"))?];
        check_sides(dir, &manifest, [&sides[0].1, &sides[1].1])?;
        let store = Self { dir: dir.to_owned(), manifest, pairs, secrets: Secrets::default() };
        Ok(Resumed { store, pairs: rows, sides })
    }

    /// From now on none of these is written, whoever quotes it.
    pub fn hide(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn manifest(&self) -> &AbManifest {
        &self.manifest
    }

    /// Changes the manifest and rewrites `ab.json` at once. On an error neither changes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn update(&mut self, change: impl FnOnce(&mut AbManifest)) -> Result<(), RecordError> {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        let manifest = hidden(&self.secrets, &manifest, &self.dir.join(MANIFEST))?;
        write_manifest(&self.dir, &manifest)?;
        self.manifest = manifest;
        Ok(())
    }

    /// Appends a pair. It is on disk when this returns.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn commit(&mut self, pair: &PairRow) -> Result<(), RecordError> {
        self.pairs.commit(&line(pair))
    }
}

/// A row of `pairs.csv`.
pub(super) fn line(pair: &PairRow) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.serialize(pair).expect("a pair is plain data");
    writer.into_inner().expect("a vector takes everything")
}

/// The columns of `pairs.csv`.
const COLUMNS: [&str; 6] = ["pair", "kind", "first", "first_iteration", "second", "second_iteration"];

pub(super) fn header() -> Vec<u8> {
    format!("{}\n", COLUMNS.join(",")).into_bytes()
}

pub(super) fn write_manifest(dir: &Path, manifest: &AbManifest) -> Result<(), RecordError> {
    let mut text = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    text.push(b'\n');
    crate::fs::write_atomic(&dir.join(MANIFEST), &text)?;
    Ok(())
}

pub(super) fn read_manifest(dir: &Path) -> Result<AbManifest, RecordError> {
    let path = dir.join(MANIFEST);
    let text = match fs_err::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
            return Err(RecordError::NoSession { path: dir.to_owned() });
        }
        Err(e) => return Err(e.into()),
    };
    parse_manifest(&path, &text)
}

/// The manifest in a text; `path` is what its errors name.
pub(in crate::record) fn parse_manifest(path: &Path, text: &[u8]) -> Result<AbManifest, RecordError> {
    #[derive(serde::Deserialize)]
    struct Head {
        schema_version: u64,
    }
    let invalid = |message: String| RecordError::AbManifest { path: path.to_owned(), message };
    let refused = |e: serde_json::Error| invalid(e.to_string());
    let version = serde_json::from_slice::<Head>(text).map_err(refused)?.schema_version;
    if version > u64::from(SCHEMA_VERSION) {
        return Err(RecordError::Newer { path: path.to_owned(), found: version });
    }
    let manifest = serde_json::from_slice(text).map_err(refused)?;
    sound::manifest(&manifest).map_err(invalid)?;
    Ok(manifest)
}

/// Refuses sides that do not belong to the session in `dir`.
pub(super) fn check_sides(dir: &Path, manifest: &AbManifest, sides: [&Record; 2]) -> Result<(), RecordError> {
    let [a, b] = sides;
    sound::sides(manifest, a, b).map_err(|message| RecordError::Session { path: dir.to_owned(), message })
}

/// The complete lines of `pairs.csv`, and their length in bytes. Data after them was left by an
/// interrupted write.
pub(super) fn read_pairs(dir: &Path) -> Result<(Vec<PairRow>, u64), RecordError> {
    let path = dir.join(PAIRS);
    parse_pairs(&path, &fs_err::read(&path)?)
}

/// [`read_pairs`] of a text; `path` is what its errors name.
pub(in crate::record) fn parse_pairs(path: &Path, text: &[u8]) -> Result<(Vec<PairRow>, u64), RecordError> {
    let text = &text[..text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)];
    let mut reader = csv::Reader::from_reader(text);
    let bad = |line, message| RecordError::Row { path: path.to_owned(), line, message };
    let mut rows: Vec<PairRow> = Vec::new();
    let mut used = BTreeSet::new();
    for (line, row) in (2_u64..).zip(reader.deserialize()) {
        let row: PairRow = row.map_err(|e| bad(line, e.to_string()))?;
        sound::pair(rows.last(), &row, &mut used).map_err(|message| bad(line, message))?;
        rows.push(row);
    }
    Ok((rows, text.len() as u64))
}
