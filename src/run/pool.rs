//! The engine hosts of a run: started when first needed, kept as the isolation requires, replaced
//! when lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host::{Host, HostError, Launch, launch_command};
use super::interrupt::Interrupt;
use super::schedule::Step;
use super::timing::Sight;
use crate::engines;
use crate::origin::Origin;
use crate::record::HostInfo;
use crate::secret;
use crate::spec::{Cell, Isolation, Scenario};
use crate::telemetry;
use crate::telemetry::machine::file_sha256;
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::messages::Open;
use inferometer_protocol::{EngineError, EngineSpec, Receipt, Settings, WorksIn};

/// Largest file named in a command line that is hashed: scripts and small programs, not weights.
const MOST_HASHED: u64 = 64 << 20;

/// What a host serves. Steps with the same key share a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Index into the scenario's engines.
    pub engine: u32,
    pub load: Settings,
    /// Under every isolation but `run`: the only cell it serves.
    cell: Option<u32>,
    /// Under isolation `iteration`: the only iteration it serves.
    iteration: Option<u32>,
}

impl Key {
    #[must_use]
    pub fn of(step: Step, cell: &Cell, isolation: Isolation) -> Self {
        Self {
            engine: cell.engine,
            load: cell.load.clone(),
            cell: (isolation != Isolation::Run).then_some(step.cell),
            iteration: (isolation == Isolation::Iteration).then_some(step.iteration),
        }
    }

    fn serves_many_cells(&self) -> bool {
        self.cell.is_none()
    }
}

/// A host with its model.
pub struct Resident {
    pub host: Host,
    /// Whether its model is loaded. Under isolation `load` it is not between two iterations.
    pub loaded: bool,
    /// Number within the run.
    pub number: u32,
    pub receipt: Receipt,
    /// Whether this binary is the engine's host.
    pub built_in: bool,
    /// Load time, until it is written to the first row after the load.
    pub load_s: Option<f64>,
    /// Duration of the longest measured iteration in it.
    pub longest: Option<Duration>,
    /// Command line that started it.
    pub command: Vec<String>,
    /// Cells that are warmed up in it.
    pub warm: BTreeSet<u32>,
    /// What warm-ups showed about its stamps, by cell and turn.
    pub sights: BTreeMap<(u32, u32), Sight>,
    pub key: Key,
}

impl Resident {
    /// What a warm-up of that cell showed about the stamps: of the same turn, else of the turn
    /// before it that was warmed up.
    #[must_use]
    pub fn seen(&self, cell: u32, turn: u32) -> Option<&Sight> {
        self.sights.range((cell, 0)..=(cell, turn)).next_back().map(|(_, sight)| sight)
    }

    /// The process whose memory and CPU time are measured; `None` if it is unknown, or on another
    /// machine.
    #[must_use]
    pub fn measured(&self) -> Option<u32> {
        measured(&self.host, &self.receipt)
    }
}

fn measured(host: &Host, receipt: &Receipt) -> Option<u32> {
    match receipt.works_in {
        None => Some(host.pid()),
        Some(WorksIn::Pid(pid)) => Some(pid),
        Some(WorksIn::Elsewhere) => None,
    }
}

/// Why a host could not be started or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No program follows from the engine's name or options; nothing was started.
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Host(#[from] HostError),
}

/// The running hosts.
pub struct Pool {
    residents: Vec<Resident>,
    next_number: u32,
    logs: PathBuf,
    /// SHA-256 of the files named in command lines, as first seen; `None` for arguments that are
    /// not readable files.
    files: BTreeMap<PathBuf, Option<String>>,
    /// Facts about the model's folder, once read.
    fingerprint: Option<Option<String>>,
}

impl Pool {
    /// An empty pool; hosts write logs into `logs` and are numbered from `next_number`.
    #[must_use]
    pub fn new(logs: PathBuf, next_number: u32) -> Self {
        Self { residents: Vec::new(), next_number, logs, files: BTreeMap::new(), fingerprint: None }
    }

