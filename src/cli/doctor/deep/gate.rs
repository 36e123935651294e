//! The gate that is shipped, on less work: this program against itself must reach a verdict.

use super::program::Program;
use super::{Item, State};
use crate::compare::ab::{Evidence, judge};
use crate::record::ab;

const PART: &str = "Gate";
const SCENARIO: &str = include_str!("../../../../scenarios/gate.toml");
const PROMPT: &str = include_str!("../../../../scenarios/prompts/essay.txt");
/// Smaller, and with deltas that ten pairs of such short work can decide.
const LESS: [&str; 8] = [
    "model.synthetic.preset=tiny",
    "workload.lengths=[64]",
    "workload.max_tokens=24",
    "ab.pilot=0",
    "run.external_causes=warn",
    "gate.0.delta=60%",
    "gate.1.delta=60%",
    "gate.2.delta=60%",
];

pub fn items(program: &Program) -> Vec<Item> {
    tried(program).unwrap_or_else(|e| vec![Item::new(PART, "scenarios/gate.toml", State::Fails, format!("{e:#}"))])
}

fn tried(program: &Program) -> anyhow::Result<Vec<Item>> {
    let folder = program.folder("gate")?;
    fs_err::create_dir_all(folder.join("prompts"))?;
    fs_err::write(folder.join("gate.toml"), SCENARIO)?;
    fs_err::write(folder.join("prompts/essay.txt"), PROMPT)?;
    let sets = LESS.into_iter().flat_map(|set| ["--set", set]);
    let words = ["gate", "gate.toml", "--same", "--no-report", "-q"];
    let ended = program.run(&folder, &words.into_iter().chain(sets).collect::<Vec<_>>())?;
    let sessions = fs_err::read_dir(folder.join("results")).into_iter().flatten().flatten().map(|entry| entry.path());
    let Some(session) = sessions.into_iter().find(|path| ab::is_session(path)) else {
        anyhow::bail!(ended.told());
    };
    let record = ab::read(&session)?;
    let judgement = judge(&Evidence::of(&record));
    let mut items = vec![Item::new(
        PART,
        "scenarios/gate.toml",
        match ended.code {
            Some(0 | 3) => State::Works,
            Some(1 | 4) => State::Differs,
            _ => State::Fails,
        },
        match ended.code {
            Some(2) | None => ended.told(),
            Some(code) => {
                let pairs = judgement.counts.ok;
                format!(
                    "{:?} after {pairs} pairs of equal sides in {:.0} s (exit code {code})",
                    judgement.verdict, ended.seconds
                )
            }
        },
    )];
    items.extend(judgement.gates.iter().map(|gate| match (&gate.not_measured, gate.compared_by) {
        (None, Some(by)) => Item::new(PART, gate.metric().name(), State::Works, format!("compared by {by}")),
        (why, _) => {
            // In an invalid session, such as on a busy machine, this says nothing about the gate.
            let state = if ended.code == Some(4) { State::Differs } else { State::Fails };
            Item::new(PART, gate.metric().name(), state, why.clone().unwrap_or_default())
        }
    }));
    items.extend(record.manifest.warnings.iter().map(|told| Item::new(PART, "warning", State::Differs, told.clone())));
    Ok(items)
}
