//! A chat template: parsed, and rendered with two messages, within its limits.
#![no_main]

use std::sync::LazyLock;

use inferometer_engine::text::ChatTemplate;
use inferometer_protocol::Message;

#[global_allocator]
static ALLOCATOR: inferometer_host::alloc::Counting = inferometer_host::alloc::Counting;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

libfuzzer_sys::fuzz_target!(|source: &[u8]| {
    std::fs::write(FOLDER.path().join("chat_template.jinja"), source).expect("a file");
    let Ok(template) = ChatTemplate::from_model(FOLDER.path()) else { return };
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let _ = template.render(&[message("system", "be brief"), message("user", "h\u{e9}")], true);
});
