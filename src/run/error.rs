//! Errors that prevent or end a run. Failures of single iterations are in the record instead.

use std::io;
use std::path::PathBuf;

use super::host::HostError;
use super::lock::LockError;
use crate::engines::TextError;
use crate::record::RecordError;
use crate::scenario::PlanError;
use inferometer_protocol::EngineError;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The model cannot be found or created, or no program follows from an engine's options.
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot make the prompt: {0}")]
    Prompt(#[from] TextError),
    #[error("cannot tokenize the quality text: {0}")]
    QualityText(TextError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{}{source}", if source.is_disk_full() { "the disk is full: " } else { "" })]
    Record {
        #[from]
        source: RecordError,
    },
    #[error(transparent)]
    Folder(#[from] io::Error),
    #[error("engine `{engine}` cannot be opened: {source} (its log: {})", log.display())]
    Open { engine: String, log: PathBuf, source: Box<HostError> },
    #[error(
        "engine `{engine}` does not honour what the scenario requests: {}; remove it from the scenario, or use another engine",
        asked.join(", ")
    )]
    NotHonoured { engine: String, asked: Vec<String> },
    #[error(
        "{what} changed since this run started: {}; start a new run, or resume with `--allow-changed`",
        changes.join("; ")
    )]
    Changed { what: String, changes: Vec<String> },
    /// The run ended early. Its record has iterations, and it can be resumed.
    #[error("{source} (the measured iterations are in {})", dir.display())]
    Stopped { dir: PathBuf, source: Box<RunError> },
    #[error("the record was redacted, so it lacks what is needed to go on: resume the original")]
    Redacted,
    #[error(
        "the record masks secrets, which are needed to start the engine again ({}): name the scenario file that has \
         them, before `--resume`",
        missing.join(", ")
    )]
    Secrets { missing: Vec<String> },
    #[error(
        "the record holds everything that is needed to resume it, and no setting can change: omit the scenario file"
    )]
    NoSecrets,
    #[error(
        "the record is of the scenario `{recorded}`, but the file is `{given}`: name the file that the run was made from"
    )]
    OtherScenario { recorded: String, given: String },
    /// The requested A/B session is not possible.
    #[error("{0}")]
    Ab(String),
    #[error("run.json: {0}")]
    Origin(String),
    #[error("cannot handle Ctrl-C: {0}")]
    Signals(#[from] ctrlc::Error),
}
