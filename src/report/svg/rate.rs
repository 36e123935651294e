//! A figure against prompt length or turn: a point for each iteration, a line through the medians,
//! interval bars.

use super::Chart;
use super::frame::{Axis, Frame, LABEL_SIZE, chart};
use super::mark;
use super::pen::{self, Anchor, INK, Pen};
use crate::report::text;
use inferometer_stats::robust;

const SIZE: (f64, f64) = (560.0, 350.0);
/// Up to this many lengths have a tick each. More lengths, such as the turns of a conversation, get
/// ticks at round numbers.
const MOST_TICKS: usize = 8;
/// About half the width of a series' mark.
const MARK: f64 = 4.0;

/// What the horizontal axis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Tokens of the prompt.
    Lengths,
    /// Turns of a conversation, from 0.
    Turns,
}

/// One engine with its toggles, over prompt lengths or turns.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub label: String,
    /// In order of `at`.
    pub points: Vec<Point>,
    /// The fitted law as positions and values, with a dash between each two; empty if there is
    /// none.
    pub law: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its position: a length in tokens or a turn.
    pub at: u32,
    /// One value for each iteration.
    pub values: Vec<f64>,
    pub summary: robust::Summary,
}

impl Across {
    /// The axis through these positions, with room at its ends for series drawn side by side.
    fn axis(self, places: &[u32], series: usize) -> Axis {
        match self {
            Across::Lengths if places.len() > MOST_TICKS => {
                Axis::exact(0.0, f64::from(places.last().copied().unwrap_or(1)) * 1.04, MOST_TICKS)
            }
            Across::Lengths => Axis::through(places, (0.05 + 0.02 * series as f64).min(0.25)),
            Across::Turns => Axis::exact(-0.7, f64::from(places.last().copied().unwrap_or(0)) + 0.7, 10),
        }
    }

    fn words(self, axis: &Axis) -> &'static str {
        match self {
            Across::Lengths if axis.is_logarithmic() => "prompt length, tokens, log scale",
            Across::Lengths => "prompt length, tokens",
            Across::Turns => "turn",
        }
    }

    fn place(self, at: u32) -> String {
        match self {
            Across::Lengths => format!("{at} tokens"),
            Across::Turns => format!("turn {at}"),
        }
    }
}

/// Draws the series; `unit` is written above the vertical axis, which starts at 0.
#[must_use]
pub fn draw(name: &str, title: &str, unit: &str, across: Across, series: &[Series]) -> Chart {
    let mut places: Vec<u32> = series.iter().flat_map(|s| s.points.iter().map(|p| p.at)).collect();
    places.sort_unstable();
    places.dedup();
    let highest = series.iter().flat_map(|s| &s.points).map(|p| p.summary.max).fold(0.0, f64::max);
    let legend = Legend::new(series);
    let y = Axis::exact(0.0, highest * 1.08, 6);
    let frame = Frame {
        left: y.room(58.0),
        top: 62.0 + legend.height(),
        right: SIZE.0 - 18.0,
        bottom: SIZE.1 - 50.0 + legend.height(),
        x: across.axis(&places, series.len()),
        y,
    };
    let description = describe(title, unit, across, series);
    chart((SIZE.0, SIZE.1 + legend.height()), [name, title, unit], description, |pen| {
        legend.draw(pen);
        frame.draw_y(pen);
        frame.draw_x(pen, across.words(&frame.x));
        let slot = slot(&frame, &places, series.len());
        for (i, one) in series.iter().enumerate() {
            draw_series(pen, &frame, one, i, slot, (i as f64 - (series.len() - 1) as f64 / 2.0) * slot);
        }
        // Above all dots, and only where there are series to tell apart.
        for (i, one) in series.iter().enumerate().filter(|_| series.len() > 1) {
            let shift = (i as f64 - (series.len() - 1) as f64 / 2.0) * slot;
            for point in &one.points {
                let (x, y) = frame.at(f64::from(point.at), point.summary.median);
                mark::draw_edged(pen, i, (x + shift, y), MARK);
            }
        }
    })
}

/// Width of one series' dots at one position, so that series fit side by side.
fn slot(frame: &Frame, places: &[u32], series: usize) -> f64 {
    let places: Vec<f64> = places.iter().map(|at| frame.x_at(f64::from(*at))).collect();
    let closest = places.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let room = places.first().map_or(closest, |first| (first - frame.left) * 2.0);
    ((closest * 0.8).min(room * 0.95) / series as f64).min(26.0)
}

fn draw_series(pen: &mut Pen, frame: &Frame, series: &Series, index: usize, slot: f64, shift: f64) {
    let colour = pen::colour(index);
    let place = |at: u32, value: f64| {
        let (x, y) = frame.at(f64::from(at), value);
        (x + shift, y)
    };
    let medians: Vec<(f64, f64)> = series.points.iter().map(|p| place(p.at, p.summary.median)).collect();
    pen.path(&medians, colour, 1.5);
    for dash in series.law.chunks_exact(2) {
        let [from, to] = [dash[0], dash[1]].map(|(at, value)| frame.at(at, value)).map(|(x, y)| (x + shift, y));
        pen.line(from, to, INK, 1.0);
    }
    let half = slot * 0.38;
    for point in &series.points {
        if let Some(interval) = point.summary.interval {
            let (low, high) = (place(point.at, interval.lo), place(point.at, interval.hi));
            pen.line(low, high, colour, 1.6);
            for (x, y) in [low, high] {
                pen.line((x - half * 0.5, y), (x + half * 0.5, y), colour, 1.4);
            }
        }
        let (x, y) = place(point.at, point.summary.median);
        pen.rectangle((x - half, y - 1.1), (x + half, y + 1.1), colour, 1.0);
        for (i, value) in point.values.iter().enumerate() {
            // From left to right in run order, so that equal values do not hide each other.
            let (x, y) = place(point.at, *value);
            let aside = ((i as f64 + 0.5) / point.values.len() as f64 - 0.5) * 2.0 * half;
            pen.dot((x + aside, y), 2.2, colour, 0.6);
        }
    }
}

fn describe(title: &str, unit: &str, across: Across, series: &[Series]) -> String {
    let mut words = format!("{title}, medians in {unit}.");
    for one in series.iter().take(8) {
        let points: Vec<String> = one
            .points
            .iter()
            .take(12)
            .map(|p| {
                format!("{} at {}", inferometer_protocol::units::significant(p.summary.median), across.place(p.at))
            })
            .collect();
        words.push_str(&format!(" {}: {}.", text::label(&one.label), points.join(", ")));
    }
    words
}

/// Names of the series with their colours, on as many lines as needed; empty for a single series.
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
            pen.rectangle((*x, y - 1.0), (x + 20.0, y + 1.0), pen::colour(i), 1.0);
            mark::draw(pen, i, (x + 10.0, y), MARK);
            pen.text(words, (x + 26.0, y), Anchor::Start, LABEL_SIZE, INK, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series with one point has no line, and its median is no further dot.
    #[test]
    fn a_dot_is_an_iteration() {
        let point =
            |at, values: &[f64]| Point { at, values: values.into(), summary: robust::summarize(values).unwrap() };
        let series = |points| Series { label: "s".to_owned(), points, law: Vec::new() };
        let lone = series(vec![point(64, &[3.0, 4.0, 5.0])]);
        let line = series(vec![point(64, &[1.0, 2.0]), point(128, &[2.0, 3.0])]);
        let chart = draw("c", "Rate", "tok/s", Across::Lengths, &[lone, line]);
        assert_eq!(chart.svg.matches("<circle").count(), 3 + 4, "{}", chart.svg);
    }
}
