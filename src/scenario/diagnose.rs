//! Problems of a scenario, shown at their place: file, line, column, a caret, and what to do.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Number of problems shown; the rest is counted.
const SHOWN: usize = 12;
/// Keys and values in messages are cut to this many characters.
const ECHOED: usize = 48;
const WIDTH: usize = 100;
const HELP_WIDTH: usize = 66;

/// A text with scenario values: the file, one `--set`, or a file of turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Shown before the line number: the file's path as given, or `command line`.
    pub name: String,
    pub text: String,
}

/// A range of bytes in one of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Index of the source; 0 is the file.
    pub source: usize,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// Whether it is in a `--set` instead of the file. (Also true in a file of turns, where nothing
    /// asks.)
    #[must_use]
    pub fn is_override(self) -> bool {
        self.source > 0
    }

    /// Whether it stands for a default, which has no place in the file.
    fn is_nowhere(self) -> bool {
        self.source == 0 && self.end == 0
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub at: Option<Span>,
    /// The headline.
    pub title: String,
    /// Text next to the caret.
    pub label: String,
    /// What to do, one line each.
    pub help: Vec<String>,
}

impl Problem {
    pub fn new(title: impl Into<String>) -> Self {
        Self { at: None, title: title.into(), label: String::new(), help: Vec::new() }
    }

    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.at = Some(span);
        self
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// On one line, for a text that is shown without its source: what is wrong, and in which line.
    #[must_use]
    pub fn in_text(&self, text: &str) -> String {
        let line = self.at.map(|at| 1 + text[..at.start.min(text.len())].matches('\n').count());
        let place = line.map_or_else(String::new, |line| format!("line {line}: "));
        let label = if self.label.is_empty() { String::new() } else { format!(": {}", self.label) };
        format!("{place}{}{label}", self.title)
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// All problems of a scenario. Its `Display` is the whole diagnostic, without the leading `error:
/// `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioError {
    sources: Vec<Source>,
    problems: Vec<Problem>,
}

impl std::error::Error for ScenarioError {}

impl ScenarioError {
    /// Sorts the problems: those in the file by position, then those of each override.
    #[must_use]
    pub fn new(sources: Vec<Source>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.at.map_or((0, 0), |s| (s.source, s.start)));
        Self { sources, problems }
    }

    /// A scenario that could not be read.
    #[must_use]
    pub fn unread(problem: Problem) -> Self {
        Self { sources: Vec::new(), problems: vec![problem] }
    }

    /// The same problems for a user who did not write the file: instead of its text each has a name
    /// for the place, such as an option, by the byte it is at.
    #[must_use]
    pub fn without_file(mut self, name: impl Fn(usize) -> Option<&'static str>) -> Self {
        for problem in &mut self.problems {
            let Some(at) = problem.at.filter(|at| !at.is_override()) else { continue };
            problem.at = None;
            if let Some(name) = name(at.start) {
                problem.title = format!("{name}: {}", problem.title);
            }
            if !problem.label.is_empty() {
                problem.help.insert(0, std::mem::take(&mut problem.label));
            }
        }
        if let Some(file) = self.sources.first_mut() {
            *file = Source { name: String::new(), text: String::new() };
        }
        self
    }

    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The diagnostic with terminal colours, without the leading `error: `.
    #[must_use]
    pub fn styled(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let renderer = renderer.clone().term_width(WIDTH);
        let shown = self.problems.len().min(SHOWN);
        let mut blocks: Vec<String> = self.problems[..shown]
            .iter()
            .enumerate()
            .map(|(i, problem)| renderer.render(&[self.group(problem, i == 0)]))
            .collect();
        if self.problems.len() > shown {
            blocks.push(format!("... and {} more", self.problems.len() - shown));
        }
        blocks.join("\n\n")
    }

