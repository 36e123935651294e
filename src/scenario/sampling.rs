//! `[sampling]`: how the next token is chosen, checked against the engines.

use super::Offers;
use super::cursor::Table;
use super::diagnose::{Problem, list};
use inferometer_protocol::sampling::{REPETITION_CONTEXT_SIZE, REPETITION_PENALTY, SEED, TEMPERATURE};
use inferometer_protocol::{EngineSpec, Honours, Sampling};

/// The section, with defaults for the keys that are not given.
pub fn read(table: &Table<'_>) -> Sampling {
    Sampling {
        seed: table.count("seed"),
        temperature: table.number("temperature"),
        top_k: table.count32("top_k"),
        top_p: table.number("top_p"),
        min_p: table.number("min_p"),
        repetition_penalty: table.number("repetition_penalty"),
        repetition_context_size: table.count("repetition_context_size"),
    }
}

/// Reports each field that matters and that an engine of the scenario does not declare: its value
/// would stand in the record without being in force.
pub fn honoured(table: &Table<'_>, sampling: &Sampling, engines: &[EngineSpec], offers: &Offers) {
    for engine in engines {
        let Some(offer) = offers.engines.iter().find(|offer| offer.name == engine.name) else { continue };
        let honours = offer.honours(&engine.options);
        // An engine that says nothing before it runs is judged by its receipt.
        for (field, value) in sampling.undeclared(|field| honours.samples_with(field) != Some(false)) {
            let problem = Problem::new(format!("engine `{}` does not honour `{field} = {value}`", engine.label));
            let label = honours.reason(field).unwrap_or("it would have no effect");
            let problem = match table.entry(field).or_else(|| table.entry(needed_by(field)?)) {
                Some(entry) => problem.at(entry.key_span).label(label),
                None => problem,
            };
            table.problem(problem.help(help(engine, honours)));
        }
    }
}

fn help(engine: &EngineSpec, honours: &Honours) -> String {
    match honours.sampling.unwrap_or_default() {
        [] => format!("remove it; `{}` chooses tokens in one fixed way", engine.label),
        fields => format!("remove it; `{}` honours {}", engine.label, list(fields.iter().copied())),
    }
}

/// The field that makes another one matter, also where the file leaves the latter out.
fn needed_by(field: &str) -> Option<&'static str> {
    match field {
        SEED => Some(TEMPERATURE),
        REPETITION_CONTEXT_SIZE => Some(REPETITION_PENALTY),
        _ => None,
    }
}
