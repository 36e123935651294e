//! How many tokens the requests of a session generate where the scenario does not say: as many as
//! its gates need, within a bound.

use std::ops::RangeInclusive;

use super::session::key;
use super::short;
use super::start::Setup;
use crate::engines;
use crate::origin::Origin;
use crate::record::ab::{ChosenLength, GateInfo};
use crate::record::{RequestRow, Status, Store};
use crate::run::error::RunError;
use crate::run::options::Options;
use crate::run::progress::{Event, Observer};
use crate::run::prompts::Prompts;
use crate::run::segment::{self, Log, Past};
use crate::run::worker::{Work, Worker};
use crate::scenario;
use crate::spec::{Cell, Scale, Scenario, Workload};
use inferometer_protocol::FinishReason;
use inferometer_protocol::units::duration_ns;

/// Most tokens that a session chooses.
pub const MOST: u32 = 1024;
/// Side B may be faster, and the next request too.
const SPARE: f64 = 1.25;
/// A chosen number is a multiple of this, so that sessions of the same machine mostly agree.
const STEP: u32 = 64;

/// A request with the default number of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    took_ns: u64,
    /// Time from the first token to the last.
    decode_ns: u64,
    tokens: u32,
}

impl Seen {
    /// `None` if the request failed, or ended of itself: then a higher limit changes nothing.
    fn of(row: &RequestRow) -> Option<Self> {
        let full = row.status != Status::Failed && row.finish_reason == Some(FinishReason::Length);
        Some(Self {
            took_ns: row.end_ns.saturating_sub(row.start_ns),
            decode_ns: (row.decode_ms.unwrap_or(0.0) * 1e6) as u64,
            tokens: row.generated_tokens.filter(|tokens| full && *tokens > 0)?,
        })
    }

    /// The tokens with which a request takes `wanted_ns`; `None` if it takes that long already.
    fn needed(self, wanted_ns: u64) -> Option<u32> {
        let missing = wanted_ns as f64 * SPARE - self.took_ns as f64;
        if self.took_ns >= wanted_ns {
            return None;
        }
        let each = match self.decode_ns {
            0 => self.took_ns as f64 / f64::from(self.tokens),
            decode => decode as f64 / f64::from(self.tokens.saturating_sub(1).max(1)),
        };
        let more = (missing / each.max(1.0)).ceil().min(f64::from(u32::MAX / 2)) as u32;
        Some(self.tokens.saturating_add(more).next_multiple_of(STEP))
    }
}