    /// The caller prints `error: ` before the first title; further titles include it.
    fn group<'a>(&'a self, problem: &'a Problem, first: bool) -> Group<'a> {
        let level = if first { Level::ERROR.no_name() } else { Level::ERROR };
        let mut group = Group::with_title(level.primary_title(problem.title.as_str()));
        if let Some((source, span)) =
            problem.at.filter(|s| !s.is_nowhere()).and_then(|s| Some((self.sources.get(s.source)?, s)))
        {
            let line = Line::around(&source.text, span);
            let caret = AnnotationKind::Primary.span(line.start..line.end);
            let caret = if problem.label.is_empty() { caret } else { caret.label(problem.label.as_str()) };
            let snippet = Snippet::source(line.text).line_start(line.number).path(source.name.as_str());
            group = group.element(snippet.annotation(caret));
        } else if let Some(file) = self.sources.first().filter(|file| !file.name.is_empty()) {
            group = group.element(Origin::path(file.name.as_str()));
        }
        for help in &problem.help {
            group = group.element(Level::HELP.message(wrap(help)));
        }
        group
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

/// Breaks a help text into lines that fit 80 columns with the renderer's prefix. Text in backticks
/// is not broken.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    let mut quoted = false;
    let words = text.split(|c: char| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    });
    for word in words {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= HELP_WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// The first line of a span, and the part of the span within it.
struct Line<'a> {
    text: &'a str,
    number: usize,
    start: usize,
    end: usize,
}

impl<'a> Line<'a> {
    fn around(text: &'a str, span: Span) -> Self {
        let from = floor_char_boundary(text, span.start);
        let begin = text[..from].rfind('\n').map_or(0, |i| i + 1);
        let end = text[from..].find('\n').map_or(text.len(), |i| from + i);
        let line = text[begin..end].trim_end_matches('\r');
        let start = (from - begin).min(line.len());
        let stop = floor_char_boundary(line, span.end.saturating_sub(begin)).max(start);
        Self { text: line, number: 1 + text[..begin].matches('\n').count(), start, end: stop }
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// User text for a message: in backticks, shortened, with control characters escaped.
#[must_use]
pub fn echo(text: &str) -> String {
    let mut shown: String = text.chars().take(ECHOED).flat_map(char::escape_debug).collect();
    if text.chars().nth(ECHOED).is_some() {
        shown.push_str("...");
    }
    format!("`{}`", shown.replace("\\\"", "\"").replace("\\'", "'"))
}

/// The candidate that `word` was probably meant to be.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.chars().nth(ECHOED).is_some() {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    let distance = |candidate: &str| {
        let candidate = plain(candidate);
        let edits = strsim::damerau_levenshtein(&word, &candidate);
        // An abbreviation (`penalty` for `repetition_penalty`, `dir` for `directory`) needs many
        // edits but is still clear.
        let part = word.len() >= 3 && (candidate.contains(&word) || word.contains(&candidate) && candidate.len() >= 3);
        // In words of three letters one edit gives another word: `gpu` is not a typo of `cpu`.
        let slips = match word.chars().count() {
            0..4 => 0,
            4..6 => 1,
            n => n / 3,
        };
        if edits <= slips {
            Some(edits)
        } else if part {
            Some(100 + edits)
        } else {
            None
        }
    };
    candidates.into_iter().filter_map(|c| Some((distance(c)?, c))).min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

/// `a, b and c`, each in backticks.
#[must_use]
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_nonsense_is_not() {
        let keys = ["iterations", "warmup", "timeout_s", "repetition_penalty"];
        assert_eq!(nearest("iteratons", keys), Some("iterations"));
        assert_eq!(nearest("Warm-Up", keys), Some("warmup"));
        assert_eq!(nearest("timeout", keys), Some("timeout_s"));
        assert_eq!(nearest("penalty", keys), Some("repetition_penalty"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), keys), None);
    }

    #[test]
    fn a_span_is_cut_to_its_first_line() {
        let text = "a = 1\r\nbü = [\n 2]\n";
        let at = text.find('[').unwrap();
        let line = Line::around(text, Span { source: 0, start: at, end: text.len() });
        assert_eq!((line.text, line.number), ("bü = [", 2));
        assert_eq!(&line.text[line.start..line.end], "[");
        let beyond = Line::around(text, Span { source: 0, start: 1 << 30, end: 1 << 31 });
        assert_eq!((beyond.text, beyond.start), ("", 0));
    }

    #[test]
    fn echoed_text_cannot_steer_a_terminal() {
        assert_eq!(echo("a\u{1b}[31mb"), "`a\\u{1b}[31mb`");
        assert_eq!(echo("say \"hi\""), "`say \"hi\"`");
        assert!(echo(&"x".repeat(500)).len() < 60);
    }
}
