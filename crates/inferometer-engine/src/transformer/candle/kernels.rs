//! The element-wise and row-wise arithmetic on the CPU, in f32.
//!
//! Bodies are written so that the compiler vectorizes them. They are compiled twice, the second
//! time for AVX2, so that a portable build still uses AVX2 on processors that have it.

use std::hint::black_box;

use rayon::prelude::*;

use super::numbers::Number;
use super::{numbers, threads};

/// Work on fewer values stays on the calling thread: starting others would cost more.
const PARALLEL_FROM: usize = 1 << 15;
/// Independent accumulators of a sum, which fill vector registers.
const LANES: usize = 16;

/// Compiles a function for the baseline and for AVX2 with FMA, and calls the better one.
macro_rules! for_this_cpu {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),*) $body:block) => {
        $(#[$doc])*
        #[inline]
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    body($($arg),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has the features that the function is compiled for, as
                    // checked above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

/// Calls `f` with each row of `out` and its number, on several threads if there is enough work.
pub fn rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if out.len() < PARALLEL_FROM {
        out.chunks_mut(width).enumerate().for_each(|(at, row)| f(at, row));
    } else {
        let at_once = (PARALLEL_FROM / 4 / width).max(1);
        let rows = out.par_chunks_mut(width).with_min_len(at_once).enumerate();
        threads::install(|| rows.for_each(|(at, row)| f(at, row)));
    }
}

/// e^x within 2 ulp for -87 <= x <= 88; outside, the value at the nearer end. Branch-free, so that
/// loops over it are vectorized. Method: Cody-Waite reduction and a polynomial (S. Moshier, Cephes
/// `expf`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding and subtracting it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    let power = f32::from_bits(
        ((shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127) << 23) as u32,
    );
    p * power
}

#[inline(always)]
fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    // Hidden from the optimizer, which would otherwise shuffle the products to make the sum
    // cheaper.
    total(black_box(lanes)) + rest
}

/// The sum of the lanes, as two chains. (A tree of additions reads better, but then the compiler
/// does not use wide registers in the loop before it.)
#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let (mut first, mut second) = (0.0, 0.0);
    for x in &lanes[..LANES / 2] {
        first += x;
    }
    for x in &lanes[LANES / 2..] {
        second += x;
    }
    first + second
}

for_this_cpu! {
    /// out = x / sqrt(mean(x^2) + eps) * scale, for one row.
    pub fn rms_norm_row(x: &[f32], scale: &[f32], eps: f32, out: &mut [f32]) {
        let mean = sum_of_products(x, x) / x.len() as f32;
        let factor = 1.0 / (mean + eps).sqrt();
        for ((out, x), scale) in out.iter_mut().zip(x).zip(scale) {
            *out = x * factor * scale;
        }
    }
}

for_this_cpu! {
    /// Turns each pair (i, i + n) of a head of 2 n values by its angle.
    pub fn rotate_head(x: &[f32], cos: &[f32], sin: &[f32], out: &mut [f32]) {
        let n = cos.len();
        let (x1, x2) = x.split_at(n);
        let (out1, out2) = out.split_at_mut(n);
        for i in 0..n {
            out1[i] = x1[i] * cos[i] - x2[i] * sin[i];
            out2[i] = x2[i] * cos[i] + x1[i] * sin[i];
        }
    }
}

for_this_cpu! {
    /// out = silu(gate) * up, a row of [gate, up].
    pub fn silu_row(x: &[f32], out: &mut [f32]) {
        let (gate, up) = x.split_at(out.len());
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    }
}

for_this_cpu! {
    /// out = gelu(gate) * up, a row of [gate, up], with the approximation by tanh: Hendrycks and
    /// Gimpel, "Gaussian Error Linear Units" (2016).
    pub fn gelu_row(x: &[f32], out: &mut [f32]) {
        const ROOT: f32 = 0.797_884_6; // sqrt(2 / pi)
        let (gate, up) = x.split_at(out.len());
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            let inner = ROOT * (gate + 0.044_715 * gate * gate * gate);
            // (1 + tanh(z)) / 2 is the logistic function of 2 z.
            *out = gate / (1.0 + exp(-2.0 * inner)) * up;
        }
    }
}

for_this_cpu! {
    /// out = gate * sigmoid(1.702 gate) * (up + 1), a row of [gate, up], with gate at most 7 and up
    /// from -7 to 7: the activation of gpt-oss.
    pub fn clamped_row(x: &[f32], out: &mut [f32]) {
        const LIMIT: f32 = 7.0;
        let (gate, up) = x.split_at(out.len());
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            let gate = if *gate > LIMIT { LIMIT } else { *gate };
            let up = if *up > LIMIT { LIMIT } else { *up };
            let up = if up < -LIMIT { -LIMIT } else { up };
            *out = gate / (1.0 + exp(-1.702 * gate)) * (up + 1.0);
        }
    }
}

