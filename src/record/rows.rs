//! The rows of the record's files. Each field is a column: its line below gives type, unit and
//! meaning. The struct, the writer, the reader and the reference page are generated from it.
//!
//! Columns are appended, never renamed; names contain the unit. Times named `t_ns`, `start_ns`,
//! `end_ns` count from the run's origin ([`super::Manifest::origin_utc`]) on the harness's
//! monotonic clock. Values that were not measured are empty.

use inferometer_protocol::{FinishReason, Phase, Settings};

use super::cause::{Cause, Fault, Status};
use super::csv::{Column, Encoder};
use super::error::RecordError;
use super::field::Field;
use super::load::LoadCheck;
use super::table::Line;
use super::timing::Timing;

/// Declares a row: a struct whose fields are the columns of a file, with a writer and a reader. To
/// add a column, add one line.
macro_rules! row {
    ($(#[$meta:meta])* $visibility:vis struct $row:ident $({ $rest:ident: $rest_type:ty })?, $columns:ident:
     $($field:ident: $type:ty, $unit:literal, $meaning:literal;)*) => {
        $(#[$meta])*
        $visibility struct $row {
            $(#[doc = $meaning] pub $field: $type,)*
            $(/// Written to separate columns.
            pub $rest: $rest_type,)?
        }

        pub const $columns: &[Column] = &[
            $(Column { name: stringify!($field), unit: $unit, meaning: $meaning, kind: <$type as Field>::KIND },)*
        ];

        impl $row {
            pub(super) fn write(&self, line: &mut Encoder) {
                $(line.field(&self.$field);)*
            }

            pub(super) fn read(
                line: &Line<'_>,
                columns: &[Option<usize>]
                $(, $rest: $rest_type)?
            ) -> Result<Self, RecordError> {
                let mut at = columns.iter().copied();
                Ok(Self {
                    $($field: line.field(at.next().flatten(), stringify!($field))?,)*
                    $($rest,)?
                })
            }
        }
    };
}

row! {
    /// One request: a row of `requests.csv`. An iteration is committed by these rows.
    #[derive(Debug, Clone, Default, PartialEq)]
    pub struct RequestRow { effective: Settings }, REQUEST_COLUMNS:
    request: u64, "", "number of the request within the run, from 0; increases through the file, also across resumes";
    warmup: bool, "", "true: not measured; ran before the cell's first iteration in a fresh host";
    cell: u32, "", "id of the cell in the plan of `run.json`";
    iteration: u32, "", "iteration of the cell, from 1; 0 for warm-ups";
    turn: u32, "", "turn of a conversation, from 0";
    engine: String, "", "label of the engine";
    host: u32, "", "number of the host process within the run, from 0; see `hosts` in `run.json`";
    status: Status, "", "`ok`; `failed`: an outcome of the engine; `invalid`: an external cause, or a measurement that cannot be trusted";
    reason: String, "", "why it is failed or invalid, for people; empty otherwise";
    start_ns: u64, "ns", "request written to the host, harness clock, from the run's origin; 0 in an imported record";
    end_ns: u64, "ns", "reply read, or failure detected, harness clock, from the run's origin; 0 in an imported record";
    finish_reason: Option<FinishReason>, "", "`stop`, `length`, `cancelled` or `error`";
    prompt_tokens: Option<u32>, "tokens", "length of the whole prompt";
    reused_tokens: Option<u32>, "tokens", "prompt tokens taken from the KV cache of an earlier request";
    prefill_tokens: Option<u32>, "tokens", "prompt tokens computed in this request";
    generated_tokens: Option<u32>, "tokens", "tokens generated";
    cache_tokens: Option<u32>, "tokens", "length of the KV cache after the request, measured on the cache";
    load_s: Option<f64>, "s", "from opening the model to the first possible request; only in the first row after that";
    tokenize_ms: Option<f64>, "ms", "time in the tokenize phase";
    ttft_ms: Option<f64>, "ms", "time to first token: request accepted to first token readable";
    prefill_ms: Option<f64>, "ms", "time in the prefill phase";
    decode_ms: Option<f64>, "ms", "first to last token";
    e2e_ms: Option<f64>, "ms", "request accepted to last token";
    prefill_tps: Option<f64>, "tok/s", "prefill_tokens / time in the prefill phase";
    decode_tps: Option<f64>, "tok/s", "(N-1) / (t_last - t_first) for N generated tokens";
    tpot_ms: Option<f64>, "ms", "mean gap between tokens";
    itl_p50_ms: Option<f64>, "ms", "median gap between tokens";
    itl_p95_ms: Option<f64>, "ms", "95th percentile of the gaps between tokens";
    itl_p99_ms: Option<f64>, "ms", "99th percentile of the gaps between tokens";
    itl_max_ms: Option<f64>, "ms", "longest gap between tokens";
    peak_rss_bytes: Option<u64>, "bytes", "highest resident memory of the host process: the kernel's high-water mark, reset before the request";
    engine_active_bytes: Option<u64>, "bytes", "memory in use after the request, as the engine reports it";
    engine_cache_bytes: Option<u64>, "bytes", "memory the engine's allocator holds for reuse, as the engine reports it";
    engine_peak_bytes: Option<u64>, "bytes", "highest memory in use during the request, as the engine reports it";
    kv_cache_bytes: Option<u64>, "bytes", "memory allocated for KV caches, as the engine reports it";
    cpu_ms: Option<f64>, "ms", "CPU time of the host process during the request, user and system, all threads";
    cpu_instructions: Option<u64>, "count", "instructions retired by the host process during the request";
    cpu_cycles: Option<u64>, "count", "CPU cycles of the host process during the request";
    token_hash: Option<String>, "", "first 16 hex digits of SHA-256 over the generated ids as little-endian 32-bit numbers";
    memory_cycles: Option<u32>, "count", "cycles of the memory gauge over the whole iteration, by rainflow counting; in its last row only";
    memory_swing_bytes: Option<u64>, "bytes", "the largest of these cycles, in the iteration's last row only";
    memory_reclaimed_bytes: Option<u64>, "bytes", "sum of the memory gauge's falls over the whole iteration; in its last row only";
    prefill_energy_j: Option<f64>, "J", "energy used during the prefill phase, where power is measured";
    decode_energy_j: Option<f64>, "J", "energy used from first to last token, where power is measured";
    cause: Option<Cause>, "", "why it is failed or invalid, as a name; empty otherwise and in records of older versions";
    timing: Option<Timing>, "", "grade of the token times: `verified`: the harness saw the tokens of a warm-up arrive as stamped, and these stamps have the same shape; `claimed`: it could not; `inexact`: several tokens come at a time; `imported`: another program measured; empty in records of older versions";
    run_queue_ms: Option<f64>, "ms", "run-queue delay: time in which threads of the host process were ready to run and waited for a CPU, summed over the threads that did a twentieth of its work or more; on macOS over all threads";
    involuntary_switches: Option<u64>, "count", "times that a thread of the host process was taken off its CPU although it could have gone on; Linux only";
    load_check: Option<LoadCheck>, "", "how it was checked that other programs did not slow the iteration down: `gauges`: by samples taken within it; `counters`: it is too short for that, by what the kernel counted before and after it; `unjudged`: neither can tell; empty in warm-ups, failed iterations, and records of older versions";
    peak_footprint_bytes: Option<u64>, "bytes", "highest memory that the system charged to the host process: the kernel's high-water mark, reset before the request; macOS only";
    peak_sampled_bytes: Option<u64>, "bytes", "highest sample of the host process's memory during the request (footprint where there is one, else resident), only where the kernel's mark cannot be reset; misses peaks between samples";
    decode_passes: Option<u32>, "count", "forward passes after the first token, with drafted tokens or without; only with speculative decoding";
    verify_passes: Option<u32>, "count", "of these, passes over drafted tokens; only with speculative decoding";
    drafted_tokens: Option<u32>, "tokens", "tokens that were drafted and verified; only with speculative decoding";
    accepted_tokens: Option<u32>, "tokens", "drafted tokens that were accepted; only with speculative decoding";
    unloaded_bytes: Option<u64>, "bytes", "memory of the host process after the model was unloaded (footprint on macOS, else resident), under isolation `load`; in the iteration's last row only";
    first_byte_ms: Option<f64>, "ms", "request accepted to first byte of a server's answer; only with an engine that drives a server";
    first_visible_ms: Option<f64>, "ms", "request accepted to first text that a user sees, without a model's reasoning; only with an engine that drives a server";
    counted_tokens: Option<u32>, "tokens", "tokens generated as a server, or the program that an import comes from, counts them, if they are not one for each row in `tokens.csv`; the token times are inexact then";
    intended_ns: Option<u64>, "ns", "when the request was due, harness clock, from the run's origin; only under `[load]`";
    late_ms: Option<f64>, "ms", "intended start to request accepted by the host: add it to times from acceptance; only under `[load]`";
    queue_ms: Option<f64>, "ms", "intended start to start of prefill; only under `[load]`, with an engine that reports the phase";
    good: Option<bool>, "", "whether the request meets the limits of `[load]`; only with limits";
}

impl RequestRow {
    /// Whether its token times may be shown and compared. Records of older versions do not say: as
    /// then, they may.
    #[must_use]
    pub fn has_token_times(&self) -> bool {
        self.timing.is_none_or(Timing::is_shown)
    }

    /// Whether the request was one of many under load.
    #[must_use]
    pub fn is_under_load(&self) -> bool {
        self.intended_ns.is_some()
    }

    /// Milliseconds from the start that counts to a time after acceptance: from the intended start
    /// under load, so that waiting is part of it.
    #[must_use]
    pub fn since_start(&self, since_accepted_ms: Option<f64>) -> Option<f64> {
        Some(since_accepted_ms? + self.late_ms.unwrap_or(0.0))
    }

    /// Whether tokens of one pass came together: then gaps between tokens say nothing.
    #[must_use]
    pub fn has_passes_of_several_tokens(&self) -> bool {
        self.accepted_tokens.is_some_and(|accepted| accepted > 0)
    }

    /// Marks the row as failed or invalid.
    pub fn mark(&mut self, fault: &Fault) {
        self.status = fault.cause.status();
        self.cause = Some(fault.cause);
        self.reason.clone_from(&fault.reason);
    }
}

row! {
    /// Counts that tie the rows of the other files to a request; in `requests.csv` only.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub(super) struct Commit, COMMIT_COLUMNS:
    token_rows: u64, "rows", "rows of this request in `tokens.csv`";
    span_rows: u64, "rows", "rows of this request in `spans.csv`";
    telemetry_rows: u64, "rows", "rows of `telemetry.csv` that were committed with this iteration; 0 except in its last row";
    rows_left: u64, "rows", "rows of the same iteration that follow this one; the row with 0 commits the iteration";
}

row! {
    /// A row of `tokens.csv`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct TokenRow, TOKEN_COLUMNS:
    request: u64, "", "number of the request";
    index: u32, "", "position in the generation, from 0";
    id: Option<u32>, "", "token id in the model's vocabulary; empty in a redacted record";
    t_ns: u64, "ns", "when the token was readable on the host, from the run's origin, on the harness clock";
}

row! {
    /// A row of `spans.csv`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SpanRow, SPAN_COLUMNS:
    request: u64, "", "number of the request";
    phase: Phase, "", "what the engine did: `load`, `tokenize`, `prefill`, `decode`, and inside them `prefill_chunk`, `cache_clear`, `forward`, `penalty`, `sample`, `detokenize`, `wait`; before them `reset`, which the harness records itself";
    index: u32, "", "index among the spans of this phase in the request, from 0";
    start_ns: u64, "ns", "start, from the run's origin, on the harness clock";
    end_ns: u64, "ns", "end, from the run's origin, on the harness clock";
}
