//! Checks the layers of the source tree: a file imports only from lower floors, and sibling folders
//! do not import each other.

use std::path::{Path, PathBuf};

/// Floor of each top-level module. Cargo enforces the dependencies between crates.
const FLOORS: &[(&str, u32)] = &[
    ("cli", 5),
    ("report", 4),
    ("run", 3),
    ("compare", 2),
    ("engines", 2),
    ("import", 2),
    ("scenario", 1),
    ("record", 1),
    ("telemetry", 1),
    ("profile", 1),
    ("models", 1),
    ("spec", 0),
    ("origin", 0),
    ("fs", 0),
    ("secret", 0),
    ("series", 0),
    ("spreadsheet", 0),
];

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Top-level modules that `text` names after `crate::`, also inside `use crate::{a, b::c}`.
fn imports(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => names.push(std::mem::take(&mut item)),
                    _ if depth == 1 => item.push(c),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            names.push(item);
        } else {
            names.push(rest.to_owned());
        }
    }
    names
        .iter()
        .map(|n| n.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        .filter(|n| !n.is_empty())
        .collect()
}

fn violations(module: &str, text: &str) -> Vec<String> {
    let Some(own) = floor(module) else {
        return vec![format!("`{module}` has no floor")];
    };
    imports(text)
        .into_iter()
        .filter(|name| name != module)
        .filter_map(|name| match floor(&name) {
            Some(other) if other < own || own == 0 && other == 0 => None,
            Some(other) => Some(format!("`{module}` (floor {own}) imports `{name}` (floor {other})")),
            None => Some(format!("`{module}` imports `{name}`, which has no floor")),
        })
        .collect()
}

#[test]
fn imports_run_down_the_floors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found under {}", root.display());
    let mut broken = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let module = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        for violation in violations(module, &fs_err::read_to_string(&file).unwrap()) {
            broken.push(format!("{}: {violation}", inside.display()));
        }
    }
    assert!(broken.is_empty(), "arrows that run up or sideways:\n{}", broken.join("\n"));
}

#[test]
fn an_arrow_up_or_sideways_is_seen() {
    assert_eq!(violations("record", "use crate::run::driver;").len(), 1);
    assert_eq!(violations("record", "use crate::{spec::Value, scenario};").len(), 1);
    assert_eq!(violations("record", "fn f() { crate::report::html() }").len(), 1);
    assert_eq!(violations("record", "use crate::{spec::{Value, Kind}, fs};").len(), 0);
    assert_eq!(violations("attic", "").len(), 1);
}
