//! A chat template: parsed, and rendered with two messages, within its limits.
#![no_main]

use std::sync::LazyLock;

use inferometer_engine::text::ChatTemplate;
use inferometer_protocol::{Chat, Message};

#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

libfuzzer_sys::fuzz_target!(|source: &[u8]| {
    std::fs::write(FOLDER.path().join("chat_template.jinja"), source).expect("a file");
    let Ok(template) = ChatTemplate::from_model(FOLDER.path()) else { return };
    let chat = Chat::of(vec![Message::new("system", "be brief"), Message::new("user", "h\u{e9}")]);
    let _ = template.render(&chat, true);
});
