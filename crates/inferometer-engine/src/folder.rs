//! What a path is, judged by its content and not by its name; and what to do where it is no model.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::gguf::Gguf;
use crate::transformer::config::{LONGEST, read_json};

/// What can be given as a model.
const EXPECTED: &str =
    "a model is a Hugging Face folder with config.json, *.safetensors and tokenizer.json, or a GGUF file";

/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 1000;
/// Folders whose entries are looked at for a model inside.
const MOST_BELOW: usize = 100;
/// GGUF files that a message names.
const MOST_NAMED: usize = 5;
/// The header of a safetensors file is not longer.
const LONGEST_HEADER: u64 = 100 << 20;

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder with `config.json`.
    HuggingFaceFolder,
    /// The same with matrices quantized by MLX: `config.json` has `quantization`.
    MlxFolder,
    /// Begins as GGUF files do, whatever its name: also a blob of Ollama's, which has no suffix.
    GgufFile { split: Option<Split> },
    /// A folder without weights of its own but with GGUF files. Of a split one, the first part.
    FolderWithGguf { files: Vec<PathBuf> },
    /// One file of a Hugging Face folder.
    SafetensorsFile,
    /// Why it is no model, and what to give instead.
    Unknown { reason: String },
}

/// The place of a file in a split GGUF, by its name: `NAME-00002-of-00005.gguf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// From 1.
    pub part: u32,
    pub of: u32,
}

impl Split {
    /// `None` for a file that is not split.
    #[must_use]
    pub fn of_name(path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?;
        let (before, of) = stem.rsplit_once("-of-")?;
        let (_, part) = before.rsplit_once('-')?;
        let number = |text: &str| (text.len() == 5).then(|| text.parse().ok()).flatten();
        let split = Self { part: number(part)?, of: number(of)? };
        (1..=split.of).contains(&split.part).then_some(split)
    }
}

/// Recognises a path by its content. Reads a few bytes, and `config.json` where there is one.
#[must_use]
pub fn recognise(path: &Path) -> Kind {
    if path.is_dir() {
        return recognise_folder(path);
    }
    if is_gguf(path) {
        return Kind::GgufFile { split: Split::of_name(path) };
    }
    if is_safetensors(path) {
        return Kind::SafetensorsFile;
    }
    Kind::Unknown { reason: no_model(path) }
}

fn recognise_folder(folder: &Path) -> Kind {
    let files: Vec<PathBuf> = entries(folder).into_iter().filter(|entry| entry.is_file()).collect();
    let configured = folder.join("config.json").is_file();
    let has_weights = || files.iter().any(|file| file.extension().is_some_and(|suffix| suffix == "safetensors"));
    let first = |file: &&PathBuf| Split::of_name(file).is_none_or(|split| split.part == 1);
    // Repositories of GGUF files often have the original's config.json too.
    if !configured || !has_weights() {
        let mut ggufs: Vec<PathBuf> = files.iter().filter(first).filter(|file| is_gguf(file)).cloned().collect();
        if !ggufs.is_empty() {
            ggufs.sort_unstable();
            return Kind::FolderWithGguf { files: ggufs };
        }
    }
    if !configured {
        return Kind::Unknown { reason: no_model(folder) };
    }
    let config: Option<Value> = read_json(&folder.join("config.json"), LONGEST).ok();
    match config.is_some_and(|config| config.get("quantization").is_some_and(Value::is_object)) {
        true => Kind::MlxFolder,
        false => Kind::HuggingFaceFolder,
    }
}

/// Why `path` is no model and what to give instead; `None` where it may be one: whether an engine
/// supports it is another question.
#[must_use]
pub fn fault(path: &Path) -> Option<String> {
    let shown = path.display();
    match recognise(path) {
        Kind::HuggingFaceFolder | Kind::MlxFolder | Kind::GgufFile { .. } => None,
        Kind::FolderWithGguf { files } if files.len() == 1 => None,
        Kind::FolderWithGguf { files } => {
            let names = files.iter().take(MOST_NAMED).map(|file| file.display().to_string()).collect::<Vec<_>>();
            let more = files.len().saturating_sub(MOST_NAMED);
            let also = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(format!("{shown} has {} GGUF files; give one of them: {}{also}", files.len(), names.join(", ")))
        }
        Kind::SafetensorsFile => Some(match holder(path) {
            Some(folder) => format!("{shown} is one file of a model; give its folder, {}", folder.display()),
            None => format!("{shown} is a safetensors file without its config.json; {EXPECTED}"),
        }),
        Kind::Unknown { reason } => Some(reason),
    }
}

