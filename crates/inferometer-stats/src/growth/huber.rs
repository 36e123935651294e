//! Huber regression by iteratively reweighted least squares (Huber and Ronchetti, Robust
//! Statistics, 2nd ed., chapter 7).
//!
//! Residuals beyond `k` scales count linearly instead of squared. The scale is the median absolute
//! residual over 0.6745 (the normal distribution's), recomputed in each round as in
//! `statsmodels.RLM`.

/// Where Huber's loss turns from quadratic to linear: 95 % efficiency under normal noise.
const K: f64 = 1.345;
/// Median absolute value of a standard normal variable.
const NORMAL_MAD: f64 = 0.674_489_750_196_081_7;
/// A smaller residual scale is rounding: the points lie on the curve.
const EXACT: f64 = 1e-13;
const MOST_ROUNDS: usize = 200;
/// Convergence: largest relative change of the fitted values.
const SETTLED: f64 = 1e-11;
/// Convergence for resampling, which needs few digits.
const ROUGHLY_SETTLED: f64 = 1e-6;

/// Largest number of coefficients in a fit.
pub const TERMS: usize = 3;
/// Regressors of one observation; those beyond the fit's number of terms are 0.
pub type Row = [f64; TERMS];

/// The best-fitting coefficients, and the scale of the residuals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Solution {
    /// Entries beyond the fit's number of terms are 0.
    pub coefficients: [f64; TERMS],
    /// Robust standard deviation of the residuals, in the unit of `y`.
    pub scale: f64,
}

/// Fits `y` by the first `terms` columns of `x`. `None` if the columns are collinear or there are
/// too few rows.
#[must_use]
pub fn fit(x: &[Row], y: &[f64], terms: usize) -> Option<Solution> {
    iterate(x, y, terms, SETTLED)
}

/// [`fit`] with lower precision, for resampling relative errors.
#[must_use]
pub fn fit_roughly(x: &[Row], y: &[f64], terms: usize) -> Option<Solution> {
    iterate(x, y, terms, ROUGHLY_SETTLED)
}

fn iterate(x: &[Row], y: &[f64], terms: usize, settled: f64) -> Option<Solution> {
    let mut coefficients = least_squares(x, y, &vec![1.0; y.len()], terms)?;
    let mut scale = 0.0;
    for _ in 0..MOST_ROUNDS {
        let residuals: Vec<f64> = x.iter().zip(y).map(|(row, y)| y - dot(row, &coefficients)).collect();
        scale = median_size(&residuals) / NORMAL_MAD;
        if scale < EXACT {
            break;
        }
        let weights: Vec<f64> = residuals.iter().map(|r| (K * scale / r.abs()).min(1.0)).collect();
        let next = least_squares(x, y, &weights, terms)?;
        let moved = x.iter().map(|row| (dot(row, &next) - dot(row, &coefficients)).abs()).fold(0.0, f64::max);
        coefficients = next;
        if moved < settled {
            break;
        }
    }
    Some(Solution { coefficients, scale })
}

fn dot(row: &Row, coefficients: &[f64; TERMS]) -> f64 {
    row.iter().zip(coefficients).map(|(x, c)| x * c).sum()
}

/// Median of the absolute values.
fn median_size(values: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = values.iter().map(|v| v.abs()).collect();
    let middle = sizes.len() / 2;
    let (below, upper, _) = sizes.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if values.len() % 2 == 1 {
        return upper;
    }
    f64::midpoint(below.iter().copied().fold(0.0, f64::max), upper)
}

/// Weighted least squares by modified Gram-Schmidt orthogonalisation (Björck, Numerical Methods for
/// Least Squares Problems, section 2.4): normal equations would square the condition number, which
/// is large for powers of a length.
fn least_squares(x: &[Row], y: &[f64], weights: &[f64], terms: usize) -> Option<[f64; TERMS]> {
    if y.len() < terms {
        return None;
    }
    let root: Vec<f64> = weights.iter().map(|w| w.sqrt()).collect();
    let mut columns: Vec<Vec<f64>> =
        (0..terms).map(|j| x.iter().zip(&root).map(|(row, w)| row[j] * w).collect()).collect();
    columns.push(y.iter().zip(&root).map(|(y, w)| y * w).collect());
    let mut r = [[0.0; TERMS + 1]; TERMS];
    for j in 0..terms {
        let (done, rest) = columns.split_at_mut(j + 1);
        let column = &mut done[j];
        let whole: f64 = x.iter().zip(&root).map(|(row, w)| (row[j] * w).powi(2)).sum::<f64>().sqrt();
        let length = norm(column);
        if length.is_nan() || length <= whole * 1e-9 {
            return None;
        }
        column.iter_mut().for_each(|v| *v /= length);
        r[j][j] = length;
        for (k, other) in rest.iter_mut().enumerate() {
            let along: f64 = column.iter().zip(other.iter()).map(|(a, b)| a * b).sum();
            other.iter_mut().zip(column.iter()).for_each(|(o, c)| *o -= along * c);
            // The last column holds y, whatever the number of terms.
            r[j][if j + 1 + k == terms { TERMS } else { j + 1 + k }] = along;
        }
    }
    let mut coefficients = [0.0; TERMS];
    for j in (0..terms).rev() {
        let known: f64 = (j + 1..terms).map(|k| r[j][k] * coefficients[k]).sum();
        coefficients[j] = (r[j][TERMS] - known) / r[j][j];
    }
    coefficients.iter().all(|c| c.is_finite()).then_some(coefficients)
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_curve_give_it_back() {
        let x: Vec<Row> = (0..8).map(|i| f64::from(i) / 7.0).map(|n| [1.0, n, n * n]).collect();
        let y: Vec<f64> = x.iter().map(|row| 3.0 + 0.5 * row[1] - 2.0 * row[2]).collect();
        let found = fit(&x, &y, 3).unwrap();
        for (got, want) in found.coefficients.iter().zip([3.0, 0.5, -2.0]) {
            assert!((got - want).abs() < 1e-12);
        }
        assert!(found.scale < 1e-12);
    }

    #[test]
    fn one_wild_point_of_nine_hardly_counts() {
        let x: Vec<Row> = (0..9).map(|i| [1.0, f64::from(i) / 8.0, 0.0]).collect();
        let mut y: Vec<f64> =
            x.iter().enumerate().map(|(i, row)| 1.0 + row[1] + if i % 2 == 0 { 0.01 } else { -0.01 }).collect();
        y[8] = 40.0;
        let found = fit(&x, &y, 2).unwrap().coefficients;
        assert!((found[0] - 1.0).abs() < 0.05 && (found[1] - 1.0).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_fitted() {
        assert_eq!(fit(&[[1.0, 0.5, 0.0]; 5], &[1.0; 5], 2), None);
        assert_eq!(fit(&[[1.0, 0.5, 0.0]], &[1.0], 2), None);
        assert_eq!(fit(&[[1.0, f64::NAN, 0.0]; 5], &[1.0; 5], 2), None);
    }
}
