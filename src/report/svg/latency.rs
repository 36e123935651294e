//! Time between tokens along the generation of one cell: median over iterations, with a band from
//! lowest to highest.

use super::frame::{Axis, Frame, chart};
use super::pen;
use super::{Chart, thin};

const SIZE: (f64, f64) = (360.0, 220.0);
/// The axis ends at this many times the highest median. Higher peaks are cut off; the subtitle
/// counts them.
const HEADROOM: f64 = 3.0;

/// One cell's gaps. Index 1 is the gap between the first and the second token.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub name: String,
    pub title: String,
    pub gaps: Vec<Gap>,
    /// What the median is taken over: `10 iterations`.
    pub over: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    pub index: u32,
    pub median_ms: f64,
    pub least_ms: f64,
    pub most_ms: f64,
}

/// Draws one panel, the vertical axis from 0.
#[must_use]
pub fn draw(panel: &Panel) -> Chart {
    let highest = panel.gaps.iter().map(|g| g.most_ms).fold(0.0, f64::max);
    let median = panel.gaps.iter().map(|g| g.median_ms).fold(0.0, f64::max);
    let top = highest.min(median * HEADROOM).max(f64::MIN_POSITIVE);
    let last = panel.gaps.last().map_or(1, |g| g.index);
    let y = Axis::linear(0.0, top, 4);
    let frame = Frame {
        left: y.room(52.0),
        top: 58.0,
        right: SIZE.0 - 14.0,
        bottom: SIZE.1 - 48.0,
        x: Axis::exact(1.0, f64::from(last.max(2)), 5),
        y,
    };
    let end = frame.y.end();
    let cut = panel.gaps.iter().filter(|g| g.most_ms > end).count();
    let mut subtitle = "ms between tokens".to_owned();
    if cut > 0 {
        subtitle.push_str(&format!("; {cut} cut off, up to {}", inferometer_protocol::units::significant(highest)));
    }
    let first = panel.gaps.first().map_or(0.0, |g| g.median_ms);
    let end_median = panel.gaps.last().map_or(0.0, |g| g.median_ms);
    let description = format!(
        "{}: median over {} of the time between tokens, {first:.2} ms at the second token and {end_median:.2} \
         ms at the last; the longest single gap is {highest:.2} ms.",
        panel.title, panel.over
    );
    chart(SIZE, [&panel.name, &panel.title, &subtitle], description, |pen| {
        frame.draw_y(pen);
        let columns = (frame.right - frame.left) as usize;
        let of = |value: fn(&Gap) -> f64| -> Vec<(f64, f64)> {
            panel.gaps.iter().map(|g| (f64::from(g.index), value(g).min(end))).collect()
        };
        let (least, most) =
            (envelope(&of(|g| g.least_ms), columns, false), envelope(&of(|g| g.most_ms), columns, true));
        let outline: Vec<(f64, f64)> = most.iter().chain(least.iter().rev()).map(|(x, y)| frame.at(*x, *y)).collect();
        pen.area(&outline, pen::PALETTE[0], 0.2);
        let middle = thin(&of(|g| g.median_ms), 1.0, f64::from(last), columns);
        let line: Vec<(f64, f64)> = middle.iter().map(|(x, y)| frame.at(*x, *y)).collect();
        pen.path(&line, pen::PALETTE[0], 1.5);
        frame.draw_x(pen, "token");
    })
}

/// One edge of the band: the highest (or lowest) value of each pixel column.
fn envelope(points: &[(f64, f64)], columns: usize, upper: bool) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(columns.max(1)).max(1);
    points
        .chunks(size)
        .filter_map(|chunk| {
            let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            if upper { chunk.iter().max_by(by_height) } else { chunk.iter().min_by(by_height) }
        })
        .copied()
        .collect()
}
