//! Numbers the requests: per process, or in a file that several processes share.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::Result;
use inferometer_protocol::EngineError;

/// More requests than any run makes; a file with a larger number is not a counter of this program.
const MOST: u64 = 10_000_000;

/// Numbers the requests from 0.
#[derive(Debug)]
pub enum Slots {
    Own(u64),
    Shared(PathBuf),
}

impl Slots {
    #[must_use]
    pub fn new(state: Option<PathBuf>) -> Self {
        state.map_or(Self::Own(0), Self::Shared)
    }

    /// The next request's number. A failed request uses up its number too.
    ///
    /// # Errors
    /// When the shared file cannot be read or written, or holds no count.
    pub fn take(&mut self) -> Result<u64> {
        match self {
            Self::Own(next) => {
                *next += 1;
                Ok(*next - 1)
            }
            Self::Shared(path) => take(path),
        }
    }
}

fn take(path: &Path) -> Result<u64> {
    let io = |error: std::io::Error| EngineError::internal(format!("option state: {error}"));
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    file.file().lock().map_err(io)?;
    let mut text = String::new();
    // One byte more than the longest count.
    (&mut file).take(24).read_to_string(&mut text).map_err(io)?;
    let count = match text.trim() {
        "" => 0,
        digits => digits.parse::<u64>().ok().filter(|count| *count < MOST).ok_or_else(|| {
            EngineError::internal(format!("option state: {} is not a request counter; remove it", path.display()))
        })?,
    };
    file.rewind().map_err(io)?;
    file.write_all((count + 1).to_string().as_bytes()).map_err(io)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_share_a_file_count_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut a = Slots::new(Some(path.clone()));
        let mut b = Slots::new(Some(path.clone()));
        let taken: Vec<u64> = (0..12).map(|i| if i % 3 == 0 { a.take() } else { b.take() }.unwrap()).collect();
        assert_eq!(taken, (0..12).collect::<Vec<u64>>());
        let mut own = Slots::new(None);
        assert_eq!((own.take().unwrap(), own.take().unwrap()), (0, 1));
        for wrong in ["x", "99999999999999999999999999", "10000000"] {
            fs_err::write(&path, wrong).unwrap();
            let error = a.take().unwrap_err();
            assert!(error.message.contains("state") && error.message.contains("remove it"), "{error}");
        }
        let mut nowhere = Slots::new(Some(folder.path().join("no/such/folder")));
        assert!(nowhere.take().unwrap_err().message.contains("no/such/folder"));
    }
}
