//! Causal attention over the cache, without copying keys and values or repeating them for query
//! heads that share them.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, WithDType};
use half::f16;

use super::cache::{Cache, Element};
use super::numbers::Number;
use super::{failed, kernels, numbers, tensor, threads, with_numbers, with_values};
use inferometer_host::Result;
use inferometer_protocol::EngineError;

/// Approximate number of scores of a block of queries.
const SCORES: usize = 1 << 22;
const FEWEST_QUERIES: usize = 8;
const MOST_QUERIES: usize = 256;
/// Up to this many positions are attended one by one, as in decoding: a pass that verifies drafted
/// tokens then gives the same bits as single steps. Where inputs of products are rounded to 8 bits,
/// the last bit of a sum may decide about a token.
const FEW_QUERIES: usize = 16;
/// With at least this many key values, one position's attention is split between threads.
const PARALLEL_FROM: usize = 1 << 16;

/// Keys and values [kv_heads, room, d], of which the first `held` positions are valid, and the
/// attention window.
struct Held<'a> {
    keys: &'a Tensor,
    values: &'a Tensor,
    held: usize,
    window: usize,
}

/// What becomes of the scores.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// They are multiplied by this.
    pub scale: f32,
    /// A further score for each head, which has no value.
    pub sinks: Option<&'a [f32]>,
}

impl Scores<'_> {
    fn sink(&self, head: usize) -> f32 {
        self.sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[head])
    }
}

/// Attention of queries [T, heads, d], the last T positions of the cache: [T, heads * d].
pub fn attend(queries: &Tensor, cache: &Cache, scores: &Scores<'_>) -> Result<Tensor> {
    let count = queries.dim(0).map_err(failed)?;
    let Some((keys, values)) = cache.tensors().filter(|_| cache.held() >= count) else {
        return Err(EngineError::internal("attention needs the queries' own positions in the cache"));
    };
    let over = Held { keys, values, held: cache.held(), window: cache.window() };
    match cache.element() {
        Element::F32 if count <= FEW_QUERIES => few::<f32>(queries, &over, scores),
        Element::F16 if count <= FEW_QUERIES => few::<f16>(queries, &over, scores),
        Element::F32 => threads::install(|| several(queries, &over, scores)),
        Element::F16 => threads::install(|| {
            // Positions that no query sees are left out.
            let begin = (over.held - count + 1).saturating_sub(over.window);
            let (keys, values) = (widened(keys, begin, over.held)?, widened(values, begin, over.held)?);
            let over = Held { keys: &keys, values: &values, held: over.held - begin, window: over.window };
            several(queries, &over, scores)
        }),
    }
}

/// Positions from `begin` to `end` of f16 keys or values [kv_heads, room, d] in f32.
fn widened(x: &Tensor, begin: usize, end: usize) -> Result<Tensor> {
    let (kv_heads, room, d) = x.dims3().map_err(failed)?;
    let count = end - begin;
    let mut out = vec![0.0; kv_heads * count * d];
    with_numbers(x, |x: &[f16]| {
        kernels::rows(&mut out, d, |at, row| {
            let at = at / count * room + begin + at % count;
            numbers::widen(&x[at * d..][..d], row);
        });
    })?;
    tensor(out, (kv_heads, count, d))
}

/// Several positions, one block of queries at a time. The scores of all would take much memory, and
/// a block needs neither keys after its last position nor keys before the window of its first one.
fn several(queries: &Tensor, over: &Held<'_>, scores: &Scores<'_>) -> Result<Tensor> {
    let (count, heads, d) = queries.dims3().map_err(failed)?;
    let start = over.held - count;
    let per_block = (SCORES / (heads * over.held)).clamp(FEWEST_QUERIES, MOST_QUERIES);
    let mut blocks = Vec::with_capacity(count.div_ceil(per_block));
    for first in (0..count).step_by(per_block) {
        let here = per_block.min(count - first);
        let end = start + first + here;
        let begin = (start + first + 1).saturating_sub(over.window);
        let part = |x: &Tensor| x.narrow(1, begin, end - begin);
        let block = queries
            .narrow(0, first, here)
            .and_then(|queries| block(&queries, &part(over.keys)?, &part(over.values)?, over.window, scores))
            .and_then(|out| out.reshape((here, heads * d)))
            .map_err(failed)?;
        blocks.push(block);
    }
    if blocks.len() == 1 { Ok(blocks.remove(0)) } else { Tensor::cat(&blocks, 0).map_err(failed) }
}

