//! `inferometer bench`: measure a model without a scenario file.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use toml::{Table, Value};

use super::named;
use super::outcome::Execution;
use super::printer::Printer;
use crate::run::start;
use crate::{engines, scenario};
use inferometer_protocol::Kind;
use inferometer_protocol::toggle;
use inferometer_protocol::toggle::{DRAFT_MODEL, DTYPE};

const AUTO: &str = "auto";
const OPENAI: &str = "openai";
/// The text that prompts are cut from.
const PROMPT: &str = include_str!("../../scenarios/prompts/essay.txt");

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model: a folder, a GGUF file, a name that `inferometer model list` shows, or a synthetic
    /// model such as `synthetic:qwen3/small` or
    /// `synthetic:llama/tiny:7` (seed 7)
    #[arg(value_name = "MODEL", required_unless_present_any = ["by_option", "url"])]
    model: Option<String>,
    /// The model, as an option
    #[arg(short = 'm', long = "model", value_name = "MODEL", conflicts_with = "model")]
    by_option: Option<String>,
    /// Prompt lengths in tokens
    #[arg(short = 'p', long = "prompt", value_name = "N", value_delimiter = ',', default_value = "512")]
    lengths: Vec<u32>,
    /// Tokens to generate
    #[arg(short = 'n', long = "tokens", value_name = "N", default_value_t = 128)]
    tokens: u32,
    /// Engine; `auto` selects `openai` with `--url`, else the transformer engine, on MLX if
    /// available, else on candle
    #[arg(long, default_value = AUTO)]
    engine: String,
    /// Address of a server, such as http://localhost:8080, for the engine `openai`. MODEL may then
    /// be a copy of the same model on this machine, whose tokenizer cuts the prompts; without it
    /// the server's own counts do
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Measured iterations per prompt length
    #[arg(short = 'r', long, visible_alias = "repetitions", value_name = "N", default_value_t = 10)]
    iterations: u32,
    /// Set a toggle, such as `prefill_chunk_size=512`; several values of one toggle give several
    /// cells
    #[arg(long = "toggle", value_name = "NAME=VALUE", value_delimiter = ',')]
    toggles: Vec<String>,
    /// Format of the weights in memory, such as `q8_0` or `f32`
    #[arg(long)]
    dtype: Option<String>,
    /// Model that drafts tokens for speculative decoding: a path or a name; `--toggle
    /// num_draft_tokens=4` says how many
    #[arg(long, value_name = "MODEL")]
    draft_model: Option<String>,
    /// Add a profiling pass, for flamegraphs and the time of individual operations
    #[arg(long)]
    profile: bool,
    /// Add a quality pass: the perplexity of this text file
    #[arg(long, value_name = "FILE")]
    quality: Option<String>,
    /// Override a key of the generated scenario; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    execution: Execution,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let text = toml::to_string(&scenario_table(args)?).context("cannot generate the scenario")?;
    // The user did not write this text: a problem in it is one of the command line.
    let scenario = scenario::from_text("bench", &text, Path::new(""), &args.set, &engines::offers())
        .map_err(|error| error.without_file(|at| option_at(&text, at, args)))?;
    let results = &args.execution.folders.results;
    args.execution.conduct(printer, false, |options, display| start::run(&scenario, results, options, display))
}

/// The scenario equivalent to the command line.
fn scenario_table(args: &Args) -> anyhow::Result<Table> {
    let whole = |n: u32| Value::Integer(i64::from(n));
    let mut scenario = Table::new();
    scenario.insert("name".into(), "bench".into());
    scenario.insert("model".into(), model(args)?.into());
    let name = if args.url.is_some() && args.engine == AUTO { OPENAI } else { args.engine.as_str() };
    let mut engine = Table::from_iter([("name".to_owned(), Value::from(name))]);
    if let Some(url) = &args.url {
        engine.insert("options".into(), Table::from_iter([("url".to_owned(), Value::from(url.as_str()))]).into());
    }
    scenario.insert("engine".into(), Value::Array(vec![engine.into()]));
    let workload = Table::from_iter([
        ("kind".to_owned(), Value::from("prompt")),
        ("text".to_owned(), Value::from(PROMPT)),
        ("lengths".to_owned(), Value::Array(args.lengths.iter().copied().map(whole).collect())),
        ("max_tokens".to_owned(), whole(args.tokens)),
        ("ignore_eos".to_owned(), Value::Boolean(true)),
    ]);
    scenario.insert("workload".into(), workload.into());
    let run = Table::from_iter([("iterations".to_owned(), whole(args.iterations))]);
    scenario.insert("run".into(), run.into());
    scenario.insert("toggles".into(), toggles(args)?.into());
    if args.profile {
        scenario.insert("profile".into(), Table::new().into());
    }
    if let Some(file) = &args.quality {
        let quality = Table::from_iter([("text_file".to_owned(), Value::from(file.as_str()))]);
        scenario.insert("quality".into(), quality.into());
    }
    Ok(scenario)
}

