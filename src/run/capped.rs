//! Another program's output as a file of limited size: its first and its last part.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes kept of the beginning of a program's output. They are in the file at once.
pub const FIRST_BYTES: usize = 1 << 20;
/// Bytes kept of its end. They are in the file when the program has ended.
pub const LAST_BYTES: usize = 256 << 10;
const CHUNK: usize = 64 << 10;

/// Takes a program's output as fast as it comes, so that the program never blocks on it, and writes
/// the first and the last part to a file.
#[derive(Debug)]
pub struct Capped {
    kept: Arc<Mutex<Kept>>,
    /// Disconnected when the output has ended.
    ended: Receiver<()>,
}

impl Capped {
    /// Output to the returned pipe goes to `file`.
    ///
    /// # Errors
    /// When the system has no more pipes or threads.
    pub fn start(file: File) -> io::Result<(Self, PipeWriter)> {
        let (output, input) = io::pipe()?;
        let kept = Arc::new(Mutex::new(Kept::new(file)));
        let (end, ended) = channel::<()>();
        let writes = Arc::clone(&kept);
        std::thread::Builder::new().name("output".into()).spawn(move || {
            drain(output, &writes);
            drop(end);
        })?;
        Ok((Self { kept, ended }, input))
    }

    /// Completes the file when the output has ended, at the latest after `patience`: a process that
    /// survived the program may still hold the pipe. Later output is refused.
    pub fn finish(&self, patience: Duration) {
        let _ = self.ended.recv_timeout(patience);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).complete();
    }
}

fn drain(mut output: PipeReader, kept: &Mutex<Kept>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match output.read(&mut chunk) {
            Ok(0) => return,
            Ok(bytes) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.complete {
                    return;
                }
                kept.take(&chunk[..bytes]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[derive(Debug)]
struct Kept<W: Write = File> {
    file: W,
    /// Bytes until the first part is complete.
    left: usize,
    last: VecDeque<u8>,
    left_out: u64,
    complete: bool,
}

impl<W: Write> Kept<W> {
    fn new(file: W) -> Self {
        Self { file, left: FIRST_BYTES, last: VecDeque::new(), left_out: 0, complete: false }
    }

    fn take(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(self.left));
        if !first.is_empty() {
            self.left -= first.len();
            self.write(first);
        }
        self.last.extend(rest);
        let over = self.last.len().saturating_sub(LAST_BYTES);
        self.last.drain(..over);
        self.left_out += over as u64;
    }

    /// Writes the last part, with a note if anything is left out before it.
    fn complete(&mut self) {
        if std::mem::replace(&mut self.complete, true) {
            return;
        }
        let mut last = std::mem::take(&mut self.last);
        let last = last.make_contiguous();
        if self.left_out == 0 {
            return self.write(last);
        }
        // The part begins in the middle of a line.
        let line = last.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let note = format!("\n[inferometer left out {} bytes here]\n", self.left_out + line as u64);
        self.write(note.as_bytes());
        self.write(&last[line..]);
    }

    /// A log that cannot be written must not stop the program that writes it. If the disk is full,
    /// the record says so.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.file.write_all(bytes).and_then(|()| self.file.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(chunks: &[&[u8]]) -> String {
        let mut kept = Kept::new(Vec::new());
        chunks.iter().for_each(|chunk| kept.take(chunk));
        kept.complete();
        kept.complete();
        String::from_utf8(kept.file).unwrap()
    }

    #[test]
    fn output_within_the_limit_is_kept_whole() {
        assert_eq!(kept(&[]), "");
        assert_eq!(kept(&[b"one\ntwo", b"\nthree"]), "one\ntwo\nthree");
        let long = "0123456\n".repeat((FIRST_BYTES + LAST_BYTES) / 8);
        assert_eq!(kept(&[long.as_bytes()]), long);
        assert_eq!(kept(&long.as_bytes().chunks(1000).collect::<Vec<_>>()), long);
    }

    #[test]
    fn of_longer_output_the_first_and_the_last_part_are_kept() {
        let line = |n: usize| format!("{n:07}\n");
        let all: String = (0..1 << 20).map(line).collect();
        let found = kept(&all.as_bytes().chunks(CHUNK).collect::<Vec<_>>());
        assert!(found.starts_with(&line(0)) && found.ends_with(&line((1 << 20) - 1)));
        let (first, rest) = found.split_once("\n[inferometer left out ").unwrap();
        let (bytes, last) = rest.split_once(" bytes here]\n").unwrap();
        assert_eq!(first.len(), FIRST_BYTES);
        assert!(last.len() <= LAST_BYTES && last.len() > LAST_BYTES - 9, "{}", last.len());
        assert_eq!(bytes.parse::<usize>().unwrap(), all.len() - first.len() - last.len());
        assert!(all.starts_with(first) && all.ends_with(last));
    }

    #[test]
    fn a_process_that_keeps_the_pipe_does_not_keep_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (capped, mut pipe) = Capped::start(File::create(&path).unwrap()).unwrap();
        pipe.write_all(b"said before\n").unwrap();
        while fs_err::read(&path).unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        capped.finish(Duration::from_millis(1));
        while pipe.write_all(b"said later\n").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "said before\n");
    }
}
