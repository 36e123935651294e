//! Keeps spreadsheets from reading foreign text in a CSV file as a formula.

use std::borrow::Cow;

/// `text` for a CSV field. An apostrophe goes before a text that a spreadsheet would read as a
/// formula; before a text that looks as if it had one, another goes, so that [`unguarded`] gives
/// every text back.
#[must_use]
pub fn guarded(text: &str) -> Cow<'_, str> {
    if is_formula(text.trim_start_matches('\'')) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

/// The text of a field that [`guarded`] made.
#[must_use]
pub fn unguarded(field: &str) -> &str {
    match field.strip_prefix('\'') {
        Some(text) if is_formula(text.trim_start_matches('\'')) => text,
        _ => field,
    }
}

/// The characters that OWASP's page on CSV injection names.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_is_no_formula() {
        let cases = [
            ("=1+1", "'=1+1"),
            ("+a", "'+a"),
            ("-[A b]", "'-[A b]"),
            ("@x", "'@x"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("'=1", "''=1"),
            ("a=b", "a=b"),
            ("'tis", "'tis"),
            ("", ""),
        ];
        for (text, field) in cases {
            assert_eq!(guarded(text), field);
            assert_eq!(unguarded(field), text);
        }
        assert_eq!(unguarded("=1"), "=1", "as older records have it");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "['=+@\t\r-]{0,4}.{0,3}") {
            let field = guarded(&text);
            prop_assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(unguarded(&field), &text);
        }
    }
}
