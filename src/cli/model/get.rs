//! `inferometer model get`

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::cli::printer::{Layout, Printer};
use crate::models::catalogue::{self, MODELS, Model};
use crate::models::fetch::{self, Through, Tools, Wanted};
use crate::models::places;
use crate::report::table::Table;
use crate::run::interrupt::Interrupt;
use inferometer_protocol::units::bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the model; `--list` shows them
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// List the models that can be fetched
    #[arg(long, conflicts_with_all = ["name", "from", "accept_licence"])]
    list: bool,
    /// Program that downloads; default: pip, or hf where there is no pip
    #[arg(long, value_enum, value_name = "PROGRAM")]
    from: Option<From>,
    /// Accept the terms of a model that has some
    #[arg(long)]
    accept_licence: bool,
    /// Format of the list
    #[arg(long, value_enum, default_value_t = Layout::Table, requires = "list")]
    format: Layout,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// The Python package index, with the settings of your pip
    Pip,
    /// The Hugging Face hub, with the settings of your hf
    Hf,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<()> {
    match &args.name {
        Some(name) => get(name, args, printer),
        None => list(args, printer),
    }
}

fn get(name: &str, args: &Args, printer: &Printer) -> anyhow::Result<()> {
    let names = || MODELS.iter().map(|model| model.name);
    let unknown = || {
        let near = crate::scenario::nearest(name, names()).map(|near| format!("; did you mean `{near}`?"));
        let known = names().collect::<Vec<_>>().join(", ");
        format!("there is no model `{name}` to fetch; there are {known}{}", near.unwrap_or_default())
    };
    let model = catalogue::find(name).with_context(unknown)?;
    let models = places::models_folder()?;
    let licence = &model.licence;
    printer.note(format_args!("{}: {}, {}, {}", model.name, model.what, model.format, bytes(model.bytes)));
    printer.note(format_args!("licence: {}, {}", licence.name, licence.page));
    if licence.must_accept {
        printer.note("inferometer ships nothing of it; pip or hf downloads it for you");
    }
    // A model that is there was accepted when it was fetched.
    if licence.must_accept && !args.accept_licence && !fetch::is_there(model, &models) {
        bail!("read the terms at {}; `inferometer model get {name} --accept-licence` accepts them", licence.page);
    }
    let interrupt = Interrupt::new(|_| {});
    interrupt.arm()?;
    let through = args.from.map(|from| match from {
        From::Pip => Through::Pip,
        From::Hf => Through::Hf,
    });
    let stop = || interrupt.requested();
    let tools = Tools::of_path();
    let wanted = Wanted { model, tools: &tools, through, models: &models, progress: printer.progress(), stop: &stop };
    let got = fetch::get(&wanted, &mut |note| printer.note(note))
        .with_context(|| format!("{name} was not fetched, and nothing was kept"))?;
    if !got.fetched {
        printer.note("it is there already, and every byte is as it was fetched");
    }
    printer.line(got.file.display());
    Ok(())
}

/// One model, as `get --list --format json` shows it.
#[derive(serde::Serialize)]
struct Listed {
    name: &'static str,
    what: &'static str,
    format: &'static str,
    bytes: u64,
    download_bytes: u64,
    sha256: &'static str,
    licence: &'static str,
    licence_page: &'static str,
    must_accept: bool,
    packages: Vec<String>,
    hub: String,
    path: std::path::PathBuf,
    /// The file is there in full length.
    present: bool,
}

fn list(args: &Args, printer: &Printer) -> anyhow::Result<()> {
    let models = places::models_folder()?;
    let listed: Vec<Listed> = MODELS.iter().map(|model| listed(model, &models)).collect();
    if args.format == Layout::Json {
        printer.line(serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    let table = Table::of("Models to fetch", &listed)
        .head("name", |model| model.name)
        .text("model", |model| model.what)
        .text("format", |model| model.format)
        .number("size", |model| bytes(model.bytes))
        .text("licence", |model| model.licence)
        .text("present", |model| if model.present { "yes" } else { "no" })
        .text("source", |model| format!("pip: {}; hf: {}", source(model), model.hub))
        .beneath();
    printer.data(table.terminal());
    printer.line(format_args!("\nFetched models are kept in {}.", models.display()));
    Ok(())
}

fn source(model: &Listed) -> String {
    match model.packages.as_slice() {
        [first, rest @ ..] if !rest.is_empty() => format!("{first} and {} parts", rest.len()),
        packages => packages.join(" "),
    }
}

fn listed(model: &Model, models: &std::path::Path) -> Listed {
    Listed {
        name: model.name,
        what: model.what,
        format: model.format,
        bytes: model.bytes,
        download_bytes: model.download_bytes(),
        sha256: model.sha256,
        licence: model.licence.name,
        licence_page: model.licence.page,
        must_accept: model.licence.must_accept,
        packages: model.requirements(),
        hub: format!("{} {}", model.hub.repository, model.hub.file),
        path: fetch::path(model, models),
        present: fetch::is_there(model, models),
    }
}