/// Lengthens the requests of both sides if they are too short for the gates, and returns what was
/// chosen. Nothing is chosen if the scenario states `max_tokens`, for conversations, and if this
/// program hosts all engines, because it trusts its own times.
///
/// # Errors
/// When the plan cannot be made again. If a request fails, the session itself says why.
pub fn choose(
    setups: &mut [Setup; 2],
    gates: &[GateInfo],
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Option<ChosenLength>, RunError> {
    let least = gates.iter().filter(|gate| gate.gate.metric.scale() == Scale::Ratio).map(|gate| gate.least);
    let least = least.fold(f64::INFINITY, f64::min);
    let own = |setup: &Setup| {
        setup.info.commit.is_none() && setup.scenario.engines.iter().all(|spec| engines::is_built_in(&spec.name))
    };
    let stated = setups.iter().any(|setup| !setup.scenario.default_length);
    let prompts = setups.iter().all(|setup| matches!(setup.scenario.workload, Workload::Prompt(_)));
    if stated || !prompts || !least.is_finite() || setups.iter().all(own) {
        return Ok(None);
    }
    let wanted_ns = short::wanted(least);
    let usual = setups[0].scenario.workload.max_tokens();
    // The session repeats what fails here, and tells it with its log.
    let Ok(Some((took_ns, needed, most))) = probe(&setups[0], wanted_ns, options, observer) else { return Ok(None) };
    let tokens = needed.min(most);
    if tokens <= usual {
        return Ok(None);
    }
    for setup in setups.iter_mut() {
        lengthen(&mut setup.scenario, tokens);
        let offers = engines::offers();
        setup.plan = scenario::plan(&setup.scenario, &offers).map_err(|error| RunError::Ab(error.to_string()))?;
    }
    let mut because = format!(
        "with {usual} the shortest request takes {}, and a delta of {} needs {}",
        duration_ns(took_ns),
        Scale::Ratio.size(least.ln_1p()),
        duration_ns(wanted_ns)
    );
    if needed > most {
        because += &format!(", which would take {needed}; the most that a session chooses here is {most}");
    }
    let chosen = ChosenLength { usual, chosen: tokens, because };
    observer.event(Event::Note(&format!(
        "requests generate {tokens} tokens, because the scenario states no `workload.max_tokens`: {}",
        chosen.because
    )));
    Ok(Some(chosen))
}

fn lengthen(scenario: &mut Scenario, tokens: u32) {
    match &mut scenario.workload {
        Workload::Prompt(work) => work.max_tokens = tokens,
        Workload::Conversation(work) => work.max_tokens = tokens,
    }
}

/// Runs requests of side A once: the duration of the shortest, the tokens that it needs, and the
/// most that fit. `None` if no request needs more.
fn probe(
    setup: &Setup,
    wanted_ns: u64,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Option<(u64, u32, u32)>, RunError> {
    let (model, prompts) = segment::prepare(&setup.scenario, &setup.plan, observer)?;
    let folder = tempfile::tempdir()?;
    let origin = Origin::start();
    let sampler = segment::sampler(&setup.scenario, origin);
    let manifest = segment::manifest(&setup.scenario, &setup.plan, &prompts, &origin, sampler.gauges());
    let store = Store::create_in(&folder.path().join("a"), manifest)?;
    let work = Work {
        scenario: &setup.scenario,
        plan: &setup.plan,
        prompts: &prompts,
        model: &model,
        options,
        program: setup.info.commit.as_ref().map(|commit| commit.program.as_slice()),
        must_open: true,
        verified_only: false,
    };
    let mut worker = Worker::new(work, Log { store, sampler, origin }, Past::default())?;
    let mut quiet = Quiet(observer);
    let seen = requests(&mut worker, &setup.plan.cells, &mut quiet);
    let context = worker.log.store.manifest().hosts.iter().filter_map(|host| host.receipt.model.context_length).min();
    let (_, closed) = worker.close(&mut quiet);
    closed?;
    let Some(seen) = seen? else { return Ok(None) };
    let context = engines::context_length(&setup.scenario.model).into_iter().chain(context.map(|n| n as usize)).min();
    let most = context.map_or(MOST, |context| room(context, &setup.plan.cells, &prompts));
    // Each request must be long enough: the one that needs the most tokens decides.
    let needed = seen.iter().filter_map(|seen| seen.needed(wanted_ns)).max();
    let shortest = seen.iter().map(|seen| seen.took_ns).min();
    Ok(shortest.zip(needed).map(|(took_ns, needed)| (took_ns, needed, most)))
}

/// One request of the shortest prompt of each engine and load-time setting; `None` if the user
/// asked to stop, or one tells nothing.
fn requests<'a>(
    worker: &mut Worker<'a>,
    cells: &'a [Cell],
    observer: &mut dyn Observer,
) -> Result<Option<Vec<Seen>>, RunError> {
    let mut shortest: Vec<&Cell> = Vec::new();
    for cell in cells {
        match shortest.iter_mut().find(|other| key(other) == key(cell)) {
            Some(other) if cell.length < other.length => *other = cell,
            Some(_) => {}
            None => shortest.push(cell),
        }
    }
    let mut all = Vec::new();
    for cell in shortest {
        worker.close_others(&key(cell));
        let Some(outputs) = worker.outputs(cell.id, &key(cell), false, observer)? else { return Ok(None) };
        let Some(seen) = outputs.iter().map(|output| Seen::of(&output.row)).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        all.extend(seen);
    }
    Ok(Some(all))
}

/// The most tokens that the longest prompt leaves room for, of [`MOST`].
fn room(context: usize, cells: &[Cell], prompts: &Prompts) -> u32 {
    let counted = |cell: &Cell| prompts.counted(cell).as_ref().map(RangeInclusive::end).copied();
    let longest = cells.iter().filter_map(|cell| cell.length.or_else(|| counted(cell))).max().unwrap_or(0);
    u32::try_from(context).unwrap_or(u32::MAX).saturating_sub(longest).min(MOST)
}

/// Passes on what is being done; findings are told by the session itself.
struct Quiet<'a>(&'a mut dyn Observer);

impl Observer for Quiet<'_> {
    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Opening { .. } | Event::WarmingUp { .. } | Event::Comparing { .. }) {
            self.0.event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn tokens_are_added_until_a_request_is_long_enough() {
        let seen =
            |took_ms: u64, decode_ms: u64| Seen { took_ns: took_ms * MS, decode_ns: decode_ms * MS, tokens: 128 };
        // 127 ms for 127 tokens after the first: 1 ms each; 250 ms and a quarter are wanted.
        assert_eq!(seen(137, 127).needed(250 * MS), Some((128 + 176_u32).next_multiple_of(64)));
        assert_eq!(seen(250, 240).needed(250 * MS), None);
        // Without token times the whole request is divided.
        assert_eq!(seen(128, 0).needed(1000 * MS), Some((128 + 1122_u32).next_multiple_of(64)));
        let instant = Seen { took_ns: 0, decode_ns: 0, tokens: 128 };
        assert!(instant.needed(250 * MS).unwrap() > MOST);
    }

    #[test]
    fn a_request_that_ends_of_itself_tells_nothing() {
        let row = |finish_reason, status| RequestRow {
            finish_reason: Some(finish_reason),
            status,
            generated_tokens: Some(9),
            end_ns: 5,
            ..RequestRow::default()
        };
        let seen = |reason, status| Seen::of(&row(reason, status));
        assert_eq!(seen(FinishReason::Length, Status::Ok), Some(Seen { took_ns: 5, decode_ns: 0, tokens: 9 }));
        assert_eq!((seen(FinishReason::Stop, Status::Ok), seen(FinishReason::Length, Status::Failed)), (None, None));
    }
}
