//! What differs between the sides, according to their records.

use serde::Serialize;

use crate::compare::difference;
use crate::record::ab::{AbRecord, SideInfo};

/// One difference between the sides. A value that a side's record lacks is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub what: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

/// Differences in how the sides were made, then those between their records. Equal facts are left
/// out.
pub fn differences(record: &AbRecord) -> Vec<Difference> {
    let [a, b] = record.manifest.sides.each_ref().map(made_of);
    let made = a.into_iter().zip(b).map(|((what, a), (_, b))| Difference { what: what.to_owned(), a, b });
    let several = [&record.a, &record.b].iter().any(|side| side.manifest.scenario.engines.len() > 1);
    let facts = [&record.a, &record.b].map(|side| difference::facts(&side.manifest, several));
    let said = difference::between(&facts[0], &facts[1], &[]);
    let said =
        said.into_iter().map(|of| Difference { what: format!("{}: {}", of.area.name(), of.what), a: of.a, b: of.b });
    made.filter(|of| of.a != of.b).chain(said).collect()
}

fn made_of(side: &SideInfo) -> [(&'static str, Option<String>); 6] {
    let commit = side.commit.as_ref();
    [
        ("settings", Some(side.settings.join(", ")).filter(|words| !words.is_empty())),
        ("commit", commit.map(|commit| commit.hash.clone())),
        ("revision", commit.map(|commit| commit.revision.clone())),
        ("subject", commit.map(|commit| commit.subject.clone())),
        ("program SHA-256", commit.map(|commit| commit.program_sha256.clone())),
        ("toolchain", commit.and_then(|commit| commit.toolchain.clone())),
    ]
}
