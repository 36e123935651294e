//! `inferometer man`

use std::process::ExitCode;

use super::printer::Printer;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Command to print the page for; default: the program itself
    verb: Option<String>,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let mut command = super::command();
    command.build();
    let page = match &args.verb {
        None => command,
        Some(verb) => command
            .find_subcommand(verb)
            .cloned()
            .ok_or_else(|| anyhow::anyhow!("unknown verb `{verb}`; `inferometer --help` lists all verbs"))?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    printer.data(String::from_utf8(text)?);
    Ok(ExitCode::SUCCESS)
}
