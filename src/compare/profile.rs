//! Compares the profiling passes of two records, cell by cell.

use serde::{Deserialize, Serialize};

use crate::profile::difference::{Difference, Sampled, difference, difference_svg};
use crate::record::{ProfiledIteration, Record, Status};
use inferometer_protocol::{Phase, SampleClock};

/// A cell of both records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellProfiles {
    pub name: String,
    pub cell_a: u32,
    pub cell_b: u32,
    /// Clock of both sides' profilers; null if nothing is compared.
    pub clock: Option<SampleClock>,
    /// One per phase, or one over all phases if a profiler cannot separate them.
    pub phases: Vec<Difference>,
    /// Why nothing is compared, or a caveat.
    pub remark: Option<String>,
}

/// Two cells with the same work, by id, and their name.
#[derive(Debug, Clone, Copy)]
pub struct Aligned<'a> {
    pub name: &'a str,
    pub cell_a: u32,
    pub cell_b: u32,
}

/// Compares the profiling passes of two records; empty if neither has one.
#[must_use]
pub fn profiles(a: &Record, b: &Record, cells: &[Aligned<'_>]) -> Vec<CellProfiles> {
    if [a, b].iter().all(|record| record.profile.iterations.is_empty()) {
        return Vec::new();
    }
    cells.iter().map(|cell| of_cell(a, b, *cell)).collect()
}

fn of_cell(a: &Record, b: &Record, cell: Aligned<'_>) -> CellProfiles {
    let mut found = CellProfiles {
        name: cell.name.to_owned(),
        cell_a: cell.cell_a,
        cell_b: cell.cell_b,
        clock: None,
        phases: Vec::new(),
        remark: None,
    };
    match comparable(a, b, cell) {
        Err(why) => found.remark = Some(why),
        Ok(sides) => {
            found.clock = Some(sides.a.clock);
            found.remark = sides.remark();
            let phases = sides.phases();
            found.phases = phases
                .iter()
                .filter_map(|phase| {
                    let [a, b] = sides.sampled(*phase);
                    difference(&a, &b, *phase)
                })
                .collect();
            if found.phases.is_empty() {
                found.remark = Some("a side has no samples or no tokens".to_owned());
            }
        }
    }
    found
}

/// A differential flamegraph.
#[derive(Debug, Clone, PartialEq)]
pub struct Flamegraph {
    /// File name without its ending.
    pub name: String,
    pub title: String,
    pub svg: String,
}

/// The differential flamegraphs for the result of [`profiles`], in its order.
#[must_use]
pub fn flamegraphs(a: &Record, b: &Record, compared: &[CellProfiles]) -> Vec<Flamegraph> {
    let mut drawn = Vec::new();
    for cell in compared {
        let aligned = Aligned { name: &cell.name, cell_a: cell.cell_a, cell_b: cell.cell_b };
        let Ok(sides) = comparable(a, b, aligned) else { continue };
        for phase in cell.phases.iter().map(|of| of.phase) {
            let title = format!("B vs A: {}, {}", cell.name, phase_name(phase));
            let [a, b] = sides.sampled(phase);
            if let Some(svg) = difference_svg(&a, &b, phase, &title) {
                let name = format!("cell-{}-{}", cell.cell_a, phase_name(phase).replace(' ', "-"));
                drawn.push(Flamegraph { name, title, svg });
            }
        }
    }
    drawn
}

/// Name of a compared phase.
#[must_use]
pub fn phase_name(phase: Option<Phase>) -> &'static str {
    phase.map_or("all phases", Phase::name)
}

/// The valid profiled iterations of a side.
struct Profiled<'a> {
    /// Each with the number of its turns.
    iterations: Vec<(&'a ProfiledIteration, u64)>,
    clock: SampleClock,
    profiler: &'a str,
    /// Number of iterations marked invalid because of an external disturbance.
    invalid: usize,
}

/// Both sides.
struct Sides<'a> {
    a: Profiled<'a>,
    b: Profiled<'a>,
}

