//! Reads lines and whole files of bounded length, so that foreign input cannot exhaust memory.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// How much of an unacceptable line an error message shows.
const KEPT: usize = 160;

#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("a line is longer than {limit} bytes; it begins with {}", quote(start))]
    TooLong { limit: usize, start: Vec<u8> },
    #[error("the stream ended in the middle of a line: {}", quote(start))]
    Half { start: Vec<u8> },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Lines of `inner`, each at most `limit` bytes, newline included.
#[derive(Debug)]
pub struct Lines<R> {
    inner: BufReader<R>,
    limit: usize,
}

impl<R: Read> Lines<R> {
    pub fn new(inner: R, limit: usize) -> Self {
        Self { inner: BufReader::with_capacity(64 << 10, inner), limit }
    }

    /// The next line without its newline; `None` at the end of the stream.
    ///
    /// # Errors
    /// A line over the limit, a last line without newline, or a failed read. Nothing can be read
    /// after an error.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        let mut line = Vec::new();
        loop {
            let chunk = match self.inner.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if chunk.is_empty() {
                return if line.is_empty() { Ok(None) } else { Err(LineError::Half { start: line }) };
            }
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(chunk.len(), |at| at + 1);
            if line.len() + taken > self.limit {
                line.extend_from_slice(chunk);
                line.truncate(KEPT);
                return Err(LineError::TooLong { limit: self.limit, start: line });
            }
            line.extend_from_slice(&chunk[..taken]);
            self.inner.consume(taken);
            if newline.is_some() {
                line.pop();
                return Ok(Some(line));
            }
        }
    }
}

/// The start of `bytes` for a message: in backticks, shortened, with control characters escaped.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT)]);
    let rest = bytes.len().saturating_sub(KEPT);
    let more = if rest > 0 { format!("... ({rest} more bytes)") } else { String::new() };
    format!("`{}`{more}", text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

/// The start of a parser's complaint, on one line. It may repeat what could not be read, however
/// long that is.
#[must_use]
pub fn brief(text: &str) -> String {
    let mut start: String = text.chars().take(2 * KEPT).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    start.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

/// Makes another program's `text` safe to print: escapes control characters other than newlines and
/// cuts it at 4,000 characters.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut cleaned = String::new();
    for c in text.chars().take(4000) {
        if c.is_control() && c != '\n' {
            cleaned.extend(c.escape_default());
        } else {
            cleaned.push(c);
        }
    }
    if cleaned.len() < text.len() && text.chars().nth(4000).is_some() {
        cleaned.push_str("...");
    }
    cleaned
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// When the file cannot be read, is not a regular file, or is longer; the message names path and
/// limit.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let refused =
        |problem: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {problem}", path.display()));
    if !fs_err::metadata(path)?.is_file() {
        return Err(refused("not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(refused(format!("longer than {limit} bytes, the limit for such a file")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], limit: usize) -> (Vec<Vec<u8>>, Option<LineError>) {
        let mut lines = Lines::new(bytes, limit);
        let mut read = Vec::new();
        loop {
            match lines.next_line() {
                Ok(Some(line)) => read.push(line),
                Ok(None) => return (read, None),
                Err(error) => return (read, Some(error)),
            }
        }
    }

    #[test]
    fn lines_end_at_newlines_and_a_half_line_is_an_error() {
        let (lines, error) = all(b"one\n\ntwo\nthr", 100);
        assert_eq!(lines, [b"one".to_vec(), b"".to_vec(), b"two".to_vec()]);
        assert!(matches!(error, Some(LineError::Half { start }) if start == b"thr"));
    }

    #[test]
    fn a_line_over_the_limit_is_cut_off() {
        let (lines, error) = all(b"12345\n123456\n", 6);
        assert_eq!(lines, [b"12345".to_vec()]);
        assert!(matches!(error, Some(LineError::TooLong { limit: 6, .. })));
        let flood = vec![b'x'; 1 << 20];
        let (_, error) = all(&flood, 100_000);
        assert!(matches!(error, Some(LineError::TooLong { start, .. }) if start.len() == KEPT));
    }

    #[test]
    fn what_is_quoted_cannot_reach_the_terminal() {
        assert_eq!(quote(b"{\"a\"\x1b[31m\r"), "`{\"a\"\\u{1b}[31m\\r`");
        assert!(quote(&[b'y'; 1000]).ends_with("... (840 more bytes)"));
        assert_eq!(clean("a\nb\x1b[2J"), "a\nb\\u{1b}[2J");
        assert_eq!(brief("unknown \"a\nb\x1b[2J\", so 'no'"), "unknown \"a\\nb\\u{1b}[2J\", so 'no'");
        assert_eq!(brief(&"é".repeat(1 << 20)).chars().count(), 2 * KEPT + 3);
        assert_eq!(clean(&"é".repeat(5000)).chars().count(), 4003);
    }

    #[test]
    fn a_limited_read_takes_the_limit_and_no_byte_more() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.json");
        fs_err::write(&file, b"1234").unwrap();
        assert_eq!(read_limited(&file, 4).unwrap(), b"1234");
        let error = read_limited(&file, 3).unwrap_err().to_string();
        assert!(error.contains("a.json") && error.contains("longer than 3 bytes"), "{error}");
        assert!(read_limited(dir.path(), 3).unwrap_err().to_string().contains("not a regular file"));
        assert_eq!(read_limited(&dir.path().join("b"), 3).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn reading_loses_nothing(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300)) {
            let (lines, error) = all(&bytes, 1000);
            let mut joined: Vec<u8> = lines.into_iter().flat_map(|mut l| { l.push(b'\n'); l }).collect();
            if let Some(LineError::Half { start }) = error {
                joined.extend(start);
            }
            prop_assert_eq!(joined, bytes);
        }
    }
}
