//! Reads the files of a scenario: bounded, UTF-8, with a reason if that fails.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnose::{Problem, ScenarioError, nearest};
use super::keys::MOST_SCENARIO_BYTES;
use inferometer_protocol::units;

/// The scenario file's text.
///
/// # Errors
/// When it is missing, not a file, too large or not UTF-8.
pub fn scenario(path: &Path) -> Result<String, ScenarioError> {
    // The scenario itself may come through a pipe, since the user named it on the command line.
    bounded(path, MOST_SCENARIO_BYTES).map_err(|why| {
        let problem = Problem::new(format!("cannot read scenario {}: {why}", path.display()));
        let other = if path.exists() { None } else { beside(path) };
        ScenarioError::unread(match other {
            Some(other) => problem.help(format!("did you mean {}?", other.display())),
            None => problem,
        })
    })
}

/// A UTF-8 file of at most `most` bytes that a scenario names; a byte-order mark at its start is
/// removed.
///
/// # Errors
/// The reason, to be shown after the file's name.
pub fn text(path: &Path, most: u64) -> Result<String, String> {
    // A pipe may never get a writer.
    if path.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
        return Err("it is a pipe or a device, not a file".to_owned());
    }
    bounded(path, most)
}

fn bounded(path: &Path, most: u64) -> Result<String, String> {
    let words = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder, not a file".to_owned(),
        _ => error.to_string(),
    };
    // std's error instead of fs_err's: the caller names the file.
    let about = path.metadata().map_err(words)?;
    if about.is_dir() {
        return Err("it is a folder, not a file".to_owned());
    }
    let file = fs_err::File::open(path).map_err(words)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(words)?;
    if bytes.len() as u64 > most {
        return Err(format!("it is larger than {}, the limit", units::bytes(most)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        format!("it is not UTF-8 text: line {line}, byte {at} of the file")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// A scenario file with a similar name in the same folder or in `scenarios/`.
fn beside(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_stem()?.to_str()?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    [folder, Path::new("scenarios")].into_iter().find_map(|folder| {
        let entries = fs_err::read_dir(folder).ok()?;
        let files = entries.filter_map(|e| e.ok().map(|e| e.path()));
        let mut stems: Vec<String> = files
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .filter_map(|p| p.file_stem()?.to_str().map(str::to_owned))
            .collect();
        stems.sort_unstable();
        let near = nearest(wanted, stems.iter().map(String::as_str))?;
        let name = format!("{near}.toml");
        Some(if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) })
    })
}
