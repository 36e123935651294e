//! For developers: a run on Linux with no more than what macOS shows.
//!
//! With the variable `INFEROMETER_LACKING=macos`, this program reads no figure that macOS lacks: no
//! resettable high-water mark, no gauge that only `/proc` and `/sys` have, no counters of `perf`.
//! So tests on Linux take the paths that a Mac takes. `linux::lacking` has the sources.

use std::io::Write as _;
use std::sync::OnceLock;

/// Name of the variable.
pub const VARIABLE: &str = "INFEROMETER_LACKING";

/// Why something cannot be read in this mode.
pub const WHY: &str = "macOS does not have it (INFEROMETER_LACKING=macos)";

/// Whether only what macOS has is to be read. The variable is read once.
#[must_use]
pub fn macos() -> bool {
    static ASKED: OnceLock<bool> = OnceLock::new();
    *ASKED.get_or_init(|| std::env::var_os(VARIABLE).is_some_and(|value| value == "macos"))
}

/// For tests of what only Linux has: whether to leave the test out here, which it then says on
/// stderr, beside the test's name. `what`: the facts that it is about.
#[doc(hidden)]
#[must_use]
pub fn leaves_out(what: &str) -> bool {
    let left_out = macos() || !cfg!(target_os = "linux");
    if left_out {
        let thread = std::thread::current();
        // The handle itself: what the macros print is shown for failed tests only.
        let _ = writeln!(std::io::stderr(), "left out: {}: {what}", thread.name().unwrap_or("a test"));
    }
    left_out
}
