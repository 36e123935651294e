//! The data of a session's report. Its JSON is `summary.json`.

use serde::Serialize;

use super::advice;
use super::difference::{self, Difference};
use crate::compare::ab::{
    Beyond, Counts, Effect, Evidence, GateJudgement, Judgement, LawChange, OutputsJudgement, PairJudgement,
    SettingsDifference, beyond, effective_settings, judge,
};
use crate::compare::profile;
use crate::compare::profile::{Aligned, CellProfiles};
use crate::compare::quality::{Divergence, divergence};
use crate::record::ab::{AbRecord, SideInfo};
use crate::record::{FinishState, Machine, Record};
use crate::report::summary::{CellQuality, CellSummary, QualityText, Summary};
use crate::spec::{Scale, Side};
use inferometer_host::simulated;
use inferometer_stats::robust::Interval;
use inferometer_stats::sequential::{LOOKS, Rule, Verdict, caught_nine_in_ten};

/// Version of a session's `summary.json`. Fields are only added under the same version.
pub const SCHEMA_VERSION: u32 = 1;

/// How to report the result of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Telling {
    /// An inconclusive session counts as passed (`--neutral-ok`).
    pub neutral_ok: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AbSummary {
    pub schema_version: u32,
    /// Name of the session's folder.
    pub session: String,
    pub scenario: String,
    pub description: Option<String>,
    pub verdict: Verdict,
    pub exit_code: u8,
    /// The session is inconclusive; its exit code is 0 because of `--neutral-ok`.
    pub neutral: bool,
    /// Why that verdict, in sentences.
    pub reasons: Vec<String>,
    /// What to do next, in sentences.
    pub advice: Vec<String>,
    pub state: FinishState,
    /// Random weights: speed and memory are meaningful, the text is not.
    pub synthetic_model: bool,
    /// No engine ran: all figures come from a simulation.
    pub simulated_engine: bool,
    pub self_test: bool,
    pub sides: [SideInfo; 2],
    /// What else differs between the sides.
    pub differences: Vec<Difference>,
    pub gates: Vec<GateSummary>,
    pub counts: Counts,
    pub outputs: OutputsJudgement,
    /// The cells by id.
    pub cells: Vec<CellName>,
    /// Every metric in every cell: advisory.
    pub effects: Vec<Effect>,
    pub laws: Vec<LawChange>,
    pub pairs: Vec<PairJudgement>,
    /// The text of the quality pass; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_text: Option<QualityText>,
    /// How likely that text is to each side, for each setting; empty without a quality pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<QualityComparison>,
    /// The profiled passes after the pairs, cell by cell; empty where there were none. No verdict
    /// depends on them.
    pub profiles: Vec<CellProfiles>,
    pub order_seed: u64,
    pub resident: bool,
    pub started_utc: String,
    pub finished_utc: Option<String>,
    pub inferometer_version: String,
    pub machine: Machine,
    pub warnings: Vec<String>,
}

/// What a cell is called.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellName {
    pub cell: u32,
    pub label: String,
    /// Common to the cells that differ only in prompt length.
    pub series: String,
    pub length: Option<u32>,
}

/// The quality of both sides in some cells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QualityComparison {
    pub cells: Vec<u32>,
    pub a: CellQuality,
    pub b: CellQuality,
    pub divergence: Option<Divergence>,
    /// Why there is no divergence.
    pub not_compared: Option<String>,
}

/// A gate with its figures. Shifts are of ln(cost): above 0 is worse, and `ratio` is their
/// exponential. Shifts of counts and bytes are differences, which have no ratio.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateSummary {
    pub verdict: Verdict,
    /// B / A of the cost.
    pub ratio: Option<f64>,
    pub ratio_interval: Option<Interval>,
    /// The smallest slow-down that this session would have caught nine times in ten: a share, or
    /// for counts and bytes a difference in their unit. The two fields below have the same unit.
    pub caught_nine_in_ten: Option<f64>,
    /// The smallest delta for which these pairs would have decided the gate, if they did not.
    pub would_decide: Option<f64>,
    /// The smallest delta that this machine supports, estimated from A/A pairs.
    pub pilot_supports: Option<f64>,
    /// The result in a sentence.
    pub sentence: String,
    #[serde(flatten)]
    pub judgement: GateJudgement,
}

