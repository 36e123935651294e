//! A server's streamed answer: server-sent events, their JSON, and what a request adds up to.
//!
//! The first byte chooses the API, the second how much is read at once, the third how many tokens
//! were requested and when the request is cancelled. How the bytes arrive may change nothing.
#![no_main]

use std::io::Read;

use inferometer_host::protocol::Phase;
use inferometer_host::{Detail, SpanKey, TokenSink};
use inferometer_openai::{Api, Streamed, read_stream};

/// The bytes of a body, at most `most` of them at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    most: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = self.most.min(buffer.len());
        self.bytes.read(&mut buffer[..most])
    }
}

/// Keeps the tokens, and cancels after some.
#[derive(Default)]
struct Kept {
    ids: Vec<u32>,
    cancel_after: Option<usize>,
}

impl TokenSink for Kept {
    fn token(&mut self, id: u32) {
        self.ids.push(id);
    }

    fn detail(&self) -> Detail {
        Detail::Timed
    }

    fn begin(&mut self, _: Phase) -> SpanKey {
        SpanKey::default()
    }

    fn end(&mut self, _: SpanKey) {}

    fn cancelled(&self) -> bool {
        self.cancel_after.is_some_and(|after| self.ids.len() >= after)
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&[api, most, limits], bytes)) = input.split_first_chunk::<3>() else { return };
    let api = [Api::Completions, Api::Chat, Api::Native][usize::from(api) % 3];
    let max_tokens = u32::from(limits % 16) + 1;
    let cancel_after = Some(usize::from(limits / 16)).filter(|after| *after > 0);
    let read = |most: usize| {
        let mut kept = Kept { cancel_after, ..Kept::default() };
        let streamed = read_stream(Pieces { bytes, most }, api, max_tokens, &mut kept);
        (streamed, kept.ids)
    };
    let (whole, ids) = read(usize::MAX);
    let (again, ids_again) = read(usize::from(most) + 1);
    assert_eq!(ids, ids_again, "ids depend on how the bytes arrive");
    match (whole, again) {
        (Ok(whole), Ok(again)) => {
            assert!(whole.pieces <= max_tokens && whole.pieces as usize == ids.len(), "{whole:?}");
            let told = |s: &Streamed| (s.usage, s.finish, s.pieces, s.visible.clone(), s.cancelled, s.several());
            assert_eq!(told(&whole), told(&again));
        }
        (Err(one), Err(other)) => assert!(!one.message.is_empty() && one.message == other.message, "{one} / {other}"),
        (one, other) => panic!("{one:?} / {other:?}"),
    }
});
