//! The stamp of a build, stored with it, so that a later session can reuse the build.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::BuildError;
use crate::fs::write_atomic;
use inferometer_protocol::bounded::read_limited;

/// Stamps of other versions are ignored, and the commit is built again.
const VERSION: u32 = 2;
const LONGEST: u64 = 1 << 20;

/// All known inputs of a program. If the keys are equal, the program is not built again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    pub commit: String,
    pub command: Vec<String>,
    /// Only the first word of `program`: its arguments do not affect the build.
    pub program: String,
    pub toolchain: Option<String>,
    /// Digest of the variables that affect compilers and build tools; their values may be private.
    pub environment_sha256: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stamp {
    version: u32,
    pub key: Key,
    pub program_sha256: String,
    /// Whether the program is a copy of one in `{shared}`.
    pub copied: bool,
    /// SHA-256 of the list of every file in the worktree after the build.
    pub files_sha256: String,
    pub seconds: f64,
    pub built_utc: String,
}

impl Stamp {
    pub fn new(key: Key, program_sha256: String, copied: bool, files_sha256: String, seconds: f64) -> Self {
        Self {
            version: VERSION,
            key,
            program_sha256,
            copied,
            files_sha256,
            seconds,
            built_utc: crate::origin::utc_now(),
        }
    }

    pub fn write(&self, path: &Path) -> Result<(), BuildError> {
        let text = serde_json::to_vec_pretty(self).expect("a stamp is plain data");
        Ok(write_atomic(path, &text)?)
    }

    /// The stamp at `path`; `None` if it is missing or not understood.
    pub fn read(path: &Path) -> Option<Self> {
        let stamp: Self = serde_json::from_slice(&read_limited(path, LONGEST).ok()?).ok()?;
        (stamp.version == VERSION).then_some(stamp)
    }
}
