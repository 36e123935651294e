//! Writes the files made from a record's profiles: stacks, tables and flamegraphs per cell. They
//! can be made again from the record.

use std::path::Path;

use crate::profile::files::{Tokens, write_all};
use crate::record::profile::FOLDER;
use crate::record::{Record, RecordError};
use crate::run::worker::name;
use crate::spec::Threads;
use inferometer_protocol::Profile;

/// Writes the files of every cell that has a profile to the record's folder `dir`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, record: &Record) -> Result<(), RecordError> {
    let threads = record.manifest.scenario.profile.as_ref().map_or(Threads::Merged, |settings| settings.threads);
    for cell in &record.manifest.plan.cells {
        let mut tokens = Tokens::default();
        let mut profiles: Vec<&Profile> = Vec::new();
        for (one, turns) in record.profile.done(cell.id) {
            let Some(profile) = &one.profile else { continue };
            profiles.push(profile);
            tokens.prefill = tokens.prefill.saturating_add(one.prefill_tokens);
            tokens.decode = tokens.decode.saturating_add(one.generated_tokens.saturating_sub(turns));
        }
        if profiles.is_empty() {
            continue;
        }
        let folder = dir.join(FOLDER).join(format!("cell-{}", cell.id));
        fs_err::create_dir_all(&folder)?;
        write_all(&folder, name(cell), &profiles, tokens, threads)?;
    }
    Ok(())
}
