//! Every pair of a gate in order of time. Shows drift, bursts and effects of the order within
//! pairs.

use super::Chart;
use super::forest::change;
use super::frame::{Axis, Frame, chart, key};
use super::pen::{self, AXIS, MUTED};

const SIZE: (f64, f64) = (560.0, 300.0);

/// One gate's pairs; changes above 0 are worse.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub name: String,
    pub title: String,
    /// Of all changes: `%`, `MiB`, or nothing.
    pub unit: &'static str,
    pub dots: Vec<Dot>,
    /// Numbers of the excluded pairs.
    pub lost: Vec<u32>,
    pub delta: f64,
    pub estimate: Option<f64>,
    pub interval: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    pub pair: u32,
    pub change: f64,
    /// Whether A ran first.
    pub a_first: bool,
}

/// Draws one panel: estimate and interval as a band, +-delta as lines, a dot for each pair in the
/// colour of its order.
#[must_use]
pub fn draw(panel: &Panel) -> Chart {
    let changes = || panel.dots.iter().map(|dot| dot.change);
    let lo = changes().fold(-panel.delta, f64::min);
    let hi = changes().fold(panel.delta, f64::max);
    let numbers = || panel.dots.iter().map(|dot| dot.pair).chain(panel.lost.iter().copied());
    let (first, last) = (numbers().min().unwrap_or(1), numbers().max().unwrap_or(1));
    let mut x = Axis::exact(f64::from(first) - 0.7, f64::from(last) + 0.7, 10.min(1 + (last - first) as usize));
    x.ticks.retain(|(value, _)| value.fract().abs() < 1e-9);
    let y = Axis::linear(lo, hi, 5).relabel(|v| change(v, panel.unit));
    let frame = Frame {
        left: y.room(62.0),
        top: 64.0,
        right: SIZE.0 - 16.0,
        bottom: SIZE.1 - 50.0,
        x: x.relabel(|v| format!("{v:.0}")),
        y,
    };
    let orders = [true, false].map(|first| panel.dots.iter().filter(|dot| dot.a_first == first).count());
    let reach = |fold: fn(f64, f64) -> f64| changes().reduce(fold).unwrap_or(0.0);
    let said = |change: f64| format!("{change:+.1} {}", panel.unit).trim_end().to_owned();
    let description = format!(
        "{}: {} pairs ({} with A first, {} with B first), changes of B vs A from {} to {}; {} excluded pairs.",
        panel.title,
        panel.dots.len(),
        orders[0],
        orders[1],
        said(reach(f64::min)),
        said(reach(f64::max)),
        panel.lost.len()
    );
    chart(SIZE, [&panel.name, &panel.title, ""], description, |pen| {
        legend(pen, !panel.lost.is_empty());
        if let Some((lo, hi)) = panel.interval {
            let (top, bottom) = (frame.y_at(hi.min(frame.y.end())), frame.y_at(lo));
            pen.rectangle((frame.left, top), (frame.right, bottom), pen::PALETTE[4], 0.22);
        }
        frame.draw_y(pen);
        pen.line((frame.left, frame.y_at(0.0)), (frame.right, frame.y_at(0.0)), AXIS, 1.2);
        for bound in [panel.delta, -panel.delta] {
            dashed(pen, (frame.left, frame.right), frame.y_at(bound));
        }
        if let Some(estimate) = panel.estimate {
            let y = frame.y_at(estimate);
            pen.line((frame.left, y), (frame.right, y), pen::PALETTE[0], 1.6);
        }
        for number in &panel.lost {
            pen.cross((frame.x_at(f64::from(*number)), frame.bottom - 8.0), 4.0, pen::PALETTE[3]);
        }
        for dot in &panel.dots {
            let colour = if dot.a_first { pen::PALETTE[0] } else { pen::PALETTE[1] };
            pen.dot(frame.at(f64::from(dot.pair), dot.change), 3.8, colour, 0.9);
        }
        frame.draw_x(pen, "pair, in order of time");
    })
}

fn dashed(pen: &mut pen::Pen, (from, to): (f64, f64), y: f64) {
    let mut x = from;
    while x < to {
        pen.line((x, y), ((x + 6.0).min(to), y), MUTED, 1.2);
        x += 11.0;
    }
}

/// Squares, not dots: only data is drawn as circles.
fn legend(pen: &mut pen::Pen, lost: bool) {
    let mut x = 14.0;
    for (colour, words) in [(pen::PALETTE[0], "A ran first"), (pen::PALETTE[1], "B ran first")] {
        x = key(pen, (x, 40.0), 9.0, words, |pen| pen.rectangle((x, 35.0), (x + 9.0, 44.0), colour, 0.9));
    }
    if lost {
        x = key(pen, (x, 40.0), 9.0, "excluded", |pen| pen.cross((x + 4.0, 40.0), 4.0, pen::PALETTE[3]));
    }
    key(pen, (x, 40.0), 17.0, "± delta", |pen| dashed(pen, (x, x + 17.0), 40.0));
}
