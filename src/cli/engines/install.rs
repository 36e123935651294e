//! `inferometer engines install` and `inferometer engines uninstall`

use std::path::Path;

use anyhow::{Context, bail};

use crate::cli::printer::{Layout, Printer};
use crate::engines::install::{self, Done, Wanted};
use crate::engines::installed::{self, PACKAGES, Package, Place, State};
use crate::models::places;
use crate::models::programs;
use crate::report::table::Table;
use crate::run::interrupt::Interrupt;
use inferometer_protocol::units::bytes;

#[derive(Debug, clap::Args)]
pub struct InstallArgs {
    /// Name of the engine; without it, the engines that can be installed are listed
    name: Option<String>,
    /// Version to install beside those that are there; default: the one that inferometer was
    /// tested with
    #[arg(long, requires = "name")]
    version: Option<String>,
    /// Install it again although it is there
    #[arg(long, requires = "name")]
    force: bool,
    /// Format of the list
    #[arg(long, value_enum, default_value_t = Layout::Table, conflicts_with = "name")]
    format: Layout,
}

#[derive(Debug, clap::Args)]
pub struct UninstallArgs {
    /// Name of the engine
    name: String,
    /// Version to remove; default: all of them
    #[arg(long)]
    version: Option<String>,
}

pub fn install(args: &InstallArgs, printer: &Printer) -> anyhow::Result<()> {
    let engines = places::engines_folder()?;
    let Some(name) = &args.name else { return list(args.format, &engines, printer) };
    let package = package(name)?;
    let version = args.version.as_deref().unwrap_or(package.version);
    let place = place(package, version, &engines)?;
    printer.note(format_args!("{}: {}", place.named(), package.what));
    printer.note(format_args!("licence: {}, {}", package.licence, package.licence_page));
    let interrupt = Interrupt::new(|_| {});
    interrupt.arm()?;
    let stop = || interrupt.requested();
    // A relative path in PATH, or none, is the program's own affair.
    let python = programs::on_path("python3").unwrap_or_else(|| "python3".into());
    let wanted =
        Wanted { place: &place, python: &python, force: args.force, progress: printer.progress(), stop: &stop };
    let done = install::install(&wanted, &mut |note| printer.note(note))
        .with_context(|| format!("{} was not installed, and nothing was kept", place.named()))?;
    match done {
        Done::Installed => {}
        Done::Nothing => printer.note("it is there already; --force installs it again"),
        Done::AdapterReplaced => printer.note("it is there already; its adapter was replaced by this program's"),
    }
    printer.line(place.folder.display());
    Ok(())
}

pub fn uninstall(args: &UninstallArgs, printer: &Printer) -> anyhow::Result<()> {
    let engines = places::engines_folder()?;
    let package = package(&args.name)?;
    let places = match &args.version {
        Some(version) => vec![place(package, version, &engines)?],
        None => package.places(&engines),
    };
    let there: Vec<&Place> = places.iter().filter(|place| place.state() != State::Absent).collect();
    if there.is_empty() {
        let named = args.version.as_ref().map_or_else(|| package.name.to_owned(), |v| format!("{} {v}", package.name));
        bail!("{named} is not installed");
    }
    for place in there {
        install::uninstall(place, &mut |note| printer.note(note))?;
        printer.line(format_args!("removed {}", place.folder.display()));
    }
    Ok(())
}

fn package(name: &str) -> anyhow::Result<&'static Package> {
    installed::find(name).with_context(|| {
        let known = PACKAGES.iter().map(|package| package.name).collect::<Vec<_>>().join(", ");
        match crate::engines::find(name) {
            Some(_) => format!("engine `{name}` is not installed with this command; it installs {known}"),
            None => format!("there is no engine `{name}` to install; there is {known}"),
        }
    })
}

fn place(package: &'static Package, version: &str, engines: &Path) -> anyhow::Result<Place> {
    match installed::fault(version) {
        Some(fault) => bail!("--version: {fault}"),
        None => Ok(package.place(version, engines)),
    }
}

/// One engine that can be installed, as `install --format json` shows it.
#[derive(serde::Serialize)]
struct Listed {
    name: &'static str,
    what: &'static str,
    version: &'static str,
    licence: &'static str,
    licence_page: &'static str,
    download_bytes: u64,
    disk_bytes: u64,
    requirements: Vec<String>,
    /// What is there, whole or not.
    installed: Vec<Version>,
}

#[derive(serde::Serialize)]
struct Version {
    version: String,
    /// Ready to run.
    whole: bool,
    folder: std::path::PathBuf,
    packages: Vec<installed::Installed>,
}

fn list(format: Layout, engines: &Path, printer: &Printer) -> anyhow::Result<()> {
    let listed: Vec<Listed> = PACKAGES.iter().map(|package| listed(package, engines)).collect();
    if format == Layout::Json {
        printer.line(serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    let table = Table::of("Engines to install", &listed)
        .head("name", |engine| engine.name)
        .text("engine", |engine| engine.what)
        .text("version", |engine| engine.version)
        .number("download", |engine| bytes(engine.download_bytes))
        .number("on disk", |engine| bytes(engine.disk_bytes))
        .text("licence", |engine| engine.licence)
        .text("installed", |engine| versions(&engine.installed));
    printer.data(table.terminal());
    printer.line(format_args!("\nInstalled engines are kept in {}.", engines.display()));
    Ok(())
}

fn versions(installed: &[Version]) -> String {
    let word = |version: &Version| match version.whole {
        true => version.version.clone(),
        false => format!("{} (incomplete)", version.version),
    };
    match installed {
        [] => "no".to_owned(),
        all => all.iter().map(word).collect::<Vec<_>>().join(", "),
    }
}

fn listed(package: &'static Package, engines: &Path) -> Listed {
    let version = |place: Place| Version {
        whole: matches!(place.state(), State::Whole | State::OtherAdapter),
        packages: place.manifest().map_or_else(Vec::new, |manifest| manifest.packages),
        folder: place.folder,
        version: place.version,
    };
    Listed {
        name: package.name,
        what: package.what,
        version: package.version,
        licence: package.licence,
        licence_page: package.licence_page,
        download_bytes: package.download_bytes,
        disk_bytes: package.disk_bytes,
        requirements: (package.requirements)(package.version),
        installed: package.places(engines).into_iter().map(version).collect(),
    }
}