/// The GGUF file that a path stands for: the file itself, or the only one in a folder. Of a split
/// one, the file that was given, or the first part.
#[must_use]
pub fn gguf(path: &Path) -> Option<PathBuf> {
    match recognise(path) {
        Kind::GgufFile { .. } => Some(path.to_owned()),
        Kind::FolderWithGguf { files } => match <[PathBuf; 1]>::try_from(files) {
            Ok([only]) => Some(only),
            Err(_) => None,
        },
        _ => None,
    }
}

/// What is at a path that is no model, and what to give instead.
fn no_model(path: &Path) -> String {
    let shown = path.display();
    if !path.exists() {
        return match path.symlink_metadata() {
            Ok(_) => format!("{shown} is a link to nothing; {EXPECTED}"),
            Err(_) => format!("there is nothing at {shown}; {EXPECTED}"),
        };
    }
    if !path.is_dir() {
        return match holder(path) {
            Some(folder) => format!("{shown} is one file of a model; give its folder, {}", folder.display()),
            None if named_gguf(path) => {
                format!("{shown} is named as a GGUF file but does not begin as one; {EXPECTED}")
            }
            None => format!("{shown} is a file; {EXPECTED}"),
        };
    }
    let entries = entries(path);
    let below = entries.iter().take(MOST_BELOW).flat_map(|entry| self::entries(entry));
    let inside = below.chain(entries.clone());
    match inside.filter(|entry| entry.join("config.json").is_file()).min() {
        Some(model) => format!("{shown} has no config.json; give the folder inside it, such as {}", model.display()),
        None => format!("{shown} has no config.json; {EXPECTED}"),
    }
}

/// The model's folder that a file is in.
fn holder(file: &Path) -> Option<&Path> {
    file.parent().filter(|folder| folder.join("config.json").is_file())
}

/// Of a regular file: a pipe would block.
fn is_gguf(file: &Path) -> bool {
    file.is_file() && Gguf::recognises(file)
}

/// Whether a file begins with the length of a header and a JSON object, as the format says.
fn is_safetensors(file: &Path) -> bool {
    let Some(bytes) = start(file, 9) else { return false };
    let (length, first) = bytes.split_at(8);
    let length = length.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
    let size = fs_err::metadata(file).map_or(0, |data| data.len());
    first == b"{" && length <= LONGEST_HEADER && length <= size.saturating_sub(8)
}

