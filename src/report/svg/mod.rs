//! Charts as SVG: plain numbers in, one self-contained document out. The only user of plotters.
//!
//! plotters rounds coordinates to whole units, so charts are drawn at four times their size.

pub mod forest;
mod frame;
pub mod history;
pub mod iterations;
mod label;
pub mod latency;
pub mod load;
mod mark;
pub mod pairs;
pub mod pareto;
mod pen;
pub mod rate;
pub mod timeline;

pub use pen::escape;

/// How many series have a colour of their own.
pub const COLOURS: usize = pen::PALETTE.len();

/// A chart ready to be shown or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// Name of its file, without the ending.
    pub name: String,
    pub title: String,
    /// For screen readers.
    pub description: String,
    pub svg: String,
}

/// Keeps at most two points for each of `columns` pixel columns: the lowest and the highest, in
/// order.
///
/// `points` are in order of x; points outside of `from` to `to` are dropped.
#[must_use]
pub fn thin(points: &[(f64, f64)], from: f64, to: f64, columns: usize) -> Vec<(f64, f64)> {
    let inside: Vec<(f64, f64)> = points.iter().copied().filter(|(x, _)| (from..=to).contains(x)).collect();
    if inside.len() <= 2 * columns || to <= from {
        return inside;
    }
    let column = |x: f64| ((x - from) / (to - from) * columns as f64) as usize;
    inside
        .chunk_by(|a, b| column(a.0) == column(b.0))
        .flat_map(|chunk| {
            let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let low = *chunk.iter().min_by(by_height).expect("chunks are never empty");
            let high = *chunk.iter().max_by(by_height).expect("chunks are never empty");
            match low.0.total_cmp(&high.0) {
                _ if low == high => vec![low],
                std::cmp::Ordering::Greater => vec![high, low],
                _ => vec![low, high],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_extreme() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        points[40_321].1 = 99.0;
        points[77_777].1 = -5.0;
        let thinned = thin(&points, 0.0, 99_999.0, 500);
        assert!(thinned.len() <= 2 * 501, "{}", thinned.len());
        assert!(thinned.contains(&(40_321.0, 99.0)) && thinned.contains(&(77_777.0, -5.0)));
        assert!(thinned.windows(2).all(|w| w[0].0 <= w[1].0), "order is kept");
        assert_eq!(thin(&points[..10], 2.0, 5.0, 500).len(), 4, "short series stay whole, the outside is dropped");
    }
}
