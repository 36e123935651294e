//! Change points of a series: where its level shifted.
//!
//! Optimal partitioning under an absolute-error cost with PELT (Killick, Fearnhead and Eckley 2012;
//! the crate `pelt`), on values in units of their own noise. Deterministic.
//!
//! Error rates, from 2000 simulated series of each length from 8 to 200 values: under independent
//! noise with a constant level, 1 to 4 % of the series get a change point, also if one value in ten
//! is an outlier. A shift of 3 standard deviations in the middle of 20 values is found in 94 % of
//! the series, one of 2 in 57 %, one of 4 three values before the end in 86 %. Drifting noise is
//! mistaken for shifts: values measured back to back on a machine whose speed wanders
//! (autocorrelation 0.9) get a change point in 18 % of series of 8, in 70 % of 20 and in nearly all
//! of 50. Therefore change points never gate.

use std::num::NonZero;

use pelt::{Pelt, SegmentCostFunction};

use super::robust::{quantile, sorted};

/// Series with fewer values have no change points.
pub const FEWEST: usize = 8;
/// Shorter levels are treated as outliers, also at the end of the series.
pub const SHORTEST: usize = 3;
/// What another level must save in the sum of absolute errors, in standard deviations of the noise.
const PENALTY: f64 = 6.0;
/// Median absolute difference of two independent standard normal values.
const NORMAL_STEP: f64 = 0.953_872_552_417_4;

/// Positions at which a new level begins, ascending. The noise is estimated from the differences of
/// neighbours, and is at least `least_noise`. Empty for fewer than [`FEWEST`] values or if one is
/// not finite.
#[must_use]
pub fn change_points(values: &[f64], least_noise: f64) -> Vec<usize> {
    if values.len() < FEWEST || values.iter().any(|v| !v.is_finite()) {
        return Vec::new();
    }
    let steps: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    let noise = quantile(&sorted(&steps), 0.5).map_or(0.0, |step| step / NORMAL_STEP).max(least_noise);
    if noise <= 0.0 {
        return Vec::new();
    }
    let mut kept: Vec<usize> = (0..values.len()).collect();
    loop {
        let scaled: Vec<f64> = kept.iter().map(|at| values[*at] / noise).collect();
        let ends = ends_of_levels(&scaled);
        let outliers: Vec<usize> = levels(&ends).filter(|level| level.len() < SHORTEST).flatten().collect();
        if outliers.is_empty() {
            return ends.iter().rev().skip(1).rev().map(|end| kept[*end]).collect();
        }
        kept = (0..kept.len()).filter(|at| !outliers.contains(at)).map(|at| kept[at]).collect();
    }
}

/// The positions of each level, given where each level ends.
fn levels(ends: &[usize]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let begins = std::iter::once(0).chain(ends.iter().copied());
    begins.zip(ends.iter().copied()).map(|(begin, end)| begin..end)
}

/// Where each level ends (exclusive); the last level ends with the values.
fn ends_of_levels(scaled: &[f64]) -> Vec<usize> {
    // The crate rejects steps of one value, so each value is given twice and a step is two values.
    const TWICE: NonZero<usize> = NonZero::new(2).expect("two is not zero");
    let doubled: Vec<f64> = scaled.iter().flat_map(|v| [*v, *v]).collect();
    let search = Pelt::new()
        .with_jump(TWICE)
        .with_minimum_segment_length(TWICE)
        .with_segment_cost_function(SegmentCostFunction::L1);
    // The search fails only on series that are too short for a second level.
    let ends = search.predict(&doubled[..], 2.0 * PENALTY).unwrap_or_default();
    if ends.is_empty() { vec![scaled.len()] } else { ends.into_iter().map(|end| end / 2).collect() }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Standard normal, by the sum of twelve uniform values.
    fn noise(seed: u64, n: usize) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0).collect()
    }

    fn share(series: u64, found: impl Fn(u64) -> bool) -> f64 {
        (0..series).filter(|seed| found(*seed)).count() as f64 / series as f64
    }

    #[test]
    fn a_planted_step_is_found_where_it_is() {
        for at in [6, 12, 17] {
            let found = share(200, |seed| {
                let mut values = noise(seed, 20);
                values[at..].iter_mut().for_each(|v| *v += 6.0);
                change_points(&values, 0.0) == [at]
            });
            assert!(found > 0.9, "step at {at}: {found}");
        }
        let mut two = noise(5, 30);
        two[10..20].iter_mut().for_each(|v| *v += 8.0);
        assert_eq!(change_points(&two, 0.0), [10, 20]);
    }

    /// Simulation gives 1 to 4 %; 8 % is five standard errors above.
    #[test]
    fn pure_noise_seldom_has_a_change_point() {
        for n in [8, 20, 100] {
            let found = share(500, |seed| !change_points(&noise(1000 + seed, n), 0.0).is_empty());
            assert!(found < 0.08, "{n} values: {found}");
        }
    }

    #[test]
    fn outliers_are_no_levels() {
        let mut values = noise(3, 20);
        (values[7], values[14], values[19]) = (40.0, -30.0, 50.0);
        assert!(change_points(&values, 0.0).is_empty());
    }

    #[test]
    fn nothing_is_found_in_little_or_in_constants() {
        assert!(change_points(&[0.0, 0.0, 0.0, 0.0, 9.0, 9.0, 9.0], 0.1).is_empty(), "seven values");
        assert!(change_points(&[5.0; 40], 0.0).is_empty());
        assert!(change_points(&[5.0; 40], 0.001).is_empty());
        let mut step = vec![5.0; 12];
        step[6..].fill(6.0);
        assert_eq!(change_points(&step, 0.001), [6], "constants that shift");
        step[8] = f64::NAN;
        assert!(change_points(&step, 0.001).is_empty());
    }
}
