//! A metric of one cell over time: a dot for each run with its interval, the level between change
//! points, and a mark where the level shifts.

use super::Chart;
use super::frame::{Axis, Frame, LABEL_SIZE, chart};
use super::pen::{self, AXIS, Anchor};
use inferometer_stats::robust::Interval;

const SIZE: (f64, f64) = (560.0, 250.0);
/// Most ticks below the chart.
const TICKS: usize = 6;

/// A series to draw, in the unit of its axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    pub name: String,
    pub title: String,
    pub subtitle: String,
    /// What the vertical axis shows.
    pub unit: String,
    /// In order of time; `None` for a run without a value.
    pub dots: Vec<Option<Dot>>,
    /// The label below each run, if there is room.
    pub ticks: Vec<String>,
    /// Each stretch of runs with one level: first run, one past the last run, median.
    pub levels: Vec<(usize, usize, f64)>,
    /// Where the level shifts: the first run of the new level, the text of the mark, whether it is
    /// worse.
    pub shifts: Vec<(usize, String, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    pub median: f64,
    pub interval: Option<Interval>,
}

/// Draws the series.
#[must_use]
pub fn draw(course: &Course) -> Chart {
    let frame = frame(course);
    chart(SIZE, [&course.name, &course.title, &course.subtitle], description(course), |pen| {
        frame.draw_y(pen);
        frame.draw_x(pen, &format!("runs by time; {}", course.unit));
        for (first, behind, level) in &course.levels {
            let ends = [*first as f64 - 0.4, *behind as f64 - 0.6].map(|x| frame.at(x, *level));
            pen.line(ends[0], ends[1], AXIS, 1.6);
        }
        for (at, words, worse) in &course.shifts {
            let colour = if *worse { pen::PALETTE[1] } else { pen::PALETTE[2] };
            let x = frame.x_at(*at as f64 - 0.5);
            pen.line((x, frame.top - 4.0), (x, frame.bottom), colour, 1.2);
            // On the side that has room.
            let right = x + pen::width_of(words, LABEL_SIZE) + 8.0 < frame.right;
            let (anchor, beside) = if right { (Anchor::Start, 5.0) } else { (Anchor::End, -5.0) };
            pen.text(words, (x + beside, frame.top + 2.0), anchor, LABEL_SIZE, colour, true);
        }
        for (at, dot) in course.dots.iter().enumerate().filter_map(|(at, dot)| Some((at as f64, (*dot)?))) {
            if let Some(interval) = dot.interval {
                pen.line(frame.at(at, interval.lo), frame.at(at, interval.hi), pen::PALETTE[4], 1.6);
            }
            pen.dot(frame.at(at, dot.median), 3.2, pen::PALETTE[0], 0.95);
        }
    })
}

fn frame(course: &Course) -> Frame {
    let dots = || course.dots.iter().flatten();
    let ends = || dots().flat_map(|dot| dot.interval.map_or([dot.median; 2], |i| [i.lo, i.hi]));
    let low = ends().chain(dots().map(|dot| dot.median)).fold(f64::INFINITY, f64::min);
    let high = ends().chain(dots().map(|dot| dot.median)).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    // Keeps a change of one percent from filling the chart.
    let room = ((high - low) * 0.1).max(high.abs() * 0.02);
    let y = Axis::linear(low - room, high + room, 5).not_below(0.0);
    let last = course.dots.len() as f64 - 0.5;
    let mut x = Axis::exact(-0.5, last, 1);
    let step = course.dots.len().div_ceil(TICKS).max(1);
    x.ticks = course.ticks.iter().enumerate().step_by(step).map(|(at, words)| (at as f64, words.clone())).collect();
    Frame { left: y.room(62.0), top: 62.0, right: SIZE.0 - 18.0, bottom: SIZE.1 - 48.0, x, y }
}

fn description(course: &Course) -> String {
    let measured = course.dots.iter().flatten().count();
    let shifts: Vec<String> = course.shifts.iter().map(|(at, words, _)| format!("{words} at run {}", at + 1)).collect();
    let shifts = if shifts.is_empty() { "no change point".to_owned() } else { shifts.join(", ") };
    format!("{}: {}; {measured} of {} runs measured, {shifts}.", course.title, course.subtitle, course.dots.len())
}
