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
    meaning: "What an A/B session decides: whether side B is worse than side A in this metric by `delta` or more.",
    one_of: None,
    keys: &[
        required("metric", Shape::Choice(&METRICS), "what is compared"),
        key(
            "cells",
            Shape::AllOr(&CELLS),
            "\"all\"",
            "which cells count: `all`, or a table of conditions that hold at once",
        ),
        key(
            "delta",
            Shape::Delta,
            "",
            "smallest change that matters, as a text with a percent sign such as \"3%\" (without it what suits the machine); of \
             memory_cycles a number such as 2 (without it 1), of memory_swing and memory_reclaimed a size such as \"64 MiB\" (16 MiB)",
        ),
    ],
};

/// `length`, `engine`, and one key a toggle.
pub static CELLS: Section = Section {
    title: "[[gate]] cells",
    meaning: "The cells that a gate looks at: those for which every condition holds.",
    one_of: None,
    keys: &CELL_KEYS,
};

const OWN_CELL_KEYS: [Key; 2] = [
    key("length", count(1, MOST_TOKENS), "", "cells with prompts of so many tokens"),
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
            key(spec.name, Shape::ToggleValue(spec), "", "cells in which the toggle is asked to be this")
        };
        i += 1;
    }
    keys
}

pub static AB: Section = Section {
    title: "[ab]",
    meaning: "How an A/B session goes.",
    one_of: None,
    keys: &[
        key(
            "outputs",
            Shape::Choice(&["identical", "margin", "any"]),
            "\"identical\"",
            "what the sides' outputs must have in common: the same tokens (`identical`); `margin`: A's tokens are forced through B, \
             which may prefer another one only where its two best logits are closer than `margin`; or nothing (`any`)",
        ),
        key(
            "margin",
            Shape::Number { least: 0.0, open: true, most: 1000.0 },
            "0.05",
            "with `outputs = \"margin\"`: the gap between B's two best logits under which another token may win",
        ),
        key(
            "pilot",
            count(0, 30),
            "6",
            "pairs of A against A before the first pair, to see what the machine can tell apart; 5 or more, or 0 = none",
        ),
        key(
            "resident",
            Shape::Flag,
            "false",
            "two hosts stay and take turns, instead of a fresh one for each turn: for models that load slowly",
        ),
        key("seed", SEED, "0", "seed of the order in which the sides of each pair run"),
        key(
            "self_test",
            Shape::Flag,
            "false",
            "the session tests Inferometer itself: simulated engines may be gated, and the result says so",
        ),
    ],
};

pub static BUILD: Section = Section {
    title: "[build]",
    meaning: "How a commit becomes a program that hosts an engine. Programs are started as they are, never by a shell; in every \
              word `{tree}` is the commit's worktree and `{shared}` a folder that all builds of the repository share.",
    one_of: None,
    keys: &[
        key(
            "command",
            Shape::Texts { or_none: true },
            "[\"cargo\", \"build\", \"--release\", \"--locked\", \"--bin\", \"inferometer\", \"--target-dir\", \"{shared}\"]",
            "program and arguments that build it, run in the commit's worktree; `[]` where there is nothing to build",
        ),
        key(
            "program",
            Shape::Texts { or_none: false },
            "[\"{shared}/release/inferometer\", \"host\"]",
            "the program that then hosts the engine, with its arguments; relative to the worktree; a `command` that is not \
             cargo needs one",
        ),
        key(
            "toolchain",
            Shape::Texts { or_none: true },
            "[\"rustc\", \"-Vv\"]",
            "program and arguments that print what the build depends on beside the commit, such as the compiler's version; \
             without it nothing where `command` is not cargo",
        ),
        key(
            "timeout_s",
            Shape::Number { least: 0.0, open: true, most: 86_400.0 },
            "3600.0",
            "longest time a build may take, in seconds",
        ),
    ],
};
