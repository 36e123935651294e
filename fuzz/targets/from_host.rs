//! The harness reads a host: lines, messages, and every check of a reply.
//!
//! The first two bytes choose the clock's offset and the time that the harness saw.
#![no_main]

use std::sync::LazyLock;

use inferometer::origin::Origin;
use inferometer::record::{RequestRow, Timing};
use inferometer::run::host::{Arrival, ClockSync, Exchange, check_stamps, message};
use inferometer::run::timing::Sight;
use inferometer::run::validity::{Asked, judge, not_honoured};
use inferometer::run::{measure, validity};
use inferometer::spec::Cell;
use inferometer_protocol::bounded::Lines;
use inferometer_protocol::messages::{FromHost, Generated, MAX_LINE_BYTES};
use inferometer_protocol::{Prompt, Receipt, Request};

static ORIGIN: LazyLock<Origin> = LazyLock::new(Origin::start);
static CELL: LazyLock<Cell> = LazyLock::new(|| {
    let cell = r#"{"id":0,"engine":0,"label":"x","length":null,"toggles":{"prefill_chunk_size":8},"load":{},
        "sampling":{"temperature":0.0,"repetition_penalty":1.1,"repetition_context_size":4},
        "predicted":{"prefill_chunk_size":8,"kv_reuse":true},"merged":[]}"#;
    serde_json::from_str(cell).expect("a cell")
});
static REQUEST: LazyLock<Request> = LazyLock::new(|| {
    let request = r#"{"prompt":{"text":"one two three"},"max_tokens":4,"ignore_eos":true}"#;
    serde_json::from_str(request).expect("a request")
});
static RECEIPT: LazyLock<Receipt> =
    LazyLock::new(|| serde_json::from_str(r#"{"engine":"e","version":"1"}"#).expect("a receipt"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[offset, seen], lines)) = bytes.split_first_chunk::<2>() else { return };
    let offset_ns = [0, 1, -1, 1_000_000_000, i64::MAX, i64::MIN][usize::from(offset) % 6];
    let mut lines = Lines::new(lines, MAX_LINE_BYTES);
    let (mut receipt, mut arrivals, mut sight) = (RECEIPT.clone(), Vec::new(), None);
    while let Ok(Some(line)) = lines.next_line() {
        match message(&line).map(|envelope| envelope.body) {
            Ok(FromHost::Ready(ready)) => {
                receipt = ready.receipt;
                let _ = not_honoured(&CELL, &REQUEST.prompt, &receipt);
            }
            Ok(FromHost::Token { token, .. }) if arrivals.len() < 64 => {
                arrivals.push(Arrival { token, received_ns: u64::from(seen) * 1_000_000 });
            }
            Ok(FromHost::Result(generated)) => {
                let clock = ClockSync { clock: String::new(), offset_ns, round_trip_ns: 1000 };
                let arrivals = std::mem::take(&mut arrivals);
                sight = Some(reply(*generated, arrivals, &clock, &receipt, seen, sight.as_ref()));
            }
            Ok(FromHost::Profile(profile)) => _ = profile.check(),
            _ => {}
        }
    }
});

fn reply(
    generated: Generated,
    arrivals: Vec<Arrival>,
    clock: &ClockSync,
    receipt: &Receipt,
    seen: u8,
    before: Option<&Sight>,
) -> Sight {
    let received_ns = match seen {
        255 => u64::MAX,
        milliseconds => u64::from(milliseconds) * 1_000_000,
    };
    let exchange = Exchange {
        generated,
        arrivals,
        sent_ns: 1,
        received_ns,
        request_bytes: 100,
        reply_bytes: 100,
        to_tokenize: matches!(REQUEST.prompt, Prompt::Text(_)),
        beside_others: false,
    };
    let g = &exchange.generated;
    let stamps = check_stamps(&exchange, clock, REQUEST.max_tokens);
    let asked = Asked { cell: &CELL, request: &REQUEST, choices: seen % 2 == 1, turn: 0, allowed: &[], counted: None };
    let believed = stamps.is_ok();
    let _ = judge(&asked, g, receipt, seen % 3 == 0, stamps);
    let _ = validity::effective(g, receipt);
    let sight = Sight::of(&exchange, clock).probed(2, received_ns);
    let _ = (sight.timing(), sight.doubt());
    if let Some(Sight::Verified(shape) | Sight::Together(shape)) = before {
        let _ = shape.fits(g, seen % 2 == 0);
    }
    // Rows are made of replies whose stamps did not pass, too, without their times.
    measure::fill(&mut RequestRow::default(), g, Timing::Verified, believed);
    let _ = measure::token_rows(0, g, clock.offset_ns, &ORIGIN);
    let _ = measure::span_rows(0, &g.spans, clock.offset_ns, &ORIGIN);
    sight
}
