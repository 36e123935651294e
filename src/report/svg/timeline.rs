//! Gauges over time in panels with a common time axis. Shades behind them show the engine's phases.

use super::frame::{Axis, Frame, LABEL_SIZE, chart, key};
use super::pen::{self, Anchor, INK, Pen};
use super::{Chart, thin};
use plotters::prelude::RGBColor;

const WIDTH: f64 = 1120.0;
const PANEL: f64 = 104.0;
const GAP: f64 = 34.0;
const TOP: f64 = 62.0;
/// Left of the panels; more if a label is wide.
const LEFT: f64 = 64.0;
/// Least span of a vertical axis, as a share of the highest value.
const LEAST_SPAN: f64 = 0.01;
/// A line where it falls.
const FALL: RGBColor = RGBColor(0xd5, 0x1e, 0x1e);
const FALL_WIDTH: f64 = 2.6;

/// One panel: a gauge, or several of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// At least one.
    pub gauges: Vec<Gauge>,
    pub unit: String,
    /// The vertical axis starts at 0, not near the lowest value.
    pub from_zero: bool,
}

/// One gauge. The line has a gap where there is no value.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    pub title: String,
    /// Seconds and value (in the panel's unit), in order of time, one list for each unbroken
    /// stretch.
    pub stretches: Vec<Vec<(f64, f64)>>,
    /// In seconds: parts of the line to highlight, such as falls of memory.
    pub falls: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Prefill,
    Decode,
    CacheClear,
    Reset,
}

/// What a request was doing, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shade {
    pub doing: Doing,
    pub from: f64,
    pub to: f64,
    pub warmup: bool,
}

/// A stretch of the run to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    pub name: String,
    pub title: String,
    pub from: f64,
    pub to: f64,
    pub panels: Vec<Panel>,
    pub shades: Vec<Shade>,
}

fn tint(doing: Doing) -> (RGBColor, f64) {
    match doing {
        Doing::Prefill => (pen::PALETTE[4], 0.28),
        Doing::Decode => (RGBColor(0xe6, 0x9f, 0x00), 0.26),
        Doing::CacheClear => (pen::PALETTE[1], 1.0),
        Doing::Reset => (pen::PALETTE[3], 1.0),
    }
}

/// Draws the panels that have values in the window.
#[must_use]
pub fn draw(timeline: &Timeline) -> Chart {
    let panels: Vec<&Panel> = timeline.panels.iter().filter(|p| extent(p, timeline).is_some()).collect();
    let height = TOP + panels.len() as f64 * (PANEL + GAP) + 30.0;
    let description = describe(timeline, &panels);
    let note = if panels.is_empty() { "no samples here" } else { "" };
    let axes: Vec<Axis> = panels.iter().map(|panel| axis(panel, timeline)).collect();
    let left = axes.iter().map(|axis| axis.room(LEFT)).fold(LEFT, f64::max);
    chart((WIDTH, height), [&timeline.name, &timeline.title, note], description, |pen| {
        if !panels.is_empty() {
            legend(pen, timeline);
        }
        for (i, (panel, y)) in panels.iter().zip(axes).enumerate() {
            let top = TOP + i as f64 * (PANEL + GAP) + 24.0;
            let frame = Frame {
                left,
                top,
                right: WIDTH - 16.0,
                bottom: top + PANEL - 8.0,
                x: Axis::exact(timeline.from, timeline.to, 12),
                y,
            };
            draw_panel(pen, timeline, panel, &frame, i + 1 == panels.len());
        }
    })
}