/// Several positions: queries [T, heads, d] over keys and values [kv_heads, n, d], of which the
/// last T are the queries' own: [T, heads, d].
fn block(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    window: usize,
    how: &Scores<'_>,
) -> candle_core::Result<Tensor> {
    let (count, heads, d) = queries.dims3()?;
    let (kv_heads, seen, _) = keys.dims3()?;
    // Query heads that share a key/value head are adjacent: their rows become one matrix.
    let queries = queries.transpose(0, 1)?.contiguous()?.reshape((kv_heads, heads / kv_heads * count, d))?;
    let scores = queries.matmul(&keys.t()?)?;
    scores.inplace_op1(&CausalSoftmax { count, seen, window, how: *how })?;
    scores.matmul(values)?.reshape((heads, count, d))?.transpose(0, 1)?.contiguous()
}

/// Softmax over rows of `seen` scores; row r belongs to the head `r / count` and the query `r %
/// count` of the last `count` positions.
struct CausalSoftmax<'a> {
    count: usize,
    seen: usize,
    window: usize,
    how: Scores<'a>,
}

impl InplaceOp1 for CausalSoftmax<'_> {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("scores should be f32 and lie in one piece");
        };
        let Self { count, seen, window, how } = *self;
        kernels::rows(&mut values[start..end], seen, |at, row| {
            let valid = seen - count + at % count + 1;
            let (before, row) = row.split_at_mut(valid.saturating_sub(window));
            before.fill(0.0);
            kernels::softmax_row(row, valid - before.len(), how.scale, how.sink(at / count));
        });
        Ok(())
    }
}

/// A few positions, one after another: queries [T, heads, d] to [T, heads * d].
fn few<N: Number + WithDType>(queries: &Tensor, over: &Held<'_>, how: &Scores<'_>) -> Result<Tensor> {
    let count = queries.dim(0).map_err(failed)?;
    let row = |at: usize| {
        let held = over.held + at + 1 - count;
        one::<N>(&queries.narrow(0, at, 1).map_err(failed)?, &Held { held, ..*over }, how)
    };
    match count {
        1 => row(0),
        _ => Tensor::cat(&(0..count).map(row).collect::<Result<Vec<_>>>()?, 0).map_err(failed),
    }
}

