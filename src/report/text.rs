//! Makes untrusted text safe to show: it cannot reorder, hide or flood the text around it.
//!
//! Each format escapes its own markup; this module is about characters and length.

use crate::record::Counts;

/// How much of a long text a report shows, in characters.
pub const SHOWN: usize = 600;
/// Width of the terminal output, in characters.
pub const TERMINAL_WIDTH: usize = 80;
/// How much of a label, path or reason is shown, in characters.
pub const SHOWN_LABEL: usize = 160;

/// `text` with control and bidirectional-formatting characters made visible (`U+202E` as
/// `⟨U+202E⟩`).
///
/// Newlines and tabs stay. The result is also valid in XML 1.0.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() || is_formatting(c) => shown.push_str(&format!("⟨U+{:04X}⟩", c as u32)),
            c => shown.push(c),
        }
    }
    shown
}

/// Characters that change direction or join invisibly, and those XML refuses.
fn is_formatting(c: char) -> bool {
    matches!(c,
        '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// The first `limit` characters of `text` made visible, and how many characters were left out.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> (String, usize) {
    match text.char_indices().nth(limit) {
        None => (visible(text), 0),
        Some((at, _)) => (visible(&text[..at]), text[at..].chars().count()),
    }
}

/// One line for remarks: like [`label`], but long enough for whole sentences.
#[must_use]
pub fn sentence(text: &str) -> String {
    one_line(text, SHOWN)
}

/// One line for labels, paths and reasons: newlines made spaces, long ones shortened with an
/// ellipsis.
#[must_use]
pub fn label(text: &str) -> String {
    one_line(text, SHOWN_LABEL)
}

fn one_line(text: &str, limit: usize) -> String {
    let (shown, rest) = shortened(text, limit);
    let mut line = shown.replace(['\n', '\t'], " ");
    if rest > 0 {
        line.push('…');
    }
    line
}

/// `1, 2 and 5`, for lists in sentences; shortened after `most` items.
#[must_use]
pub fn list<T: ToString>(items: &[T], most: usize) -> String {
    let mut words: Vec<String> = items.iter().take(most).map(ToString::to_string).collect();
    if items.len() > most {
        words.push(format!("{} more", items.len() - most));
    }
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, head)) => format!("{} and {last}", head.join(", ")),
    }
}

/// Breaks words of more than `width` characters into lines, each after the last of the characters
/// `between` that fits.
#[must_use]
pub fn broken(text: &str, width: usize, between: &[char]) -> String {
    let mut out = String::new();
    for word in text.split_inclusive([' ', '\n']) {
        let mut line = 0;
        for piece in word.split_inclusive(between) {
            let length = piece.trim_end().chars().count();
            if line > 0 && line + length > width {
                out.push('\n');
                line = 0;
            }
            out.push_str(piece);
            line += length;
        }
    }
    out
}

/// `1 iteration`, `3 iterations`.
#[must_use]
pub fn plural(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// With a capital first letter; symbols such as `n` and abbreviations are left unchanged.
#[must_use]
pub fn capital(words: &str) -> String {
    recased(words, [char::is_lowercase, char::is_lowercase], |first| first.to_uppercase().collect())
}

/// With a small first letter; abbreviations are left unchanged.
#[must_use]
pub fn lower(words: &str) -> String {
    recased(words, [char::is_uppercase, char::is_lowercase], |first| first.to_lowercase().collect())
}

fn recased(words: &str, wanted: [fn(char) -> bool; 2], change: fn(char) -> String) -> String {
    let mut letters = words.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if wanted[0](first) && wanted[1](second) => change(first) + letters.as_str(),
        _ => words.to_owned(),
    }
}

/// Valid iterations: `10`, or `8/10` if some are missing, failed or invalid.
#[must_use]
pub fn valid(counts: Counts) -> String {
    if counts.ok == counts.planned { counts.ok.to_string() } else { format!("{}/{}", counts.ok, counts.planned) }
}

