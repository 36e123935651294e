//! The differential flamegraph.

use std::collections::BTreeMap;

use inferno::flamegraph::{self, Options};

use super::Sides;
use super::side::{Function, Sampled, Side};
use crate::profile::names::{frame, line};
use inferometer_host::guard::catch;
use inferometer_protocol::Phase;
use inferometer_protocol::units::significant;

/// B's flamegraph, in nanoseconds per token, coloured by the change from A: red grew, blue shrank
/// (Gregg 2014). Per token, so that sides with different numbers of samples are comparable. One
/// file without references. Stacks that only A has are not drawn, as they have no width in B.
///
/// `None` if a side has no sample of the phase, or B too few to draw.
#[must_use]
pub fn difference_svg(a: &[Sampled<'_>], b: &[Sampled<'_>], phase: Option<Phase>, title: &str) -> Option<String> {
    let sides = Sides::of(a, b, phase)?;
    let lines = lines(&sides);
    let mut options = Options::default();
    options.title = frame(title).into_owned();
    options.subtitle = Some(format!("{}; {}; red grew, blue shrank", words("A", &sides.a), words("B", &sides.b)));
    options.count_name = "ns per token".to_owned();
    options.hash = true;
    let mut svg = Vec::new();
    // Fails only if nothing is wide enough to draw.
    catch(|| flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)).ok()?.ok()?;
    String::from_utf8(svg).ok()
}

fn words(name: &str, side: &Side) -> String {
    let facts = side.facts();
    let rate = facts.rate_hz.map_or_else(|| "an unknown rate".to_owned(), |hz| format!("{} Hz", significant(hz)));
    format!("{name}: {} ms per token, {} samples at {rate}", significant(facts.ms_per_token), facts.samples)
}

/// Folded stacks with the time on both sides in nanoseconds per token.
fn lines(sides: &Sides) -> Vec<String> {
    let mut times: BTreeMap<&[Function], [f64; 2]> = BTreeMap::new();
    for (at, side) in [&sides.a, &sides.b].into_iter().enumerate() {
        for (frames, ms) in &side.stacks {
            times.entry(frames).or_default()[at] += ms * 1e6;
        }
    }
    let folded = |(frames, [a, b]): (&[Function], [f64; 2])| {
        let names: Vec<String> =
            frames.iter().map(|function| frame(sides.names.name(*function)).into_owned()).collect();
        // A cap of 1000 s per token and stack: beyond that the sums in the drawing code would
        // overflow.
        let [a, b] = [a, b].map(|ns| ns.min(1e12));
        format!("{} {a:.0} {b:.0}", line(&names.join(";")))
    };
    times.into_iter().map(folded).collect()
}
