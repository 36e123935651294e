//! Writes what was found in a file as records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Format, Found, ImportError};
use crate::record::schema::SCHEMA_VERSION;
use crate::record::{Average, FinishState, Imported, Iteration, Manifest, RequestRow, Store, manifest};
use crate::spec::scenario::{
    ExternalCauses, Isolation, PromptWorkload, RunSettings, Scenario, TelemetrySettings, Vary, Workload,
};
use crate::spec::{Cell, Plan};
use inferometer_protocol::{EngineSpec, ModelSpec, Sampling, Settings};

/// Writes a record for each run that was found in `file`; returns their folders. `model` replaces
/// the model that the file names.
///
/// # Errors
/// When a folder or file cannot be written, `file` cannot be read again, or a record of it is in
/// `results` already.
pub fn write(
    results: &Path,
    file: &Path,
    format: Format,
    runs: &[Found],
    model: Option<&str>,
) -> Result<Vec<PathBuf>, ImportError> {
    let source = Source::of(file)?;
    if let Some(record) = source.record_in(results) {
        return Err(ImportError::Again { path: file.to_owned(), record });
    }
    runs.iter().map(|run| one(results, &source, format, run, model)).collect()
}

/// The file that is imported.
struct Source {
    name: String,
    sha256: String,
    changed: Option<Timestamp>,
}

impl Source {
    fn of(file: &Path) -> Result<Self, ImportError> {
        let sha256 = hex(&Sha256::digest(fs_err::read(file)?));
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let changed = fs_err::metadata(file)?.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        Ok(Self { name, sha256, changed })
    }
}

impl Source {
    /// A record of this file.
    fn record_in(&self, results: &Path) -> Option<PathBuf> {
        let folders = fs_err::read_dir(results).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.into_iter().find(|dir| {
            let imported = manifest::read(dir).ok().and_then(|manifest| manifest.imported);
            imported.is_some_and(|imported| imported.file_sha256 == self.sha256)
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn one(
    results: &Path,
    source: &Source,
    format: Format,
    run: &Found,
    model: Option<&str>,
) -> Result<PathBuf, ImportError> {
    let mut store = Store::create(results, new_manifest(source, format, run, model))?;
    let rounds = run.cells.iter().map(|cell| cell.rows.len()).max().unwrap_or(0);
    let mut request = 0;
    for round in 0..rounds {
        for (cell, found) in (0..).zip(&run.cells) {
            let Some(row) = found.rows.get(round) else { continue };
            let row =
                RequestRow { request, cell, iteration: round as u32 + 1, engine: run.engine.to_owned(), ..row.clone() };
            request += 1;
            store.commit(&Iteration { requests: vec![row], ..Iteration::default() })?;
        }
    }
    Ok(store.dir().to_owned())
}

fn new_manifest(source: &Source, format: Format, run: &Found, model: Option<&str>) -> Manifest {
    let scenario = scenario(format, run, model);
    let json = serde_json::to_vec(&scenario).expect("a scenario is plain data");
    let started = run.started.or(source.changed).unwrap_or_else(Timestamp::now);
    let mut warnings = run.warnings.clone();
    if run.started.is_none() {
        warnings.push(format!("{} does not say when it was measured: the time is that of the file", source.name));
    }
    if model.or(run.model.as_deref()).is_none() {
        warnings.push(format!("{} does not name the model", source.name));
    }
    Manifest {
        schema_version: SCHEMA_VERSION,
        run: String::new(),
        inferometer_version: env!("CARGO_PKG_VERSION").to_owned(),
        origin_utc: started.to_string(),
        finished_utc: None,
        state: FinishState::Finished,
        segments: 1,
        scenario,
        scenario_sha256: hex(&Sha256::digest(json)),
        plan: plan(run),
        prompts: BTreeMap::new(),
        machine: run.machine.clone(),
        git: None,
        gauges: Vec::new(),
        sampling: Vec::new(),
        hosts: Vec::new(),
        warnings,
        texts: BTreeMap::new(),
        redacted: None,
        imported: Some(imported(source, format, run)),
    }
}

fn imported(source: &Source, format: Format, run: &Found) -> Imported {
    let of_cell = |(cell, found): (u32, &super::FoundCell)| {
        found.averages.iter().map(|average| Average { cell, ..average.clone() }).collect::<Vec<_>>()
    };
    Imported {
        tool: format.tool().to_owned(),
        tool_version: run.version.clone(),
        commit: run.commit.clone(),
        file: source.name.clone(),
        file_sha256: source.sha256.clone(),
        averages: (0..).zip(&run.cells).flat_map(of_cell).collect(),
    }
}

fn plan(run: &Found) -> Plan {
    let cell = |(id, found): (u32, &super::FoundCell)| Cell {
        id,
        engine: 0,
        label: found.label.clone(),
        length: found.length,
        toggles: found.settings.clone(),
        load: Settings::new(),
        sampling: Sampling::default(),
        predicted: Settings::new(),
        level: None,
        merged: Vec::new(),
    };
    let rounds = run.cells.iter().map(|cell| cell.rows.len()).max().unwrap_or(0);
    let round = |round: usize| {
        let measured = (0..).zip(&run.cells).filter(|(_, found)| found.rows.len() > round);
        measured.map(|(id, _): (u32, _)| id).collect()
    };
    Plan { cells: (0..).zip(&run.cells).map(cell).collect(), order: (0..rounds).map(round).collect() }
}

/// A scenario that says only which engine and model it was. Everything else has values that stand
/// for nothing.
fn scenario(format: Format, run: &Found, model: Option<&str>) -> Scenario {
    Scenario {
        name: format.tool().to_owned(),
        description: None,
        model: ModelSpec::Path(model.or(run.model.as_deref()).unwrap_or_default().into()),
        engines: vec![EngineSpec {
            name: run.engine.to_owned(),
            label: run.engine.to_owned(),
            options: Settings::new(),
        }],
        workload: Workload::Prompt(PromptWorkload {
            text: String::new(),
            text_file: None,
            lengths: Vec::new(),
            chat: false,
            messages: None,
            max_tokens: 0,
            ignore_eos: false,
        }),
        sampling: Sampling::default(),
        run: RunSettings {
            iterations: run.cells.iter().map(|cell| cell.rows.len() as u32).max().unwrap_or(0),
            warmup: 0,
            isolation: Isolation::Run,
            timeout_s: 0.0,
            cooldown_s: 0.0,
            order_seed: 0,
            allow_mismatch: Vec::new(),
            external_causes: ExternalCauses::Warn,
        },
        toggles: Vec::new(),
        vary: Vary::All,
        engine_toggles: BTreeMap::new(),
        telemetry: TelemetrySettings { interval_ms: 0, gauges: Vec::new() },
        gates: Vec::new(),
        ab: Default::default(),
        build: None,
        profile: None,
        traffic: None,
        quality: None,
        default_length: false,
        overrides: Vec::new(),
    }
}
