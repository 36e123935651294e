//! What was built, kept beside it, so that a later session need not build again.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::BuildError;
use crate::fs::write_atomic;
use inferometer_protocol::bounded::read_limited;

/// A stamp of other contents is not understood, and the commit is built anew.
const VERSION: u32 = 1;
const LONGEST: u64 = 1 << 20;

/// All that a program depends on, as far as it is known. Equal keys: the program need not be built again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    pub commit: String,
    pub command: Vec<String>,
    /// Only the first word of `program`: its arguments are not part of what is built.
    pub program: String,
    pub toolchain: Option<String>,
    /// Digest of the variables that compilers and build tools heed; their values may be private.
    pub environment_sha256: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stamp {
    version: u32,
    pub key: Key,
    pub program_sha256: String,
    /// Whether the program is a copy of one in `{shared}`.
    pub copied: bool,
    /// Digest of what the build changed in tracked files.
    pub tree_sha256: String,
    pub seconds: f64,
    pub built_utc: String,
}

impl Stamp {
    pub fn new(key: Key, program_sha256: String, copied: bool, tree_sha256: String, seconds: f64) -> Self {
        Self {
            version: VERSION,
            key,
            program_sha256,
            copied,
            tree_sha256,
            seconds,
            built_utc: crate::origin::utc_now(),
        }
    }

    pub fn write(&self, path: &Path) -> Result<(), BuildError> {
        let text = serde_json::to_vec_pretty(self).expect("a stamp is plain data");
        Ok(write_atomic(path, &text)?)
    }

    /// The stamp at `path`; `None` when there is none that this program understands.
    pub fn read(path: &Path) -> Option<Self> {
        let stamp: Self = serde_json::from_slice(&read_limited(path, LONGEST).ok()?).ok()?;
        (stamp.version == VERSION).then_some(stamp)
    }
}
