//! Draws in CSS pixels on plotters' SVG backend and wraps the result with title and description.

use plotters::prelude::{DrawingBackend, IntoFont, RGBColor, SVGBackend, ShapeStyle, TextStyle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontFamily, FontStyle};

use crate::report::text;

/// Backend units in a CSS pixel.
const SCALE: f64 = 4.0;
/// plotters divides font sizes by this when it writes SVG.
const FONT_FACTOR: f64 = 1.24;
const FONT: &str = "ui-sans-serif, system-ui, sans-serif";
/// Mean width of a character, in font sizes; there are no font metrics here.
const CHARACTER: f64 = 0.56;

pub const INK: RGBColor = RGBColor(0x1f, 0x24, 0x2b);
pub const MUTED: RGBColor = RGBColor(0x57, 0x60, 0x6a);
pub const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
pub const AXIS: RGBColor = RGBColor(0x9a, 0xa3, 0xad);
pub const WHITE: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// Colours that people with colour blindness can tell apart (Okabe and Ito 2008, without yellow,
/// which is hard to see on white).
pub const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xb8, 0x7d, 0x00),
    RGBColor(0x33, 0x33, 0x33),
];

/// Colour of the n-th series; they repeat after the seventh.
pub fn colour(n: usize) -> RGBColor {
    PALETTE[n % PALETTE.len()]
}

/// Position of a text relative to its point.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// Starts at the point, centred on it vertically.
    Start,
    /// Ends at the point, centred on it vertically.
    End,
    /// Centred below the point.
    Below,
}

/// A drawing surface measured in CSS pixels from the top left.
pub struct Pen<'a> {
    backend: SVGBackend<'a>,
}

fn unit(pixels: f64) -> i32 {
    (pixels * SCALE).round() as i32
}

fn point((x, y): (f64, f64)) -> (i32, i32) {
    (unit(x), unit(y))
}

/// Why plotters' drawing calls cannot return an error here.
const IN_MEMORY: &str = "drawing into memory does not fail";

impl Pen<'_> {
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: RGBColor, width: f64) {
        let style = stroke(colour, 1.0, width);
        self.backend.draw_line(point(from), point(to), &style).expect(IN_MEMORY);
    }

    pub fn path(&mut self, points: &[(f64, f64)], colour: RGBColor, width: f64) {
        if points.len() > 1 {
            let style = stroke(colour, 1.0, width);
            self.backend.draw_path(points.iter().copied().map(point), &style).expect(IN_MEMORY);
        }
    }

    pub fn area(&mut self, points: &[(f64, f64)], colour: RGBColor, opacity: f64) {
        if points.len() > 2 {
            let style = fill(colour, opacity);
            self.backend.fill_polygon(points.iter().copied().map(point), &style).expect(IN_MEMORY);
        }
    }

    /// A filled rectangle between two corners, at least half a pixel wide.
    pub fn rectangle(&mut self, from: (f64, f64), to: (f64, f64), colour: RGBColor, opacity: f64) {
        let to = (to.0.max(from.0 + 0.5), to.1.max(from.1 + 0.25));
        self.backend.draw_rect(point(from), point(to), &fill(colour, opacity), true).expect(IN_MEMORY);
    }

    /// A data point. Nothing else is drawn as a circle, so that circles can be counted.
    pub fn dot(&mut self, at: (f64, f64), radius: f64, colour: RGBColor, opacity: f64) {
        let radius = unit(radius).unsigned_abs();
        self.backend.draw_circle(point(at), radius, &fill(colour, opacity), true).expect(IN_MEMORY);
    }

    /// A cross, for what is not a valid data point.
    pub fn cross(&mut self, (x, y): (f64, f64), radius: f64, colour: RGBColor) {
        self.line((x - radius, y - radius), (x + radius, y + radius), colour, 1.6);
        self.line((x - radius, y + radius), (x + radius, y - radius), colour, 1.6);
    }

    pub fn text(&mut self, words: &str, at: (f64, f64), anchor: Anchor, size: f64, colour: RGBColor, bold: bool) {
        let (horizontal, vertical) = match anchor {
            Anchor::Start => (HPos::Left, VPos::Center),
            Anchor::End => (HPos::Right, VPos::Center),
            Anchor::Below => (HPos::Center, VPos::Top),
        };
        let weight = if bold { FontStyle::Bold } else { FontStyle::Normal };
        let font = (FontFamily::Name(FONT), size * SCALE * FONT_FACTOR, weight).into_font();
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(horizontal, vertical));
        self.backend.draw_text(&text::visible(words), &style, point(at)).expect(IN_MEMORY);
    }
}

fn stroke(colour: RGBColor, opacity: f64, width: f64) -> ShapeStyle {
    ShapeStyle { color: colour.mix(opacity), filled: false, stroke_width: unit(width).unsigned_abs() }
}

fn fill(colour: RGBColor, opacity: f64) -> ShapeStyle {
    ShapeStyle { color: colour.mix(opacity), filled: true, stroke_width: 0 }
}

/// Approximate width of a text.
pub fn width_of(words: &str, size: f64) -> f64 {
    words.chars().count() as f64 * size * CHARACTER
}

/// Text shortened to fit `width`, with an ellipsis.
pub fn fit(words: &str, size: f64, width: f64) -> String {
    let room = (width / (size * CHARACTER)).floor().max(1.0) as usize;
    if words.chars().count() <= room {
        return words.to_owned();
    }
    words.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// Draws a document of `size` CSS pixels on a white ground.
pub fn document(size: (f64, f64), name: &str, title: &str, description: &str, draw: impl FnOnce(&mut Pen)) -> String {
    let mut drawn = String::new();
    let units = (unit(size.0).unsigned_abs(), unit(size.1).unsigned_abs());
    {
        let mut pen = Pen { backend: SVGBackend::with_string(&mut drawn, units) };
        pen.rectangle((0.0, 0.0), size, WHITE, 1.0);
        draw(&mut pen);
        pen.backend.present().expect(IN_MEMORY);
    }
    let body = drawn.split_once(">\n").map_or("", |(_, body)| body);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" \
         aria-labelledby=\"{name}-title {name}-desc\">\n<title id=\"{name}-title\">{}</title>\n\
         <desc id=\"{name}-desc\">{}</desc>\n{body}",
        size.0,
        size.1,
        units.0,
        units.1,
        escape(title),
        escape(description),
    )
}

/// Text as XML character data; characters that reorder or hide text are made visible.
#[must_use]
pub fn escape(raw: &str) -> String {
    let visible = text::visible(raw);
    visible.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "<script>alert(1)</script>]]>\"'&\u{202e}\u{0}";
        let svg = document((100.0, 50.0), "x", hostile, hostile, |pen| {
            pen.text(hostile, (1.0, 1.0), Anchor::Start, 12.0, INK, false);
        });
        assert!(!svg.contains("<script") && !svg.contains("]]>"), "{svg}");
        assert!(!svg.contains('\u{202e}') && !svg.contains('\u{0}'));
        assert_eq!(svg.matches("&lt;script&gt;").count(), 3);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn long_labels_are_cut_to_fit() {
        assert_eq!(fit("short", 12.0, 100.0), "short");
        let cut = fit(&"w".repeat(200), 12.0, 100.0);
        assert!(cut.ends_with('…') && width_of(&cut, 12.0) <= 100.0);
    }
}
