//! Compares the cache with a plain list of keys and values, through the results of attention.

use mlx_rs::Array;
use proptest::prelude::*;

use super::{Cache, STEP};
use crate::serial::alone;
use crate::transformer::backend::{Backend, LayerCache};
use crate::transformer::mlx::MlxBackend;

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const D: usize = 4;
/// How many of the first and last positions of an append are compared; the list is slow.
const LOOKED_AT: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    /// Append this many positions at once.
    Append(usize),
    /// Remove this many of the last positions.
    Back(usize),
    /// Reserve room for this many more.
    Reserve(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1usize..40).prop_map(Op::Append),
        3 => Just(Op::Append(1)),
        1 => (200..2 * STEP).prop_map(Op::Append),
        2 => (0usize..30).prop_map(Op::Back),
        1 => (0..2 * STEP).prop_map(Op::Reserve),
    ]
}

/// A pseudo-random number for each value: `what` distinguishes queries, keys and values, `salt` the
/// appends.
fn value(what: usize, salt: usize, at: usize, head: usize, i: usize) -> f32 {
    ((what * 7919 + salt * 104_729 + at * 1299 + head * 31 + i * 7) as f32 * 0.137).sin()
}

/// [1, heads, count, D], positions from `from` on.
fn array(what: usize, salt: usize, from: usize, count: usize, heads: usize) -> Array {
    let values: Vec<f32> = (0..heads)
        .flat_map(|head| (from..from + count).flat_map(move |at| (0..D).map(move |i| value(what, salt, at, head, i))))
        .collect();
    Array::from_slice(&values, &[1, heads as i32, count as i32, D as i32])
}

/// Attention of the query at `at` over `list`, whose entries are salt and position of a key and a
/// value.
fn attention(list: &[(usize, usize)], salt: usize, at: usize, window: usize) -> Vec<f64> {
    let seen = &list[(at + 1).saturating_sub(window)..=at];
    let heads = (0..HEADS).flat_map(|head| {
        let shared = head * KV_HEADS / HEADS;
        let scores: Vec<f64> = seen
            .iter()
            .map(|(s, p)| {
                (0..D)
                    .map(|i| f64::from(value(0, salt, at, head, i)) * f64::from(value(1, *s, *p, shared, i)))
                    .sum::<f64>()
                    / (D as f64).sqrt()
            })
            .collect();
        let weights: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..D)
            .map(move |i| {
                let values = seen.iter().map(|(s, p)| f64::from(value(2, *s, *p, shared, i)));
                values.zip(&weights).map(|(value, weight)| value * weight).sum::<f64>() / total
            })
            .collect::<Vec<_>>()
    });
    heads.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn attention_sees_what_a_plain_list_holds(
        window in prop_oneof![Just(None), (1usize..60).prop_map(Some)],
        ops in prop::collection::vec(op(), 1..24),
    ) {
        alone(|| as_a_list(window, ops))?;
    }
}

fn as_a_list(window: Option<usize>, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let backend = MlxBackend::new(None, false);
    let mut cache = backend.cache(KV_HEADS, D, window).unwrap();
    let back = window.unwrap_or(usize::MAX);
    let mut list: Vec<(usize, usize)> = Vec::new();
    for (salt, op) in ops.into_iter().enumerate() {
        match op {
            Op::Append(count) => {
                let from = list.len();
                let (keys, values) = (array(1, salt, from, count, KV_HEADS), array(2, salt, from, count, KV_HEADS));
                backend.append(&mut cache, &keys, &values).unwrap();
                list.extend((from..from + count).map(|at| (salt, at)));
                let scale = (D as f64).powf(-0.5);
                let out = backend.attend(&array(0, salt, from, count, HEADS), &cache, scale, None).unwrap();
                let mut got = Vec::new();
                backend.read(&out, &mut got).unwrap();
                prop_assert_eq!(got.len(), count * HEADS * D);
                for at in (0..count).filter(|at| *at < LOOKED_AT || at + LOOKED_AT >= count) {
                    let want = attention(&list, salt, from + at, back);
                    for (a, b) in got[at * HEADS * D..][..HEADS * D].iter().zip(&want) {
                        prop_assert!((f64::from(*a) - b).abs() < 1e-5, "position {}: {a} for {b}", from + at);
                    }
                }
            }
            Op::Back(count) => {
                let wanted = list.len().saturating_sub(count);
                let seen = if cache.can_truncate(wanted) { wanted } else { 0 };
                prop_assert!(seen == wanted || window.is_some(), "a full cache can always be cut");
                cache.truncate(seen);
                list.truncate(seen);
            }
            Op::Reserve(more) => cache.reserve(list.len() + more).unwrap(),
        }
        prop_assert_eq!((cache.seen(), cache.len()), (list.len(), list.len().min(back)));
    }
    Ok(())
}

/// One position can always be removed: the step that a pipeline submitted beyond the end.
#[test]
fn the_last_position_can_be_taken_back() {
    alone(|| {
        let backend = MlxBackend::new(None, false);
        for window in [1, 2, 9] {
            let mut cache: Cache = backend.cache(KV_HEADS, D, Some(window)).unwrap();
            for at in 0..3 * STEP {
                backend.append(&mut cache, &array(1, 0, at, 1, KV_HEADS), &array(2, 0, at, 1, KV_HEADS)).unwrap();
                assert!(cache.can_truncate(at), "window {window}, position {at}");
                if at % 64 == 0 {
                    backend.settle(std::iter::once(&cache)).unwrap();
                }
            }
        }
    });
}