/// `58 of 60 iterations ok, 1 failed, 1 invalid`.
#[must_use]
pub fn tally(counts: Counts) -> String {
    let mut words = format!("{} of {} ok", counts.ok, plural(counts.planned, "iteration"));
    for (count, what) in [(counts.failed, "failed"), (counts.invalid, "invalid"), (counts.missing(), "missing")] {
        if count > 0 {
            words.push_str(&format!(", {count} {what}"));
        }
    }
    words
}

/// Appends `text` in lines that fit the terminal; lines after the first begin with `indent`.
pub fn paragraph(out: &mut String, text: &str, indent: &str) {
    let mut line = String::new();
    let lead = text.len() - text.trim_start().len();
    line.push_str(&text[..lead]);
    let mut fresh = true;
    for word in text[lead..].split(' ') {
        if !fresh && line.chars().count() + 1 + word.chars().count() > TERMINAL_WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = indent.to_owned();
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(word);
        fresh = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// What a mark means that stands with every figure.
#[must_use]
pub fn mark(mark: &str) -> &'static str {
    match mark {
        "simulated engine" => "no engine ran; every figure comes from a simulation",
        "imported" => "another program measured it; nothing was checked here",
        "synthetic model" => "random weights, so speed and memory are meaningful, but the text is not",
        _ => "Inferometer measures itself, not an engine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_broken_after_given_characters() {
        assert_eq!(broken("len=512 prefill_chunk=16326848 a", 16, &['=']), "len=512 prefill_chunk=\n16326848 a");
        assert_eq!(broken("len=512 kv=paged", 16, &['=', ',']), "len=512 kv=paged");
        assert_eq!(broken("org/long-name-of-a-model", 10, &['/', '-']), "org/long-\nname-of-a-\nmodel");
    }

    #[test]
    fn characters_that_reorder_or_hide_are_made_visible() {
        assert_eq!(visible("a\u{202e}b\u{0}c\u{2066}"), "a⟨U+202E⟩b⟨U+0000⟩c⟨U+2066⟩");
        assert_eq!(visible("line\n\tTab é 日本"), "line\n\tTab é 日本");
        assert!(!visible("\u{1b}[31mred").contains('\u{1b}'));
    }

    #[test]
    fn long_texts_are_cut_at_characters() {
        assert_eq!(shortened("日本語", 2), ("日本".to_owned(), 1));
        assert_eq!(shortened("abc", 3), ("abc".to_owned(), 0));
        let (shown, rest) = shortened(&"x".repeat(1 << 20), SHOWN);
        assert_eq!((shown.len(), rest), (SHOWN, (1 << 20) - SHOWN));
        assert!(label(&"y".repeat(1000)).ends_with('…'));
        assert_eq!(label("a\nb"), "a b");
    }

    #[test]
    fn paragraphs_fit_the_terminal() {
        let mut out = String::new();
        paragraph(&mut out, &format!("  {}", "word ".repeat(40)), "    ");
        assert!(out.lines().count() == 3 && out.lines().all(|line| line.chars().count() <= TERMINAL_WIDTH), "{out}");
        assert!(out.starts_with("  word") && out.lines().skip(1).all(|line| line.starts_with("    word")), "{out}");
        let mut long = String::new();
        paragraph(&mut long, &"x".repeat(200), "");
        assert_eq!(long.len(), 201, "a word is never broken");
    }

    #[test]
    fn sentences_begin_with_a_capital_and_symbols_stay() {
        let cases =
            [("median", "Median"), ("n", "n"), ("p95", "p95"), ("TTFT", "TTFT"), ("", ""), ("10 pairs", "10 pairs")];
        for (words, wanted) in cases {
            assert_eq!(capital(words), wanted);
        }
        assert_eq!(["Peak memory", "ITL p50", "n"].map(lower), ["peak memory", "ITL p50", "n"]);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(list::<u32>(&[], 3), "");
        assert_eq!(list(&[4], 3), "4");
        assert_eq!(list(&[1, 2, 5], 3), "1, 2 and 5");
        assert_eq!(list(&[1, 2, 5, 6], 2), "1, 2 and 2 more");
        assert_eq!(plural(1, "iteration"), "1 iteration");
        assert_eq!(plural(0, "iteration"), "0 iterations");
    }
}
