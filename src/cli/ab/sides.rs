//! The two sides of a session, from the command line.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::cli::named;
use crate::engines;
use crate::record::ab::{CommitInfo, SideInfo};
use crate::run::ab::Setup;
use crate::run::build;
use crate::run::interrupt::Interrupt;
use crate::scenario;
use crate::spec::{BuildSettings, Scenario};
use inferometer_protocol::{EngineSpec, Settings, toggle};

/// Arguments that make the sides differ.
#[derive(Debug, clap::Args)]
pub struct SideArgs {
    /// Side A is this commit
    #[arg(long, value_name = "REV", requires = "head", help_heading = "Sides")]
    base: Option<String>,
    /// Side B is this commit
    #[arg(long, value_name = "REV", requires = "base", help_heading = "Sides")]
    head: Option<String>,
    /// Git repository of the commits
    #[arg(long, value_name = "PATH", default_value = ".", help_heading = "Sides")]
    repo: PathBuf,
    /// Compare commits even if the working tree has uncommitted changes, which neither side
    /// includes
    #[arg(long, requires = "base", help_heading = "Sides")]
    allow_dirty: bool,
    /// Setting of side A: a toggle such as `repetition_window_cap=0`, or any key of the scenario
    #[arg(long = "a", value_name = "KEY=VALUE", help_heading = "Sides")]
    a: Vec<String>,
    /// Setting of side B
    #[arg(long = "b", value_name = "KEY=VALUE", help_heading = "Sides")]
    b: Vec<String>,
    /// Engine of side A: the label of an engine in the scenario, or a name from `inferometer
    /// engines`
    #[arg(long, value_name = "ENGINE", help_heading = "Sides")]
    a_engine: Option<String>,
    /// Engine of side B
    #[arg(long, value_name = "ENGINE", help_heading = "Sides")]
    b_engine: Option<String>,
    /// Model of side A: a path, or a name that `inferometer model list` shows
    #[arg(long, value_name = "DIR", help_heading = "Sides")]
    a_model: Option<String>,
    /// Model of side B
    #[arg(long, value_name = "DIR", help_heading = "Sides")]
    b_model: Option<String>,
    /// Command that builds a commit, run in its worktree without a shell; overrides `[build]
    /// command`
    #[arg(long, value_name = "COMMAND", requires = "base", value_parser = words, help_heading = "Sides")]
    build: Option<Words>,
    /// Program that hosts the engine of a built commit, with its arguments; overrides `[build]
    /// program`
    #[arg(long, value_name = "COMMAND", requires = "base", value_parser = words, help_heading = "Sides")]
    program: Option<Words>,
    /// Folder for builds of commits
    #[arg(long, value_name = "DIR", requires = "base", help_heading = "Sides")]
    cache: Option<PathBuf>,
    /// Compare the scenario with itself (A/A), to see how noisy this machine is
    #[arg(long, help_heading = "Sides", conflicts_with_all = ["base", "a", "b", "a_engine", "b_engine", "a_model", "b_model"])]
    same: bool,
}

impl SideArgs {
    /// Whether the sides are commits, which must be built.
    pub fn are_commits(&self) -> bool {
        self.base.is_some()
    }
}

/// A command line, split as a shell would.
#[derive(Debug, Clone)]
struct Words(Vec<String>);

fn words(text: &str) -> Result<Words, String> {
    match shlex::split(text) {
        Some(words) if !words.is_empty() => Ok(Words(words)),
        Some(_) => Err("empty command; give a program".to_owned()),
        None => Err("unclosed quote".to_owned()),
    }
}

/// One side's arguments.
struct Own<'a> {
    settings: &'a [String],
    engine: Option<&'a str>,
    model: Option<&'a str>,
}

/// Sets up both sides without building anything. `load` reads the scenario with further overrides.
pub fn setups(args: &SideArgs, load: impl Fn(&[String]) -> anyhow::Result<Scenario>) -> anyhow::Result<[Setup; 2]> {
    let own = [
        Own { settings: &args.a, engine: args.a_engine.as_deref(), model: args.a_model.as_deref() },
        Own { settings: &args.b, engine: args.b_engine.as_deref(), model: args.b_model.as_deref() },
    ];
    let differ = own.iter().any(|own| !own.settings.is_empty() || own.engine.is_some() || own.model.is_some());
    if !differ && args.base.is_none() && !args.same {
        bail!(
            "the sides do not differ: give commits (--base REV --head REV), settings (--a KEY=VALUE --b KEY=VALUE), \
             engines (--a-engine, --b-engine) or models (--a-model, --b-model); or --same to compare the scenario with itself"
        );
    }
    let [a, b] = own.map(|own| side(&own, &load, differ));
    let mut setups = [a?, b?];
    for (setup, name) in setups.iter_mut().zip(["A", "B"]) {
        if setup.info.label.is_empty() && args.base.is_none() {
            setup.info.label = if differ { "the scenario as it is".to_owned() } else { format!("side {name}") };
        }
    }
    Ok(setups)
}

