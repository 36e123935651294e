//! Why a run could not begin or go on. What happens to single iterations is in the record, not here.

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
    /// The model cannot be found or made, or an engine's options lead to no program.
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot make the prompt: {0}")]
    Prompt(#[from] TextError),
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
        "engine `{engine}` does not honour what the scenario asks of it: {}; leave that out, or use another engine",
        asked.join(", ")
    )]
    NotHonoured { engine: String, asked: Vec<String> },
    #[error(
        "{what} is not what this run began with: {}; start a new run, or resume with `--allow-changed`",
        changes.join("; ")
    )]
    Changed { what: String, changes: Vec<String> },
    /// The run ended early with iterations in its record, from which it can be resumed.
    #[error("{source} (what was measured is in {})", dir.display())]
    Stopped { dir: PathBuf, source: Box<RunError> },
    /// An A/B session cannot be what was asked for.
    #[error("{0}")]
    Ab(String),
    #[error("run.json: {0}")]
    Origin(String),
    #[error("cannot handle Ctrl-C: {0}")]
    Signals(#[from] ctrlc::Error),
}
