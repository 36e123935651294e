//! The page: one file, no network, readable without JavaScript. maud escapes markup; `text` makes
//! control characters visible.

mod charts;
mod engines;
mod figures;
mod head;
mod memory;
mod outputs;
mod profile;
mod provenance;
mod settings;
mod spans;

pub(super) use charts::figures as drawings;
pub(super) use head::{machine_words, when};
pub(super) use provenance::{commit, ended, facts, machine};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::charts::Charts;
use super::summary::Summary;
use super::text;
use crate::record::Record;

const STYLE: &str = include_str!("report.css");

/// The whole page of a run.
#[must_use]
pub fn page(record: &Record, summary: &Summary, drawn: &Charts) -> String {
    let body = html! {
        (head::head(record, summary))
        (figures::section(summary))
        (engines::section(summary, drawn))
        (charts::sections(record, summary, drawn))
        (memory::of_run(summary))
        (profile::section(record, summary))
        (spans::section(summary))
        (settings::section(summary))
        (outputs::section(record, summary))
        (provenance::section(record, summary))
    };
    document(&summary.run.title, &summary.run.inferometer_version, &body)
}

/// A page about `subject`, made by `version`, with `body` in its `main`.
pub(super) fn document(subject: &str, version: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "inferometer " (version) };
                link rel="icon" href="data:,";
                title { (text::label(subject)) " – Inferometer" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                footer {
                    p {
                        "Made by inferometer " (version) " from the record alone: the same "
                        "record gives the same page. The figures are in " code { "summary.json" } ", the charts in "
                        code { "charts/" } "."
                    }
                }
            }
        }
    };
    page.into_string()
}

/// The top of a page: its subject and what to know before the figures.
pub(super) struct Head<'a> {
    pub kicker: &'a str,
    pub title: &'a str,
    /// Words beside the title, with their meaning.
    pub badges: Vec<(&'a str, &'a str)>,
    pub lead: Option<&'a str>,
    pub facts: &'a [(&'a str, String)],
    pub banner: Markup,
}

impl Head<'_> {
    pub fn html(&self) -> Markup {
        html! {
            header {
                p.kicker { (self.kicker) }
                h1 {
                    (text::label(self.title))
                    @for (words, meaning) in &self.badges { " " span.badge title=(meaning) { (words) } }
                }
                @if let Some(lead) = self.lead { p.lead { (text::sentence(lead)) } }
                @if !self.facts.is_empty() {
                    dl.facts { @for (name, value) in self.facts { div { dt { (name) } dd { (value) } } } }
                }
                (self.banner)
            }
        }
    }
}

/// The banner at the top: a CSS class that gives its colour, a sign, and its text.
pub(super) fn in_banner((class, sign): (&str, &str), body: Markup) -> Markup {
    html! {
        div class={ "banner " (class) } {
            span.sign aria-hidden="true" { (sign) }
            div { (body) }
        }
    }
}

/// The page's security policy: it loads nothing and runs no script; the style sheet is allowed by
/// its hash.
fn policy() -> String {
    let hash = base64(&Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            match place <= chunk.len() {
                true => out.push(char::from(DIGITS[(word >> (18 - 6 * place) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
    out
}

/// A section with a heading that can be linked to.
pub(super) fn section(id: &str, heading: &str, body: Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={ (id) "-heading" } {
            h2 id={ (id) "-heading" } { (heading) }
            (body)
        }
    }
}

/// A text of the record, shortened with a note.
fn excerpt(raw: &str) -> Markup {
    let (shown, rest) = text::shortened(raw, text::SHOWN);
    html! {
        (shown)
        @if rest > 0 { span.cut { " … " (rest) " more characters" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors of RFC 4648 section 10.
    #[test]
    fn base64_matches_the_standard() {
        for (raw, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(raw.as_bytes()), coded);
        }
    }

    #[test]
    fn the_style_sheet_cannot_end_early_or_load_anything() {
        assert!(!STYLE.contains('<') && !STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
