//! Marks of series, told apart by shape as well as by colour.

use plotters::prelude::RGBColor;

use super::pen::{self, Pen};

/// Corners of each mark around (0, 0): square, triangles, diamond, plus, hexagon, hourglass. As
/// many as there are colours, all of about the same area.
const SHAPES: [&[(f64, f64)]; pen::PALETTE.len()] = [
    &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    &[(0.0, -1.3), (1.25, 0.95), (-1.25, 0.95)],
    &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
    &[(0.0, 1.3), (1.25, -0.95), (-1.25, -0.95)],
    &[
        (-0.45, -1.25),
        (0.45, -1.25),
        (0.45, -0.45),
        (1.25, -0.45),
        (1.25, 0.45),
        (0.45, 0.45),
        (0.45, 1.25),
        (-0.45, 1.25),
        (-0.45, 0.45),
        (-1.25, 0.45),
        (-1.25, -0.45),
        (-0.45, -0.45),
    ],
    &[(-0.55, -1.0), (0.55, -1.0), (1.1, 0.0), (0.55, 1.0), (-0.55, 1.0), (-1.1, 0.0)],
    &[(-1.2, -1.2), (1.2, -1.2), (0.3, 0.0), (1.2, 1.2), (-1.2, 1.2), (-0.3, 0.0)],
];

/// Draws the mark of the n-th series; `radius` is about half its width.
pub fn draw(pen: &mut Pen, n: usize, (x, y): (f64, f64), radius: f64) {
    polygon(pen, n, (x, y), radius, pen::colour(n));
}

/// The mark with a white edge, where marks may lie on each other.
pub fn draw_edged(pen: &mut Pen, n: usize, at: (f64, f64), radius: f64) {
    polygon(pen, n, at, radius + 1.5, pen::WHITE);
    draw(pen, n, at, radius);
}

fn polygon(pen: &mut Pen, n: usize, (x, y): (f64, f64), radius: f64, colour: RGBColor) {
    let corners: Vec<(f64, f64)> =
        SHAPES[n % SHAPES.len()].iter().map(|(dx, dy)| (x + dx * radius, y + dy * radius)).collect();
    pen.area(&corners, colour, 1.0);
}
