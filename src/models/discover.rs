//! What models are on this machine: in the caches and folders of the programs that people use.
//!
//! Names and places come from folder entries alone; no model is opened here. What cannot be read
//! becomes a remark, never an error: one broken cache must not hide the others.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::places::{self, home, named_by, xdg};
use super::{is_gguf, ollama};

/// Entries looked at in one place; a place with more is not searched to the end.
const MOST_ENTRIES: usize = 20_000;

/// Whose folder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// What `model get` fetched, or the user put there.
    Inferometer,
    /// Synthetic models that were made on first use.
    Synthetic,
    HuggingFace,
    LmStudio,
    Ollama,
    LlamaCpp,
}

impl Place {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inferometer => "inferometer",
            Self::Synthetic => "synthetic",
            Self::HuggingFace => "Hugging Face",
            Self::LmStudio => "LM Studio",
            Self::Ollama => "Ollama",
            Self::LlamaCpp => "llama.cpp",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Found {
    pub place: Place,
    pub name: String,
    /// A folder with `config.json`, or a GGUF file; of a split one, the first part.
    pub path: PathBuf,
}

/// Everything that was found, and where.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    /// By place, then by name. A path is here once.
    pub found: Vec<Found>,
    /// Every folder that was looked for, and whether it is there.
    pub places: Vec<Looked>,
    /// What could not be read or used.
    pub remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Looked {
    pub place: Place,
    pub folder: PathBuf,
    pub exists: bool,
}

/// Searches every known place.
#[must_use]
pub fn survey() -> Survey {
    let mut survey = Survey::default();
    for (place, folder) in known(&mut survey.remarks) {
        let exists = folder.is_dir();
        if exists {
            let mut walk = Walk { place, left: MOST_ENTRIES, found: Vec::new(), remarks: Vec::new() };
            walk.place_at(&folder);
            survey.found.append(&mut walk.found);
            survey.remarks.append(&mut walk.remarks);
        }
        survey.places.push(Looked { place, folder, exists });
    }
    survey.found.sort_unstable();
    let mut paths = BTreeSet::new();
    survey.found.retain(|found| paths.insert(found.path.clone()));
    survey
}

/// The folders of each program; a variable of that program's replaces its usual folders.
fn known(remarks: &mut Vec<String>) -> Vec<(Place, PathBuf)> {
    let mut places = Vec::new();
    let mut add = |place: Place, folders: io::Result<Vec<PathBuf>>| match folders {
        Ok(folders) => places.extend(folders.into_iter().map(|folder| (place, folder))),
        Err(error) => remarks.push(format!("{place}: {error}")),
    };
    add(Place::Inferometer, places::models_folder().map(|folder| vec![folder]));
    add(Place::Synthetic, places::cache_folder().map(|folder| vec![folder.join("models")]));
    add(Place::HuggingFace, hugging_face());
    add(
        Place::LmStudio,
        home().map(|home| [".lmstudio/models", ".cache/lm-studio/models"].map(|f| home.join(f)).into()),
    );
    add(Place::Ollama, ollama_stores());
    add(Place::LlamaCpp, llama_cpp());
    places
}

/// As the library `huggingface_hub` looks for it.
fn hugging_face() -> io::Result<Vec<PathBuf>> {
    for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        if let Some(folder) = named_by(variable)? {
            return Ok(vec![folder]);
        }
    }
    let home = match named_by("HF_HOME")? {
        Some(folder) => folder,
        None => xdg("XDG_CACHE_HOME", ".cache")?.join("huggingface"),
    };
    Ok(vec![home.join("hub")])
}

/// The user's store, and that of the service that the Linux installer sets up.
fn ollama_stores() -> io::Result<Vec<PathBuf>> {
    match named_by("OLLAMA_MODELS")? {
        Some(folder) => Ok(vec![folder]),
        None => Ok(vec![home()?.join(".ollama/models"), "/usr/share/ollama/.ollama/models".into()]),
    }
}

fn llama_cpp() -> io::Result<Vec<PathBuf>> {
    match named_by("LLAMA_CACHE")? {
        Some(folder) => Ok(vec![folder]),
        None if cfg!(target_os = "macos") => Ok(vec![home()?.join("Library/Caches/llama.cpp")]),
        None => Ok(vec![xdg("XDG_CACHE_HOME", ".cache")?.join("llama.cpp")]),
    }
}

/// The search of one place.
struct Walk {
    place: Place,
    left: usize,
    found: Vec<Found>,
    remarks: Vec<String>,
}

impl Walk {
    fn place_at(&mut self, folder: &Path) {
        match self.place {
            Place::Inferometer | Place::Synthetic => self.own(folder),
            Place::HuggingFace => self.hub(folder),
            Place::LmStudio => self.publishers(folder),
            Place::Ollama => self.manifests(folder),
            Place::LlamaCpp => self.files(folder),
        }
        if self.left == 0 {
            self.remarks
                .push(format!("{} has more than {MOST_ENTRIES} entries; the rest was not searched", folder.display()));
        }
    }