for_this_cpu! {
    /// Softmax of `scale` times the first `valid` values, in place; the others become 0. `sink` is
    /// one more score that takes part in the sum alone; minus infinity: none.
    pub fn softmax_row(row: &mut [f32], valid: usize, scale: f32, sink: f32) {
        let (seen, hidden) = row.split_at_mut(valid);
        // Maximum and sum in lanes: without lanes, each would be one long dependency chain.
        let (blocks, rest) = seen.as_chunks::<LANES>();
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for block in blocks {
            for i in 0..LANES {
                lanes[i] = if block[i] > lanes[i] { block[i] } else { lanes[i] };
            }
        }
        let mut highest = sink / scale;
        for x in lanes.iter().chain(rest) {
            highest = if *x > highest { *x } else { highest };
        }
        for x in seen.iter_mut() {
            *x = exp((*x - highest) * scale);
        }
        let (blocks, rest) = seen.as_chunks::<LANES>();
        let mut lanes = [0f32; LANES];
        for block in blocks {
            for i in 0..LANES {
                lanes[i] += block[i];
            }
        }
        let sinks = if sink > f32::NEG_INFINITY { exp(sink - highest * scale) } else { 0.0 };
        let sum = total(lanes) + rest.iter().sum::<f32>() + sinks;
        let factor = 1.0 / sum;
        for x in seen.iter_mut() {
            *x *= factor;
        }
        hidden.fill(0.0);
    }
}

/// Attention of one position: the query heads `queries` [group, d] that share one key/value head,
/// over its keys and values [n, d] each. `scores` is room for [group, n], `sinks` [group] as for
/// [`softmax_row`]. `out` is [group, d].
pub fn attend_one<N: Number>(
    queries: &[f32],
    keys: &[N],
    values: &[N],
    scale: f32,
    sinks: &[f32],
    scores: &mut [f32],
    out: &mut [f32],
) {
    let d = queries.len() / sinks.len();
    let n = keys.len() / d;
    numbers::products(keys, queries, d, scores);
    for (row, sink) in scores.chunks_exact_mut(n).zip(sinks) {
        softmax_row(row, n, scale, *sink);
    }
    out.fill(0.0);
    numbers::add_weighted(values, scores, d, out);
}

/// Values that share a scale when rounded to 8 bits.
const QUANTIZED: usize = 32;

