//! The documentation: its links resolve, every page is in the book, and its commands run.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::lab;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A page, by its path from the repository's root.
struct Page {
    path: String,
    text: String,
}

/// A line of a page, and the language of its fenced block. The opening fence belongs to the block.
struct Line<'a> {
    number: usize,
    text: &'a str,
    fence: Option<&'a str>,
}

impl Page {
    fn read(path: String) -> Self {
        Self { text: fs_err::read_to_string(repository(&path)).unwrap(), path }
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut fence = None;
        self.text.lines().enumerate().map(move |(at, text)| {
            let mark = text.trim_start().strip_prefix("```");
            let inside = match (fence, mark) {
                (None, Some(language)) => {
                    fence = Some(language);
                    fence
                }
                (Some(_), Some("")) => fence.take(),
                _ => fence,
            };
            Line { number: at + 1, text, fence: inside }
        })
    }

    /// Targets of links and images outside of code, with their lines.
    fn links(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for line in self.lines().filter(|line| line.fence.is_none()) {
            let prose = without_code(line.text);
            for (at, _) in prose.match_indices("](") {
                let target: String = prose[at + 2..].chars().take_while(|c| *c != ')').collect();
                found.push((line.number, target));
            }
        }
        found
    }

    /// The valid targets of a link after `#`: headings in the form of GitHub and mdBook.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen = BTreeMap::new();
        self.lines()
            .filter(|line| line.fence.is_none())
            .filter_map(|line| {
                let heading = line.text.trim_start_matches('#');
                (heading.len() < line.text.len()).then(|| heading.strip_prefix(' ')).flatten()
            })
            .map(|heading| {
                let slug = slug(heading);
                let count = seen.entry(slug.clone()).or_insert(0);
                *count += 1;
                if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
            })
            .collect()
    }

    /// The content of the fenced blocks of a language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks: Vec<String> = Vec::new();
        for line in self.lines().filter(|line| line.fence == Some(language)) {
            match (line.text.trim_start().starts_with("```"), blocks.last_mut()) {
                (true, _) if line.text.trim() != "```" => blocks.push(String::new()),
                (false, Some(block)) => *block += &format!("{}\n", line.text),
                _ => {}
            }
        }
        blocks
    }

    /// Commands of the ```console blocks, with their lines. A backslash at the end continues a
    /// line.
    fn commands(&self) -> Vec<(usize, String)> {
        let mut commands: Vec<(usize, String)> = Vec::new();
        let mut goes_on = false;
        for line in self.lines().filter(|line| line.fence == Some("console")) {
            let text = line.text.trim();
            match text.strip_prefix("$ ") {
                Some(command) => commands.push((line.number, command.to_owned())),
                None if goes_on => {
                    let (_, command) = commands.last_mut().expect("a command goes on after it began");
                    *command = format!("{} {text}", command.trim_end_matches('\\'));
                }
                None => continue,
            }
            goes_on = text.ends_with('\\');
        }
        commands
    }
}

/// The line without `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

fn slug(heading: &str) -> String {
    let plain = match (heading.find("]("), heading.find('[')) {
        (Some(_), Some(_)) => heading.split(['[', ']']).filter(|part| !part.starts_with('(')).collect(),
        _ => heading.to_owned(),
    };
    plain
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

/// Markdown files below `docs`, by their paths from the repository's root, sorted.
fn chapters() -> Vec<String> {
    fn collect(folder: &Path, found: &mut Vec<String>) {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(repository("")).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    collect(&repository("docs"), &mut found);
    found.sort();
    found
}

fn pages() -> Vec<Page> {
    let roots = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(str::to_owned);
    roots.into_iter().chain(chapters()).map(Page::read).collect()
}

/// `target` as seen from the page at `from`, without `.` and `..`.
fn resolved(from: &str, target: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in Path::new(from).parent().unwrap().join(target).components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::Normal(name) => parts.push(name.to_str().unwrap().to_owned()),
            _ => {}
        }
    }
    parts.join("/")
}

