//! Names of functions and threads as files can hold them: profiles also come from programs that others wrote.

use std::borrow::Cow;

use crate::spec::Profile;

/// For a frame that points outside its profile, or whose name is empty.
pub const UNKNOWN: &str = "[unknown]";

/// Longest name that is kept, in characters; names of C++ templates can be longer than a page.
pub const LONGEST: usize = 500;

/// The name of a frame as its profile has it.
pub fn raw(profile: &Profile, frame: u32) -> &str {
    match profile.functions.get(frame as usize).map(String::as_str) {
        None | Some("") => UNKNOWN,
        Some(name) => name,
    }
}

/// One line without control characters, not over-long.
pub fn clean(name: &str) -> Cow<'_, str> {
    let keeps = |c: char| !c.is_control();
    if name.trim().is_empty() {
        return Cow::Borrowed(UNKNOWN);
    }
    if name.len() <= LONGEST && name.chars().all(keeps) && name.trim() == name {
        return Cow::Borrowed(name);
    }
    let cut = name.chars().nth(LONGEST).is_some();
    let mut text: String =
        name.trim().chars().take(LONGEST).map(|c| if keeps(c) { c } else { ' ' }).collect::<String>().trim().to_owned();
    if cut {
        text.push('…');
    }
    Cow::Owned(text)
}

/// As a frame of a folded stack, where `;` stands between frames.
pub fn frame(name: &str) -> Cow<'_, str> {
    match clean(name) {
        name if name.contains(';') => Cow::Owned(name.replace(';', ":")),
        name => name,
    }
}

/// The thread as the outermost frame.
pub fn thread(name: &str) -> Cow<'_, str> {
    if name.trim().is_empty() { Cow::Borrowed("[thread without a name]") } else { frame(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_line_and_a_frame() {
        assert_eq!(clean("a::b<c>"), "a::b<c>");
        assert_eq!(clean(" a\nb\u{1b}[0m "), "a b [0m");
        assert_eq!(clean(" \n"), UNKNOWN);
        assert_eq!(frame("[T; 4]"), "[T: 4]");
        let long = clean(&"é".repeat(LONGEST + 1)).into_owned();
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
        assert_eq!(thread(""), "[thread without a name]");
    }
}