    /// The visible entries of a folder, in order of their names, as far as the limit allows.
    fn entries(&mut self, folder: &Path) -> Vec<(String, PathBuf)> {
        let listed = match fs_err::read_dir(folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.remarks.push(error.to_string());
                return Vec::new();
            }
        };
        let mut entries = Vec::new();
        for entry in listed.flatten().take(self.left) {
            self.left -= 1;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                entries.push((name, entry.path()));
            }
        }
        entries.sort_unstable();
        entries
    }

    fn folders(&mut self, folder: &Path) -> Vec<(String, PathBuf)> {
        self.entries(folder).into_iter().filter(|(_, path)| path.is_dir()).collect()
    }

    fn add(&mut self, name: String, path: PathBuf) {
        self.found.push(Found { place: self.place, name, path });
    }

    /// The models in a folder: the folder itself if it has a configuration and weights, and every
    /// GGUF file in it and in the folders inside.
    fn in_folder(&mut self, name: &str, folder: &Path) {
        let entries = self.entries(folder);
        let weights = |(name, path): &(String, PathBuf)| is_weights(name) && path.is_file();
        if folder.join("config.json").is_file() && entries.iter().any(weights) {
            self.add(name.to_owned(), folder.to_owned());
        }
        let mut files = entries.clone();
        for (below, path) in entries.into_iter().filter(|(_, path)| path.is_dir()) {
            files.extend(self.entries(&path).into_iter().map(|(file, path)| (format!("{below}/{file}"), path)));
        }
        files.retain(|(file, path)| is_model_file(file, path));
        for (file, path) in files {
            self.add(format!("{name}/{file}"), path);
        }
    }

    /// `NAME/` with one model each, or `NAME.gguf`.
    fn own(&mut self, folder: &Path) {
        for (name, path) in self.entries(folder) {
            if !path.is_dir() {
                if is_model_file(&name, &path) {
                    self.add(name, path);
                }
                continue;
            }
            let before = self.found.len();
            self.in_folder(&name, &path);
            // The only model of a folder has its name.
            if let [only] = &mut self.found[before..] {
                only.name = name;
            }
        }
    }

    /// `models--ORG--NAME/snapshots/REVISION/`, where `refs/main` names the usual revision.
    fn hub(&mut self, folder: &Path) {
        for (entry, path) in self.folders(folder) {
            let Some(name) = entry.strip_prefix("models--") else { continue };
            let name = name.replacen("--", "/", 1);
            let main = fs_err::read_to_string(path.join("refs/main")).unwrap_or_default();
            let snapshots = self.folders(&path.join("snapshots"));
            let only = snapshots.len() == 1;
            for (revision, snapshot) in snapshots {
                let usual = only || revision == main.trim();
                let short: String = revision.chars().take(8).collect();
                self.in_folder(&if usual { name.clone() } else { format!("{name}@{short}") }, &snapshot);
            }
        }
    }

    /// `PUBLISHER/NAME/`
    fn publishers(&mut self, folder: &Path) {
        for (publisher, path) in self.folders(folder) {
            for (name, path) in self.folders(&path) {
                self.in_folder(&format!("{publisher}/{name}"), &path);
            }
        }
    }

    fn manifests(&mut self, store: &Path) {
        for (host, path) in self.folders(&store.join("manifests")) {
            for (namespace, path) in self.folders(&path) {
                for (model, path) in self.folders(&path) {
                    for (tag, manifest) in self.entries(&path) {
                        match ollama::blob(store, &manifest) {
                            Ok(blob) => self.add(ollama::name(&host, &namespace, &model, &tag), blob),
                            Err(why) => self.remarks.push(why),
                        }
                    }
                }
            }
        }
    }

    fn files(&mut self, folder: &Path) {
        for (name, path) in self.entries(folder) {
            if is_model_file(&name, &path) {
                self.add(name, path);
            }
        }
    }
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
}

/// Whether a file holds a GGUF model or the first part of one. The suffix spares opening every file
/// of a large cache.
fn is_model_file(name: &str, path: &Path) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf") && !is_later_part(name) && is_gguf(path)
}

/// Whether a name ends in `-00002-of-00005.gguf` or a later part's number.
fn is_later_part(name: &str) -> bool {
    let stem = &name[..name.len() - ".gguf".len()];
    let Some((before, of)) = stem.rsplit_once("-of-") else { return false };
    let number = before.rsplit_once('-').map(|(_, number)| number);
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(of) && number.is_some_and(|number| digits(number) && number != "00001")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_folder_is_searched_as_far_as_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..7 {
            fs_err::write(folder.path().join(format!("{number}.gguf")), "GGUF").unwrap();
        }
        let mut walk = Walk { place: Place::LlamaCpp, left: 5, found: Vec::new(), remarks: Vec::new() };
        walk.place_at(folder.path());
        assert_eq!(walk.found.len(), 5);
        assert!(walk.remarks[0].contains("the rest was not searched"), "{:?}", walk.remarks);
    }

    #[test]
    fn only_the_first_part_of_a_split_file_names_a_model() {
        for (name, later) in [
            ("a-00001-of-00003.gguf", false),
            ("a-00002-of-00003.gguf", true),
            ("a-00010-of-00030.gguf", true),
            ("a-2-of-3.gguf", false),
            ("00002-of-00003.gguf", false),
            ("a.gguf", false),
            (".gguf", false),
        ] {
            assert_eq!(is_later_part(name), later, "{name}");
        }
    }
}
