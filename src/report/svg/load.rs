//! Throughput against latency: a mark for each level of load, joined in the order of the levels.

use super::Chart;
use super::frame::{Axis, Frame, chart, key};
use super::label::{Area, Mark, labels};
use super::mark;
use super::pen::{self, Pen};
use inferometer_protocol::units::significant;

const SIZE: (f64, f64) = (560.0, 360.0);
const RADIUS: f64 = 5.0;
/// Beyond this ratio of the latencies their axis is logarithmic.
const FAR_APART: f64 = 10.0;

/// Levels of one engine in one kind of loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    pub label: String,
    pub points: Vec<Point>,
}

/// A level of load.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub label: String,
    /// Answered requests a second.
    pub rate: f64,
    /// 95th percentile of the time to the last token, in milliseconds.
    pub latency_ms: f64,
    /// The engine does not keep up, so that a longer load would make this higher.
    pub grows: bool,
}

/// Draws the curves; each has a point.
#[must_use]
pub fn draw(name: &str, title: &str, curves: &[Curve]) -> Chart {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|point| point.latency_ms).fold(0.0, f64::max);
    let least = points().map(|point| point.latency_ms).fold(f64::INFINITY, f64::min);
    let y = match least > 0.0 && most > FAR_APART * least {
        true => Axis::logarithmic(least, most),
        false => Axis::exact(0.0, most * 1.15, 6),
    };
    let scale = if y.is_logarithmic() { ", log scale" } else { "" };
    let fastest = points().map(|point| point.rate).fold(0.0, f64::max);
    let frame = Frame {
        left: y.room(58.0),
        top: 82.0,
        right: SIZE.0 - 18.0,
        bottom: SIZE.1 - 50.0,
        x: Axis::exact(0.0, fastest * 1.15, 7),
        y,
    };
    let note = format!("time from intended start to last token, p95, ms{scale}; bold: does not keep up");
    chart(SIZE, [name, title, &note], describe(title, curves), |pen| {
        frame.draw_y(pen);
        frame.draw_x(pen, "answered requests per second");
        let mut at = frame.left;
        for (n, curve) in curves.iter().enumerate() {
            at = key(pen, (at, 60.0), 12.0, &curve.label, |pen| mark::draw(pen, n, (at + 6.0, 60.0), RADIUS));
        }
        let mut taken = Vec::new();
        for (n, curve) in curves.iter().enumerate() {
            let joined: Vec<(f64, f64)> = curve.points.iter().map(|p| frame.at(p.rate, p.latency_ms)).collect();
            pen.path(&joined, pen::colour(n), 1.4);
            taken.extend(joined.windows(2).flat_map(|ends| along(ends[0], ends[1])));
        }
        let marks: Vec<Mark> = points().map(|p| Mark { at: frame.at(p.rate, p.latency_ms), radius: RADIUS }).collect();
        taken.extend(marks.iter().map(Mark::covers));
        labels(pen, &frame, &mut taken, &marks, points().map(|p| (p.label.clone(), p.grows)));
        draw_marks(pen, curves, &marks);
    })
}

/// What a line covers, in small pieces: labels stay off it.
fn along(from: (f64, f64), to: (f64, f64)) -> impl Iterator<Item = Area> {
    const PIECES: u32 = 48;
    (0..=PIECES).map(move |piece| {
        let share = f64::from(piece) / f64::from(PIECES);
        let (x, y) = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
        Area { left: x - 1.0, top: y - 1.0, right: x + 1.0, bottom: y + 1.0 }
    })
}

fn draw_marks(pen: &mut Pen, curves: &[Curve], marks: &[Mark]) {
    let numbers = curves.iter().enumerate().flat_map(|(n, curve)| curve.points.iter().map(move |_| n));
    for (n, mark) in numbers.zip(marks) {
        mark::draw_edged(pen, n, mark.at, mark.radius);
    }
}

fn describe(title: &str, curves: &[Curve]) -> String {
    let point = |point: &Point| {
        let grows = if point.grows { ", does not keep up" } else { "" };
        format!("{}: {} a second, {} ms{grows}", point.label, significant(point.rate), significant(point.latency_ms))
    };
    let of =
        |curve: &Curve| format!("{}: {}.", curve.label, curve.points.iter().map(point).collect::<Vec<_>>().join("; "));
    format!("{title}. {}", curves.iter().map(of).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_drawn_and_described() {
        let point = |label: &str, rate, latency_ms, grows| Point { label: label.to_owned(), rate, latency_ms, grows };
        let closed = Curve {
            label: "closed loop".to_owned(),
            points: vec![point("sessions=1", 30.0, 33.0, false), point("sessions=4", 30.0, 130.0, false)],
        };
        let open = Curve {
            label: "open loop".to_owned(),
            points: vec![point("rate=10/s", 10.0, 35.0, false), point("rate=40/s", 30.0, 900.0, true)],
        };
        let drawn = draw("load", "Throughput against latency", &[closed, open]);
        for words in ["sessions=1", "sessions=4", "rate=10/s", "rate=40/s", "closed loop", "open loop", "log scale"] {
            assert!(drawn.svg.contains(&format!(">{words}")) || drawn.svg.contains(words), "{words}");
        }
        assert!(
            drawn.description.contains("rate=40/s: 30.0 a second, 900 ms, does not keep up"),
            "{}",
            drawn.description
        );
    }
}
