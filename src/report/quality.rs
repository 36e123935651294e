//! Perplexities in tables and in words, for runs and sessions.

use super::summary::{CellQuality, CellSummary, QualityText, Summary};
use super::table::{Cell, HTML, MARKDOWN, TERMINAL, Table};
use super::text;
use super::text::plural;
use crate::compare::quality::Perplexity;
use inferometer_protocol::units::significant;

/// Meaning of a column of perplexities.
pub const MEANING: &str =
    "exp of the mean of minus the logarithms of the probabilities of a fixed text's tokens; lower is better";

/// A perplexity with its interval.
#[must_use]
pub fn cell(of: Option<&Perplexity>) -> Cell {
    let ends = of.map(|of| (significant(of.interval.lo), significant(of.interval.hi)));
    Cell::from(of.map(|of| significant(of.perplexity))).range(ends)
}

/// Adds the column beside those of speed, if there was a quality pass.
#[must_use]
pub fn column<'a>(table: Table<&'a CellSummary>, summary: &Summary) -> Table<&'a CellSummary> {
    if summary.run.quality.is_none() {
        return table;
    }
    let of = |cell: &CellSummary| cell.quality.as_ref().and_then(|quality| quality.perplexity);
    // No room beside the other columns.
    let line = move |one: &&CellSummary| {
        let words = of(one).map(|of| {
            format!("{} [{}, {}]", significant(of.perplexity), significant(of.interval.lo), significant(of.interval.hi))
        });
        format!("perplexity {}", words.unwrap_or_else(|| super::summary::NOT_MEASURED.to_owned()))
    };
    table
        .text("perplexity", line)
        .beneath()
        .only(TERMINAL)
        .number("perplexity", move |one| cell(of(one).as_ref()))
        .only(MARKDOWN | HTML)
        .meaning(MEANING)
}

/// What was scored: `512 tokens of prompts/essay.txt after 256 tokens of context`.
#[must_use]
pub fn scored(of: &QualityText) -> String {
    let name = of.text_file.as_deref().map_or_else(|| "the scenario's text".to_owned(), text::label);
    format!(
        "{} of {name} after {} of context",
        plural(of.tokens as usize, "token"),
        plural(of.context as usize, "token")
    )
}

/// What the perplexities are, and why some are missing or in doubt.
#[must_use]
pub fn notes(summary: &Summary) -> Vec<String> {
    let Some(of) = &summary.run.quality else { return Vec::new() };
    let found = || summary.cells.iter().filter_map(|cell| Some((cell, cell.quality.as_ref()?)));
    let mut notes = Vec::new();
    if found().any(|(_, quality)| quality.perplexity.is_some()) {
        notes.push(format!(
            "perplexity: of {}; its [lo, hi]: 95 % interval, 1.96 standard errors over the tokens to each side",
            scored(of)
        ));
    }
    let mut alike: Vec<(&CellQuality, Vec<&str>)> = Vec::new();
    for (cell, quality) in found() {
        match alike.iter_mut().find(|(known, _)| *known == quality) {
            Some((_, names)) => names.push(cell.name()),
            None => alike.push((quality, vec![cell.name()])),
        }
    }
    notes.extend(alike.iter().filter_map(|(quality, names)| problem(&text::list(names, 4), quality)));
    notes
}

/// Why a perplexity is missing or in doubt.
#[must_use]
pub fn problem(name: &str, quality: &CellQuality) -> Option<String> {
    if let Some(why) = &quality.missing {
        return Some(format!("no perplexity of {}: {}", text::label(name), text::sentence(why)));
    }
    let of = quality.perplexity.filter(|of| of.difference > 0.0)?;
    Some(format!(
        "the perplexity of {} varies: asked again for the first {}, the engine gave log-probabilities that differ by up to {:.2e}",
        text::label(name),
        plural(of.repeated as usize, "token"),
        of.difference
    ))
}
