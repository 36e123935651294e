//! Latency against throughput: a mark for each engine, and the line through those that no other one
//! beats in both.

use super::Chart;
use super::frame::{Axis, Frame, chart};
use super::label::{Area, Mark, labels};
use super::mark;
use super::pen::{self, AXIS, Pen};
use inferometer_protocol::units::significant;
use inferometer_stats::robust;

const SIZE: (f64, f64) = (560.0, 360.0);
/// Half the width of the greatest mark, and of one whose memory was not measured.
const GREATEST: f64 = 10.0;
const LEAST: f64 = 4.0;
/// Beyond this ratio of the medians an axis is logarithmic.
const FAR_APART: f64 = 10.0;
/// One engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its number among the engines, which gives colour and shape.
    pub index: usize,
    pub label: String,
    /// Time to first token in ms, and decode rate in tok/s.
    pub x: robust::Summary,
    pub y: robust::Summary,
    /// Peak memory in bytes and in words; absent if not measured.
    pub memory: Option<(f64, String)>,
}

impl Point {
    fn at(&self) -> (f64, f64) {
        (self.x.median, self.y.median)
    }

    /// Whether `other` is at least as good in both and better in one.
    fn is_beaten_by(&self, other: &Self) -> bool {
        let ((x, y), (other_x, other_y)) = (self.at(), other.at());
        other_x <= x && other_y >= y && (other_x < x || other_y > y)
    }

    fn words(&self) -> String {
        self.memory.as_ref().map_or_else(|| self.label.clone(), |(_, memory)| format!("{}, {memory}", self.label))
    }
}

/// The points that no other one beats in both, by x.
fn front(points: &[Point]) -> Vec<&Point> {
    let mut front: Vec<&Point> =
        points.iter().filter(|point| !points.iter().any(|other| point.is_beaten_by(other))).collect();
    front.sort_by(|a, b| a.x.median.total_cmp(&b.x.median));
    front
}

/// Draws the points.
#[must_use]
pub fn draw(name: &str, title: &str, points: &[Point]) -> Chart {
    let y = axis(points.iter().map(|point| point.y), 6);
    let frame = Frame {
        left: y.room(58.0),
        top: 62.0,
        right: SIZE.0 - 18.0,
        bottom: SIZE.1 - 50.0,
        x: axis(points.iter().map(|point| point.x), 7),
        y,
    };
    let front = front(points);
    let most = points.iter().filter_map(|point| point.memory.as_ref()).map(|(bytes, _)| *bytes).fold(0.0, f64::max);
    let marks: Vec<Mark> = points.iter().map(|point| mark_of(point, &frame, most)).collect();
    let scale = |axis: &Axis| if axis.is_logarithmic() { ", log scale" } else { "" };
    let note = format!("decode, tok/s{}; bold: no other engine beats it in both", scale(&frame.y));
    chart(SIZE, [name, title, &note], describe(title, points), |pen| {
        frame.draw_y(pen);
        frame.draw_x(pen, &format!("time to first token, ms{}", scale(&frame.x)));
        let joined: Vec<(f64, f64)> = front.iter().map(|point| frame.at(point.x.median, point.y.median)).collect();
        pen.path(&joined, AXIS, 1.4);
        let mut taken: Vec<Area> = points.iter().flat_map(|point| intervals(pen, &frame, point)).collect();
        taken.extend(marks.iter().map(Mark::covers));
        labels(pen, &frame, &mut taken, &marks, points.iter().map(|p| (p.words(), front.contains(&p))));
        for (point, mark) in points.iter().zip(&marks) {
            mark::draw_edged(pen, point.index, mark.at, mark.radius);
        }
    })
}

/// From 0, or logarithmic if the medians are far apart.
fn axis(figures: impl Iterator<Item = robust::Summary> + Clone, ticks: usize) -> Axis {
    let ends =
        |s: robust::Summary| s.interval.map_or((s.median, s.median), |i| (i.lo.min(s.median), i.hi.max(s.median)));
    let least = figures.clone().map(|s| s.median).fold(f64::INFINITY, f64::min);
    let most = figures.clone().map(|s| s.median).fold(0.0, f64::max);
    let (lo, hi) =
        figures.map(ends).fold((f64::INFINITY, 0.0), |all: (f64, f64), one| (all.0.min(one.0), all.1.max(one.1)));
    if lo > 0.0 && most > FAR_APART * least { Axis::logarithmic(lo, hi) } else { Axis::exact(0.0, hi * 1.15, ticks) }
}

/// Draws a point's intervals and returns where they lie.
fn intervals(pen: &mut Pen, frame: &Frame, point: &Point) -> Vec<Area> {
    let (colour, (x, y)) = (pen::colour(point.index), point.at());
    let across = point.x.interval.map(|i| (frame.at(i.lo, y), frame.at(i.hi, y)));
    let upright = point.y.interval.map(|i| (frame.at(x, i.lo), frame.at(x, i.hi)));
    let bars = across.into_iter().chain(upright);
    bars.map(|(from, to)| {
        pen.line(from, to, colour, 1.4);
        Area { left: from.0 - 1.0, top: to.1.min(from.1) - 1.0, right: to.0 + 1.0, bottom: to.1.max(from.1) + 1.0 }
    })
    .collect()
}

fn mark_of(point: &Point, frame: &Frame, most: f64) -> Mark {
    let share = point.memory.as_ref().map(|(bytes, _)| (bytes / most).max(0.0).sqrt());
    let radius = share.map_or(LEAST, |share| (GREATEST * share).max(LEAST));
    Mark { at: frame.at(point.x.median, point.y.median), radius }
}

fn describe(title: &str, points: &[Point]) -> String {
    let words = points.iter().map(|point| {
        format!(
            "{}: time to first token {} ms, decode {} tok/s.",
            point.words(),
            significant(point.x.median),
            significant(point.y.median)
        )
    });
    let front: Vec<&str> = front(points).iter().map(|point| point.label.as_str()).collect();
    format!("{title}. {} Beaten by no other in both: {}.", words.collect::<Vec<_>>().join(" "), front.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn point(index: usize, x: f64, y: f64) -> Point {
        let figures = |value: f64| robust::summarize(&[value]).unwrap();
        let label = ["fast", "slow", "lean", "same"][index % 4].to_owned();
        Point {
            index,
            label,
            x: figures(x),
            y: figures(y),
            memory: Some((1e6 * (index + 1) as f64, "1 MB".to_owned())),
        }
    }

    #[test]
    fn the_front_has_what_nothing_beats() {
        let points = [point(0, 10.0, 50.0), point(1, 20.0, 40.0), point(2, 5.0, 30.0), point(3, 10.0, 50.0)];
        let labels: Vec<&str> = front(&points).iter().map(|point| point.label.as_str()).collect();
        assert_eq!(labels, ["lean", "fast", "same"], "equal points do not beat each other");
    }

    #[test]
    fn labels_of_equal_points_do_not_lie_on_each_other() {
        let points: Vec<Point> = (0..6).map(|i| point(i, 10.0, 50.0)).collect();
        let svg = draw("tradeoff", "Latency", &points).svg;
        let texts = svg.split("<text ").skip(1).filter(|text| text.contains("1 MB"));
        let places: BTreeSet<&str> = texts.filter_map(|text| text.split_once('>')).map(|(place, _)| place).collect();
        assert_eq!(places.len(), 6, "each label has a place of its own: {svg}");
        assert!(!svg.contains("<circle"), "circles are iterations");
    }
}
