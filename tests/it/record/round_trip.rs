//! Any row is read back unchanged, and no wrong byte makes the reader panic.

use inferometer::record::{Cause, Iteration, RequestRow, Status, Timing, read};
use inferometer_protocol::{FinishReason, Value};
use proptest::prelude::*;

use super::{iteration, record, stored};

const STATUSES: [Status; 3] = [Status::Ok, Status::Failed, Status::Invalid];

fn any_row() -> impl Strategy<Value = RequestRow> {
    use prop::option::of;
    let number = || of(prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL);
    let value = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<String>().prop_map(Value::Text),
        any::<bool>().prop_map(Value::Bool),
        prop::num::f64::NORMAL.prop_map(Value::Float)
    ];
    let name = prop_oneof![
        Just("repetition_penalty".to_owned()),
        Just("dtype".to_owned()),
        Just("other".to_owned()),
        any::<String>()
    ];
    (
        (any::<bool>(), any::<String>(), any::<String>(), 0..3_usize, 0..5_usize, of("[0-9a-f]{16}")),
        prop::collection::vec(any::<u32>(), 4),
        prop::collection::vec(of(any::<u32>()), 5),
        prop::collection::vec(of(any::<u64>()), 7),
        prop::collection::vec(number(), 14),
        prop::collection::btree_map(name, value, 0..5),
    )
        .prop_map(|((warmup, engine, reason, status, finish, token_hash), n32, o32, o64, f, effective)| {
            RequestRow {
                timing: Timing::ALL.get(finish).copied(),
                request: 0,
                warmup,
                cell: n32[0],
                iteration: n32[1],
                turn: n32[2],
                engine,
                host: n32[3],
                status: STATUSES[status],
                reason,
                start_ns: o64[5].unwrap_or(0),
                end_ns: o64[6].unwrap_or(u64::MAX),
                effective,
                finish_reason: [
                    None,
                    Some(FinishReason::Stop),
                    Some(FinishReason::Length),
                    Some(FinishReason::Cancelled),
                    Some(FinishReason::Error),
                ][finish],
                prompt_tokens: o32[0],
                reused_tokens: o32[1],
                prefill_tokens: o32[2],
                generated_tokens: o32[3],
                cache_tokens: o32[4],
                load_s: f[0],
                tokenize_ms: f[1],
                ttft_ms: f[2],
                prefill_ms: f[3],
                decode_ms: f[4],
                e2e_ms: f[5],
                prefill_tps: f[6],
                decode_tps: f[7],
                tpot_ms: f[8],
                itl_p50_ms: f[9],
                itl_p95_ms: f[10],
                itl_p99_ms: f[11],
                itl_max_ms: f[12],
                peak_rss_bytes: o64[0],
                engine_active_bytes: o64[1],
                engine_cache_bytes: o64[2],
                engine_peak_bytes: o64[3],
                kv_cache_bytes: o64[4],
                cpu_ms: f[13],
                cpu_instructions: o64[0],
                cpu_cycles: o64[1],
                token_hash,
                memory_cycles: o32[0],
                memory_swing_bytes: o64[0],
                memory_reclaimed_bytes: o64[1],
                prefill_energy_j: f[0],
                decode_energy_j: f[1],
                cause: (status > 0)
                    .then(|| Cause::ALL[n32[0] as usize % Cause::ALL.len()].with_status(STATUSES[status])),
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_row_is_read_back_as_it_was(rows in prop::collection::vec(any_row(), 1..5)) {
        let dir = tempfile::tempdir().unwrap();
        let requests = rows.into_iter().zip(0..).map(|(row, request)| RequestRow { request, ..row }).collect();
        let iterations = [Iteration { requests, ..Iteration::default() }];
        let (run, manifest) = stored(dir.path(), &iterations);
        prop_assert_eq!(read(&run).unwrap(), record(&manifest, &iterations));
    }

    /// Whatever byte is changed, reading ends with a record or with an error that names the file.
    #[test]
    fn a_wrong_byte_never_panics(file in 0..5_usize, at: prop::sample::Index, byte: u8) {
        let dir = tempfile::tempdir().unwrap();
        let (run, _) = stored(dir.path(), &[iteration(0, 1), iteration(1, 2)]);
        let name = ["tokens.csv", "spans.csv", "telemetry.csv", "requests.csv", "run.json"][file];
        let mut bytes = fs_err::read(run.join(name)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs_err::write(run.join(name), bytes).unwrap();
        if let Err(error) = read(&run) {
            // A wrong count gives an error at the rows that it counts.
            let error = error.to_string();
            prop_assert!(error.contains(name) || name == "requests.csv" && error.contains(".csv"), "{}", error);
        }
    }
}