/// If the sides are commits: builds both, and uses the built programs as the sides' hosts.
pub fn build_commits(
    args: &SideArgs,
    setups: &mut [Setup; 2],
    interrupt: &Interrupt,
    note: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let (Some(base), Some(head)) = (&args.base, &args.head) else { return Ok(()) };
    let repository = build::repository(&args.repo)?;
    let [base, head] = [base, head].map(|revision| repository.commit(revision));
    let (base, head) = (base?, head?);
    if !args.allow_dirty {
        repository.must_be_clean()?;
    }
    let settings = recipe(args, &setups[0].scenario)?;
    let cache = match &args.cache {
        Some(folder) => folder.clone(),
        None => engines::models::cache_folder()?,
    };
    let stop = || interrupt.requested();
    let built = build::build_sides(&repository, [&base, &head], &settings, &cache, &stop, note)?;
    for (setup, built) in setups.iter_mut().zip(built) {
        let named = format!("{} ({})", built.commit.revision, built.commit.short());
        let words = [named.as_str(), setup.info.label.as_str()].into_iter().filter(|text| !text.is_empty());
        setup.info.label = words.collect::<Vec<_>>().join(", ");
        setup.info.commit = Some(CommitInfo {
            hash: built.commit.hash,
            revision: built.commit.revision,
            subject: built.commit.subject,
            program: built.command,
            program_sha256: built.program_sha256,
            toolchain: built.toolchain,
        });
    }
    Ok(())
}

/// How to build commits: from the flags, else from the scenario, else for this project itself.
fn recipe(args: &SideArgs, scenario: &Scenario) -> anyhow::Result<BuildSettings> {
    let foreign =
        scenario.engines.iter().any(|spec| engines::find(&spec.name).is_some_and(|engine| !engine.is_built_in()));
    if foreign && scenario.build.is_none() && args.program.is_none() {
        bail!(
            "no build command for this engine: set `command` and `program` in the scenario's [build], or give \
             --build and --program"
        );
    }
    let mut settings = scenario.build.clone().unwrap_or_default();
    if let Some(Words(command)) = &args.build {
        settings.command.clone_from(command);
        settings.toolchain = if command[0] == "cargo" { settings.toolchain } else { Vec::new() };
    }
    if let Some(Words(program)) = &args.program {
        settings.program.clone_from(program);
    }
    settings.check().map_err(anyhow::Error::msg)?;
    Ok(settings)
}

/// One side, before its program is built. If settings differ, combinations are not merged: the
/// cells of the sides must match one by one.
fn side(own: &Own<'_>, load: &impl Fn(&[String]) -> anyhow::Result<Scenario>, differ: bool) -> anyhow::Result<Setup> {
    let mut overrides: Vec<String> = own.settings.iter().map(|setting| full_key(setting)).collect::<Result<_, _>>()?;
    overrides.extend(own.model.map(named::setting).transpose()?);
    let mut scenario = load(&overrides)?;
    if let Some(name) = own.engine {
        scenario.engines = vec![engine_of(&scenario, name)?];
    }
    let offers = engines::offers();
    let plan = if differ { scenario::plan_unmerged(&scenario, &offers)? } else { scenario::plan(&scenario, &offers)? };
    let settings: Vec<String> = overrides.into_iter().chain(own.engine.map(|name| format!("engine={name}"))).collect();
    let words = own.settings.iter().map(String::as_str).chain(own.engine).chain(own.model);
    let info = SideInfo { label: words.collect::<Vec<_>>().join(", "), settings, commit: None };
    Ok(Setup { info, scenario, plan })
}

/// The full key of a setting; a toggle may be given by its name alone.
fn full_key(setting: &str) -> anyhow::Result<String> {
    let (key, value) = setting.split_once('=').with_context(|| format!("`{setting}` must have the form KEY=VALUE"))?;
    let key = key.trim();
    one_for_both(key)?;
    let table = if toggle::find(key).is_some() { "toggles." } else { "" };
    Ok(format!("{table}{key}={value}"))
}

/// Rejects keys of the session itself: they are read once, for both sides.
fn one_for_both(key: &str) -> anyhow::Result<()> {
    const TABLES: [&str; 3] = ["ab", "gate", "build"];
    const KEYS: [&str; 2] = ["iterations", "order_seed"];
    let mut steps = key.split('.').map(|step| step.trim().trim_matches(['"', '\'']));
    match (steps.next(), steps.next()) {
        (Some(table), _) if TABLES.contains(&table) => {
            bail!(
                "`{key}` applies to the whole session, not to one side: use `--set {key}=...`, or set it in the scenario"
            )
        }
        (Some("run"), Some(inner)) if KEYS.contains(&inner) => {
            bail!(
                "`{key}` cannot differ between sides: a session has its own order (`--seed`) and runs as many pairs as it needs"
            )
        }
        _ => Ok(()),
    }
}

/// The scenario's engine with this label, else this build's engine with this name.
fn engine_of(scenario: &Scenario, name: &str) -> anyhow::Result<EngineSpec> {
    if let Some(spec) = scenario.engines.iter().find(|spec| spec.label == name) {
        return Ok(spec.clone());
    }
    if engines::find(name).is_none() {
        let labels: Vec<&str> = scenario.engines.iter().map(|spec| spec.label.as_str()).collect();
        bail!(
            "unknown engine `{name}`: the scenario has {}, and `inferometer engines` lists those of this build",
            labels.join(", ")
        );
    }
    Ok(EngineSpec { name: name.to_owned(), label: name.to_owned(), options: Settings::new() })
}

#[cfg(test)]
mod tests {
    use super::full_key;

    #[test]
    fn a_side_s_settings_are_its_own_and_not_the_session_s() {
        for setting in
            ["ab.outputs=any", " \"ab\" . seed=1", "gate.0.delta=3%", "gate=[]", "build.timeout_s=3", "build={}"]
        {
            let error = full_key(setting).unwrap_err().to_string();
            assert!(error.contains("--set"), "{setting}: {error}");
        }
        for setting in ["run.order_seed=1", "run.iterations=3"] {
            assert!(full_key(setting).unwrap_err().to_string().contains("--seed"), "{setting}");
        }
        assert_eq!(full_key("run.warmup=0").unwrap(), "run.warmup=0");
        assert_eq!(full_key("repetition_window_cap=0").unwrap(), "toggles.repetition_window_cap=0");
        assert!(full_key("abc").is_err());
    }
}
