//! `run.json`: the version is checked before the rest is read; the file is replaced atomically.

use std::path::Path;

use super::error::RecordError;
use super::schema::{Manifest, SCHEMA_VERSION};
use inferometer_protocol::ModelSpec;

pub const FILE: &str = "run.json";
/// Name of the scenario that the verb `bench` makes.
pub const BENCH: &str = "bench";

impl Manifest {
    /// The scenario's name; of `bench` and of imported runs, whose scenarios have one name, with
    /// the model's: `bench: smollm2`.
    #[must_use]
    pub fn title(&self) -> String {
        let lead = &self.scenario.name;
        if *lead != BENCH && self.imported.is_none() {
            return lead.clone();
        }
        let model = match &self.scenario.model {
            ModelSpec::Synthetic { arch, preset, .. } => Some(format!("{arch} {preset}")),
            ModelSpec::Path(path) => short(path),
            ModelSpec::Served => self.hosts.first().map(|host| host.receipt.model.name.clone()),
        };
        model.map_or_else(|| lead.clone(), |model| format!("{lead}: {model}"))
    }
}

/// The last part of a model's path, without the ending of a GGUF file. In Hugging Face's cache that
/// is a commit, and the name stands before it.
fn short(path: &Path) -> Option<String> {
    let names = || path.iter().filter_map(|part| part.to_str());
    let cached = names().filter_map(|name| name.strip_prefix("models--")).next_back();
    let name = cached.and_then(|name| name.rsplit("--").next()).or_else(|| names().next_back())?;
    Some(name.strip_suffix(".gguf").unwrap_or(name).to_owned())
}

/// Reads the manifest of the run in `dir`. Unknown fields are ignored.
///
/// # Errors
/// The file is missing, invalid (including a plan that contradicts itself), or of a newer major
/// version.
pub fn read(dir: &Path) -> Result<Manifest, RecordError> {
    let path = dir.join(FILE);
    let text = match fs_err::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
            return Err(RecordError::NoRecord { path: dir.to_owned() });
        }
        Err(e) => return Err(e.into()),
    };
    parse(&path, &text)
}

/// [`read`] of a text; `path` is what its errors name.
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Manifest, RecordError> {
    let invalid = |message: String| RecordError::Manifest { path: path.to_owned(), message };
    let version = version(text).map_err(invalid)?;
    if version > u64::from(SCHEMA_VERSION) {
        return Err(RecordError::Newer { path: path.to_owned(), found: version });
    }
    let manifest: Manifest = serde_json::from_slice(text).map_err(|e| invalid(e.to_string()))?;
    sound(&manifest).map_err(invalid)?;
    Ok(manifest)
}

/// Checks that references within the file resolve and that times are valid; the error names the
/// key.
fn sound(manifest: &Manifest) -> Result<(), String> {
    let (plan, engines) = (&manifest.plan, manifest.scenario.engines.len());
    for (at, cell) in plan.cells.iter().enumerate() {
        if cell.id as usize != at {
            return Err(format!("plan.cells[{at}].id is {}, but must be its position", cell.id));
        }
        if cell.engine as usize >= engines {
            return Err(format!("plan.cells[{at}].engine is {}, which is not an engine of the scenario", cell.engine));
        }
    }
    for (row, ids) in plan.order.iter().enumerate() {
        if let Some(at) = ids.iter().position(|id| *id as usize >= plan.cells.len()) {
            return Err(format!("plan.order[{row}][{at}] is {}, which is not a cell of the plan", ids[at]));
        }
    }
    for (at, host) in manifest.hosts.iter().enumerate() {
        if host.engine as usize >= engines {
            return Err(format!("hosts[{at}].engine is {}, which is not an engine of the scenario", host.engine));
        }
    }
    for (at, average) in manifest.imported.iter().flat_map(|imported| &imported.averages).enumerate() {
        if average.cell as usize >= plan.cells.len() {
            return Err(format!("imported.averages[{at}].cell is {}, which is not a cell of the plan", average.cell));
        }
    }
    let run = &manifest.scenario.run;
    for (key, seconds) in [("timeout_s", run.timeout_s), ("cooldown_s", run.cooldown_s)] {
        if std::time::Duration::try_from_secs_f64(seconds).is_err() {
            return Err(format!("scenario.run.{key} is {seconds}, which is not a valid duration"));
        }
    }
    Ok(())
}

/// Reads only the version, so that a newer file is refused for its version and not for fields that
/// this build does not know.
fn version(text: &[u8]) -> Result<u64, String> {
    #[derive(serde::Deserialize)]
    struct Head {
        schema_version: u64,
    }
    serde_json::from_slice::<Head>(text).map(|head| head.schema_version).map_err(|e| e.to_string())
}

/// Replaces the manifest of the run in `dir` atomically.
///
/// # Errors
/// When the file cannot be written; the old one stays unchanged.
pub fn write(dir: &Path, manifest: &Manifest) -> Result<(), RecordError> {
    let path = dir.join(FILE);
    let mut text = serde_json::to_vec_pretty(manifest)
        .map_err(|e| RecordError::Manifest { path: path.clone(), message: e.to_string() })?;
    text.push(b'\n');
    crate::fs::write_atomic(&path, &text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_short_name_is_the_last_part_of_its_path() {
        for (path, name) in [
            ("/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1"),
            ("Qwen3-0.6B", "Qwen3-0.6B"),
            ("/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca", "Qwen3-0.6B"),
        ] {
            assert_eq!(short(Path::new(path)).as_deref(), Some(name));
        }
        assert_eq!(short(Path::new("")), None);
    }
}
