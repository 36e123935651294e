//! What prevents a run, as far as it is known before a host is started: `check` and `run` ask the
//! same, so that the one predicts the other.

mod speculation;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub use speculation::speculation;

use super::error::RunError;
use super::pool::find_program;
use super::prompts::Prompts;
use crate::engines;
use crate::engines::Hosting;
use crate::spec::{Cell, Plan, Scenario};
use inferometer_protocol::{EngineError, EngineSpec, ModelSpec};

/// Everything that is known before a host is started: the run's first warnings. A synthetic model
/// is not made.
///
/// # Errors
/// The first thing that prevents the run.
pub fn check(scenario: &Scenario, plan: &Plan) -> Result<Vec<String>, RunError> {
    // Programs of commits do not exist yet.
    if scenario.build.is_none() {
        programs(scenario)?;
    }
    speculation(&[(scenario, plan)])?;
    let prompts = match &scenario.model {
        ModelSpec::Synthetic { .. } => None,
        ModelSpec::Path(_) | ModelSpec::Served => {
            let folder = engines::models::resolve(&scenario.model, &mut |_| {})?;
            model(scenario, &folder)?;
            Some(Prompts::make(scenario, &plan.cells, &folder)?)
        }
    };
    context(scenario, plan, prompts.as_ref())?;
    Ok(warnings(scenario, plan, prompts.as_ref()))
}

/// What a run begins with: settings and parts of the prompt that it will not use.
#[must_use]
pub fn warnings(scenario: &Scenario, plan: &Plan, prompts: Option<&Prompts>) -> Vec<String> {
    let from_prompts = prompts.into_iter().flat_map(|prompts| prompts.warnings.clone());
    from_prompts.chain(speculation::warning(scenario, plan)).collect()
}

/// Refuses an engine whose program is not there.
///
/// # Errors
/// Names the engine and the program.
pub fn programs(scenario: &Scenario) -> Result<(), RunError> {
    for spec in &scenario.engines {
        let Some(engine) = engines::find(&spec.name) else { continue };
        let Hosting::Command(command) = engine.hosting(spec)? else { continue };
        program(spec, command.first().map_or("", String::as_str))?;
    }
    Ok(())
}

fn program(spec: &EngineSpec, name: &str) -> Result<(), RunError> {
    let fault = match find_program(name) {
        None => format!("there is no program `{name}` in PATH"),
        Some(path) if !path.exists() => format!("there is no program at {}", path.display()),
        Some(path) if path.is_dir() => format!("{} is a folder, not a program", path.display()),
        Some(path) if !is_executable(&path) => format!("{} is not executable", path.display()),
        Some(_) => return Ok(()),
    };
    Err(RunError::Engine(EngineError::bad_request(format!(
        "engine `{}` cannot be started: {fault}; correct its option `command`",
        spec.label
    ))))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.permissions().mode() & 0o111 != 0)
}

/// Refuses a path that an engine of this program cannot open as a model.
///
/// # Errors
/// Says what is there instead.
pub fn model(scenario: &Scenario, folder: &Path) -> Result<(), RunError> {
    match engines::model_fault(folder) {
        Some(fault) if scenario.engines.iter().any(|spec| engines::is_own(&spec.name)) => {
            Err(RunError::Engine(EngineError::model(fault)))
        }
        _ => Ok(()),
    }
}

/// Refuses a cell that does not fit the model's context in an engine of this program.
///
/// # Errors
/// Names the cell and what to lower.
pub fn context(scenario: &Scenario, plan: &Plan, prompts: Option<&Prompts>) -> Result<(), RunError> {
    let Some(context) = engines::context_length(&scenario.model) else { return Ok(()) };
    if let Some(quality) =
        scenario.quality.as_ref().filter(|_| scenario.engines.iter().any(|e| engines::is_own(&e.name)))
    {
        // The last scored token is not run through the model.
        let needed = (quality.context as usize + quality.tokens as usize).saturating_sub(1);
        if needed > context {
            return Err(RunError::Engine(EngineError::bad_request(format!(
                "`quality.context` = {} and `quality.tokens` = {} need a context of {needed}, but the model's is {context} \
                 (max_position_embeddings in config.json): lower one of them",
                quality.context, quality.tokens
            ))));
        }
    }
    let generated = scenario.workload.max_tokens() as usize;
    let is_own = |cell: &&Cell| engines::is_own(&scenario.engines[cell.engine as usize].name);
    for cell in plan.cells.iter().filter(is_own) {
        let counted = || prompts.and_then(|prompts| prompts.counted(cell)).map(|range| *range.start());
        let Some(prompt) = cell.length.or_else(counted) else { continue };
        // The last generated token is not run through the model.
        let needed = (prompt as usize + generated).saturating_sub(1);
        if needed > context {
            return Err(RunError::Engine(EngineError::bad_request(format!(
                "a prompt of {prompt} tokens and {generated} to generate need a context of {needed}, but the model's is \
                 {context} (max_position_embeddings in config.json): shorten the prompt (`workload.lengths`, `-p` of `bench`) or \
                 generate fewer tokens (`workload.max_tokens`, `-n`)"
            ))));
        }
    }
    Ok(())
}

/// Labels of the engines that say only when they run what they honour.
#[must_use]
pub fn unknown(scenario: &Scenario) -> Vec<&str> {
    let offers = engines::offers();
    let silent = |spec: &&EngineSpec| {
        let offer = offers.engines.iter().find(|offer| offer.name == spec.name);
        offer.is_some_and(|offer| {
            let honours = offer.honours(&spec.options);
            honours.toggles.is_none() || honours.sampling.is_none()
        })
    };
    scenario.engines.iter().filter(silent).map(|spec| spec.label.as_str()).collect()
}