    /// Number of the next host to be started.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        self.next_number
    }

    /// Path of a host's log.
    #[must_use]
    pub fn log(&self, number: u32) -> PathBuf {
        self.logs.join(format!("host-{number}.log"))
    }

    /// Takes out the host that serves `key`, if it is running. Closes all other hosts that serve a
    /// single cell or iteration, so that they do not share the machine with the next measurement.
    pub fn take(&mut self, key: &Key) -> Option<Resident> {
        let mut found = None;
        for resident in std::mem::take(&mut self.residents) {
            if found.is_none() && resident.key == *key {
                found = Some(resident);
            } else if resident.key.serves_many_cells() {
                self.residents.push(resident);
            } else {
                close(resident);
            }
        }
        found
    }

    /// Ends the hosts that do not serve `key`.
    pub fn close_others(&mut self, key: &Key) {
        let (same, others) = std::mem::take(&mut self.residents).into_iter().partition(|resident| resident.key == *key);
        self.residents = same;
        let others: Vec<Resident> = others;
        others.into_iter().for_each(close);
    }

    /// Returns a usable host to the pool.
    pub fn put_back(&mut self, resident: Resident) {
        self.residents.push(resident);
    }

    /// Ends every host.
    pub fn close_all(&mut self) {
        self.residents.drain(..).for_each(close);
    }

    /// Starts a host (`program` if given) and loads the model in it. Uses up a number even on
    /// failure.
    ///
    /// # Errors
    /// When the program cannot be started, or the engine cannot open the model.
    pub fn open(
        &mut self,
        key: &Key,
        scenario: &Scenario,
        model: &Path,
        program: Option<&[String]>,
        interrupt: &Interrupt,
        origin: &Origin,
    ) -> Result<(Resident, HostInfo), OpenError> {
        let spec = &scenario.engines[key.engine as usize];
        let engine = engines::find(&spec.name)
            .ok_or_else(|| EngineError::unsupported(format!("this build has no engine `{}`", spec.name)))?;
        let command = match program {
            Some(command) => command.to_vec(),
            None => launch_command(engine, spec)?,
        };
        // A program built from another commit is not this program, even if it hosts the same
        // engine.
        let built_in = engine.is_built_in() && program.is_none();
        let executable_sha256 = self.executable(&command);
        let command_sha256 = if built_in { BTreeMap::new() } else { self.arguments(&command) };
        let number = self.next_number;
        self.next_number += 1;
        let folder = model;
        let model = model.display().to_string();
        let started_ns = Some(origin.t_ns(now_ns()));
        let launch = Launch {
            command: command.clone(),
            env: engine.environment(spec, &key.load),
            log: self.log(number),
            timeout: Duration::from_secs_f64(scenario.run.timeout_s),
        };
        let mut host = Host::start_under(&launch, interrupt)?;
        let ready = host.open(asked(key, scenario, model))?;
        let clock = host.clock().clone();
        let info = HostInfo {
            host: number,
            engine: key.engine,
            load: key.load.clone(),
            pid: host.pid(),
            started_ns,
            command: secret::masked(&command),
            executable_sha256,
            command_sha256,
            receipt: ready.receipt.clone(),
            load_s: ready.load_ns as f64 / 1e9,
            further_loads_s: Vec::new(),
            huge_page_bytes: measured(&host, &ready.receipt).and_then(telemetry::peak::in_huge_pages),
            clock_offset_ns: clock.offset_ns,
            clock_round_trip_ns: clock.round_trip_ns,
            clock: clock.clock,
            verified: self.verified(spec, built_in, folder, &ready.receipt),
        };
        let resident = Resident {
            host,
            loaded: true,
            number,
            receipt: ready.receipt,
            built_in,
            load_s: Some(info.load_s),
            longest: None,
            command,
            warm: BTreeSet::new(),
            sights: BTreeMap::new(),
            key: key.clone(),
        };
        Ok((resident, info))
    }

    /// Loads the model again in a host that has unloaded it. Returns the load time and the receipt.
    ///
    /// # Errors
    /// When the engine cannot open the model.
    pub fn reopen(resident: &mut Resident, scenario: &Scenario, model: &Path) -> Result<(f64, Receipt), HostError> {
        let ready = resident.host.open(asked(&resident.key, scenario, model.display().to_string()))?;
        let load_s = ready.load_ns as f64 / 1e9;
        resident.loaded = true;
        resident.load_s = Some(load_s);
        resident.receipt = ready.receipt.clone();
        resident.warm.clear();
        Ok((load_s, ready.receipt))
    }

    /// SHA-256 of the program that a command line starts, read once per run segment.
    fn executable(&mut self, command: &[String]) -> Option<String> {
        let program = find_program(command.first()?)?;
        self.files.entry(program).or_insert_with_key(|path| file_sha256(path)).clone()
    }

    /// SHA-256 of the files among the arguments of a command line, read once per run segment: a
    /// program may write to a file it is given, which is no reason to refuse the replacement of a
    /// lost host.
    fn arguments(&mut self, command: &[String]) -> BTreeMap<String, String> {
        let small = |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.len() <= MOST_HASHED);
        let mut found = BTreeMap::new();
        let shown = secret::masked(command);
        for (argument, _) in command.iter().zip(&shown).skip(1).filter(|(argument, shown)| argument == shown) {
            let read = |path: &PathBuf| if small(path) { file_sha256(path) } else { None };
            if let Some(hash) = self.files.entry(PathBuf::from(argument)).or_insert_with_key(read) {
                found.insert(argument.clone(), hash.clone());
            }
        }
        found
    }

    /// Receipt fields that agree with the harness's own knowledge: the identity of a host that is
    /// this program, and the contents of the model's folder. The other fields are as the engine
    /// reported them.
    fn verified(&mut self, spec: &EngineSpec, built_in: bool, model: &Path, receipt: &Receipt) -> Vec<String> {
        let named = engines::find(&spec.name).is_some_and(|engine| receipt.engine == engine.receipt_name());
        let synthetic = engines::is_synthetic(model) == Some(receipt.model.synthetic);
        let fingerprint = receipt.model.fingerprint.is_some() && {
            let own = || engines::folder_fingerprint(model);
            *self.fingerprint.get_or_insert_with(own) == receipt.model.fingerprint
        };
        [
            ("engine", built_in && named),
            ("version", built_in && receipt.version == env!("CARGO_PKG_VERSION")),
            ("model.fingerprint", fingerprint),
            ("model.synthetic", synthetic),
        ]
        .into_iter()
        .filter(|(_, holds)| *holds)
        .map(|(field, _)| field.to_owned())
        .collect()
    }
}

