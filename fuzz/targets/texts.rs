//! Foreign texts on their way out: CSV fields, terminals, messages, command lines with secrets.
#![no_main]

use inferometer::report::text::visible;
use inferometer::secret::{masked, masked_text};
use inferometer::spreadsheet::{guarded, unguarded};
use inferometer_protocol::bounded::{brief, clean, quote};

const KEY: &str = "sk-live1234567890abcd";

fn moves_cursor(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let field = guarded(text);
    assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r']), "{field:?} is a formula");
    assert_eq!(unguarded(&field), text);
    for shown in [visible(text), clean(text), brief(text), quote(text.as_bytes())] {
        assert!(!shown.chars().any(moves_cursor), "{shown:?} moves the cursor");
    }
    // A key of a known shape is masked whatever stands before it.
    let leaks = |text: &str| text.contains(KEY);
    let words: Vec<String> = text.split(' ').map(str::to_owned).chain([KEY.to_owned()]).collect();
    let words = masked(&words);
    assert!(!leaks(&words.join(" ")), "{words:?}");
    let shown = masked_text(&format!("{text} {KEY}"));
    assert!(!leaks(&shown), "{shown:?}");
    assert_eq!(masked(&words), words, "masking twice masks more");
    assert_eq!(masked_text(&shown), shown, "masking twice masks more");
});