/// Lowest and highest value in the window.
fn extent(panel: &Panel, timeline: &Timeline) -> Option<(f64, f64)> {
    let points = panel.gauges.iter().flat_map(|gauge| &gauge.stretches).flatten();
    let inside = points.filter(|(t, _)| (timeline.from..=timeline.to).contains(t)).map(|(_, value)| *value);
    inside.fold(None, |found, value| match found {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

fn line_colour(index: usize) -> RGBColor {
    if index == 0 { INK } else { [pen::PALETTE[0], pen::PALETTE[1], pen::PALETTE[3], pen::PALETTE[2]][(index - 1) % 4] }
}

/// The panel's vertical axis. Its span is at least a share of the highest value: a change of a few
/// pages of memory is no swing over the whole height.
fn axis(panel: &Panel, timeline: &Timeline) -> Axis {
    let (low, high) = extent(panel, timeline).unwrap_or((0.0, 1.0));
    let low = if panel.from_zero { low.min(0.0) } else { low };
    let missing = (high.abs() * LEAST_SPAN - (high - low)).max(0.0);
    Axis::linear(low - missing / 2.0, high + missing / 2.0, 3)
}

fn draw_panel(pen: &mut Pen, timeline: &Timeline, panel: &Panel, frame: &Frame, last: bool) {
    let mut x = 14.0;
    for (i, gauge) in panel.gauges.iter().enumerate() {
        let words = if i == 0 { format!("{}, {}", gauge.title, panel.unit) } else { gauge.title.clone() };
        pen.text(&words, (x, frame.top - 17.0), Anchor::Start, LABEL_SIZE, line_colour(i), false);
        x += pen::width_of(&words, LABEL_SIZE) + 18.0;
    }
    shade(pen, timeline, frame);
    frame.draw_y(pen);
    let columns = (frame.right - frame.left) as usize;
    for (i, gauge) in panel.gauges.iter().enumerate().rev() {
        for stretch in &gauge.stretches {
            let points = thin(stretch, timeline.from, timeline.to, columns);
            let line: Vec<(f64, f64)> = points.iter().map(|(t, v)| frame.at(*t, *v)).collect();
            match line.as_slice() {
                [only] => pen.dot(*only, 1.3, line_colour(i), 1.0),
                line => pen.path(line, line_colour(i), 1.3),
            }
        }
        for fall in &gauge.falls {
            mark(pen, timeline, frame, &gauge.stretches, *fall);
        }
    }
    if last {
        frame.draw_x(pen, "seconds since the run began");
    }
}

/// Highlights the line where it falls.
fn mark(pen: &mut Pen, timeline: &Timeline, frame: &Frame, stretches: &[Vec<(f64, f64)>], (from, to): (f64, f64)) {
    if to < timeline.from || from > timeline.to {
        return;
    }
    let (from, to) = (from.max(timeline.from), to.min(timeline.to));
    for stretch in stretches {
        // Times were rounded in a text file: a sample at the edge belongs to the fall.
        let first = stretch.partition_point(|(t, _)| *t < from - 1e-9);
        let last = stretch.partition_point(|(t, _)| *t <= to + 1e-9);
        if last > first + 1 {
            let columns = (frame.right - frame.left) as usize;
            let points = thin(&stretch[first..last], timeline.from, timeline.to, columns);
            // A turning point may be the first of many equal samples: memory falls only after them.
            for piece in points.chunk_by(|a, b| b.1 < a.1).filter(|piece| piece.len() > 1) {
                let line: Vec<(f64, f64)> = piece.iter().map(|(t, v)| frame.at(*t, *v)).collect();
                pen.path(&line, FALL, FALL_WIDTH);
            }
        }
    }
}

fn shade(pen: &mut Pen, timeline: &Timeline, frame: &Frame) {
    for one in timeline.shades.iter().filter(|s| s.to >= timeline.from && s.from <= timeline.to) {
        let (colour, opacity) = tint(one.doing);
        let opacity = if one.warmup { opacity * 0.4 } else { opacity };
        let (from, to) = (frame.x_at(one.from.max(timeline.from)), frame.x_at(one.to.min(timeline.to)));
        let bottom = if matches!(one.doing, Doing::CacheClear | Doing::Reset) { frame.top + 6.0 } else { frame.bottom };
        pen.rectangle((from, frame.top), (to, bottom), colour, opacity);
    }
}

fn legend(pen: &mut Pen, timeline: &Timeline) {
    let mut x = 14.0;
    let has = |doing, warmup: Option<bool>| {
        timeline.shades.iter().any(|s| s.doing == doing && warmup.is_none_or(|w| s.warmup == w))
    };
    let entries = [
        (has(Doing::Prefill, None), Doing::Prefill, 1.0, "prefill"),
        (has(Doing::Decode, None), Doing::Decode, 1.0, "decode"),
        (has(Doing::Decode, Some(true)) || has(Doing::Prefill, Some(true)), Doing::Decode, 0.4, "warm-up (paler)"),
        (has(Doing::CacheClear, None), Doing::CacheClear, 1.0, "cache clear"),
        (has(Doing::Reset, None), Doing::Reset, 1.0, "reset"),
    ];
    for (_, doing, share, words) in entries.into_iter().filter(|entry| entry.0) {
        let (colour, opacity) = tint(doing);
        let mark = |pen: &mut Pen| pen.rectangle((x, 36.0), (x + 18.0, 48.0), colour, opacity * share);
        x = key(pen, (x, 42.0), 18.0, words, mark);
    }
    if timeline.panels.iter().flat_map(|panel| &panel.gauges).any(|gauge| !gauge.falls.is_empty()) {
        let mark = |pen: &mut Pen| pen.path(&[(x, 42.0), (x + 18.0, 42.0)], FALL, FALL_WIDTH);
        key(pen, (x, 42.0), 18.0, "fall of memory", mark);
    }
}

fn describe(timeline: &Timeline, panels: &[&Panel]) -> String {
    let mut words = format!("{}, {:.1} s to {:.1} s.", timeline.title, timeline.from, timeline.to);
    for panel in panels {
        if let Some((low, high)) = extent(panel, timeline) {
            let names: Vec<&str> = panel.gauges.iter().map(|gauge| gauge.title.as_str()).collect();
            let (low, high) =
                (inferometer_protocol::units::significant(low), inferometer_protocol::units::significant(high));
            words.push_str(&format!(" {}: from {low} to {high} {}.", names.join(", "), panel.unit));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(points: Vec<(f64, f64)>, falls: Vec<(f64, f64)>) -> Timeline {
        let gauge = Gauge { title: "rss".to_owned(), stretches: vec![points], falls };
        Timeline {
            name: "t".to_owned(),
            title: "The whole run".to_owned(),
            from: 0.0,
            to: 10.0,
            panels: vec![Panel { gauges: vec![gauge], unit: "GiB".to_owned(), from_zero: false }],
            shades: Vec::new(),
        }
    }

    #[test]
    fn a_few_pages_do_not_fill_the_height() {
        let timeline = timeline(vec![(1.0, 22.679_662), (2.0, 22.679_668)], Vec::new());
        let axis = axis(&timeline.panels[0], &timeline);
        assert!(axis.ticks.iter().all(|(_, label)| label.len() <= 5), "{axis:?}");
        let (first, last) = (axis.ticks[0].0, axis.ticks[axis.ticks.len() - 1].0);
        assert!(last - first >= 0.2 && (first..=last).contains(&22.679_665), "{axis:?}");
    }

    #[test]
    fn only_what_falls_is_marked() {
        let points = vec![(1.0, 9.0), (2.0, 9.0), (3.0, 9.0), (4.0, 5.0), (5.0, 5.0), (6.0, 3.0)];
        let svg = draw(&timeline(points, vec![(1.0, 6.0)])).svg;
        let strokes = svg.lines().filter(|line| line.contains("<polyline") && line.contains("#D51E1E"));
        let pieces: Vec<usize> = strokes
            .map(|line| line.split("points=\"").nth(1).unwrap().split(' ').filter(|p| p.contains(',')).count())
            .collect();
        assert_eq!(pieces, [2, 2, 2], "{svg}");
    }

    #[test]
    fn a_window_without_samples_says_so() {
        let svg = draw(&timeline(vec![(20.0, 1.0)], Vec::new())).svg;
        assert!(svg.contains("no samples here") && !svg.contains("seconds since"), "{svg}");
        let one = draw(&timeline(vec![(5.0, 1.0)], Vec::new())).svg;
        assert!(one.contains("<circle") && !one.contains("no samples"), "{one}");
    }
}