/// The request to load a model.
fn asked(key: &Key, scenario: &Scenario, model: String) -> Open {
    Open {
        engine: scenario.engines[key.engine as usize].clone(),
        model: (!model.is_empty()).then_some(model),
        toggles: key.load.clone(),
        memory_interval_ms: memory_interval_ms(scenario),
    }
}

/// Interval at which hosts sample their engine's memory: that of the gauges, if memory is one of
/// them.
#[must_use]
pub fn memory_interval_ms(scenario: &Scenario) -> Option<u32> {
    let telemetry = &scenario.telemetry;
    let wanted = telemetry.interval_ms > 0 && telemetry.gauges.iter().any(|group| group == "memory");
    wanted.then_some(telemetry.interval_ms)
}

fn close(resident: Resident) {
    let number = resident.number;
    if let Err(error) = resident.host.close() {
        // Closing kills it; its measurements are already in the record.
        tracing::debug!(host = number, %error, "the host did not close by itself");
    }
}

/// The file that a program's name refers to: a name with a folder as it is, otherwise the first
/// match in PATH.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.components().count() > 1 {
        return Some(path.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Names in any order, for comparison.
fn sorted(names: &[String]) -> String {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The differences between two hosts of the same engine: name and both values, as sentences.
#[must_use]
pub fn changes(before: &HostInfo, after: &HostInfo) -> Vec<String> {
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let (old, new) = (&before.receipt, &after.receipt);
    let mut changes = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            changes.push(format!("{what} was {old}, is {new}"));
        }
    };
    compare("engine", old.engine.clone(), new.engine.clone());
    compare("version", old.version.clone(), new.version.clone());
    compare("commit", said(&old.commit), said(&new.commit));
    compare("backend", said(&old.backend), said(&new.backend));
    compare("device", said(&old.device), said(&new.device));
    compare("model fingerprint", said(&old.model.fingerprint), said(&new.model.fingerprint));
    let draft = |receipt: &Receipt| said(&receipt.details.get("draft_fingerprint").cloned());
    compare("draft model fingerprint", draft(old), draft(new));
    compare("settings", format!("{:?}", old.settings), format!("{:?}", new.settings));
    // What an engine declares decides which requests it gets and how its answers are judged.
    compare("the list of toggles", sorted(&old.toggles), sorted(&new.toggles));
    compare("the list of sampling fields", sorted(&old.sampling), sorted(&new.sampling));
    compare("the set of capabilities", format!("{:?}", old.capabilities), format!("{:?}", new.capabilities));
    compare("the token timing", format!("{:?}", old.token_timing), format!("{:?}", new.token_timing));
    compare("determinism", old.deterministic.to_string(), new.deterministic.to_string());
    compare("executable", said(&before.executable_sha256), said(&after.executable_sha256));
    for (file, old) in &before.command_sha256 {
        // A file that did not exist yet, or no longer exists, cannot be compared.
        if let Some(new) = after.command_sha256.get(file) {
            compare(file, old.clone(), new.clone());
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_share_hosts_as_the_isolation_says() {
        let cell = Cell {
            id: 0,
            engine: 0,
            label: String::new(),
            length: None,
            toggles: Settings::new(),
            load: Settings::new(),
            sampling: inferometer_protocol::Sampling::default(),
            predicted: Settings::new(),
            level: None,
            merged: Vec::new(),
        };
        let key = |cell_id, iteration, isolation| Key::of(Step { cell: cell_id, iteration }, &cell, isolation);
        assert_eq!(key(0, 1, Isolation::Run), key(1, 2, Isolation::Run));
        assert_eq!(key(0, 1, Isolation::Cell), key(0, 2, Isolation::Cell));
        assert_ne!(key(0, 1, Isolation::Cell), key(1, 1, Isolation::Cell));
        assert_ne!(key(0, 1, Isolation::Iteration), key(0, 2, Isolation::Iteration));
    }

    #[test]
    fn a_host_that_declares_something_else_has_changed() {
        let host = |receipt: serde_json::Value| -> HostInfo {
            serde_json::from_value(serde_json::json!({"host": 0, "engine": 0, "load": {}, "pid": 1, "command": ["e"],
                "receipt": receipt, "load_s": 0.1, "clock_offset_ns": 0, "clock_round_trip_ns": 0, "clock": "monotonic", "verified": []}))
            .unwrap()
        };
        let of = |more: serde_json::Value| {
            let mut receipt = serde_json::json!({"engine": "e", "version": "1", "toggles": ["dtype", "threads"],
                "sampling": ["temperature"], "capabilities": {"reset": true}, "deterministic": true});
            receipt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            host(receipt)
        };
        let before = of(serde_json::json!({}));
        let told = |more| changes(&before, &of(more)).join("; ");
        assert_eq!(told(serde_json::json!({"toggles": ["threads", "dtype"]})), "");
        assert_eq!(
            told(serde_json::json!({"toggles": ["threads"]})),
            "the list of toggles was dtype, threads, is threads"
        );
        assert!(told(serde_json::json!({"sampling": []})).starts_with("the list of sampling fields was temperature"));
        assert!(told(serde_json::json!({"capabilities": {"reset": false}})).starts_with("the set of capabilities was"));
        assert_eq!(
            told(serde_json::json!({"details": {"draft_fingerprint": "ab"}})),
            "draft model fingerprint was unknown, is ab"
        );
        assert_eq!(told(serde_json::json!({"deterministic": false})), "determinism was true, is false");
    }

    #[cfg(feature = "engine")]
    #[test]
    fn only_what_the_harness_finds_itself_is_verified() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("m");
        let recipe =
            inferometer_engine::synthetic::Recipe::find(inferometer_protocol::Architecture::Qwen3, "tiny", 1).unwrap();
        inferometer_engine::synthetic::create(&recipe, &folder).unwrap();
        let own = engines::folder_fingerprint(&folder).unwrap();
        let spec = EngineSpec { name: "exec".to_owned(), label: "exec".to_owned(), options: Settings::new() };
        let checked = |fingerprint: &str, synthetic: bool, model: &Path| {
            let receipt = serde_json::json!({"engine": "exec", "version": "1", "model": {"name": "m",
                "path": model.display().to_string(), "fingerprint": fingerprint, "synthetic": synthetic}});
            let receipt = serde_json::from_value(receipt).unwrap();
            Pool::new(dir.path().to_owned(), 0).verified(&spec, false, model, &receipt)
        };
        assert_eq!(checked(&own, true, &folder), ["model.fingerprint", "model.synthetic"]);
        assert!(checked("made up", false, &folder).is_empty());
        assert!(checked(&own, true, dir.path()).is_empty(), "there is no model, so nothing was checked");
    }

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        assert!(find_program("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find_program("no-such-program-anywhere"), None);
        assert_eq!(find_program("./here"), Some(PathBuf::from("./here")));
    }
}