for_this_cpu! {
    /// Rounds each block of 32 values to 8 bits (two's complement) with the scale that its largest
    /// value needs. `sums` becomes the sums of the block's two halves.
    pub fn quantize(x: &[f32], out: &mut [u8], scales: &mut [f32], sums: &mut [[i32; 2]]) {
        const ROUND: f32 = 12_582_912.0; // as in `exp`
        let blocks = x.as_chunks::<QUANTIZED>().0.iter().zip(out.as_chunks_mut::<QUANTIZED>().0);
        for (((x, out), scale), sums) in blocks.zip(scales).zip(sums) {
            let mut most = [0f32; LANES];
            for half in x.as_chunks::<LANES>().0 {
                for i in 0..LANES {
                    most[i] = if half[i].abs() > most[i] { half[i].abs() } else { most[i] };
                }
            }
            let most = most.iter().fold(0f32, |a, b| if *b > a { *b } else { a });
            *scale = most / 127.0;
            let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
            for (half, total) in sums.iter_mut().enumerate() {
                let mut sum = 0;
                for i in half * LANES..(half + 1) * LANES {
                    let value = (x[i] * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
                    out[i] = value as u8;
                    sum += value;
                }
                *total = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_hold_a_block_to_half_a_step() {
        let x: Vec<f32> = (0..96).map(|i| (i as f32 * 0.7).sin() * if i < 32 { 3.0 } else { 1e-3 }).collect();
        let (mut out, mut scales, mut sums) = ([0; 96], [0.0; 3], [[0; 2]; 3]);
        quantize(&x, &mut out, &mut scales, &mut sums);
        let out = out.map(|byte: u8| byte as i8);
        for (at, (x, q)) in x.iter().zip(out).enumerate() {
            assert!((x - f32::from(q) * scales[at / 32]).abs() <= 0.501 * scales[at / 32]);
        }
        for (block, sums) in out.chunks(32).zip(sums) {
            let sum = |half: &[i8]| half.iter().map(|q| i32::from(*q)).sum::<i32>();
            assert_eq!([sum(&block[..16]), sum(&block[16..])], sums);
            assert!(block.contains(&127) || block.contains(&-127));
        }
    }

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}): {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(1e30).is_finite());
    }

    #[test]
    fn activations_are_those_of_the_formulas() {
        let gate: Vec<f32> = (-40..40).map(|i| i as f32 * 0.31).collect();
        let up: Vec<f32> = (0..80).map(|i| (i as f32 * 1.7).sin() * 9.0).collect();
        let row = [gate.as_slice(), &up].concat();
        type Row = fn(&[f32], &mut [f32]);
        type Formula = fn(f64, f64) -> f64;
        fn sigmoid(x: f64) -> f64 {
            1.0 / (1.0 + (-x).exp())
        }
        let formulas: [(Row, Formula); 3] = [
            (silu_row, |g, u| g * sigmoid(g) * u),
            (gelu_row, |g, u| {
                let z = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g * g * g);
                0.5 * g * (1.0 + z.tanh()) * u
            }),
            (clamped_row, |g, u| g.min(7.0) * sigmoid(1.702 * g.min(7.0)) * (u.clamp(-7.0, 7.0) + 1.0)),
        ];
        for (at, (row_of, want)) in formulas.iter().enumerate() {
            let mut out = vec![0.0; 80];
            row_of(&row, &mut out);
            for ((got, gate), up) in out.iter().zip(&gate).zip(&up) {
                let want = want(f64::from(*gate), f64::from(*up));
                assert!((f64::from(*got) - want).abs() < 2e-6 * want.abs().max(1.0), "{at}: {gate} {up}: {got} {want}");
            }
        }
    }

    #[test]
    fn softmax_sums_to_one_and_hides_the_rest() {
        for n in [1, 3, 16, 17, 100] {
            let mut row: Vec<f32> = (0..n + 5).map(|i| (i as f32 * 1.7).sin() * 30.0).collect();
            let want: Vec<f64> = row[..n].iter().map(|x| (f64::from(*x) * 0.5).exp()).collect();
            let total: f64 = want.iter().sum();
            softmax_row(&mut row, n, 0.5, f32::NEG_INFINITY);
            for (got, want) in row.iter().zip(&want) {
                assert!((f64::from(*got) - want / total).abs() < 1e-6);
            }
            assert_eq!(row[n..], [0.0; 5]);
        }
    }

    #[test]
    fn rows_are_numbered_alike_on_one_thread_and_on_many() {
        for count in [3, 10_000] {
            let mut out = vec![0.0; count * 8];
            rows(&mut out, 8, |at, row| row.fill(at as f32));
            assert!(out.chunks(8).enumerate().all(|(at, row)| row.iter().all(|x| *x == at as f32)));
        }
    }

    /// Heads that do not fill registers, and more positions than are read at once.
    #[test]
    fn one_position_attends_like_the_formula() {
        for (d, n, group) in [(20, 7, 3), (64, 300, 2), (112, 129, 1)] {
            let wave = |count: usize, f: f32| (0..count).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
            let (q, k, v) = (wave(group * d, 0.3), wave(n * d, 0.7), wave(n * d, 1.1));
            attends_like_the_formula(&q, &k, &v, d, |x| x);
            let halves = |x: Vec<f32>| x.into_iter().map(half::f16::from_f32).collect::<Vec<_>>();
            attends_like_the_formula(&q, &halves(k), &halves(v), d, half::f16::to_f32);
        }
    }

    fn attends_like_the_formula<N: Number>(q: &[f32], k: &[N], v: &[N], d: usize, value: impl Fn(N) -> f32) {
        let (group, n) = (q.len() / d, k.len() / d);
        let mut out = vec![0.0; group * d];
        let sinks = [f32::NEG_INFINITY, 0.3, -1.0];
        let scale = (d as f32).powf(-0.5);
        attend_one(q, k, v, scale, &sinks[..group], &mut vec![0.0; group * n], &mut out);
        let (k, v) = (k.iter().map(|x| value(*x)), v.iter().map(|x| value(*x)));
        let (k, v): (Vec<_>, Vec<_>) = (k.collect(), v.collect());
        for head in 0..group {
            let dot = |at: usize| (0..d).map(|i| f64::from(q[head * d + i]) * f64::from(k[at * d + i])).sum::<f64>();
            let weights: Vec<f64> = (0..n).map(|at| (dot(at) / (d as f64).sqrt()).exp()).collect();
            let total: f64 = weights.iter().sum::<f64>() + f64::from(sinks[head]).exp();
            for i in 0..d {
                let want: f64 = (0..n).map(|at| weights[at] / total * f64::from(v[at * d + i])).sum();
                assert!((f64::from(out[head * d + i]) - want).abs() < 1e-5);
            }
        }
    }
}
