//! Whether a path is the folder of a model at all, and what to do where it is not.

use std::path::{Path, PathBuf};

/// What a model's folder has.
const EXPECTED: &str = "a model is a Hugging Face folder with config.json, *.safetensors and tokenizer.json";

/// Why `path` is no model's folder and what to give instead; `None` where it has a `config.json`.
#[must_use]
pub fn fault(path: &Path) -> Option<String> {
    let shown = path.display();
    if path.join("config.json").is_file() {
        return None;
    }
    if !path.exists() {
        return Some(format!("there is nothing at {shown}; {EXPECTED}"));
    }
    if path.is_file() {
        return Some(match path.parent().filter(|parent| parent.join("config.json").is_file()) {
            _ if is_gguf(path) => {
                format!("{shown} is a GGUF file, which the built-in engine does not read; {}", instead_of_gguf())
            }
            Some(parent) => format!("{shown} is one file of a model; give its folder, {}", parent.display()),
            None => format!("{shown} is a file; {EXPECTED}"),
        });
    }
    let entries = entries(path);
    if entries.iter().any(|entry| is_gguf(entry)) {
        return Some(format!("{shown} has GGUF files, which the built-in engine does not read; {}", instead_of_gguf()));
    }
    let below = entries.iter().flat_map(|entry| self::entries(entry));
    let inside = below.chain(entries.clone());
    match inside.filter(|entry| entry.join("config.json").is_file()).min() {
        Some(model) => {
            Some(format!("{shown} has no config.json; give the folder inside it, such as {}", model.display()))
        }
        None => Some(format!("{shown} has no config.json; {EXPECTED}")),
    }
}

fn instead_of_gguf() -> String {
    format!("{EXPECTED}, or measure an engine that reads GGUF as an `exec` engine")
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// What is in a folder, up to a hundred entries; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = fs_err::read_dir(folder).into_iter().flatten().flatten();
    listed.take(100).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{ChatTemplate, Tokenizer};
    use crate::transformer::config::Config;

    /// Every reader of a model's folder says the same sentence, whatever the system calls the
    /// fault.
    #[test]
    fn a_path_that_is_no_model_is_told_with_what_to_give() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for file in ["x.gguf", "quantized/y.GGUF", "notes.txt", "model/config.json", "hub/snapshots/1a2b/config.json"] {
            fs_err::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs_err::write(at(file), "{}").unwrap();
        }
        fs_err::create_dir(at("empty")).unwrap();
        fs_err::write(at("model/model.safetensors"), "").unwrap();
        for (path, words) in [
            (
                "x.gguf",
                "x.gguf is a GGUF file, which the built-in engine does not read; a model is a Hugging Face folder",
            ),
            ("quantized", "quantized has GGUF files"),
            ("model/model.safetensors", "model.safetensors is one file of a model; give its folder, "),
            ("model/config.json", "config.json is one file of a model; give its folder, "),
            ("notes.txt", "notes.txt is a file; a model is a Hugging Face folder with config.json"),
            ("missing", "missing; a model is a Hugging Face folder with config.json"),
            ("empty", "empty has no config.json; a model is a Hugging Face folder"),
            ("hub", "hub/snapshots/1a2b"),
        ] {
            let config = Config::from_folder(&at(path)).unwrap_err().to_string();
            let tokenizer = Tokenizer::from_folder(&at(path)).unwrap_err().to_string();
            let template = ChatTemplate::from_folder(&at(path)).unwrap_err().to_string();
            for told in [config, tokenizer, template] {
                assert!(told.contains(words) && !told.contains("os error"), "{path}: {told}");
            }
        }
        assert_eq!(fault(&at("model")), None);
        let without = Tokenizer::from_folder(&at("model")).unwrap_err().to_string();
        assert!(without.contains("model has no tokenizer.json"), "{without}");
    }
}
