//! Every profiler, on a generation of the smallest model.

use super::engines::only_run;
use super::program::Program;
use super::{Item, State};
use crate::run::profile::{System, Tool};

const PART: &str = "Profilers";

pub fn items(program: &Program) -> Vec<Item> {
    let native = if System::here() == System::Macos { Tool::Sample } else { Tool::Perf };
    // The default first. The host's own one may end it on macOS, which costs this try only.
    let own = ("pprof", "in the host");
    let outside = (native.name(), "from outside");
    let order = if System::here() == System::Macos { [outside, own] } else { [own, outside] };
    order.into_iter().map(|(name, how)| tried(program, name, how)).collect()
}

/// One profiled iteration. A profile that is missing has its reason in the record.
fn tried(program: &Program, name: &str, how: &str) -> Item {
    let item = |state, seen: String| Item::new(PART, format!("{name}, {how}"), state, seen);
    let text = format!(
        "name = \"deep\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\", seed = 1 }}\n[[engine]]\n\
         name = \"{}\"\n[workload]\ntext = \"Light goes down two paths and comes back.\"\nlengths = [64]\n\
         max_tokens = {TOKENS}\nignore_eos = true\n[run]\niterations = 1\nexternal_causes = \"warn\"\n\
         [profile]\niterations = 1\nspans = false\nprofiler = \"{name}\"\n",
        engine()
    );
    let run = || -> anyhow::Result<_> {
        let folder = program.folder(&format!("profile-{name}"))?;
        fs_err::write(folder.join("scenario.toml"), text)?;
        let ended = program.run(&folder, &["run", "scenario.toml", "--no-report", "-q"])?;
        only_run(&folder.join("results")).map_err(|_| anyhow::anyhow!(ended.told()))
    };
    let record = match run() {
        Ok(record) => record,
        Err(e) => return item(State::Fails, format!("{e:#}")),
    };
    let Some(iteration) = record.profile.iterations.first() else {
        return item(State::Fails, "the profiled iteration was not recorded".to_owned());
    };
    match (&iteration.profile, &iteration.missing) {
        (Some(profile), _) => {
            let stacks = profile.parts.iter().flat_map(|part| &part.stacks);
            let samples: u64 = stacks.map(|stack| stack.count).sum();
            let seen = format!("{samples} samples of {} functions", profile.functions.len());
            item(if samples > 0 { State::Works } else { State::Differs }, seen)
        }
        // A tool that is not installed or not permitted is no fault of the machine.
        (None, Some(why)) => item(State::Absent, why.clone()),
        (None, None) => item(State::Fails, "no profile and no reason".to_owned()),
    }
}

/// About a second of work.
const TOKENS: u32 = if cfg!(debug_assertions) { 400 } else { 1500 };

fn engine() -> &'static str {
    if cfg!(feature = "engine") { "transformer" } else { "simulated" }
}
