//! `inferometer results redact`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::Where;
use crate::cli::printer::Printer;
use crate::cli::run_folder;
use crate::record::folder;
use crate::record::redact;
use crate::record::redact::Scrub;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the run or A/B session, or its name in the results folder
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Folder to write the copy into
    #[arg(short, long, value_name = "DIR", default_value = "redacted")]
    output: PathBuf,
    /// Replace the record itself; what is removed is lost
    #[arg(long, conflicts_with = "output")]
    in_place: bool,
    #[command(flatten)]
    place: Where,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<()> {
    let found = run_folder(&args.run, &args.place.results)?;
    let source = fs_err::canonicalize(found)?;
    let name = source.file_name().and_then(|name| name.to_str()).context("the record's folder has no name")?;
    let mut scrub = Scrub::of_this_machine();
    scrub.path(&args.place.results);
    if let Some(results) = source.parent() {
        scrub.path(results);
    }
    let name = plain(&scrub.text(name));
    if args.in_place {
        return in_place(&source, &name, scrub, printer);
    }
    let name = format!("{}-redacted", name.trim_end_matches("-redacted"));
    let target = args.output.join(&name);
    fs_err::create_dir_all(&args.output)?;
    if target.exists() {
        bail!("{} exists already: remove it, or choose another folder with --output", target.display());
    }
    redact::redact(&source, &target, &name, scrub)?;
    printer.line(target.display());
    Ok(())
}

fn in_place(source: &Path, name: &str, scrub: Scrub, printer: &Printer) -> anyhow::Result<()> {
    folder::check_removable(source)?;
    let results = source.parent().context("the record's folder has no parent")?;
    let beside = tempfile::Builder::new().prefix(".redacted-").tempdir_in(results)?;
    let copy = beside.path().join("copy");
    redact::redact(source, &copy, name, scrub)?;
    folder::replace(source, &copy)?;
    printer.line(source.display());
    Ok(())
}

/// A name that can be a folder's.
fn plain(name: &str) -> String {
    name.replace(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.'), "")
}
