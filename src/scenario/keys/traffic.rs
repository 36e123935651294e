//! `[load]`: how many requests come, and when.

use super::SEED;
use super::shape::{Section, Shape, count, key};

/// Most requests of an iteration, each of which is a row.
const MOST_REQUESTS: u64 = 10_000;
/// Longest limit: an hour.
const MOST_MS: f64 = 3_600_000.0;

const LIMIT: Shape = Shape::Number { least: 0.0, open: true, most: MOST_MS };

pub static LOAD: Section = Section {
    title: "[load]",
    meaning: "Load on the engine: an iteration is many requests, several of them at the same time. Without this table each \
              iteration is one request. At least one of `sessions` and `rates_per_s`.",
    one_of: &[],
    keys: &[
        key(
            "sessions",
            Shape::Counts { least: 1, most: 1024 },
            "",
            "closed loop: so many sessions, each of which sends its next request when it has the answer to the last one; each \
             value is a cell",
        ),
        key(
            "rates_per_s",
            Shape::Numbers { least: 0.0, most: 10_000.0 },
            "",
            "open loop: so many requests arrive per second, whether earlier ones are answered or not; each value is a cell. \
             Times count from the intended start of a request",
        ),
        key(
            "arrivals",
            Shape::Choice(&["poisson", "constant"]),
            "\"poisson\"",
            "gaps between the arrivals of an open loop: `poisson`: random (exponential), `constant`: all the same",
        ),
        key("requests", count(1, MOST_REQUESTS), "64", "requests of an iteration"),
        key("seed", SEED, "0", "seed of random gaps: same seed, same arrivals in every iteration"),
        key("limit_ttft_ms", LIMIT, "", "a request is good if its first token comes within this time, in milliseconds"),
        key("limit_tpot_ms", LIMIT, "", "and if the mean gap between its tokens is at most this, in milliseconds"),
        key("limit_e2e_ms", LIMIT, "", "and if its last token comes within this time, in milliseconds"),
    ],
};
