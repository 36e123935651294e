//! `inferometer model`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use super::printer::Printer;
use crate::engine::synthetic::{self, Recipe};
use crate::spec::Architecture;
use crate::text::Tokenizer;
use crate::units::bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a synthetic model: real shape, seeded random weights, a tokenizer of its own
    New(New),
    /// Print the token ids of a text as a JSON array
    Encode(Encode),
}

#[derive(Debug, clap::Args)]
struct New {
    /// Model family
    #[arg(long, value_parser = architecture, default_value = "qwen3", value_name = "ARCH")]
    arch: Architecture,
    /// Shape; `inferometer model list` shows them
    #[arg(long, default_value = "small")]
    preset: String,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder to make
    folder: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Encode {
    /// The model's folder
    folder: PathBuf,
    /// File with the text, UTF-8
    #[arg(long, value_name = "FILE")]
    text_file: PathBuf,
    /// Leave out the special tokens that the tokenizer adds
    #[arg(long)]
    plain: bool,
    /// Repeat or cut the text to exactly this many tokens
    #[arg(long, value_name = "N", conflicts_with = "plain")]
    length: Option<u32>,
}

fn architecture(name: &str) -> Result<Architecture, String> {
    Architecture::from_name(name).ok_or_else(|| {
        let known = Architecture::ALL.map(Architecture::name).join(", ");
        format!("no such architecture; there are {known}")
    })
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::New(args) => new(args, printer)?,
        Verb::Encode(args) => encode(args, printer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn new(args: &New, printer: &Printer) -> anyhow::Result<()> {
    let recipe = Recipe::find(args.arch, &args.preset, args.seed)?;
    let size = bytes(recipe.preset.disk_bytes());
    printer.note(format_args!("making {} {}, {size} of weights", args.arch, args.preset));
    synthetic::create(&recipe, &args.folder)?;
    printer.line(args.folder.display());
    Ok(())
}

fn encode(args: &Encode, printer: &Printer) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::from_folder(&args.folder)?;
    let text = fs_err::read_to_string(&args.text_file).context("cannot read the text")?;
    let ids = match args.length {
        Some(length) => tokenizer.exact(&text, length)?,
        None => tokenizer.encode(&text, !args.plain)?,
    };
    printer.line(serde_json::to_string(&ids)?);
    Ok(())
}
