//! The identity of a model: names, sizes and a fingerprint.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::backend::Held;
use super::checkpoint::Checkpoint;
use super::config::{Config, LONGEST};
use super::expected::parameters;
use crate::text::chat::{LONGEST_CONFIG, LONGEST_TEMPLATE};
use crate::text::tokenizer::LONGEST_TOKENIZER;
use inferometer_host::Result;
use inferometer_protocol::bounded::read_limited;
use inferometer_protocol::{EngineError, ModelIdentity};

/// The start of the hashed bytes, with the version of the fingerprint's rule.
const MARK: &str = "inferometer model fingerprint 2\n";
/// Files besides the weights that affect tokens, and the most bytes read from each.
const SMALL: [(&str, u64); 5] = [
    ("config.json", LONGEST),
    ("generation_config.json", LONGEST),
    ("tokenizer.json", LONGEST_TOKENIZER),
    ("tokenizer_config.json", LONGEST_CONFIG),
    ("chat_template.jinja", LONGEST_TEMPLATE),
];
/// A weight file is sampled at this many evenly spaced places ...
const PLACES: u64 = 64;
/// ... of this many bytes each. A file no longer than all places together is read completely.
const SAMPLE: u64 = 64 << 10;

/// The identity of a model loaded from `folder`.
///
/// # Errors
/// When a file cannot be read.
pub fn identity(folder: &Path, config: &Config, weights: &dyn Checkpoint, held: &Held) -> Result<ModelIdentity> {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    Ok(ModelIdentity {
        name: whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned(),
        path: folder.display().to_string(),
        architecture: Some(config.architecture.name().to_owned()),
        parameters: Some(parameters(config)),
        weight_bytes: Some(held.bytes),
        weight_format: Some(held.format()),
        fingerprint: Some(fingerprint(folder, weights)?),
        vocabulary: u32::try_from(config.shape.vocabulary).ok(),
        context_length: u32::try_from(config.shape.context).ok(),
        synthetic: config.synthetic,
    })
}

/// SHA-256 in hex over [`MARK`]; then for each of the [`SMALL`] files that exists: its name, a zero
/// byte, its length (u64, little-endian), and all its bytes; then for each weight file in name
/// order: its name, a zero byte, its length, and its bytes at [`PLACES`] places of [`SAMPLE`] bytes
/// from its beginning (with the header) to its end, each place after its offset (u64,
/// little-endian).
///
/// Sampling identifies a model of many gigabytes in milliseconds. Two files that differ only
/// between the places have the same fingerprint.
///
/// # Errors
/// When a file cannot be read.
pub fn fingerprint(folder: &Path, weights: &dyn Checkpoint) -> Result<String> {
    // These errors already name the path.
    let io = |e: std::io::Error| EngineError::model(e.to_string());
    let mut hash = Sha256::new();
    hash.update(MARK);
    for (name, longest) in SMALL.into_iter().filter(|_| folder.is_dir()) {
        let bytes = match read_limited(&folder.join(name), longest) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(io(e)),
        };
        hash.update(name);
        hash.update([0]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    for path in weights.paths() {
        let mut file = fs_err::File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        hash.update(path.file_name().unwrap_or_default().to_string_lossy().as_bytes());
        hash.update([0]);
        hash.update(length.to_le_bytes());
        for (start, size) in places(length) {
            let mut sample = vec![0; size as usize];
            file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut sample)).map_err(io)?;
            hash.update(start.to_le_bytes());
            hash.update(&sample);
        }
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

    #[test]
    fn places_span_the_file_without_overlap() {
        assert_eq!(places(10), [(0, 10)]);
        let length = PLACES * SAMPLE + 1;
        for length in [length, length * 3, 1 << 40] {
            let places = places(length);
            assert_eq!(places.len() as u64, PLACES);
            assert_eq!(places[0].0, 0);
            let (last, size) = places[places.len() - 1];
            assert_eq!(last + size, length);
            assert!(places.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{length}");
        }
    }
}
