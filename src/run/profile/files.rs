//! What is made of a record's profiles: stacks, tables and drawings of each cell. All of it can be made again from the record.

use std::path::Path;

use crate::profile::{folded, functions};
use crate::record::profile::FOLDER;
use crate::record::{ProfiledIteration, Record, RecordError};
use crate::spec::{Phase, Profile, Threads};

/// The phases that files are made of, and what their names begin with; `None` is everything that was sampled.
const PHASES: [(&str, Option<Phase>); 3] =
    [("prefill", Some(Phase::Prefill)), ("decode", Some(Phase::Decode)), ("all", None)];

/// Makes the files of every cell that has a profile, in the record's folder `dir`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, record: &Record) -> Result<(), RecordError> {
    let threads = record.manifest.scenario.profile.as_ref().map_or(Threads::Merged, |settings| settings.threads);
    for cell in &record.manifest.plan.cells {
        let own = |one: &&ProfiledIteration| one.cell == cell.id;
        let profiles: Vec<&Profile> =
            record.profile.iterations.iter().filter(own).filter_map(|one| one.profile.as_ref()).collect();
        if !profiles.is_empty() {
            write_cell(&dir.join(FOLDER).join(format!("cell-{}", cell.id)), &profiles, threads)?;
        }
    }
    Ok(())
}

fn write_cell(dir: &Path, profiles: &[&Profile], threads: Threads) -> Result<(), RecordError> {
    fs_err::create_dir_all(dir)?;
    for (name, phase) in PHASES {
        let stacks = folded(profiles, phase, threads);
        if !stacks.is_empty() {
            let text = folded::text(&stacks);
            crate::fs::write_atomic(&dir.join(format!("{name}.folded")), text.as_bytes())?;
        }
    }
    crate::fs::write_atomic(&dir.join("functions.csv"), &table(profiles))?;
    Ok(())
}

/// The functions of each phase, those with most time of their own first.
fn table(profiles: &[&Profile]) -> Vec<u8> {
    const IN_MEMORY: &str = "rows of one width, written to memory";
    let mut csv = csv::Writer::from_writer(Vec::new());
    let head = ["phase", "function", "self_ms", "total_ms", "self_share", "total_share", "self_samples", "samples"];
    csv.write_record(head).expect(IN_MEMORY);
    for (name, phase) in PHASES {
        for one in functions(profiles, phase) {
            let ms = |ns: f64| (ns / 1e6).to_string();
            csv.write_record([
                name.to_owned(),
                one.name,
                ms(one.self_ns),
                ms(one.total_ns),
                one.self_share.to_string(),
                one.total_share.to_string(),
                one.self_samples.to_string(),
                one.samples.to_string(),
            ])
            .expect(IN_MEMORY);
        }
    }
    csv.into_inner().expect(IN_MEMORY)
}