impl AbSummary {
    /// Judges a session, compares the metrics that have no gate, and adds advice.
    #[must_use]
    pub fn of(record: &AbRecord, telling: Telling) -> Self {
        let judged = judge(&Evidence::of(record));
        let evidence = Evidence::of(record);
        let Beyond { effects, laws } = beyond(&evidence, &judged);
        let settings = effective_settings(&evidence, &judged);
        let base = Summary::of(&record.a);
        let manifest = &record.manifest;
        let scenario = &record.a.manifest.scenario;
        let code = judged.verdict.exit_code();
        // An unfinished session does not pass: it can be resumed.
        let finished = manifest.state == FinishState::Finished;
        let neutral = telling.neutral_ok && finished && judged.verdict == Verdict::Inconclusive;
        let engines = [&record.a, &record.b].map(|side| side.manifest.scenario.engines.iter());
        Self {
            schema_version: SCHEMA_VERSION,
            session: manifest.session.clone(),
            scenario: manifest.scenario.clone(),
            description: scenario.description.clone(),
            verdict: judged.verdict,
            exit_code: if neutral { 0 } else { code },
            neutral,
            advice: advice::advice(&judged, manifest, neutral),
            state: manifest.state,
            synthetic_model: base.run.synthetic,
            simulated_engine: engines.into_iter().flatten().any(|engine| engine.name == simulated::NAME),
            self_test: manifest.settings.self_test,
            sides: manifest.sides.clone(),
            differences: difference::differences(record).into_iter().chain(in_force(record, &settings)).collect(),
            gates: gates(record, &judged),
            quality_text: base.run.quality.clone(),
            quality: quality(record),
            profiles: profiles(record, &base),
            cells: base.cells.iter().map(cell).collect(),
            effects,
            laws,
            order_seed: manifest.settings.seed,
            resident: manifest.settings.resident,
            started_utc: manifest.origin_utc.clone(),
            finished_utc: manifest.finished_utc.clone(),
            inferometer_version: manifest.inferometer_version.clone(),
            machine: manifest.machine.clone(),
            warnings: warnings(record),
            reasons: judged.reasons,
            counts: judged.counts,
            outputs: judged.outputs,
            pairs: judged.pairs,
        }
    }

    /// As `summary.json`, ended by a newline.
    ///
    /// # Panics
    /// Never: it is plain data.
    #[must_use]
    pub fn to_json(&self) -> String {
        crate::report::json(self)
    }

    #[must_use]
    pub fn side(&self, side: Side) -> &SideInfo {
        &self.sides[side as usize]
    }

    /// What a cell is called.
    #[must_use]
    pub fn cell(&self, id: u32) -> &str {
        self.cells.get(id as usize).map_or("", |cell| cell.label.as_str())
    }

    /// Marks to show with every figure.
    #[must_use]
    pub fn marks(&self) -> Vec<&'static str> {
        let marks = [
            (self.simulated_engine, "simulated engine"),
            (self.synthetic_model, "synthetic model"),
            (self.self_test, "self-test"),
        ];
        marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect()
    }

    /// Effects that stand out, the largest first; ratios before differences, which are in other
    /// units.
    #[must_use]
    pub fn standing_out(&self) -> Vec<&Effect> {
        let mut found: Vec<&Effect> = self.effects.iter().filter(|effect| effect.stands_out()).collect();
        found.sort_by(|a, b| a.scale.cmp(&b.scale).then(b.shift.abs().total_cmp(&a.shift.abs())));
        found
    }
}

