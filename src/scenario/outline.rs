//! Totals of a plan: numbers of requests and tokens, and why combinations are merged.

use serde::Serialize;

use super::plan::{FORESEEABLE, short};
use crate::spec::{Cell, Isolation, Plan, Scenario};
use inferometer_protocol::effective::{EFFECTIVE_PENALTY, EFFECTIVE_WINDOW};
use inferometer_protocol::toggle::PREFILL_CHUNK_SIZE;
use inferometer_protocol::{Settings, Value};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outline {
    pub cells: u64,
    /// Measured requests: one per iteration, or one per turn.
    pub requests: u64,
    /// Unmeasured requests before them, if nothing is interrupted.
    pub warmup_requests: u64,
    /// Engine host processes to start.
    pub hosts: u64,
    /// Prompt tokens of the measured requests; `None` if only the tokenizer can count them.
    pub prefill_tokens: Option<u64>,
    /// Most tokens that the measured requests generate; the exact number with `ignore_eos`.
    pub generated_tokens: u64,
    pub merges: Vec<Merge>,
    /// Labels of engines whose honoured toggles are known only at run time, so that nothing was
    /// merged for them although the varied toggles' effects could otherwise be predicted.
    pub not_merged: Vec<String>,
}

/// Values of one toggle that do the same work in one cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Merge {
    pub cell: u32,
    pub toggle: String,
    /// The value that runs, then those that are not run again.
    pub values: Vec<Value>,
    /// Why they do the same work, in words.
    pub why: String,
}

/// Computes the totals of a plan.
#[must_use]
pub fn outline(scenario: &Scenario, plan: &Plan) -> Outline {
    let workload = &scenario.workload;
    let iterations = u64::from(scenario.run.iterations);
    let cells = plan.cells.len() as u64;
    let measured = plan.iterations();
    let requests = measured * workload.turns() as u64;
    let hosts = match scenario.run.isolation {
        Isolation::Run => {
            let mut different: Vec<(u32, &Settings)> = Vec::new();
            for cell in &plan.cells {
                if !different.contains(&(cell.engine, &cell.load)) {
                    different.push((cell.engine, &cell.load));
                }
            }
            different.len() as u64
        }
        Isolation::Cell | Isolation::Load => cells,
        Isolation::Iteration => measured,
    };
    let warmed = if scenario.run.isolation.loads_each() { measured } else { cells };
    let each = workload.warmup_turns().len() as u64 * u64::from(scenario.run.warmup);
    let prompts: Option<u64> = plan.cells.iter().map(|c| c.length.map(u64::from)).sum();
    Outline {
        cells,
        requests,
        warmup_requests: warmed * each,
        hosts,
        prefill_tokens: prompts.map(|tokens| tokens * iterations),
        generated_tokens: requests * u64::from(workload.max_tokens()),
        merges: plan.cells.iter().flat_map(|cell| merges(cell, workload.max_tokens())).collect(),
        not_merged: not_merged(scenario, plan),
    }
}

fn not_merged(scenario: &Scenario, plan: &Plan) -> Vec<String> {
    let varied = |index: usize| {
        let axes = scenario.toggles_of(&scenario.engines[index]);
        axes.iter().any(|axis| axis.values.len() > 1 && FORESEEABLE.contains(&axis.toggle.as_str()))
    };
    let unknown = |index: usize| {
        varied(index)
            && plan.cells.iter().any(|c| c.engine as usize == index && c.length.is_some() && c.predicted.is_empty())
    };
    let engines = scenario.engines.iter().enumerate();
    engines.filter(|(index, _)| unknown(*index)).map(|(_, engine)| engine.label.clone()).collect()
}

fn merges(cell: &Cell, max_tokens: u32) -> Vec<Merge> {
    let merge = |(toggle, first): (&String, &Value)| {
        let mut values = vec![first.clone()];
        for other in cell.merged.iter().filter_map(|m| m.get(toggle)) {
            if !values.contains(other) {
                values.push(other.clone());
            }
        }
        let why = why(cell, toggle, max_tokens);
        (values.len() > 1).then(|| Merge { cell: cell.id, toggle: short(toggle).to_owned(), values, why })
    };
    cell.toggles.iter().filter_map(merge).collect()
}

/// Only toggles whose effect `spec::effective` predicts are merged: the chunk size and the
/// penalty's window.
fn why(cell: &Cell, toggle: &str, max_tokens: u32) -> String {
    let length = cell.length.unwrap_or_default();
    if toggle == PREFILL_CHUNK_SIZE {
        return format!("{length} tokens are one chunk");
    }
    if cell.predicted.get(EFFECTIVE_PENALTY).and_then(Value::as_float) == Some(1.0) {
        return "the penalty is off".to_owned();
    }
    let window = cell.predicted.get(EFFECTIVE_WINDOW).and_then(Value::as_count).unwrap_or_default();
    let history = u64::from(length) + u64::from(max_tokens) - 1;
    if window == history {
        format!("the history is {history} tokens at most")
    } else {
        format!("the window is {window} tokens")
    }
}
