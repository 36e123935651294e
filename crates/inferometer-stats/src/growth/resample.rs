//! Bootstrap intervals of coefficients: rounds are resampled within each length.
//!
//! Percentile intervals of a small sample are too narrow. They are widened about the estimate by
//! the ratio that Student's t has for a mean of as many rounds (Hesterberg, What Teachers Should
//! Know About the Bootstrap, 2014, section 3.2).

use rand::Rng;

use super::huber::{self, Row, TERMS};
use crate::rng;
use crate::robust;

/// Number of resamples.
pub const RESAMPLES: usize = 2000;

/// The observations of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Median number of tokens.
    pub n: f64,
    /// Round and index of each observation, by ascending round.
    pub members: Vec<(u32, usize)>,
}

impl Group {
    /// Groups observations, given as (length index, round, tokens), by length.
    pub fn of(observations: impl Iterator<Item = (usize, u32, f64)>) -> Vec<Group> {
        let mut lengths: std::collections::BTreeMap<usize, Vec<(u32, usize, f64)>> = std::collections::BTreeMap::new();
        for (index, (length, round, n)) in observations.enumerate() {
            lengths.entry(length).or_default().push((round, index, n));
        }
        let group = |mut members: Vec<(u32, usize, f64)>| {
            members.sort_by_key(|(round, index, _)| (*round, *index));
            let tokens: Vec<f64> = members.iter().map(|m| m.2).collect();
            let n = robust::quantile(&robust::sorted(&tokens), 0.5).expect("a group has members");
            Group { n, members: members.into_iter().map(|(round, index, _)| (round, index)).collect() }
        };
        let mut groups: Vec<Group> = lengths.into_values().map(group).collect();
        groups.sort_by(|a, b| a.n.total_cmp(&b.n));
        groups
    }

    fn rounds(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|(round, _)| *round)
    }
}

/// The interval `[lo, hi]` of each coefficient, with a joint coverage of 95 %.
///
/// If every length has the same rounds, each resample draws the same rounds at all lengths: a
/// disturbance of one round affects its other lengths too, and independent draws would count it
/// several times. Otherwise each length is resampled on its own.
pub fn spread(
    groups: &[Group],
    x: &[Row],
    y: &[f64],
    terms: usize,
    estimate: &[f64; TERMS],
    seed: u64,
) -> Vec<[f64; 2]> {
    let together = groups.iter().all(|group| group.rounds().eq(groups[0].rounds()));
    let fewest = groups.iter().map(|group| group.members.len()).min().unwrap_or(0);
    let mut random = rng::seeded(seed, "growth law");
    let mut draw = |count: usize| -> Vec<usize> { (0..count).map(|_| below(count, &mut random)).collect() };
    let mut found: Vec<Vec<f64>> = vec![Vec::with_capacity(RESAMPLES); terms];
    let (mut rows, mut times) = (Vec::with_capacity(x.len()), Vec::with_capacity(y.len()));
    for _ in 0..RESAMPLES {
        rows.clear();
        times.clear();
        let mut drawn = Vec::new();
        for (i, group) in groups.iter().enumerate() {
            if i == 0 || !together {
                drawn = draw(group.members.len());
            }
            let members = drawn.iter().map(|k| group.members[*k].1);
            rows.extend(members.clone().map(|index| x[index]));
            times.extend(members.map(|index| y[index]));
        }
        // Every resample has all lengths, so it can be fitted if the original could.
        if let Some(solution) = huber::fit_roughly(&rows, &times, terms) {
            found.iter_mut().zip(solution.coefficients).for_each(|(all, one)| all.push(one));
        }
    }
    let tail = (1.0 - super::CONFIDENCE) / terms as f64 / 2.0;
    let widen = widening(fewest, terms);
    found
        .iter()
        .zip(estimate)
        .map(|(values, centre)| {
            let sorted = robust::sorted(values);
            let end = |q| centre + (robust::quantile(&sorted, q).unwrap_or(*centre) - centre) * widen;
            [end(tail), end(1.0 - tail)]
        })
        .collect()
}

/// A random whole number below `count`, by the high half of a product: the same on every platform.
fn below(count: usize, random: &mut impl Rng) -> usize {
    ((u128::from(random.next_u64()) * count as u128) >> 64) as usize
}

/// Ratio of the widths of Student's interval and the bootstrap's interval for a mean of `n`: the
/// bootstrap divides the variance by n instead of n - 1 and uses the normal distribution.
fn widening(n: usize, terms: usize) -> f64 {
    // Normal quantiles at 1 - 0.05 / terms / 2.
    let z: f64 = match terms {
        1 => 1.959_963_984_540_054,
        2 => 2.241_402_727_604_947,
        _ => 2.393_979_799_818_51,
    };
    let freedom = n as f64 - 1.0;
    student(z, freedom) / z * (n as f64 / freedom).sqrt()
}

/// Student's quantile for the normal quantile `z` (Abramowitz and Stegun 26.7.5; within 0.2 % from
/// 9 degrees on).
fn student(z: f64, freedom: f64) -> f64 {
    let z2 = z * z;
    let first = z * (z2 + 1.0) / 4.0;
    let second = z * ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
    let third = z * (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / 384.0;
    z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.t.ppf(1 - 0.05 / terms / 2, freedom)`.
    #[test]
    fn student_is_near_the_published_quantiles() {
        let table = [
            (1, 9.0, 2.262_157_162_854),
            (2, 9.0, 2.685_010_846_816),
            (3, 9.0, 2.933_324_088_374),
            (2, 19.0, 2.433_440_211_374),
            (3, 29.0, 2.540_908_149_499),
        ];
        for (terms, freedom, want) in table {
            let z = [1.959_963_984_540_054, 2.241_402_727_604_947, 2.393_979_799_818_51][terms - 1];
            assert!((student(z, freedom) / want - 1.0).abs() < 0.002, "{terms} {freedom}");
        }
    }

    #[test]
    fn groups_come_by_length_with_rounds_in_order() {
        let groups = Group::of([(7, 2, 64.0), (3, 1, 128.0), (7, 1, 64.0), (3, 2, 130.0)].into_iter());
        assert_eq!(groups[0], Group { n: 64.0, members: vec![(1, 2), (2, 0)] });
        assert_eq!(groups[1], Group { n: 129.0, members: vec![(1, 1), (2, 3)] });
    }
}
