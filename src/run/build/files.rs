//! The files of a worktree after a build: what a later session must find again to use the build.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{hash_of, hex};
use sha2::{Digest, Sha256};

/// Every file below a folder: a line each, sorted, with its kind, content and path. Git is not
/// asked: it leaves out untracked and ignored files, and tracked ones that are marked as unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files(String);

impl Files {
    /// Reads every file of `tree`, except the link to its repository.
    ///
    /// # Errors
    /// When a file or folder cannot be read.
    pub fn of(tree: &Path) -> io::Result<Self> {
        let mut lines = Vec::new();
        let mut folders = vec![tree.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(&folder)? {
                let path = entry?.path();
                let about = fs_err::symlink_metadata(&path)?;
                let name = path.strip_prefix(tree).unwrap_or(&path);
                if about.is_dir() {
                    folders.push(path);
                } else if name != Path::new(".git") {
                    lines.push(format!("{name:?} {}", content(&path, &about)?));
                }
            }
        }
        lines.sort_unstable();
        Ok(Self(lines.join("\n")))
    }

    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.0))
    }

    /// The list as text, one line a file.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The first file in which an earlier list, as text, differs, and how.
    pub fn difference(&self, earlier: &str) -> Option<String> {
        let (now, then): (BTreeSet<&str>, BTreeSet<&str>) = (self.0.lines().collect(), earlier.lines().collect());
        let (changed, gone) = (now.difference(&then).next(), then.difference(&now).next());
        let name = |line: &str| line.rsplit_once(' ').map_or(line, |(name, _)| name).trim_matches('"').to_owned();
        let is_known = |line: &str| then.iter().any(|other| name(other) == name(line));
        match (changed, gone) {
            (Some(line), _) if is_known(line) => Some(format!("`{}` has been changed", name(line))),
            (Some(line), _) => Some(format!("`{}` has been added", name(line))),
            (None, Some(line)) => Some(format!("`{}` has been removed", name(line))),
            (None, None) => None,
        }
    }
}

/// The kind of a file and the digest of its content.
fn content(path: &Path, about: &std::fs::Metadata) -> io::Result<String> {
    if about.is_symlink() {
        let target: PathBuf = fs_err::read_link(path)?;
        return Ok(format!("link:{}", hex(&Sha256::digest(target.as_os_str().as_encoded_bytes()))));
    }
    // A pipe or socket has no content, and reading one could wait for ever.
    if !about.is_file() {
        return Ok("other".to_owned());
    }
    let kind = if about.permissions().mode() & 0o111 == 0 { "file" } else { "program" };
    Ok(format!("{kind}:{}", hash_of(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_is_seen_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs_err::create_dir(at("inside")).unwrap();
        fs_err::write(at("inside/a file"), "1").unwrap();
        fs_err::write(at(".git"), "gitdir: elsewhere").unwrap();
        std::os::unix::fs::symlink("inside", at("link")).unwrap();
        let read = || Files::of(dir.path()).unwrap();
        let before = read();
        assert_eq!(before.text().lines().count(), 2, "{}", before.text());
        let told = || read().difference(before.text()).unwrap_or_default();
        assert_eq!(told(), "");

        fs_err::write(at("inside/a file"), "2").unwrap();
        assert_eq!(told(), "`inside/a file` has been changed");
        fs_err::write(at("inside/a file"), "1").unwrap();
        fs_err::set_permissions(at("inside/a file"), PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(told(), "`inside/a file` has been changed");
        fs_err::remove_file(at("inside/a file")).unwrap();
        assert_eq!(told(), "`inside/a file` has been removed");
        fs_err::write(at("inside/a file"), "1").unwrap();
        fs_err::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("elsewhere", at("link")).unwrap();
        assert_eq!(told(), "`link` has been changed");
        fs_err::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("inside", at("link")).unwrap();
        fs_err::write(at("untracked"), "").unwrap();
        assert_eq!(told(), "`untracked` has been added");
        assert_ne!(read().sha256(), before.sha256());
    }

    /// Comparing a name with every other one took minutes at this size.
    #[test]
    fn long_lists_are_compared_in_time() {
        let list = |from: u32| {
            let lines: Vec<String> = (0..50_000).map(|n| format!("\"file {n:06}\" file:{}", n + from)).collect();
            Files(lines.join("\n"))
        };
        let begun = std::time::Instant::now();
        assert_eq!(list(1).difference(list(0).text()).unwrap(), "`file 000000` has been changed");
        let mut added = list(0);
        added.0 += "\n\"file 99\" file:1";
        assert_eq!(added.difference(list(0).text()).unwrap(), "`file 99` has been added");
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
