//! What one record is of: provenance in a screen.

use std::path::Path;

use super::{Known, standing};
use crate::record::{HostInfo, Record, folder};
use crate::report::html;
use crate::report::html::{machine_words, when};
use crate::report::text;
use inferometer_protocol::ModelSpec;
use inferometer_protocol::units;

/// Most contradictions shown.
const MOST: usize = 6;

/// Names and values about the record in `dir`.
#[must_use]
pub fn facts(dir: &Path, known: &Known) -> Vec<(&'static str, String)> {
    let mut facts = match known {
        Known::Run(record) => of_run(dir, record),
        Known::Ab(record) => {
            let manifest = &record.manifest;
            let mut facts = vec![
                ("kind", "A/B session".to_owned()),
                ("scenario", manifest.scenario.clone()),
                ("started", when(&manifest.origin_utc)),
                ("state", standing(dir, manifest.state).name().to_owned()),
            ];
            for (name, info, side) in [("A", &manifest.sides[0], &record.a), ("B", &manifest.sides[1], &record.b)] {
                facts.push((name, info.label.clone()));
                facts.extend(measured(side));
            }
            facts.push(("machine", machine_words(&manifest.machine)));
            facts.push(("commit", commit(manifest.git.as_ref())));
            facts.push(("pairs", record.pairs.len().to_string()));
            facts
        }
    };
    facts.push(("iterations", text::tally(known.counts())));
    let (warnings, redacted) = match known {
        Known::Run(record) => (record.manifest.warnings.len(), &record.manifest.redacted),
        Known::Ab(record) => (record.manifest.warnings.len(), &record.manifest.redacted),
    };
    facts.push(("warnings", warnings.to_string()));
    let sides = match known {
        Known::Run(record) => vec![&**record],
        Known::Ab(record) => vec![&record.a, &record.b],
    };
    let contradictions = sides.into_iter().flat_map(|record| record.contradictions());
    facts.extend(contradictions.take(MOST).map(|found| ("contradiction", found.to_owned())));
    if let Some(redacted) = redacted {
        facts.push(("redacted", redacted.sentence().to_owned()));
    }
    facts.push(("size", folder::bytes(dir).map_or_else(|error| error.to_string(), units::bytes)));
    facts.push(("files", files(dir)));
    facts
}

fn of_run(dir: &Path, record: &Record) -> Vec<(&'static str, String)> {
    let manifest = &record.manifest;
    let mut facts = vec![
        ("kind", "run".to_owned()),
        ("scenario", manifest.scenario.name.clone()),
        ("started", when(&manifest.origin_utc)),
        ("state", standing(dir, manifest.state).name().to_owned()),
    ];
    facts.extend(measured(record));
    facts.push(("cells", manifest.plan.cells.len().to_string()));
    facts.push(("machine", machine_words(&manifest.machine)));
    match &manifest.imported {
        Some(imported) => facts.push(("imported", format!("{}, SHA-256 {}", imported.file, imported.file_sha256))),
        None => facts.push(("commit", commit(manifest.git.as_ref()))),
    }
    facts.push(("inferometer", manifest.inferometer_version.clone()));
    facts
}

/// Engines and model of a run or a side.
fn measured(record: &Record) -> Vec<(&'static str, String)> {
    let manifest = &record.manifest;
    let engines = manifest.scenario.engines.iter().enumerate().map(|(at, engine)| {
        let host = manifest.hosts.iter().find(|host| host.engine as usize == at);
        let absent = || match &manifest.imported {
            Some(imported) => format!("measured by {}", imported.by()),
            None => "did not start".to_owned(),
        };
        ("engine", format!("{}: {}", engine.label, host.map_or_else(absent, host_words)))
    });
    let model = match (manifest.hosts.first(), &manifest.scenario.model) {
        (Some(host), _) => host.receipt.model.name.clone(),
        (None, ModelSpec::Served) => "that of the server".to_owned(),
        (None, ModelSpec::Path(path)) => path.display().to_string(),
        (None, ModelSpec::Synthetic { arch, preset, .. }) => format!("synthetic {arch} {preset}"),
    };
    engines.chain([("model", model)]).collect()
}

/// `transformer 0.1.0, candle 0.11.1, cpu, dtype=f32, threads=2`.
fn host_words(host: &HostInfo) -> String {
    let receipt = &host.receipt;
    let mut words = vec![format!("{} {}", receipt.engine, receipt.version)];
    words.extend([&receipt.backend, &receipt.device].into_iter().flatten().cloned());
    for name in ["dtype", "threads"] {
        words.extend(receipt.settings.get(name).map(|value| format!("{name}={value}")));
    }
    words.join(", ")
}

fn commit(git: Option<&crate::record::GitState>) -> String {
    html::commit(git).1
}

/// Names and sizes of the files in the folder itself, and of its folders.
fn files(dir: &Path) -> String {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (name, size) = match fs_err::symlink_metadata(entry.path()) {
            Ok(about) if about.is_dir() => (format!("{name}/"), folder::bytes(&entry.path()).unwrap_or(0)),
            Ok(about) => (name, about.len()),
            Err(_) => continue,
        };
        names.push(format!("{name} {}", units::bytes(size)));
    }
    names.sort();
    names.join(", ")
}