/// Effective settings that differ between the sides.
fn in_force(record: &AbRecord, settings: &[SettingsDifference]) -> Vec<Difference> {
    let cells = &record.a.manifest.plan.cells;
    let place = |cell: u32| {
        let cell = cells.get(cell as usize).filter(|_| cells.len() > 1);
        cell.map_or_else(String::new, |cell| format!(" ({})", cell.label))
    };
    let one = |of: &SettingsDifference| Difference {
        what: format!("effective: {}{}", of.setting, place(of.cell)),
        a: of.a.clone(),
        b: of.b.clone(),
    };
    settings.iter().map(one).collect()
}

/// Warnings of the session, then those of each side's record.
fn warnings(record: &AbRecord) -> Vec<String> {
    let of = |side: Side, warnings: &[String]| -> Vec<String> {
        warnings.iter().map(|warning| format!("side {}: {warning}", side.name())).collect()
    };
    let sides = [of(Side::A, &record.a.manifest.warnings), of(Side::B, &record.b.manifest.warnings)];
    let redacted = record.manifest.redacted.as_ref().map(|redacted| redacted.sentence().to_owned());
    redacted.into_iter().chain(record.manifest.warnings.iter().cloned()).chain(sides.concat()).collect()
}

fn cell(cell: &CellSummary) -> CellName {
    CellName {
        cell: cell.cell,
        label: cell.name().to_owned(),
        series: cell.series.clone(),
        length: cell.prompt_length(),
    }
}

/// The sides' lines of the quality pass, cell by cell; cells with the same lines together.
fn quality(record: &AbRecord) -> Vec<QualityComparison> {
    let line = |side: &Record, cell: u32| side.quality.iter().position(|scored| scored.cells.contains(&cell));
    let mut found: Vec<((usize, usize), QualityComparison)> = Vec::new();
    for cell in record.a.manifest.plan.cells.iter().map(|cell| cell.id) {
        let Some(lines) = line(&record.a, cell).zip(line(&record.b, cell)) else { continue };
        if let Some((_, known)) = found.iter_mut().find(|(known, _)| *known == lines) {
            known.cells.push(cell);
            continue;
        }
        let (a, b) = (&record.a.quality[lines.0], &record.b.quality[lines.1]);
        let divergence = divergence(a, b);
        found.push((
            lines,
            QualityComparison {
                cells: vec![cell],
                a: CellQuality::of(a),
                b: CellQuality::of(b),
                not_compared: divergence.as_ref().err().cloned(),
                divergence: divergence.ok(),
            },
        ));
    }
    found.into_iter().map(|(_, one)| one).collect()
}

fn profiles(record: &AbRecord, base: &Summary) -> Vec<CellProfiles> {
    let aligned: Vec<Aligned> =
        base.cells.iter().map(|cell| Aligned { name: cell.name(), cell_a: cell.cell, cell_b: cell.cell }).collect();
    profile::profiles(&record.a, &record.b, &aligned)
}

fn gates(record: &AbRecord, judged: &Judgement) -> Vec<GateSummary> {
    let count = judged.gates.len();
    let one = |(at, gate): (usize, &GateJudgement)| {
        let x: Vec<f64> = gate.x.iter().map(|(_, x)| *x).collect();
        let rule = Rule { gates: count, bound: gate.bound() };
        let share = |bound: f64| gate.scale.least(bound);
        let by_ratio = gate.scale == Scale::Ratio;
        // No gate can be decided before the first look.
        let enough = x.len() >= LOOKS[0];
        let caught = enough.then(|| caught_nine_in_ten(&x, &rule, record.manifest.settings.seed)).flatten();
        let pilot = judged.pilot.iter().find(|pilot| pilot.gate == at);
        GateSummary {
            verdict: gate.verdict(),
            ratio: gate.estimate.filter(|_| by_ratio).map(f64::exp),
            ratio_interval: gate.interval.filter(|_| by_ratio).map(|i| Interval {
                lo: i.lo.exp(),
                hi: i.hi.exp(),
                ..i
            }),
            caught_nine_in_ten: caught.map(share),
            would_decide: gate.decision.would_decide.map(share),
            pilot_supports: pilot.map(|of| share(of.pilot.supported)),
            sentence: gate.sentence(),
            judgement: gate.clone(),
        }
    };
    judged.gates.iter().enumerate().map(one).collect()
}