/// Broken links of `page`.
fn broken(page: &Page, anchors: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut broken = Vec::new();
    for (line, target) in page.links() {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = target.split_once('#').map_or((target.as_str(), None), |(f, a)| (f, Some(a)));
        let path = if file.is_empty() { page.path.clone() } else { resolved(&page.path, file) };
        if !repository(&path).exists() {
            broken.push(format!("{}:{line}: no file {path}", page.path));
        } else if let Some(anchor) = anchor
            && !anchors.get(&path).is_some_and(|known| known.contains(anchor))
        {
            broken.push(format!("{}:{line}: {path} has no heading #{anchor}", page.path));
        }
    }
    broken
}

#[test]
fn every_link_resolves() {
    let pages = pages();
    let anchors: BTreeMap<_, _> = pages.iter().map(|page| (page.path.clone(), page.anchors())).collect();
    let links: usize = pages.iter().map(|page| page.links().len()).sum();
    assert!(links > 100, "only {links} links were found");
    let broken: Vec<String> = pages.iter().flat_map(|page| broken(page, &anchors)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_broken_link_is_noticed() {
    let page = |text: &str| Page { path: "docs/guides/ab.md".to_owned(), text: text.to_owned() };
    let wrong =
        page("# A `heading`, here\n[a](#a-heading-here) [b](#b) [c](none.md)\n```\n[d](none.md)\n```\n`[e](f)`\n");
    let anchors = BTreeMap::from([(wrong.path.clone(), wrong.anchors())]);
    assert_eq!(
        broken(&wrong, &anchors),
        [
            "docs/guides/ab.md:2: docs/guides/ab.md has no heading #b",
            "docs/guides/ab.md:2: no file docs/guides/none.md"
        ]
    );
    let console = page("```console\n$ one \\\n    two\noutput\n$ three # exit 4\n```\n```sh\n$ four\n```\n");
    assert_eq!(console.commands(), [(2, "one  two".to_owned()), (5, "three # exit 4".to_owned())]);
}

#[test]
fn every_page_is_in_the_book() {
    let summary = Page::read("docs/SUMMARY.md".to_owned());
    let listed: Vec<String> = summary.links().iter().map(|(_, target)| resolved("docs/SUMMARY.md", target)).collect();
    let once: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(once.len(), listed.len(), "SUMMARY.md lists a page twice");
    let missing: Vec<String> =
        chapters().into_iter().filter(|page| page != "docs/SUMMARY.md" && !once.contains(page)).collect();
    assert!(missing.is_empty(), "not in SUMMARY.md: {missing:?}");
}

/// The guide for engines shows the example that CI builds, word for word.
#[test]
fn the_guide_shows_the_example_as_it_is() {
    let guide = Page::read("docs/guides/adding-an-engine.md".to_owned());
    for (file, language) in [("Cargo.toml", "toml"), ("src/main.rs", "rust"), ("src/engine.rs", "rust")] {
        let file = format!("examples/custom-engine/{file}");
        let text = fs_err::read_to_string(repository(&file)).unwrap();
        assert!(guide.blocks(language).contains(&text), "{} does not show {file} as it is", guide.path);
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_inferometer");

/// The wrapper script adds options: few iterations, so that the test is quick, and no invalid
/// iterations and no pilot that finds the machine too noisy because of the load of other tests.
const WRAPPER: &str = r#"case " $* " in
*" --profile "*) set -- "$@" --set profile.iterations=1;;
esac
case "$1" in
run|bench) set -- "$@" --set run.external_causes=warn --set run.iterations=2;;
ab) set -- "$@" --set run.external_causes=warn --pilot 0;;
esac"#;

/// A folder with everything that the pages' commands need.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        let program = scratch.path("bin/inferometer");
        fs_err::create_dir_all(program.parent().unwrap()).unwrap();
        fs_err::write(&program, format!("#!/bin/sh\n{WRAPPER}\nexec {PROGRAM:?} \"$@\"\n")).unwrap();
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["examples", "scenarios"] {
            std::os::unix::fs::symlink(repository(folder), scratch.path(folder)).unwrap();
        }
        // The scenarios on the pages.
        for (name, page, file) in [
            ("my", "docs/start/first-run.md", "my.toml"),
            ("slower", "docs/guides/ab.md", "slower.toml"),
            ("my-engine", "docs/guides/adding-an-engine.md", "my_engine.toml"),
        ] {
            let begin = format!("name = \"{name}\"");
            let scenario =
                Page::read(page.to_owned()).blocks("toml").into_iter().find(|block| block.starts_with(&begin));
            fs_err::write(scratch.path(file), scenario.expect(page)).unwrap();
        }
        let measure = "run my.toml -q --profile --set run.iterations=6 --set run.external_causes=warn \
                       --set 'workload.lengths=[16]' --set profile.iterations=1";
        scratch.expect("preparing", "inferometer -q model new --arch qwen3 --preset tiny --seed 1 models/Qwen3-0.6B");
        for name in ["A", "B"] {
            scratch.expect("preparing", &format!("rm -rf results/2*; {PROGRAM:?} {measure}"));
            scratch.expect("preparing", &format!("mv results/2* results/{name}"));
        }
        scratch.expect("preparing", "cp -r results/B results/C");
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Whether the machine may have caused every invalid row of the runs and sessions here.
    fn was_disturbed(&self) -> bool {
        let mut rows = Vec::new();
        for entry in fs_err::read_dir(self.path("results")).unwrap() {
            let dir = entry.unwrap().path();
            for run in [dir.clone(), dir.join("a"), dir.join("b")] {
                if run.join("run.json").is_file() {
                    rows.extend(inferometer::record::read(&run).unwrap().requests);
                }
            }
        }
        let invalid = || rows.iter().filter(|row| row.status == inferometer::record::Status::Invalid);
        let by_machine = |row: &inferometer::record::RequestRow| row.cause.is_some_and(|it| it.may_be_the_machine());
        invalid().next().is_some() && invalid().all(by_machine)
    }

    /// Runs a line as a user would type it, and checks its exit code. A session that cannot decide
    /// on a busy machine is tried again, but in the end it must do what its page promises.
    #[track_caller]
    fn expect(&self, whence: &str, line: &str) {
        const TRIES: u32 = 4;
        let wanted = line.rsplit_once("# exit ").map_or(0, |(_, code)| code.trim().parse().unwrap());
        let mut output = self.run(line);
        for _ in 1..TRIES {
            if output.status.code() != Some(3) || wanted == 3 {
                break;
            }
            output = self.run(line);
        }
        let code = output.status.code();
        // On a busy machine iterations are rejected.
        let busy = code == Some(4) && self.was_disturbed();
        let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
        assert!(busy || code == Some(wanted), "{whence}: {line}: {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
    }

    fn run(&self, line: &str) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        Command::new("sh")
            .args(["-c", line])
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("PATH", path)
            .env("INFEROMETER_LOCK", self.path("lock"))
            .env("INFEROMETER_CACHE", self.path("cache"))
            .env(lab::PATIENCE.0, lab::PATIENCE.1)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// A page that promises 1 is not satisfied by 3.
#[test]
fn another_exit_code_than_the_promised_one_is_noticed() {
    let scratch = Scratch(tempfile::tempdir().unwrap());
    let holds =
        |line: &str| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scratch.expect("", line))).is_ok();
    assert!(holds("exit 1 # exit 1") && holds("exit 0"));
    assert!(!holds("exit 3 # exit 1") && !holds("exit 1"));
    assert!(holds("test -e again && exit 1; touch again; exit 3 # exit 1"), "it is tried again");
}

#[test]
fn the_commands_of_the_pages_run() {
    let scratch = Scratch::new();
    let tested =
        |path: &str| path == "README.md" || path.starts_with("docs/start/") || path.starts_with("docs/guides/");
    let mut count = 0;
    for page in pages().iter().filter(|page| tested(&page.path)) {
        for (line, command) in page.commands() {
            let begun = std::time::Instant::now();
            scratch.expect(&format!("{}:{line}", page.path), &command);
            #[expect(clippy::print_stdout, reason = "cargo shows it when the test fails: which command took how long")]
            {
                println!("{:6.2} s  {}:{line}  {command}", begun.elapsed().as_secs_f64(), page.path);
            }
            count += 1;
        }
    }
    assert!(count > 20, "only {count} commands were found");
}
