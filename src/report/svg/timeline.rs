//! Gauges over time, one panel each under a common time axis, with what the engine was doing shaded behind them.

use super::frame::{Axis, Frame, LABEL_SIZE, TITLE_SIZE};
use super::pen::{self, Anchor, INK, MUTED, Pen};
use super::{Chart, thin};
use plotters::prelude::RGBColor;

const WIDTH: f64 = 1120.0;
const PANEL: f64 = 104.0;
const GAP: f64 = 34.0;
const TOP: f64 = 62.0;

/// One gauge. Stretches without a value are gaps in the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    pub title: String,
    /// Seconds and value (already in the unit of the title), rising in time, one list for each unbroken stretch.
    pub stretches: Vec<Vec<(f64, f64)>>,
    /// Draw from 0 rather than around the data.
    pub from_zero: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Prefill,
    Decode,
    CacheClear,
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
    pub gauges: Vec<Gauge>,
    pub shades: Vec<Shade>,
}

fn tint(doing: Doing) -> (RGBColor, f64) {
    match doing {
        Doing::Prefill => (pen::PALETTE[4], 0.42),
        Doing::Decode => (RGBColor(0xe6, 0x9f, 0x00), 0.26),
        Doing::CacheClear => (pen::PALETTE[1], 1.0),
    }
}

/// Draws the gauges that have values in the window.
#[must_use]
pub fn draw(timeline: &Timeline) -> Chart {
    let gauges: Vec<&Gauge> = timeline.gauges.iter().filter(|g| extent(g, timeline).is_some()).collect();
    let height = TOP + gauges.len() as f64 * (PANEL + GAP) + 30.0;
    let description = describe(timeline, &gauges);
    let svg = pen::document((WIDTH, height), &timeline.name, &timeline.title, &description, |pen| {
        pen.text(&timeline.title, (14.0, 20.0), Anchor::Start, TITLE_SIZE, INK, true);
        legend(pen, timeline);
        for (i, gauge) in gauges.iter().enumerate() {
            let top = TOP + i as f64 * (PANEL + GAP) + 20.0;
            draw_gauge(pen, timeline, gauge, top, i + 1 == gauges.len());
        }
    });
    Chart { name: timeline.name.clone(), title: timeline.title.clone(), description, svg }
}

fn inside<'a>(gauge: &'a Gauge, timeline: &'a Timeline) -> impl Iterator<Item = f64> + 'a {
    let points = gauge.stretches.iter().flatten();
    points.filter(|(t, _)| (timeline.from..=timeline.to).contains(t)).map(|(_, value)| *value)
}

/// Lowest and highest value in the window.
fn extent(gauge: &Gauge, timeline: &Timeline) -> Option<(f64, f64)> {
    inside(gauge, timeline).fold(None, |found, value| match found {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

fn draw_gauge(pen: &mut Pen, timeline: &Timeline, gauge: &Gauge, top: f64, last: bool) {
    let (low, high) = extent(gauge, timeline).unwrap_or((0.0, 1.0));
    let low = if gauge.from_zero { low.min(0.0) } else { low };
    let frame = Frame {
        left: 64.0,
        top,
        right: WIDTH - 16.0,
        bottom: top + PANEL - 8.0,
        x: Axis::exact(timeline.from, timeline.to, 12),
        y: Axis::linear(low, high, 3),
    };
    pen.text(&gauge.title, (14.0, top - 13.0), Anchor::Start, LABEL_SIZE, MUTED, false);
    shade(pen, timeline, &frame);
    frame.draw_y(pen);
    let columns = (frame.right - frame.left) as usize;
    for stretch in &gauge.stretches {
        let points = thin(stretch, timeline.from, timeline.to, columns);
        let line: Vec<(f64, f64)> = points.iter().map(|(t, v)| frame.at(*t, *v)).collect();
        pen.path(&line, INK, 1.3);
    }
    if last {
        frame.draw_x(pen, "seconds since the run began");
    }
}

fn shade(pen: &mut Pen, timeline: &Timeline, frame: &Frame) {
    for one in timeline.shades.iter().filter(|s| s.to >= timeline.from && s.from <= timeline.to) {
        let (colour, opacity) = tint(one.doing);
        let opacity = if one.warmup { opacity * 0.4 } else { opacity };
        let (from, to) = (frame.x_at(one.from.max(timeline.from)), frame.x_at(one.to.min(timeline.to)));
        let bottom = if one.doing == Doing::CacheClear { frame.top + 6.0 } else { frame.bottom };
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
    ];
    for (_, doing, share, words) in entries.into_iter().filter(|entry| entry.0) {
        let (colour, opacity) = tint(doing);
        pen.rectangle((x, 36.0), (x + 18.0, 48.0), colour, opacity * share);
        pen.text(words, (x + 24.0, 42.0), Anchor::Start, LABEL_SIZE, INK, false);
        x += 24.0 + pen::width_of(words, LABEL_SIZE) + 18.0;
    }
}

fn describe(timeline: &Timeline, gauges: &[&Gauge]) -> String {
    let mut words = format!("{}, {:.1} s to {:.1} s.", timeline.title, timeline.from, timeline.to);
    for gauge in gauges {
        if let Some((low, high)) = extent(gauge, timeline) {
            let number = crate::units::significant;
            words.push_str(&format!(" {}: from {} to {}.", gauge.title, number(low), number(high)));
        }
    }
    words
}
