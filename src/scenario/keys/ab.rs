//! The keys of an A/B session: `[[gate]]`, `[ab]` and `[build]`.

use super::shape::{Key, Section, Shape, count, key, required};
use super::{MOST_TOKENS, SEED};
use crate::spec::GateMetric;
use inferometer_protocol::toggle;

const METRICS: [&str; GateMetric::ALL.len()] = metrics();

const fn metrics() -> [&'static str; GateMetric::ALL.len()] {
    let mut names = [""; GateMetric::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = GateMetric::ALL[i].name();
        i += 1;
    }
    names
}

pub static GATE: Section = Section {
    title: "[[gate]]",
    meaning: "A decision of an A/B session: is side B worse than side A in this metric by `delta` or more?",
    one_of: &[],
    keys: &[
        required("metric", Shape::Choice(&METRICS), "metric to compare"),
        key(
            "cells",
            Shape::AllOr(&CELLS),
            "\"all\"",
            "cells to compare: `all`, or a table of conditions that must all hold",
        ),
        key(
            "delta",
            Shape::Delta,
            "",
            "smallest change that matters, as a percentage such as \"3%\" (default: chosen for the machine); for \
             memory_cycles a number such as 2 (default 1), for memory_swing and memory_reclaimed a size such as \"64 MiB\" (default 16 MiB)",
        ),
    ],
};

/// `length`, `engine`, and one key per toggle.
pub static CELLS: Section = Section {
    title: "[[gate]] cells",
    meaning: "The cells that a gate compares: those for which every condition holds.",
    one_of: &[],
    keys: &CELL_KEYS,
};

const OWN_CELL_KEYS: [Key; 2] = [
    key("length", count(1, MOST_TOKENS), "", "cells with this prompt length in tokens"),
    key("engine", Shape::Text, "", "cells of the engine with this label"),
];

static CELL_KEYS: [Key; OWN_CELL_KEYS.len() + toggle::TOGGLES.len()] = cell_keys();

const fn cell_keys() -> [Key; OWN_CELL_KEYS.len() + toggle::TOGGLES.len()] {
    let own = OWN_CELL_KEYS.len();
    let mut keys = [OWN_CELL_KEYS[0]; OWN_CELL_KEYS.len() + toggle::TOGGLES.len()];
    let mut i = 0;
    while i < keys.len() {
        keys[i] = if i < own {
            OWN_CELL_KEYS[i]
        } else {
            let spec = &toggle::TOGGLES[i - own];
            key(spec.name, Shape::ToggleValue(spec), "", "cells with this requested value of the toggle")
        };
        i += 1;
    }
    keys
}

pub static AB: Section = Section {
    title: "[ab]",
    meaning: "Parameters of an A/B session.",
    one_of: &[],
    keys: &[
        key(
            "outputs",
            Shape::Choice(&["identical", "margin", "any"]),
            "\"identical\"",
            "how far the sides' outputs must agree: `identical` = same tokens; `margin` = A's tokens are forced through B, \
             which may prefer another token only where its two best logits are closer than `margin`; `any` = no requirement",
        ),
        key(
            "margin",
            Shape::Number { least: 0.0, open: true, most: 1000.0 },
            "0.05",
            "with `outputs = \"margin\"`: B may prefer another token if the gap between its two best logits is below this",
        ),
        key(
            "pilot",
            count(0, 30),
            "6",
            "A/A pairs before the first pair, to see which changes the machine can detect; 5 or more, or 0 = none",
        ),
        key(
            "resident",
            Shape::Flag,
            "false",
            "keep one host per side for the whole session instead of a fresh host for each run: for models that load slowly",
        ),
        key("seed", SEED, "0", "seed for the order of the sides within each pair"),
        key(
            "self_test",
            Shape::Flag,
            "false",
            "the session tests Inferometer itself: gates accept simulated engines, and the result says so",
        ),
    ],
};

pub static BUILD: Section = Section {
    title: "[build]",
    meaning: "How a commit becomes a program that hosts an engine. Programs are started directly, never by a shell; in every \
              word `{tree}` is the commit's worktree and `{shared}` a folder that all builds of the repository share.",
    one_of: &[],
    keys: &[
        key(
            "command",
            Shape::Texts { or_none: true },
            "[\"cargo\", \"build\", \"--release\", \"--locked\", \"--bin\", \"inferometer\", \"--target-dir\", \"{shared}\"]",
            "program and arguments that build it, run in the commit's worktree; `[]` = nothing to build",
        ),
        key(
            "program",
            Shape::Texts { or_none: false },
            "[\"{shared}/release/inferometer\", \"host\"]",
            "the built engine host with its arguments, relative to the worktree; required if `command` is not \
             cargo",
        ),
        key(
            "toolchain",
            Shape::Texts { or_none: true },
            "[\"rustc\", \"-Vv\"]",
            "program and arguments that print what the build depends on besides the commit, such as the compiler's version; \
             no default if `command` is not cargo",
        ),
        key(
            "timeout_s",
            Shape::Number { least: 0.0, open: true, most: 86_400.0 },
            "3600.0",
            "longest time a build may take, in seconds",
        ),
    ],
};
