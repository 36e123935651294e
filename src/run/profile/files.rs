//! What is made of a record's profiles: stacks, tables and drawings of each cell. All of it can be made again from the record.

use std::path::Path;

use crate::profile::files::{Tokens, write_all};
use crate::record::profile::FOLDER;
use crate::record::{ProfiledIteration, Record, RecordError};
use crate::run::worker::name;
use crate::spec::{Profile, Threads};

/// Makes the files of every cell that has a profile, in the record's folder `dir`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, record: &Record) -> Result<(), RecordError> {
    let threads = record.manifest.scenario.profile.as_ref().map_or(Threads::Merged, |settings| settings.threads);
    for cell in &record.manifest.plan.cells {
        let own = |one: &&ProfiledIteration| one.cell == cell.id;
        let profiled = record.profile.iterations.iter().filter(own);
        let profiled = profiled.filter_map(|one| Some((one, one.profile.as_ref()?)));
        let (iterations, profiles): (Vec<&ProfiledIteration>, Vec<&Profile>) = profiled.unzip();
        if profiles.is_empty() {
            continue;
        }
        let sum = |of: fn(&ProfiledIteration) -> u64| iterations.iter().map(|one| of(one)).fold(0, u64::saturating_add);
        // The first token of each turn comes with the prefill.
        let firsts = (iterations.len() * record.manifest.scenario.workload.turns()) as u64;
        let decode = sum(|one| one.generated_tokens).saturating_sub(firsts);
        let tokens = Tokens { prefill: sum(|one| one.prefill_tokens), decode };
        let folder = dir.join(FOLDER).join(format!("cell-{}", cell.id));
        fs_err::create_dir_all(&folder)?;
        write_all(&folder, name(cell), &profiles, tokens, threads)?;
    }
    Ok(())
}
