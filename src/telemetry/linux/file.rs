//! Files of `/proc` and `/sys`, kept open and reread from the start.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Folder in place of `/` for the paths of `/proc` and `/sys`.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Root(PathBuf);

/// Sets that folder, such as `/host` in a container that mounts the machine's files there.
const ROOT_VARIABLE: &str = "INFEROMETER_SYSTEM_ROOT";

impl Root {
    pub fn of_system() -> Self {
        Self(std::env::var_os(ROOT_VARIABLE).map_or_else(|| PathBuf::from("/"), PathBuf::from))
    }

    #[cfg(test)]
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// `below` has no leading slash.
    pub fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }

    pub fn process(&self, pid: u32, file: &str) -> PathBuf {
        self.0.join(format!("proc/{pid}/{file}"))
    }

    /// The entries of a folder sorted by name, or why it cannot be listed.
    pub fn list(&self, folder: &str) -> Result<Vec<PathBuf>, String> {
        let entries = fs_err::read_dir(self.path(folder)).map_err(|e| e.to_string())?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        Ok(paths)
    }
}

/// A file that is read repeatedly. One read call gives one consistent moment.
#[derive(Debug)]
pub(in crate::telemetry) struct ProcFile {
    file: fs_err::File,
    buffer: Vec<u8>,
}

impl ProcFile {
    /// `most`: number of bytes to read from the start.
    pub fn open(path: impl Into<PathBuf>, most: usize) -> std::io::Result<Self> {
        Ok(Self { file: fs_err::File::open(path)?, buffer: vec![0; most] })
    }

    /// [`ProcFile::open`] with a first read, since some files can be opened but not read. The error
    /// is a reason to show.
    pub fn tried(path: impl Into<PathBuf>, most: usize) -> Result<Self, String> {
        let mut file = Self::open(path, most).map_err(|e| e.to_string())?;
        let tried = file.file.file().read_at(&mut file.buffer, 0);
        match tried {
            Ok(_) => Ok(file),
            Err(e) => Err(format!("cannot read `{}`: {e}", file.file.path().display())),
        }
    }

    /// A file that contains one number, such as most of `/sys`.
    pub fn of_number(path: impl Into<PathBuf>) -> Result<Self, String> {
        let mut file = Self::tried(path, NUMBER_BYTES)?;
        match file.number() {
            Some(_) => Ok(file),
            None => Err(format!("`{}` does not contain a number", file.file.path().display())),
        }
    }

    /// The current text; `None` when it cannot be read (the process has ended).
    pub fn read(&mut self) -> Option<&str> {
        let length = self.file.file().read_at(&mut self.buffer, 0).ok()?;
        let valid = match std::str::from_utf8(&self.buffer[..length]) {
            Ok(_) => length,
            // A character cut by the end of the buffer, or a process name that is not UTF-8.
            Err(e) => e.valid_up_to(),
        };
        std::str::from_utf8(&self.buffer[..valid]).ok()
    }

    /// The whole text as a number.
    pub fn number(&mut self) -> Option<f64> {
        self.read()?.trim().parse::<i64>().ok().map(|number| number as f64)
    }
}

const NUMBER_BYTES: usize = 64;

/// A process's file, opened when the process becomes the target.
#[derive(Debug)]
pub(super) struct OfTarget<T> {
    pid: Option<u32>,
    opened: Option<T>,
}

impl<T> Default for OfTarget<T> {
    fn default() -> Self {
        Self { pid: None, opened: None }
    }
}

impl<T> OfTarget<T> {
    /// The file that `open` returned for the target, and whether the target changed.
    pub fn of(&mut self, target: Option<u32>, open: impl FnOnce(u32) -> Option<T>) -> (Option<&mut T>, bool) {
        let changed = self.pid != target;
        if changed {
            self.pid = target;
            self.opened = target.and_then(open);
        }
        (self.opened.as_mut(), changed)
    }
}

/// The first number on the line that begins with `name`, such as `VmRSS:    1234 kB`.
pub(in crate::telemetry) fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The number in a file that is read too rarely to be kept open.
pub(super) fn number_in(path: &Path) -> Result<f64, String> {
    let text = fs_err::read_to_string(path).map_err(|e| e.to_string())?;
    let number: i64 = text.trim().parse().map_err(|_| format!("`{}` does not contain a number", path.display()))?;
    Ok(number as f64)
}

/// A word in a file, such as a name or a state.
pub(super) fn word_in(path: &Path) -> Option<String> {
    fs_err::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_the_whole_name() {
        let text = "VmHWM:\t  200 kB\nVmRSS:\t     100 kB\nRssAnon:\t 60 kB\n";
        assert_eq!(number_after(text, "VmRSS:"), Some(100));
        assert_eq!(number_after(text, "RssFile:"), None);
    }

    #[test]
    fn reasons_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        assert!(ProcFile::of_number(root.path("sys/none")).unwrap_err().contains("sys/none"));
        fs_err::write(root.path("word"), "on\n").unwrap();
        assert!(ProcFile::of_number(root.path("word")).unwrap_err().contains("word` does not contain a number"));
        assert!(number_in(&root.path("word")).unwrap_err().contains("does not contain a number"));
        fs_err::write(root.path("number"), "-12\n").unwrap();
        assert_eq!(ProcFile::of_number(root.path("number")).unwrap().number(), Some(-12.0));
        assert!(root.list("nothing").unwrap_err().contains("nothing"));
    }
}