/// Both sides of a cell, or why they cannot be compared.
fn comparable<'a>(a: &'a Record, b: &'a Record, cell: Aligned<'_>) -> Result<Sides<'a>, String> {
    let (a, b) = (side("A", a, cell.cell_a)?, side("B", b, cell.cell_b)?);
    if a.clock == b.clock {
        return Ok(Sides { a, b });
    }
    let words = |side: &Profiled<'_>| match side.clock {
        SampleClock::Cpu => format!("{} counts CPU time", side.profiler),
        SampleClock::Wall => format!("{} counts wall time", side.profiler),
    };
    Err(format!("not compared: A's {}, B's {}", words(&a), words(&b)))
}

fn side<'a>(name: &str, record: &'a Record, cell: u32) -> Result<Profiled<'a>, String> {
    if record.profile.iterations.is_empty() {
        return Err(format!("{name} has no profiling pass"));
    }
    let status = |one: &ProfiledIteration| {
        record.profile.requests.iter().find(|row| row.request == one.request).map(|row| row.status)
    };
    let of_cell = || record.profile.iterations.iter().filter(|one| one.cell == cell);
    let iterations: Vec<_> = record.profile.done(cell).filter(|(one, _)| one.profile.is_some()).collect();
    let Some(first) = iterations.first().and_then(|(one, _)| one.profile.as_ref()) else {
        let why =
            of_cell().find_map(|one| one.missing.as_deref()).unwrap_or("every iteration of its profiled pass failed");
        return Err(format!("{name} has no profile of this cell: {why}"));
    };
    let invalid = iterations.iter().filter(|(one, _)| status(one) == Some(Status::Invalid)).count();
    Ok(Profiled { clock: first.clock, profiler: &first.profiler, iterations, invalid })
}

impl<'a> Sides<'a> {
    /// The phases to compare: prefill and decode if both sides separate them.
    fn phases(&self) -> Vec<Option<Phase>> {
        let phases = [Phase::Prefill, Phase::Decode];
        let told = [&self.a, &self.b].into_iter().all(|side| {
            let parts =
                side.iterations.iter().filter_map(|(one, _)| one.profile.as_ref()).flat_map(|profile| &profile.parts);
            parts.filter_map(|part| part.phase).any(|phase| phases.contains(&phase))
        });
        if told { phases.map(Some).to_vec() } else { vec![None] }
    }

    /// Profiles with the tokens of a phase, A's and B's. The first token of each turn belongs to
    /// its prefill.
    fn sampled(&self, phase: Option<Phase>) -> [Vec<Sampled<'a>>; 2] {
        let tokens = |one: &ProfiledIteration, turns: u64| match phase {
            Some(Phase::Prefill) => one.prefill_tokens,
            Some(_) => one.generated_tokens.saturating_sub(turns),
            None => one.prefill_tokens.saturating_add(one.generated_tokens),
        };
        let of = |side: &Profiled<'a>| {
            let iterations = side.iterations.iter().filter(|(one, _)| {
                // If a side's clock changed along with its profiler, use only its first clock.
                one.profile.as_ref().is_some_and(|profile| profile.clock == side.clock)
            });
            let sampled = iterations.filter_map(|(one, turns)| {
                Some(Sampled { profile: one.profile.as_ref()?, tokens: tokens(one, *turns) })
            });
            sampled.filter(|one| one.tokens > 0).collect()
        };
        [of(&self.a), of(&self.b)]
    }

    fn remark(&self) -> Option<String> {
        let (a, b) = (&self.a, &self.b);
        let profilers = (a.profiler != b.profiler).then(|| {
            format!("A was sampled by {}, B by {}: their stacks may be truncated differently", a.profiler, b.profiler)
        });
        let disturbed = (a.invalid + b.invalid > 0).then(|| {
            format!(
                "{} of {} profiled iterations of A and {} of {} of B had external disturbances",
                a.invalid,
                a.iterations.len(),
                b.invalid,
                b.iterations.len()
            )
        });
        let remarks: Vec<String> = profilers.into_iter().chain(disturbed).collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}
