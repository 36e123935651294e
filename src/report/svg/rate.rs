//! A rate against prompt length: every iteration a point, medians joined, interval bars.

use super::Chart;
use super::frame::{Axis, Frame, LABEL_SIZE, TITLE_SIZE};
use super::pen::{self, Anchor, INK, MUTED, Pen};
use crate::report::text;
use crate::stats::robust;

const SIZE: (f64, f64) = (560.0, 350.0);

/// One engine with its toggles, over prompt lengths.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub label: String,
    /// Rising in length.
    pub lengths: Vec<AtLength>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AtLength {
    pub tokens: u32,
    /// One value an iteration.
    pub values: Vec<f64>,
    pub summary: robust::Summary,
}

/// Draws the series; `unit` stands above the vertical axis, which begins at 0.
#[must_use]
pub fn draw(name: &str, title: &str, unit: &str, series: &[Series]) -> Chart {
    let mut lengths: Vec<u32> = series.iter().flat_map(|s| s.lengths.iter().map(|l| l.tokens)).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let highest = series.iter().flat_map(|s| &s.lengths).map(|l| l.summary.max).fold(0.0, f64::max);
    let legend = Legend::new(series);
    let frame = Frame {
        left: 58.0,
        top: 62.0 + legend.height(),
        right: SIZE.0 - 18.0,
        bottom: SIZE.1 - 50.0 + legend.height(),
        // Room for the series that stand beside each other at the first and the last length.
        x: Axis::through(&lengths, (0.05 + 0.02 * series.len() as f64).min(0.25)),
        y: Axis::exact(0.0, highest * 1.08, 6),
    };
    let scale = if frame.x.is_logarithmic() { ", log scale" } else { "" };
    let description = describe(title, unit, series);
    let svg = pen::document((SIZE.0, SIZE.1 + legend.height()), name, title, &description, |pen| {
        pen.text(title, (14.0, 20.0), Anchor::Start, TITLE_SIZE, INK, true);
        pen.text(unit, (14.0, 42.0), Anchor::Start, LABEL_SIZE, MUTED, false);
        legend.draw(pen);
        frame.draw_y(pen);
        frame.draw_x(pen, &format!("prompt length, tokens{scale}"));
        let slot = slot(&frame, &lengths, series.len());
        for (i, one) in series.iter().enumerate() {
            draw_series(pen, &frame, one, i, slot, (i as f64 - (series.len() - 1) as f64 / 2.0) * slot);
        }
    });
    Chart { name: name.to_owned(), title: title.to_owned(), description, svg }
}

/// Width in which one series' dots of one length stand, so that series of equal length stand side by side.
fn slot(frame: &Frame, lengths: &[u32], series: usize) -> f64 {
    let places: Vec<f64> = lengths.iter().map(|tokens| frame.x_at(f64::from(*tokens))).collect();
    let closest = places.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let room = places.first().map_or(closest, |first| (first - frame.left) * 2.0);
    ((closest * 0.8).min(room * 0.95) / series as f64).min(26.0)
}

fn draw_series(pen: &mut Pen, frame: &Frame, series: &Series, index: usize, slot: f64, shift: f64) {
    let colour = pen::colour(index);
    let place = |tokens: u32, value: f64| {
        let (x, y) = frame.at(f64::from(tokens), value);
        (x + shift, y)
    };
    let medians: Vec<(f64, f64)> = series.lengths.iter().map(|l| place(l.tokens, l.summary.median)).collect();
    pen.path(&medians, colour, 1.5);
    let half = slot * 0.38;
    for at in &series.lengths {
        if let Some(interval) = at.summary.interval {
            let (low, high) = (place(at.tokens, interval.lo), place(at.tokens, interval.hi));
            pen.line(low, high, colour, 1.6);
            for (x, y) in [low, high] {
                pen.line((x - half * 0.5, y), (x + half * 0.5, y), colour, 1.4);
            }
        }
        let (x, y) = place(at.tokens, at.summary.median);
        pen.rectangle((x - half, y - 1.1), (x + half, y + 1.1), colour, 1.0);
        for (i, value) in at.values.iter().enumerate() {
            // In run order from left to right, so that equal values do not hide each other.
            let (x, y) = place(at.tokens, *value);
            let aside = ((i as f64 + 0.5) / at.values.len() as f64 - 0.5) * 2.0 * half;
            pen.dot((x + aside, y), 2.2, colour, 0.6);
        }
    }
}

fn describe(title: &str, unit: &str, series: &[Series]) -> String {
    let mut words = format!("{title}, medians in {unit}.");
    for one in series.iter().take(8) {
        let points: Vec<String> = one
            .lengths
            .iter()
            .take(12)
            .map(|l| format!("{} at {} tokens", crate::units::significant(l.summary.median), l.tokens))
            .collect();
        words.push_str(&format!(" {}: {}.", text::label(&one.label), points.join(", ")));
    }
    words
}

/// Names of the series with their colours, in as many lines as they need; none for a single series.
struct Legend {
    entries: Vec<(String, f64, f64)>,
    lines: usize,
}

impl Legend {
    fn new(series: &[Series]) -> Self {
        let (mut x, mut line) = (14.0, 0);
        let mut entries = Vec::new();
        for one in series.iter().filter(|_| series.len() > 1) {
            let words = pen::fit(&text::label(&one.label), LABEL_SIZE, SIZE.0 - 60.0);
            let width = 26.0 + pen::width_of(&words, LABEL_SIZE) + 14.0;
            if x + width > SIZE.0 && x > 14.0 {
                (x, line) = (14.0, line + 1);
            }
            entries.push((words, x, f64::from(line)));
            x += width;
        }
        let lines = if entries.is_empty() { 0 } else { line as usize + 1 };
        Self { entries, lines }
    }

    fn height(&self) -> f64 {
        18.0 * self.lines as f64
    }

    fn draw(&self, pen: &mut Pen) {
        for (i, (words, x, line)) in self.entries.iter().enumerate() {
            let y = 61.0 + 18.0 * line;
            pen.rectangle((*x, y - 1.5), (x + 20.0, y + 1.5), pen::colour(i), 1.0);
            pen.text(words, (x + 26.0, y), Anchor::Start, LABEL_SIZE, INK, false);
        }
    }
}