/// One position: queries [1, heads, d] over the positions it sees: [1, heads * d].
fn one<N: Number + WithDType>(queries: &Tensor, over: &Held<'_>, how: &Scores<'_>) -> Result<Tensor> {
    let (_, heads, d) = queries.dims3().map_err(failed)?;
    let (kv_heads, room, _) = over.keys.dims3().map_err(failed)?;
    let group = heads / kv_heads;
    let len = over.held.min(over.window);
    let begin = over.held - len;
    let mut out = vec![0.0; heads * d];
    with_values(queries, |queries| {
        with_numbers(over.keys, |keys: &[N]| {
            with_numbers(over.values, |values: &[N]| {
                let head = |at: usize, out: &mut [f32]| {
                    let held = (at * room + begin) * d..(at * room + over.held) * d;
                    let queries = &queries[at * group * d..][..group * d];
                    let mut scores = vec![0.0; group * len];
                    let sinks: Vec<f32> = (at * group..(at + 1) * group).map(|head| how.sink(head)).collect();
                    kernels::attend_one(
                        queries,
                        &keys[held.clone()],
                        &values[held],
                        how.scale,
                        &sinks,
                        &mut scores,
                        out,
                    );
                };
                let once = if kv_heads * len * d < PARALLEL_FROM { kv_heads } else { 1 };
                threads::share(&mut out, once * group * d, |at, out| {
                    out.chunks_mut(group * d).enumerate().for_each(|(within, out)| head(at * once + within, out));
                });
            })
        })
    })???;
    tensor(out, (1, heads * d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::backend::LayerCache;
    use candle_core::Device;

    fn wave(count: usize, f: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * f).sin()).collect()
    }

    /// A pass over the last token and 15 drafted ones.
    const FEW: usize = 16;
    const SINKS: [f32; 4] = [0.5, -3.0, 2.0, 0.0];

    fn scores(sinks: bool) -> Scores<'static> {
        Scores { scale: 0.3, sinks: sinks.then_some(&SINKS) }
    }

    /// A block of positions gives the same as each position alone with the cache up to itself.
    #[test]
    fn many_positions_attend_as_each_alone() {
        [Element::F32, Element::F16].into_iter().for_each(many_attend_as_each_alone);
    }

    fn many_attend_as_each_alone(element: Element) {
        let (heads, kv_heads, d, total) = (4, 2, 8, 70);
        let make = |heads: usize, f: f32| {
            Tensor::from_vec(wave(total * heads * d, f), (total, heads, d), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (make(heads, 0.37), make(kv_heads, 0.73), make(kv_heads, 1.3));
        let by_head = |x: Tensor| x.transpose(0, 1).unwrap().contiguous().unwrap();
        let mut one_by_one = Vec::new();
        let mut cache = Cache::new(kv_heads, d, None, element);
        for at in 0..total {
            let here = |x: &Tensor| by_head(x.narrow(0, at, 1).unwrap());
            cache.append(&here(&k), &here(&v)).unwrap();
            let out = attend(&q.narrow(0, at, 1).unwrap(), &cache, &scores(true)).unwrap();
            one_by_one.extend(out.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
        for parts in [vec![total], vec![1, 3, 2, total - 6], vec![33, 37], vec![50, 16, 4]] {
            let mut cache = Cache::new(kv_heads, d, None, element);
            let mut together = Vec::new();
            let mut at = 0;
            for count in parts {
                let here = |x: &Tensor| by_head(x.narrow(0, at, count).unwrap());
                cache.append(&here(&k), &here(&v)).unwrap();
                let out = attend(&q.narrow(0, at, count).unwrap(), &cache, &scores(true)).unwrap();
                let out = out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let alone = &one_by_one[at * heads * d..][..out.len()];
                assert!(count > FEW || out == alone, "{count} positions have other bits than each alone");
                together.extend(out);
                at += count;
            }
            let worst = one_by_one.iter().zip(&together).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{worst}");
        }
    }

    /// A rotating cache gives the same as attention over only the last positions, however they were
    /// appended.
    #[test]
    fn a_window_hides_what_lies_before_it() {
        [Element::F32, Element::F16].into_iter().for_each(window_hides_what_lies_before_it);
    }

    /// Keys and values in f16 give what they do in f32, to their rounding.
    #[test]
    fn f16_is_near_f32() {
        let (heads, kv_heads, d, total) = (4, 2, 64, 300);
        let make = |heads: usize, f: f32| {
            Tensor::from_vec(wave(total * heads * d, f), (heads, total, d), &Device::Cpu).unwrap()
        };
        let (k, v) = (make(kv_heads, 0.73), make(kv_heads, 1.3));
        for count in [1, 40] {
            let q = Tensor::from_vec(wave(count * heads * d, 0.37), (count, heads, d), &Device::Cpu).unwrap();
            let [exact, rounded] = [Element::F32, Element::F16].map(|element| {
                let mut cache = Cache::new(kv_heads, d, None, element);
                cache.append(&k, &v).unwrap();
                attend(&q, &cache, &scores(false)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            });
            let worst = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst > 0.0 && worst < 2e-3, "{worst}");
        }
    }

    fn window_hides_what_lies_before_it(element: Element) {
        let (heads, kv_heads, d, total, window) = (4, 2, 8, 620, 9);
        let make = |heads: usize, f: f32| {
            Tensor::from_vec(wave(total * heads * d, f), (total, heads, d), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (make(heads, 0.37), make(kv_heads, 0.73), make(kv_heads, 1.3));
        let by_head = |x: Tensor| x.transpose(0, 1).unwrap().contiguous().unwrap();
        let values = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut want = Vec::new();
        for at in 0..total {
            // A fresh cache with the positions that this query sees.
            let first = (at + 1usize).saturating_sub(window);
            let here = |x: &Tensor| by_head(x.narrow(0, first, at + 1 - first).unwrap());
            let mut cache = Cache::new(kv_heads, d, None, element);
            cache.append(&here(&k), &here(&v)).unwrap();
            want.extend(values(attend(&q.narrow(0, at, 1).unwrap(), &cache, &scores(false)).unwrap()));
        }
        for parts in [vec![1; total], vec![total], vec![300, 1, 1, 200, 118], vec![5, 3, 300, 312]] {
            let mut cache = Cache::new(kv_heads, d, Some(window), element);
            let (mut got, mut at) = (Vec::new(), 0);
            for count in parts {
                let here = |x: &Tensor| by_head(x.narrow(0, at, count).unwrap());
                cache.append(&here(&k), &here(&v)).unwrap();
                got.extend(values(attend(&q.narrow(0, at, count).unwrap(), &cache, &scores(false)).unwrap()));
                at += count;
                assert_eq!((cache.seen(), cache.len()), (at, at.min(window)));
            }
            let worst = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{worst}");
        }
    }
}
