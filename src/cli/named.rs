//! A model as the command line names it: a path, a name on this machine, or a recipe.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use toml::{Table, Value};

use crate::models::{self, NameError, places};
use inferometer_protocol::Architecture;

/// What can be given as a model.
const GIVE: &str = "give the folder of a model (config.json, safetensors, tokenizer.json), a GGUF file, or a synthetic \
                    model such as synthetic:qwen3/small";

/// The path of a model: as it is if something is there or it can be nothing else, else that of the
/// model with this name.
///
/// # Errors
/// When no model or several have the name.
pub fn path(text: &str) -> anyhow::Result<PathBuf> {
    let given = Path::new(text);
    let must_be_path = given.is_absolute() || ["./", "../", "~"].iter().any(|start| text.starts_with(start));
    if must_be_path || places::expand(given)?.exists() {
        return Ok(given.to_owned());
    }
    models::resolve(text).map_err(|error| match error {
        NameError::Ambiguous { .. } => error.into(),
        NameError::Unknown { .. } => {
            anyhow::anyhow!("no model at {text}, and none has this name; {}; or {GIVE}", error.help().join("; "))
        }
    })
}

/// The path of a model that is opened here: [`path`], and the blob of an Ollama manifest.
///
/// # Errors
/// As [`path`].
#[cfg(feature = "engine")]
pub fn opened(text: &str) -> anyhow::Result<PathBuf> {
    Ok(models::opened(places::expand(&path(text)?)?))
}

/// The table `[model]` of a scenario for a model: `synthetic:ARCH/PRESET[:SEED]`, or as [`path`].
///
/// # Errors
/// When there is no such model.
pub fn table(text: &str) -> anyhow::Result<Table> {
    let Some(synthetic) = text.strip_prefix("synthetic:") else {
        let path = path(text)?;
        if !places::expand(&path)?.exists() {
            bail!("no model at {text}: {GIVE}");
        }
        let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        return Ok(Table::from_iter([("path".to_owned(), Value::from(path))]));
    };
    let form = || format!("`{text}` must have the form synthetic:ARCH/PRESET or synthetic:ARCH/PRESET:SEED");
    let (arch, rest) = synthetic.split_once('/').with_context(form)?;
    let (preset, seed) = rest.split_once(':').unwrap_or((rest, "1"));
    if Architecture::from_name(arch).is_none() {
        let known: Vec<&str> = Architecture::ALL.iter().map(|a| a.name()).collect();
        bail!("unknown synthetic architecture `{arch}`: use one of {}", known.join(", "));
    }
    let seed: i64 = seed.parse().ok().filter(|seed| *seed >= 0).with_context(form)?;
    let recipe = Table::from_iter([
        ("arch".to_owned(), Value::from(arch)),
        ("preset".to_owned(), Value::from(preset)),
        ("seed".to_owned(), Value::Integer(seed)),
    ]);
    Ok(Table::from_iter([("synthetic".to_owned(), recipe.into())]))
}

/// The override of a scenario's model, as for `--set`.
///
/// # Errors
/// As [`table`].
pub fn setting(text: &str) -> anyhow::Result<String> {
    let table = table(text)?;
    let (key, value) = table.iter().next().context("a model has a key")?;
    Ok(format!("model.{key}={}", inline(value)))
}

/// `set` with the override for a model that is given by an option of its own.
///
/// # Errors
/// As [`table`].
pub fn with_model(set: &[String], model: Option<&str>) -> anyhow::Result<Vec<String>> {
    let model = model.map(setting).transpose()?;
    Ok(set.iter().cloned().chain(model).collect())
}

/// The setting that adds a quality pass over this file.
#[must_use]
pub fn quality(file: &str) -> String {
    format!("quality.text_file={}", Value::from(file))
}

/// A value in TOML on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Table(table) => {
            let entries: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_folder_or_a_recipe() {
        assert_eq!(table("src/cli").unwrap()["path"].as_str(), Some("src/cli"));
        for missing in ["some/folder", "/some/folder", "./folder"] {
            let said = table(missing).unwrap_err().to_string();
            assert!(
                said.starts_with(&format!("no model at {missing}")) && said.contains("synthetic:qwen3/small"),
                "{said}"
            );
        }
        let recipe = table("synthetic:llama/tiny").unwrap();
        assert_eq!(recipe["synthetic"]["seed"].as_integer(), Some(1));
        assert!(table("synthetic:gpt/tiny").unwrap_err().to_string().contains("llama, mistral, "));
        assert!(table("synthetic:tiny").unwrap_err().to_string().contains("ARCH/PRESET"));
        assert!(table("synthetic:llama/tiny:x").unwrap_err().to_string().contains("ARCH/PRESET"));
    }

    #[test]
    fn an_override_is_toml() {
        assert_eq!(setting("src/cli").unwrap(), "model.path=\"src/cli\"");
        let recipe = setting("synthetic:llama/tiny:7").unwrap();
        assert_eq!(recipe, "model.synthetic={ arch = \"llama\", preset = \"tiny\", seed = 7 }");
    }
}
