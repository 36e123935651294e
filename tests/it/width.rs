//! Comment lines are at most 100 characters wide; rustfmt does not check that.

use std::path::{Path, PathBuf};

const WIDTH: usize = 100;

/// Rust sources below `folder`, without build output and hidden folders.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Whether a line is a comment that is too wide. A table row or a single URL cannot be wrapped.
fn is_too_wide(line: &str) -> bool {
    let Some(text) = line.trim_start().strip_prefix("//") else { return false };
    let text = text.trim_start_matches(['/', '!']).trim();
    let url = text.contains("://") && !text.contains(' ');
    line.chars().count() > WIDTH && !url && !text.starts_with('|')
}

#[test]
fn comments_are_at_most_100_characters_wide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(files.contains(&root.join(file!())) && files.len() > 100, "{} files", files.len());
    let wide: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let text = fs_err::read_to_string(path).unwrap();
            let lines = text.lines().enumerate().filter(|(_, line)| is_too_wide(line));
            let place = path.strip_prefix(root).unwrap_or(path).display();
            lines.map(|(at, line)| format!("{place}:{}: {}", at + 1, line.trim())).collect::<Vec<_>>()
        })
        .collect();
    assert!(wide.is_empty(), "wrap these comments at {WIDTH} characters:\n{}", wide.join("\n"));
}

#[test]
fn only_wide_comments_are_found() {
    let words = "word ".repeat(20);
    for wide in [format!("// {words}"), format!("    /// {words}"), format!("//! see https://example.org {words}")] {
        assert!(is_too_wide(&wide), "{wide}");
    }
    let (url, exact) = ("x".repeat(100), format!("// {}", "x".repeat(97)));
    for fine in [format!("/// | {words} |"), format!("// https://{url}"), exact, format!("let a = \"{words}\";")] {
        assert!(!is_too_wide(&fine), "{fine}");
    }
}
