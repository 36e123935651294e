//! Labels beside marks, placed so that nothing lies on anything else.

use super::frame::{Frame, LABEL_SIZE};
use super::pen::{self, AXIS, Anchor, INK, MUTED, Pen, width_of};

/// How many lines a label may lie above or below its mark.
const FARTHEST: u8 = 12;
/// Height of a label's line.
const LINE: f64 = 15.0;

/// Where a mark lies, in pixels.
pub struct Mark {
    pub at: (f64, f64),
    pub radius: f64,
}

impl Mark {
    pub fn covers(&self) -> Area {
        let reach = self.radius * 1.3 + 1.0;
        Area { left: self.at.0 - reach, top: self.at.1 - reach, right: self.at.0 + reach, bottom: self.at.1 + reach }
    }
}

/// A rectangle in pixels.
#[derive(Clone, Copy)]
pub struct Area {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Area {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

/// The places for a label of this width, the best first: beside the mark, above and below it, then
/// farther away.
fn places(mark: &Mark, width: f64) -> impl Iterator<Item = Area> {
    let (x, y) = mark.at;
    let beside = mark.radius * 1.3 + 5.0;
    let place = move |left: f64, middle: f64| Area {
        left,
        top: middle - LINE / 2.0,
        right: left + width,
        bottom: middle + LINE / 2.0,
    };
    let (right, left) = (x + beside, x - beside - width);
    let near = [(right, y), (left, y), (x - width / 2.0, y - beside - 6.0), (x - width / 2.0, y + beside + 6.0)];
    let lines = (1..=FARTHEST).flat_map(|line| [-f64::from(line), f64::from(line)]).map(move |line| y + line * LINE);
    let far = lines.flat_map(move |y| [(right, y), (left, y)]);
    near.into_iter().chain(far).map(move |(left, middle)| place(left, middle))
}

/// The line from a mark to a label that is not beside it.
fn leader(mark: &Mark, place: &Area) -> Option<((f64, f64), (f64, f64))> {
    let (x, y) = (place.left.max(mark.at.0.min(place.right)), f64::midpoint(place.top, place.bottom));
    let end =
        if (x - mark.at.0).abs() < 1.0 { return None } else { (if x > mark.at.0 { x - 2.0 } else { x + 2.0 }, y) };
    ((y - mark.at.1).abs() > LINE * 1.2).then_some((mark.at, end))
}

/// Writes each label where it meets neither another label nor a mark nor an interval, with a line
/// to its mark if that is not beside it. A label without such a place is left out: the description
/// has all of them.
pub fn labels(
    pen: &mut Pen,
    frame: &Frame,
    taken: &mut Vec<Area>,
    marks: &[Mark],
    words: impl Iterator<Item = (String, bool)>,
) {
    let mut written: Vec<Area> = Vec::new();
    for (mark, (words, bold)) in marks.iter().zip(words) {
        let words = pen::fit(&words, LABEL_SIZE, 0.6 * (frame.right - frame.left));
        let width = width_of(&words, LABEL_SIZE) * if bold { 1.08 } else { 1.0 };
        let crosses = |(from, to): ((f64, f64), (f64, f64))| {
            let along = (1..24).map(|i| f64::from(i) / 24.0);
            let mut points = along.map(|t| (from.0 + (to.0 - from.0) * t, from.1 + (to.1 - from.1) * t));
            points.any(|(x, y)| written.iter().any(|label| label.meets(&Area { left: x, top: y, right: x, bottom: y })))
        };
        let fits = |place: &Area| {
            place.left >= frame.left
                && place.right <= frame.right + 14.0
                && place.top >= frame.top - LINE
                && place.bottom <= frame.bottom - 2.0
                && !taken.iter().any(|other| place.meets(other))
                && !leader(mark, place).is_some_and(crosses)
        };
        let Some(place) = places(mark, width).find(fits) else { continue };
        if let Some((from, to)) = leader(mark, &place) {
            pen.line(from, to, AXIS, 0.8);
        }
        let middle = f64::midpoint(place.top, place.bottom);
        pen.text(&words, (place.left, middle), Anchor::Start, LABEL_SIZE, if bold { INK } else { MUTED }, bold);
        taken.push(place);
        written.push(place);
    }
}
