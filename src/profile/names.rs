//! Escapes names of functions and threads for files: profiles also come from external programs.

use std::borrow::Cow;

pub use inferometer_protocol::profile::{UNKNOWN, clean, raw};

/// A frame of a folded stack, where `;` separates frames.
pub fn frame(name: &str) -> Cow<'_, str> {
    match clean(name) {
        name if name.contains(';') => Cow::Owned(name.replace(';', ":")),
        name => name,
    }
}

/// A folded stack for a line with counts. A name that ends in a number would be read as one of two
/// counts, so a no-break space replaces the space before it. A line must not look like a comment
/// either.
pub fn line(stack: &str) -> String {
    let stack = stack.strip_prefix("# ").map_or_else(|| stack.to_owned(), |rest| format!("#\u{a0}{rest}"));
    match stack.rsplit_once(' ') {
        Some((name, last)) if last.parse::<f64>().is_ok() => format!("{name}\u{a0}{last}"),
        _ => stack,
    }
}

/// The thread as the outermost frame.
pub fn thread(name: &str) -> Cow<'_, str> {
    if name.trim().is_empty() { Cow::Borrowed("[thread without a name]") } else { frame(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_protocol::profile::LONGEST;

    #[test]
    fn names_fit_a_line_and_a_frame() {
        assert_eq!(clean("a::b<c>"), "a::b<c>");
        assert_eq!(clean(" a\nb\u{1b}[0m "), "a b [0m");
        assert_eq!(clean(" \n"), UNKNOWN);
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{2069}"), "a b c", "nothing turns what follows around");
        assert_eq!(frame("[T; 4]"), "[T: 4]");
        let long = clean(&"é".repeat(LONGEST + 1)).into_owned();
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
        assert_eq!(thread(""), "[thread without a name]");
    }

    #[test]
    fn a_line_keeps_names_from_being_counts_or_comments() {
        assert_eq!(line("main;operator 7 3"), "main;operator 7\u{a0}3");
        assert_eq!(line(&line("main;operator 7 3")), line("main;operator 7 3"), "guarded once");
        assert_eq!(line("# x;y"), "#\u{a0}x;y");
        assert_eq!(line("main;a b"), "main;a b");
    }
}
