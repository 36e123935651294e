//! Warm-ups of a cell in a host. They also show whether the host's stamps can be trusted.

use std::time::Duration;

use super::{Pass, Worker, name};
use crate::run::attempt::Attempt;
use crate::run::error::RunError;
use crate::run::pool::Resident;
use crate::run::progress::Observer;
use crate::run::timing::Sight;
use crate::spec::Cell;
use inferometer_protocol::TokenTiming;

/// Warm-ups before the stamps count as not verified: on a busy machine tokens arrive late, or
/// together. More where they are short.
const TRIES: u32 = 4;
const SHORT_TRIES: u32 = 40;
const SHORT: Duration = Duration::from_secs(1);

/// The next warm-up of a cell after `done`, which together took `took`; `None` if it is warm.
/// `wanted`: what the scenario asks for.
pub(super) fn next(resident: &Resident, cell: u32, wanted: u32, done: u32, took: Duration) -> Option<Pass> {
    let receipt = &resident.receipt;
    let stream = receipt.capabilities.stream && receipt.token_timing == TokenTiming::Exact;
    let again = Some(Pass::Warmup { stream });
    if done < wanted {
        return again;
    }
    let sights = || resident.sights.range((cell, 0)..=(cell, u32::MAX)).map(|(_, sight)| sight);
    if done > 0 && sights().any(|sight| matches!(sight, Sight::Together(_))) {
        return Some(Pass::OtherLength);
    }
    let unsure = stream && sights().any(|sight| !matches!(sight, Sight::Verified(_)));
    let tries = if took < SHORT { SHORT_TRIES } else { wanted.max(TRIES) };
    again.filter(|_| unsure && done > 0 && done < tries)
}

/// Stores what the turns of a warm-up showed about the host's stamps.
pub(super) fn note(resident: &mut Resident, pass: Pass, turns: &[Attempt]) {
    for attempt in turns {
        let at = (attempt.place.cell, attempt.place.turn);
        if pass == Pass::OtherLength {
            let took = attempt.end_ns.saturating_sub(attempt.start_ns);
            if let Some(sight) = resident.sights.remove(&at) {
                resident.sights.insert(at, sight.probed(attempt.ids().len() as u64, took));
            }
        } else if let Some(sight) = attempt.reply.as_ref().and_then(|reply| reply.sight.clone()) {
            resident.sights.insert(at, sight);
        }
    }
}

impl Worker<'_> {
    /// Warns that token times of a cell are not verified, and why.
    pub(super) fn doubt(
        &mut self,
        resident: &Resident,
        cell: &Cell,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let receipt = &resident.receipt;
        if receipt.token_timing == TokenTiming::Inexact {
            return Ok(());
        }
        let engine = &self.engine(cell.engine).label;
        let told = if !receipt.capabilities.stream {
            format!(
                "engine `{engine}`: its token times are claimed, because it cannot send tokens as they become readable (capability `stream`)"
            )
        } else if self.work.scenario.run.warmup == 0 {
            format!("engine `{engine}`: its token times are claimed, because without a warm-up they cannot be verified")
        } else {
            let sights = resident.sights.range((cell.id, 0)..=(cell.id, u32::MAX));
            let Some((sight, why)) = sights.into_iter().find_map(|(_, sight)| Some((sight, sight.doubt()?))) else {
                return Ok(());
            };
            let grade = sight.timing().name();
            format!("engine `{engine}`, cell `{}`: its token times are {grade}: {why}", name(cell))
        };
        self.warn(told, observer)
    }
}
