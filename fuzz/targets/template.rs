//! A chat template: parsed, and rendered with two messages, within limits.
//!
//! The limits are smaller than those of a model's template, else the few templates that reach them
//! would take most of the time.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use inferometer_engine::text::{Bounds, ChatTemplate};
use inferometer_protocol::{Chat, Message};

#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

const BOUNDS: Bounds = Bounds { steps: 5_000, memory: 1 << 20, time: Duration::from_secs(2) };

static CHAT: LazyLock<Chat> =
    LazyLock::new(|| Chat::of(vec![Message::new("system", "be brief"), Message::new("user", "h\u{e9}")]));

libfuzzer_sys::fuzz_target!(|source: &str| {
    let path = Path::new("t.jinja");
    let token = |text: &str| Some(text.to_owned());
    let template = ChatTemplate::from_source_within(source.to_owned(), path, token("<s>"), token("</s>"), BOUNDS);
    match template.and_then(|template| template.render(&CHAT, true)) {
        Ok(text) => assert!(text.len() as u64 <= BOUNDS.memory),
        Err(error) => assert!(error.to_string().contains("t.jinja"), "{error}"),
    }
});