fn model(args: &Args) -> anyhow::Result<Table> {
    let Some(model) = args.model.as_ref().or(args.by_option.as_ref()) else {
        return Ok(Table::from_iter([("served".to_owned(), Value::Boolean(true))]));
    };
    if Path::new(model).extension().is_some_and(|ending| ending == "toml") {
        bail!("{model} is a scenario, not a model: `inferometer run {model}` runs it");
    }
    named::table(model)
}

/// The part of the command line that this place of the generated scenario is from.
fn option_at(text: &str, at: usize, args: &Args) -> Option<&'static str> {
    const TABLES: [&str; 8] =
        ["[model]", "[model.synthetic]", "[[engine]]", "[workload]", "[run]", "[toggles]", "[profile]", "[quality]"];
    let before = text.get(..at)?;
    let line = text.get(before.rfind('\n').map_or(0, |end| end + 1)..)?.lines().next()?;
    let key = line.split('=').next().unwrap_or_default().trim();
    let table = before.lines().chain([line]).rfind(|line| TABLES.contains(&line.trim()))?;
    match (table.trim(), key) {
        ("[model]" | "[model.synthetic]", _) => Some("MODEL"),
        ("[[engine]]", _) => Some("--engine"),
        ("[workload]", "lengths") => Some("--prompt"),
        ("[workload]", "max_tokens") => Some("--tokens"),
        ("[run]", "iterations") => Some("--iterations"),
        ("[toggles]", DTYPE) if args.dtype.is_some() => Some("--dtype"),
        ("[toggles]", DRAFT_MODEL) if args.draft_model.is_some() => Some("--draft-model"),
        ("[toggles]", _) => Some("--toggle"),
        ("[profile]", _) => Some("--profile"),
        ("[quality]", _) => Some("--quality"),
        _ => None,
    }
}

/// Toggles by name, with their values in the given order.
fn toggles(args: &Args) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let dtype = args.dtype.iter().map(|dtype| format!("{DTYPE}={dtype}"));
    let draft = args.draft_model.iter().map(|model| format!("{DRAFT_MODEL}={model}"));
    for setting in args.toggles.iter().cloned().chain(dtype).chain(draft) {
        let (name, value) =
            setting.split_once('=').with_context(|| format!("`{setting}` must have the form NAME=VALUE"))?;
        if name.trim() == DRAFT_MODEL && value.trim().starts_with("synthetic:") {
            bail!("a draft model is a folder: make one with `inferometer model new DIR` first, then give DIR");
        }
        if toggle::find(name.trim()).is_none() {
            let near = scenario::nearest(name.trim(), toggle::TOGGLES.iter().map(|spec| spec.name));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            bail!("unknown toggle `{}`{near} (`inferometer engines` lists those of each engine)", name.trim());
        }
        let values = table.entry(name.trim()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(toggle_value(name.trim(), value.trim()));
        }
    }
    Ok(table)
}

