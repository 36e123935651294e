//! Finds a model by its name, or by a part of the name that only one model has.

use std::path::PathBuf;

use super::discover::{Found, survey};

/// Candidates that a message lists.
const MOST_LISTED: usize = 8;
/// Edits between a name and a mistyped one.
const MOST_EDITS: usize = 2;

/// Why a name is not that of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// With names that look alike, if any.
    Unknown {
        name: String,
        near: Vec<String>,
        can_get: bool,
    },
    Ambiguous {
        name: String,
        candidates: Vec<Found>,
    },
}

impl NameError {
    /// What was found, without what to do.
    #[must_use]
    pub fn problem(&self) -> String {
        match self {
            Self::Unknown { name, .. } => format!("no model is named `{name}`"),
            Self::Ambiguous { name, candidates } => format!("`{name}` may be any of {} models", candidates.len()),
        }
    }

    /// What to do.
    #[must_use]
    pub fn help(&self) -> Vec<String> {
        match self {
            Self::Unknown { name, can_get: true, .. } => vec![format!("`inferometer model get {name}` fetches it")],
            Self::Unknown { near, .. } => {
                let near = near.iter().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
                let hint = (!near.is_empty()).then(|| format!("did you mean {near}?"));
                ["`inferometer model list` shows the names".to_owned()].into_iter().chain(hint).collect()
            }
            Self::Ambiguous { candidates, .. } => {
                let shown = candidates.iter().take(MOST_LISTED);
                let mut lines: Vec<String> =
                    shown.map(|found| format!("{} ({}): {}", found.name, found.place, found.path.display())).collect();
                if candidates.len() > MOST_LISTED {
                    lines.push(format!("and {} more", candidates.len() - MOST_LISTED));
                }
                lines.push("give more of the name, or the path".to_owned());
                lines
            }
        }
    }
}

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem())?;
        match self {
            Self::Unknown { .. } => write!(f, "; {}", self.help().join("; ")),
            Self::Ambiguous { .. } => write!(f, ":\n  {}", self.help().join("\n  ")),
        }
    }
}

impl std::error::Error for NameError {}

/// The path of the model with this name on this machine.
///
/// # Errors
/// When no model or several have it.
pub fn resolve(name: &str) -> Result<PathBuf, NameError> {
    Ok(find(name, &survey().found)?.path.clone())
}

/// The model with this name: the whole name, else the beginning or the end of only one name. The
/// case of letters counts only between names that are otherwise the same.
///
/// # Errors
/// When no model or several have it.
pub fn find<'a>(name: &str, found: &'a [Found]) -> Result<&'a Found, NameError> {
    let asked = name.to_lowercase();
    let whole = |model: &Found| model.name == name;
    // Ollama's tag for a name without one.
    let same = |model: &Found| {
        let known = model.name.to_lowercase();
        known == asked || known.strip_suffix(":latest") == Some(asked.as_str())
    };
    let part = |model: &Found| {
        let known = model.name.to_lowercase();
        let file = known.strip_suffix(".gguf").unwrap_or(&known);
        known.starts_with(&asked) || known.ends_with(&asked) || file.ends_with(&asked)
    };
    let rules: [&dyn Fn(&Found) -> bool; 3] = [&whole, &same, &part];
    for rule in rules.into_iter().filter(|_| !name.is_empty()) {
        let mut matching = found.iter().filter(|model| rule(model));
        match (matching.next(), matching.next()) {
            (None, _) => {}
            (Some(only), None) => return Ok(only),
            (Some(_), Some(_)) => {
                let candidates = found.iter().filter(|model| rule(model)).cloned().collect();
                return Err(NameError::Ambiguous { name: name.to_owned(), candidates });
            }
        }
    }
    let inside = |known: &str| known.contains(&asked) || strsim::damerau_levenshtein(known, &asked) <= MOST_EDITS;
    let is_near = |known: &&str| !asked.is_empty() && inside(&known.to_lowercase());
    let names = found.iter().map(|model| model.name.as_str());
    let mut near: Vec<String> = names.filter(is_near).map(str::to_owned).collect();
    let fetched = super::catalogue::MODELS.iter().map(|model| model.name).filter(is_near).map(str::to_owned);
    near.extend(fetched.filter(|name| !found.iter().any(|model| model.name == *name)));
    Err(NameError::Unknown { name: name.to_owned(), near, can_get: super::catalogue::find(name).is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::discover::Place;

    fn models() -> Vec<Found> {
        [
            (Place::HuggingFace, "Qwen/Qwen3-0.6B"),
            (Place::HuggingFace, "mlx-community/Qwen3-0.6B-4bit"),
            (Place::HuggingFace, "bartowski/Llama-GGUF/Llama-Q4_K_M.gguf"),
            (Place::LmStudio, "Qwen/Qwen3-0.6B"),
            (Place::Ollama, "qwen3:4b"),
            (Place::Ollama, "qwen3:latest"),
            (Place::Inferometer, "smollm2"),
        ]
        .map(|(place, name)| Found { place, name: name.to_owned(), path: format!("/{place}/{name}").into() })
        .into()
    }

    #[test]
    fn a_name_is_whole_or_a_beginning_or_end_that_only_one_has() {
        for (asked, name) in [
            ("smollm2", "smollm2"),
            ("smol", "smollm2"),
            ("qwen3-0.6b-4BIT", "mlx-community/Qwen3-0.6B-4bit"),
            ("mlx-community", "mlx-community/Qwen3-0.6B-4bit"),
            ("llama-q4_k_m", "bartowski/Llama-GGUF/Llama-Q4_K_M.gguf"),
            ("qwen3", "qwen3:latest"),
            ("qwen3:4b", "qwen3:4b"),
        ] {
            assert_eq!(find(asked, &models()).unwrap().name, name, "{asked}");
        }
    }

    #[test]
    fn a_name_of_several_lists_them_with_their_paths() {
        let error = find("Qwen/Qwen3-0.6B", &models()).unwrap_err().to_string();
        assert_eq!(
            error,
            "`Qwen/Qwen3-0.6B` may be any of 2 models:\n  \
             Qwen/Qwen3-0.6B (Hugging Face): /Hugging Face/Qwen/Qwen3-0.6B\n  \
             Qwen/Qwen3-0.6B (LM Studio): /LM Studio/Qwen/Qwen3-0.6B\n  \
             give more of the name, or the path"
        );
    }

    #[test]
    fn a_name_of_none_says_what_is_near_or_can_be_fetched() {
        let near = find("q4_k", &models()).unwrap_err().to_string();
        assert_eq!(
            near,
            "no model is named `q4_k`; `inferometer model list` shows the names; did you mean `bartowski/Llama-GGUF/Llama-Q4_K_M.gguf`?"
        );
        assert!(
            find("gemma3-270m", &models()).unwrap_err().to_string().contains("`inferometer model get gemma3-270m`")
        );
        assert!(find("smolm2", &models()).unwrap_err().to_string().ends_with("did you mean `smollm2`?"));
        assert!(matches!(find("", &models()).unwrap_err(), NameError::Unknown { near, .. } if near.is_empty()));
    }
}
