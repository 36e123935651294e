//! The model's file: which one it is, and its fingerprint.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use inferometer_host::Result;
use inferometer_host::protocol::EngineError;
use sha2::{Digest, Sha256};

/// The first bytes of a GGUF file.
const MAGIC: [u8; 4] = *b"GGUF";

/// The start of the hashed bytes, with the version of the fingerprint's rule.
const MARK: &str = "inferometer model fingerprint 2\n";
/// A file is sampled at this many evenly spaced places ...
const PLACES: u64 = 64;
/// ... of this many bytes each. A file no longer than all places together is read completely.
const SAMPLE: u64 = 64 << 10;

/// The GGUF file that `path` is, or the only one in the folder that it is.
///
/// # Errors
/// `model`: there is none, or it does not begin as GGUF does.
pub fn find(path: Option<&Path>) -> Result<PathBuf> {
    let path = path.ok_or_else(|| EngineError::model("no model was named; this engine needs a GGUF file"))?;
    let file = if path.is_dir() { only_in(path)? } else { path.to_owned() };
    let mut magic = [0; MAGIC.len()];
    let read = fs_err::File::open(&file).and_then(|mut file| file.read(&mut magic));
    match read.map_err(|error| EngineError::model(error.to_string())) {
        Ok(length) if magic[..length] == MAGIC => Ok(file),
        Ok(_) => Err(EngineError::model(format!(
            "{}: not a GGUF file, which begins with \"GGUF\"; llama.cpp reads no other format, so convert the model",
            file.display()
        ))),
        Err(error) => Err(error),
    }
}

fn only_in(folder: &Path) -> Result<PathBuf> {
    let entries = fs_err::read_dir(folder).map_err(|error| EngineError::model(error.to_string()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    match (found.pop(), found.len()) {
        (Some(file), 0) => Ok(file),
        (None, _) => Err(EngineError::model(format!(
            "{}: no GGUF file in this folder; llama.cpp reads no other format, so convert the model",
            folder.display()
        ))),
        (Some(_), more) => Err(EngineError::model(format!(
            "{}: {} GGUF files in this folder; name one of them",
            folder.display(),
            more + 1
        ))),
    }
}

/// The fingerprint by the rule of the built-in engine, so that both recognize the same model:
/// SHA-256 in hex over [`MARK`], the file's name, a zero byte, its length (u64, little-endian), and
/// its bytes at [`PLACES`] places of [`SAMPLE`] bytes, each after its offset (u64, little-endian).
///
/// # Errors
/// When the file cannot be read.
pub fn fingerprint(path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let length = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(MARK);
    hash.update(path.file_name().unwrap_or_default().to_string_lossy().as_bytes());
    hash.update([0]);
    hash.update(length.to_le_bytes());
    for (start, size) in places(length) {
        let mut sample = vec![0; size as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut sample)?;
        hash.update(start.to_le_bytes());
        hash.update(&sample);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Offsets and sizes of the sampled places in a file of that length.
fn places(length: u64) -> Vec<(u64, u64)> {
    if length <= PLACES * SAMPLE {
        return vec![(0, length)];
    }
    (0..PLACES).map(|place| (place * (length - SAMPLE) / (PLACES - 1), SAMPLE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: Option<&Path>) -> String {
        find(path).unwrap_err().message
    }

    #[test]
    fn a_file_or_the_only_one_in_a_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.gguf"), folder.path().join("two.gguf"));
        assert!(error(None).contains("no model was named"));
        assert!(error(Some(folder.path())).contains("no GGUF file in this folder"));
        fs_err::write(&one, b"GGUF and more").unwrap();
        assert_eq!(find(Some(folder.path())).unwrap(), one);
        assert_eq!(find(Some(&one)).unwrap(), one);
        assert!(error(Some(&two)).contains("two.gguf"), "a missing file is named");
        fs_err::write(&two, b"GG").unwrap();
        assert!(error(Some(&two)).contains("two.gguf: not a GGUF file"));
        assert!(error(Some(folder.path())).contains("2 GGUF files"));
    }

    #[test]
    fn a_fingerprint_sees_name_length_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for (name, content) in [("a", &b"GGUF"[..]), ("b", b"GGUF"), ("a2", b"GGUF1"), ("a", b"GGUG")] {
            fs_err::write(folder.path().join(name), content).unwrap();
            assert!(seen.insert(fingerprint(&folder.path().join(name)).unwrap()), "{name}");
        }
        let length = PLACES * SAMPLE + 1;
        for length in [length, length * 3, 1 << 40] {
            let places = places(length);
            assert_eq!((places.len() as u64, places[0].0), (PLACES, 0));
            assert_eq!(places.last().map(|(at, size)| at + size), Some(length));
        }
    }
}