/// A value of the toggle's kind; the scenario's checks report any other value.
fn toggle_value(name: &str, text: &str) -> Value {
    let kind = toggle::find(name).map(|spec| spec.kind);
    let parsed = match kind {
        Some(Kind::Count) => text.parse().ok().map(Value::Integer),
        Some(Kind::Float) => text.parse().ok().map(Value::Float),
        Some(Kind::Bool) => text.parse().ok().map(Value::Boolean),
        Some(Kind::Text | Kind::Texts) | None => None,
    };
    parsed.unwrap_or_else(|| Value::from(text))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn table(line: &[&str]) -> anyhow::Result<Table> {
        let line = Line::try_parse_from([&["bench"], line].concat())?;
        scenario_table(&line.args)
    }

    #[test]
    fn a_command_line_is_a_scenario() {
        let table = table(&[
            "synthetic:qwen3/small:7",
            "-p",
            "512,2048",
            "-n",
            "64",
            "--toggle",
            "prefill_chunk_size=512,repetition_penalty=1.1,prefill_chunk_size=2048",
            "--dtype",
            "f32",
        ])
        .unwrap();
        assert_eq!(table["model"]["synthetic"]["seed"].as_integer(), Some(7));
        assert_eq!(table["workload"]["lengths"].as_array().unwrap().len(), 2);
        assert_eq!(table["toggles"]["prefill_chunk_size"].as_array().unwrap().len(), 2);
        assert_eq!(table["toggles"]["repetition_penalty"][0].as_float(), Some(1.1));
        assert_eq!(table["toggles"]["dtype"][0].as_str(), Some("f32"));
        assert_eq!(table["engine"][0]["name"].as_str(), Some("auto"));
        assert!(!table.contains_key("profile"));
    }

    /// The habits of llama-bench.
    #[test]
    fn the_model_and_the_iterations_have_short_options() {
        let table = table(&["-m", "synthetic:qwen3/tiny", "-p", "8", "-n", "2", "-r", "3"]).unwrap();
        assert_eq!(table["run"]["iterations"].as_integer(), Some(3));
        assert_eq!(table["model"]["synthetic"]["preset"].as_str(), Some("tiny"));
        assert!(Line::try_parse_from(["bench", "-p", "8"]).is_err(), "a model is needed");
        assert!(Line::try_parse_from(["bench", "a", "-m", "b"]).is_err(), "but only one");
    }

    #[test]
    fn a_server_has_its_own_model() {
        let engine = |line: &[&str]| table(line).unwrap()["engine"][0]["name"].as_str().unwrap().to_owned();
        let served = table(&["--url", "http://localhost:8080", "-p", "8"]).unwrap();
        assert_eq!(served["model"]["served"].as_bool(), Some(true));
        assert_eq!(engine(&["--url", "http://localhost:8080"]), "openai");
        assert_eq!(engine(&["--url", "http://localhost:8080", "--engine", "exec"]), "exec");
        let copy = table(&["synthetic:qwen3/tiny", "--url", "http://localhost:8080"]).unwrap();
        assert!(copy["model"].get("served").is_none());
    }

    #[test]
    fn what_is_no_model_says_what_to_do() {
        let error = |line: &[&str]| table(line).unwrap_err().to_string();
        assert!(error(&["scenarios/leak.toml"]).contains("`inferometer run scenarios/leak.toml`"));
        let draft = error(&["synthetic:qwen3/tiny", "--draft-model", "synthetic:qwen3/tiny"]);
        assert!(draft.contains("`inferometer model new DIR` first"), "{draft}");
    }

    #[test]
    fn a_toggle_is_blamed_on_the_option_that_set_it() {
        for (line, option) in [(["--toggle", "dtype=q9"], "--toggle"), (["--dtype", "q9"], "--dtype")] {
            let args = Line::try_parse_from([&["bench", "synthetic:qwen3/tiny"][..], &line].concat()).unwrap().args;
            let text = toml::to_string(&scenario_table(&args).unwrap()).unwrap();
            let at = text.find("dtype =").unwrap();
            assert_eq!(option_at(&text, at, &args), Some(option));
        }
    }

    #[test]
    fn every_option_is_found_in_the_generated_scenario() {
        let line =
            ["synthetic:qwen3/tiny", "--dtype", "f32", "--toggle", "threads=2", "--profile", "--quality", "text.txt"];
        let args = Line::try_parse_from([&["bench"][..], &line].concat()).unwrap().args;
        let text = toml::to_string(&scenario_table(&args).unwrap()).unwrap();
        for (key, option) in [
            ("preset =", "MODEL"),
            ("name = \"auto\"", "--engine"),
            ("lengths =", "--prompt"),
            ("max_tokens =", "--tokens"),
            ("iterations =", "--iterations"),
            ("dtype =", "--dtype"),
            ("threads =", "--toggle"),
            ("text_file =", "--quality"),
        ] {
            let at = text.find(key).unwrap_or_else(|| panic!("no {key} in {text}"));
            assert_eq!(option_at(&text, at + key.len(), &args), Some(option), "{key}");
        }
    }

    #[test]
    fn a_profiled_pass_is_one_word() {
        assert!(table(&["synthetic:qwen3/tiny", "--profile"]).unwrap()["profile"].as_table().unwrap().is_empty());
    }

    #[test]
    fn a_toggle_needs_a_value() {
        assert!(
            table(&["synthetic:qwen3/tiny", "--toggle", "compile"]).unwrap_err().to_string().contains("NAME=VALUE")
        );
    }
}
