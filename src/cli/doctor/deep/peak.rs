//! Peak memory of a request and what counts CPU work: tried on this process.

use super::{Item, State};
use crate::telemetry::counters::Counters;
use crate::telemetry::peak;
use inferometer_protocol::units;

const PART: &str = "Peak memory and counters";
/// Allocated and given back, so that only a high-water mark still shows it.
const BLOCK: u64 = 192 << 20;

pub fn items() -> Vec<Item> {
    vec![mark(), counters()]
}

fn mark() -> Item {
    let item = |state, seen: String| Item::new(PART, "high-water mark", state, seen);
    let own = std::process::id();
    let mark = match peak::reset(own) {
        Ok(mark) => mark,
        Err(why) => {
            let instead = peak::current(own).map_or("peak memory is not measured", |_| "the highest sample stands in");
            return item(State::Absent, format!("{why}; {instead}"));
        }
    };
    let before = peak::current(own).unwrap_or(0);
    drop(std::hint::black_box(vec![1_u8; BLOCK as usize]));
    let high = mark.read();
    let again = peak::reset(own).ok().and_then(|mark| mark.read());
    let Some((high, again)) = high.zip(again) else {
        return item(State::Fails, "the mark was reset but cannot be read".to_owned());
    };
    let seen = format!(
        "{:?}: {} before, {} after {} were held for a moment, {} after a reset",
        high.of,
        units::bytes(before),
        units::bytes(high.bytes),
        units::bytes(BLOCK),
        units::bytes(again.bytes)
    );
    let rose = high.bytes >= before.saturating_add(BLOCK / 4 * 3);
    let fell = again.bytes <= high.bytes.saturating_sub(BLOCK / 2);
    item(if rose && fell { State::Works } else { State::Differs }, seen)
}

fn counters() -> Item {
    let item = |state, seen: String| Item::new(PART, "instructions, cycles", state, seen);
    let counters = match Counters::start(std::process::id()) {
        Ok(counters) => counters,
        Err(why) => return item(State::Absent, why),
    };
    let mut x = 0_u64;
    for i in 0..20_000_000_u64 {
        x = std::hint::black_box(x.wrapping_add(i));
    }
    match counters.stop() {
        Some(counts) if counts.instructions > 20_000_000 && counts.cycles > 0 => {
            item(State::Works, format!("{} instructions in {} cycles", counts.instructions, counts.cycles))
        }
        Some(counts) => item(State::Differs, format!("{counts:?} for a loop of 20 million rounds")),
        None => item(State::Differs, "they were started but gave no figure".to_owned()),
    }
}
