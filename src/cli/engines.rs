//! `inferometer engines`

use std::process::ExitCode;

use super::printer::{Format, Printer};
use crate::engine;
use crate::spec::Offer;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let offers = engine::offers();
    match args.format {
        Format::Table => printer.data(table(&offers)),
        Format::Json => printer.line(serde_json::to_string_pretty(&json(&offers))?),
        Format::Csv | Format::Md => anyhow::bail!("`engines` prints table or json"),
    }
    Ok(ExitCode::SUCCESS)
}

fn toggles(offer: &Offer) -> String {
    match &offer.toggles {
        Some(toggles) => toggles.join(", "),
        None => "as its receipt says when it runs".to_owned(),
    }
}

fn hosted(offer: &Offer) -> &'static str {
    if offer.built_in { "built in" } else { "a program of yours" }
}

fn table(offers: &[Offer]) -> String {
    let mut text = String::new();
    for offer in offers {
        text += &format!("{} ({}): {}\n", offer.name, hosted(offer), offer.meaning);
        for option in &offer.options {
            let needed = if offer.required.contains(&option.name) { ", required" } else { "" };
            let kind =
                if option.choices.is_empty() { option.kind.words().to_owned() } else { option.choices.join(" | ") };
            text += &format!("  option {}: {} ({kind}{needed})\n", option.name, option.meaning);
        }
        text += &format!("  toggles: {}\n", toggles(offer));
    }
    text
}

fn json(offers: &[Offer]) -> serde_json::Value {
    let option = |offer: &Offer, option: &crate::spec::OptionSpec| {
        serde_json::json!({
            "name": option.name,
            "kind": option.kind,
            "choices": option.choices,
            "required": offer.required.contains(&option.name),
            "meaning": option.meaning,
        })
    };
    let engine = |offer: &Offer| {
        serde_json::json!({
            "name": offer.name,
            "meaning": offer.meaning,
            "built_in": offer.built_in,
            "options": offer.options.iter().map(|o| option(offer, o)).collect::<Vec<_>>(),
            "toggles": offer.toggles,
        })
    };
    offers.iter().map(engine).collect()
}