/// The first bytes of a regular file.
fn start(file: &Path, count: usize) -> Option<Vec<u8>> {
    if !fs_err::metadata(file).ok()?.is_file() {
        return None;
    }
    let mut bytes = vec![0; count];
    fs_err::File::open(file).ok()?.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn named_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// What is in a folder, up to a limit; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = fs_err::read_dir(folder).into_iter().flatten().flatten();
    listed.take(MOST_ENTRIES).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{ChatTemplate, Tokenizer};
    use crate::transformer::config::Config;

    /// A safetensors file without tensors.
    const EMPTY: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

    fn laid_out(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, content).unwrap();
        }
        dir
    }

    /// Every reader of a model's folder says the same sentence, whatever the system calls the
    /// fault.
    #[test]
    fn a_path_that_is_no_model_is_told_with_what_to_give() {
        let dir = laid_out(&[
            ("x.gguf", b"{}"),
            ("notes.txt", b"{}"),
            ("alone.safetensors", EMPTY),
            ("model/config.json", b"{}"),
            ("model/model.safetensors", EMPTY),
            ("hub/snapshots/1a2b/config.json", b"{}"),
            ("several/a.gguf", b"GGUF"),
            ("several/b.bin", b"GGUF"),
        ]);
        let at = |name: &str| dir.path().join(name);
        fs_err::create_dir(at("empty")).unwrap();
        std::os::unix::fs::symlink(at("gone"), at("link")).unwrap();
        for (path, words) in [
            ("x.gguf", "x.gguf is named as a GGUF file but does not begin as one; a model is a Hugging Face folder"),
            ("model/model.safetensors", "model.safetensors is one file of a model; give its folder, "),
            ("model/config.json", "config.json is one file of a model; give its folder, "),
            ("alone.safetensors", "alone.safetensors is a safetensors file without its config.json; a model is"),
            ("notes.txt", "notes.txt is a file; a model is a Hugging Face folder with config.json"),
            ("missing", "missing; a model is a Hugging Face folder with config.json"),
            ("link", "link is a link to nothing; a model is"),
            ("empty", "empty has no config.json; a model is a Hugging Face folder"),
            ("hub", "hub/snapshots/1a2b"),
            ("several", "several has 2 GGUF files; give one of them: "),
        ] {
            let config = Config::from_folder(&at(path)).unwrap_err().to_string();
            let tokenizer = Tokenizer::from_model(&at(path)).unwrap_err().to_string();
            let template = ChatTemplate::from_model(&at(path)).unwrap_err().to_string();
            for told in [config, tokenizer, template] {
                assert!(told.contains(words) && !told.contains("os error"), "{path}: {told}");
            }
        }
        assert_eq!(fault(&at("model")), None);
        let without = Tokenizer::from_model(&at("model")).unwrap_err().to_string();
        assert!(without.contains("model has no tokenizer.json"), "{without}");
    }

    #[test]
    fn content_decides_what_a_path_is() {
        let dir = laid_out(&[
            ("folder/config.json", b"{\"model_type\": \"llama\"}"),
            ("folder/model.safetensors", EMPTY),
            ("mlx/config.json", b"{\"quantization\": {\"bits\": 4, \"group_size\": 64}}"),
            ("mlx/model.safetensors", EMPTY),
            ("gptq/config.json", b"{\"quantization_config\": {\"quant_method\": \"gptq\"}}"),
            ("gptq/model.safetensors", EMPTY),
            ("weights.bin", b"GGUF\x03\0\0\0"),
            ("sha256-0a0b", b"GGUF\x03\0\0\0"),
            ("m-00002-of-00003.gguf", b"GGUF\x03\0\0\0"),
            ("converted/config.json", b"{}"),
            ("converted/m-00001-of-00002.gguf", b"GGUF"),
            ("converted/m-00002-of-00002.gguf", b"GGUF"),
            ("alone.bin", EMPTY),
            ("cut.safetensors", b"\xff\0\0\0\0\0\0\0{}"),
        ]);
        let at = |name: &str| dir.path().join(name);
        let kind = |name: &str| recognise(&at(name));
        assert_eq!(kind("folder"), Kind::HuggingFaceFolder);
        assert_eq!(kind("mlx"), Kind::MlxFolder);
        assert_eq!(kind("gptq"), Kind::HuggingFaceFolder);
        for name in ["weights.bin", "sha256-0a0b"] {
            assert_eq!(kind(name), Kind::GgufFile { split: None }, "{name}");
            assert_eq!((fault(&at(name)), gguf(&at(name))), (None, Some(at(name))));
        }
        assert_eq!(kind("m-00002-of-00003.gguf"), Kind::GgufFile { split: Some(Split { part: 2, of: 3 }) });
        assert_eq!(kind("converted"), Kind::FolderWithGguf { files: vec![at("converted/m-00001-of-00002.gguf")] });
        assert_eq!(gguf(&at("converted")), Some(at("converted/m-00001-of-00002.gguf")));
        assert_eq!((fault(&at("converted")), gguf(&at("folder"))), (None, None));
        assert_eq!(kind("alone.bin"), Kind::SafetensorsFile);
        assert!(matches!(kind("cut.safetensors"), Kind::Unknown { .. }));
    }

    #[test]
    fn part_numbers_are_those_of_the_name() {
        let split = |name: &str| Split::of_name(Path::new(name)).map(|split| (split.part, split.of));
        assert_eq!(split("a/b-00001-of-00010.gguf"), Some((1, 10)));
        for name in ["b-00011-of-00010.gguf", "b-1-of-2.gguf", "b-00000-of-00002.gguf", "00001-of-00002.gguf", "b.gguf"]
        {
            assert_eq!(split(name), None, "{name}");
        }
    }
}
