//! Text of tokens that come one by one.

use super::Vocabulary;

/// Bytes that wait for the rest of their character.
#[derive(Debug, Default)]
pub(in crate::text) struct Stream {
    waiting: Vec<u8>,
    started: bool,
}

impl Stream {
    /// The text that one more token completes; `None` if there is none.
    pub fn push(&mut self, id: u32, vocabulary: &Vocabulary) -> Option<String> {
        vocabulary.write(id, !self.started, &mut self.waiting);
        self.started = true;
        let complete = complete(&self.waiting);
        let rest = self.waiting.split_off(complete);
        let text = String::from_utf8_lossy(&self.waiting).into_owned();
        self.waiting = rest;
        (!text.is_empty()).then_some(text)
    }
}

/// Length of the part whose text no further byte can change.
fn complete(bytes: &[u8]) -> usize {
    let mut from = 0;
    loop {
        match str::from_utf8(&bytes[from..]) {
            Ok(_) => return bytes.len(),
            // `None`: the bytes end within a character.
            Err(error) => match error.error_len() {
                None => return from + error.valid_up_to(),
                Some(wrong) => from += error.valid_up_to() + wrong,
            },
        }
    }
}
