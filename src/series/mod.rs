//! Series of numbers over time that other programs wrote: tables with a time column, the output of
//! macOS's `vm_stat` and `powermetrics`.

mod power;
mod table;
mod time;
mod vm_stat;

use std::path::{Path, PathBuf};

pub use time::TimeUnit;

/// One column of a file over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the column in the file.
    pub column: String,
    pub unit: Unit,
    /// Seconds since the first row of the file, and the value in [`Series::unit`]; seconds rise.
    pub samples: Vec<(f64, f64)>,
    /// Rows whose cell is empty.
    pub empty: usize,
}

/// What the values of a series are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    /// As the file names it; empty if it does not.
    Other(String),
}

/// What the file does not say itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Column with the values; its name may be shortened or written in another case.
    pub column: String,
    /// Column with the times; `None`: found by its name.
    pub time: Option<String>,
    /// Unit of the times; `None`: the name ends with it, or the values are dates.
    pub time_unit: Option<TimeUnit>,
    /// Seconds between two rows of a file without times.
    pub every_s: Option<f64>,
    /// Unit of the values; `None`: the name ends with it.
    pub unit: Option<String>,
}

/// Why a file gives no series.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{}, line {line}: {message}", path.display())]
    Line { path: PathBuf, line: u64, message: String },
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
}

/// Reads the wanted column of a file. Its format is recognized by its content.
///
/// # Errors
/// A file that cannot be read or has no such column; values that are no numbers; times that are
/// missing or do not rise. Each error names the file, and the line if there is one.
pub fn read(path: &Path, wanted: &Wanted) -> Result<Series, SeriesError> {
    let bytes = fs_err::read(path)?;
    let text = Text { path, text: String::from_utf8_lossy(&bytes).into_owned() };
    let head = || text.text.lines().take(40);
    if bytes.starts_with(b"bplist") || head().any(|line| line.contains("<plist")) {
        return Err(text.error("a property list; let powermetrics write text instead: leave out `-f plist`"));
    }
    if head().any(|line| line.starts_with(power::SAMPLE)) {
        return power::read(&text, wanted);
    }
    if head().any(|line| line.starts_with(vm_stat::HEAD)) {
        return vm_stat::read(&text, wanted);
    }
    table::read(&text, wanted)
}

/// A file's content, for errors that name it.
struct Text<'a> {
    path: &'a Path,
    text: String,
}

impl Text<'_> {
    fn error(&self, message: impl Into<String>) -> SeriesError {
        SeriesError::File { path: self.path.to_owned(), message: message.into() }
    }

    /// `line` counts from 1.
    fn at(&self, line: u64, message: impl Into<String>) -> SeriesError {
        SeriesError::Line { path: self.path.to_owned(), line, message: message.into() }
    }

    /// The position of the column that `wanted` names: exactly, else in another case or spelling,
    /// else by the beginning of its name if only one begins so.
    fn column(&self, names: &[String], wanted: &str) -> Result<usize, SeriesError> {
        let plain = |name: &str| name.to_lowercase().replace([' ', '-'], "_");
        let rules: [&dyn Fn(&str) -> bool; 3] =
            [&|name| name == wanted, &|name| plain(name) == plain(wanted), &|name| {
                plain(name).starts_with(&plain(wanted))
            }];
        for rule in rules {
            let mut found = names.iter().enumerate().filter(|(_, name)| rule(name)).map(|(at, _)| at);
            match (found.next(), found.next()) {
                (Some(at), None) => return Ok(at),
                (Some(_), Some(_)) => {
                    return Err(
                        self.error(format!("more than one column fits `{wanted}`; the file has {}", listed(names)))
                    );
                }
                (None, _) => {}
            }
        }
        Err(self.error(format!("no column `{wanted}`; the file has {}", listed(names))))
    }

    /// Times of rows without a time column.
    fn every(&self, wanted: &Wanted) -> Result<f64, SeriesError> {
        wanted.every_s.ok_or_else(|| {
            self.error(
                "the rows have no times; state the seconds between two of them with `--every`, such as `--every 1`",
            )
        })
    }
}

fn listed(names: &[String]) -> String {
    const MOST: usize = 40;
    let mut shown: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    if names.len() > MOST {
        shown.push(format!("{} more", names.len() - MOST));
    }
    shown.join(", ")
}

/// Unit that a name ends with, and its size in that of [`Unit`]: `wired_mib` holds bytes, by
/// 1048576.
fn unit(name: &str, said: Option<&str>) -> (Unit, f64) {
    let name = name.trim_end_matches([')', ']', ' ']);
    let last = name.rsplit(['_', '(', '[', ' ', '-']).next().unwrap_or_default();
    let word = said.unwrap_or(last);
    let size = match word.to_lowercase().as_str() {
        "bytes" => 1.0,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return (Unit::Other(said.unwrap_or_default().to_owned()), 1.0),
    };
    (Unit::Bytes, size)
}

#[cfg(test)]
mod tests;
