//! Removes paths, names, secrets and known texts from single texts.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::record::Manifest;
use crate::secret;
use crate::spec::Workload;
use inferometer_protocol::toggle::DRAFT_MODEL;
use inferometer_protocol::{ModelSpec, Settings, Value};

/// In place of a prompt or a generated text.
pub const TEXT: &str = "[text]";
const PATH: &str = "[path]";
const NAME: &str = "[name]";
const URL: &str = "[url]";

/// Shorter names would be found in words.
const LEAST_NAME: usize = 2;
/// A shorter line of a prompt may stand in any text.
const LEAST_TEXT: usize = 12;
/// Folders of the system, the same on every machine.
const SYSTEM: &[&str] = &["/proc", "/sys", "/dev"];
/// Folders that contain the home folders of users.
const HOMES: &[&str] = &["/home/", "/Users/"];

/// What is private in a record.
#[derive(Debug, Clone, Default)]
pub struct Scrub {
    /// Whole paths, as they stand in texts; paths with blanks are found only so.
    paths: BTreeSet<String>,
    /// Names of users and machines.
    names: BTreeSet<String>,
    texts: BTreeSet<String>,
}

impl Scrub {
    /// The names of this machine, its user and their folders; a record was usually made here.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let mut scrub = Self::default();
        if let Some(home) = std::env::home_dir() {
            scrub.path(&home);
        }
        if let Ok(folder) = std::env::current_dir() {
            scrub.path(&folder);
        }
        for variable in ["USER", "LOGNAME"] {
            scrub.name(&std::env::var(variable).unwrap_or_default());
        }
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        scrub.name(machine.split('.').next().unwrap_or_default());
        scrub.name(&machine);
        scrub
    }

    /// Adds what a manifest shows: prompts, generated texts, and paths with the names in them.
    pub fn learn(&mut self, manifest: &Manifest) {
        let scenario = &manifest.scenario;
        if let ModelSpec::Path(path) = &scenario.model {
            self.path(path);
        }
        match &scenario.workload {
            Workload::Prompt(work) => {
                self.text_of(&work.text);
                self.texts_in(&json!(work.messages));
                self.files(&[&work.text_file]);
            }
            Workload::Conversation(work) => {
                work.system.iter().for_each(|text| self.text_of(text));
                for turn in &work.turns {
                    self.text_of(&turn.user);
                    turn.reply.iter().for_each(|text| self.text_of(text));
                }
                self.texts_in(&json!([work.tools, work.template_arguments]));
                self.files(&[&work.system_file, &work.turns_file]);
            }
        }
        for cell in &manifest.plan.cells {
            let draft = cell.load.get(DRAFT_MODEL).or_else(|| cell.toggles.get(DRAFT_MODEL));
            draft.and_then(Value::as_text).into_iter().for_each(|path| self.path(Path::new(path)));
        }
        if let Some(quality) = &scenario.quality {
            self.text_of(&quality.text);
            self.files(&[&quality.text_file]);
        }
        manifest.texts.values().for_each(|text| self.text_of(text));
        for host in &manifest.hosts {
            host.command.iter().for_each(|word| self.users(word));
            self.path(Path::new(&host.receipt.model.path));
        }
    }

    /// Adds a path that is private.
    pub fn path(&mut self, path: &Path) {
        if let Some(path) = path.to_str().filter(|path| path.len() > LEAST_NAME && path.contains('/')) {
            self.users(path);
            self.paths.insert(path.trim_end_matches('/').to_owned());
        }
    }

    fn files(&mut self, files: &[&Option<String>]) {
        files.iter().filter_map(|file| file.as_ref()).for_each(|file| self.path(Path::new(file)));
    }

    fn name(&mut self, name: &str) {
        if name.len() >= LEAST_NAME && !["root", "localhost"].contains(&name) {
            self.names.insert(name.to_owned());
        }
    }

    /// Users whose home folders a text names.
    fn users(&mut self, text: &str) {
        for home in HOMES {
            for (at, _) in text.match_indices(home) {
                let user = text[at + home.len()..].split(|c: char| c == '/' || c.is_whitespace()).next();
                self.name(user.unwrap_or_default());
            }
        }
    }

    /// Every text in a value, names of fields left out.
    fn texts_in(&mut self, value: &Json) {
        match value {
            Json::String(text) => self.text_of(text),
            Json::Array(items) => items.iter().for_each(|item| self.texts_in(item)),
            Json::Object(fields) => fields.values().for_each(|field| self.texts_in(field)),
            _ => {}
        }
    }

    fn text_of(&mut self, text: &str) {
        let lines = text.lines().map(str::trim).chain([text.trim()]);
        self.texts.extend(lines.filter(|line| line.len() >= LEAST_TEXT && *line != TEXT).map(str::to_owned));
    }

    /// A text without what is private.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = longest_first(&self.texts).fold(text.to_owned(), |text, known| text.replace(known, TEXT));
        text = secret::masked_text(&text);
        for path in longest_first(&self.paths) {
            if text.contains(path.as_str()) {
                // The rest of a longer path follows as an absolute one.
                text = text.replace(path.as_str(), &short(path));
            }
        }
        text = without_paths(&text);
        longest_first(&self.names).fold(text, |text, name| without_name(&text, name))
    }

    /// A command line without what is private: of paths the last part stays.
    #[must_use]
    pub fn words(&self, words: &[String]) -> Vec<String> {
        secret::masked(words).iter().map(|word| self.word(word)).collect()
    }

    /// One argument.
    #[must_use]
    pub fn word(&self, word: &str) -> String {
        if word.contains(char::is_whitespace) && !Path::new(word).is_absolute() {
            return TEXT.to_owned();
        }
        let word = self.text(word);
        // What is left is a relative path.
        match word.rsplit_once('/') {
            Some((folder, last)) if !folder.ends_with(PATH) => {
                let option = folder.split_once('=').map_or(String::new(), |(name, _)| format!("{name}="));
                format!("{option}{PATH}/{last}")
            }
            _ => word,
        }
    }

    /// Settings whose texts may be paths.
    pub fn settings(&self, settings: &mut Settings) {
        *settings = secret::masked_settings(settings);
        for value in settings.values_mut() {
            match value {
                Value::Text(text) => *text = self.word(text),
                Value::List(items) => {
                    let words: Vec<String> = items.iter().map(ToString::to_string).collect();
                    for (item, word) in items.iter_mut().zip(self.words(&words)) {
                        if let Value::Text(text) = item {
                            *text = word;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// `KEY=VALUE` of a scenario: the value stays where it is a number or a setting of the
    /// measurement.
    #[must_use]
    pub fn setting(&self, setting: &str) -> String {
        const MEASURING: [&str; 7] = ["toggles", "run", "sampling", "telemetry", "ab", "profile", "engine"];
        let Some((key, value)) = setting.split_once('=') else { return TEXT.to_owned() };
        let root = key.split('.').next().unwrap_or_default().trim();
        let plain = value.trim().parse::<f64>().is_ok() || ["true", "false"].contains(&value.trim());
        if plain || (MEASURING.contains(&root) && !key.contains("options")) {
            format!("{key}={}", self.text(value))
        } else {
            format!("{key}={TEXT}")
        }
    }
}

fn longest_first(texts: &BTreeSet<String>) -> impl Iterator<Item = &String> {
    let mut texts: Vec<&String> = texts.iter().collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts.into_iter()
}

/// A path without its folders, or without anything where the last part is a folder of many or the
/// user's own.
fn short(path: &str) -> String {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    if HOMES.iter().any(|home| path.starts_with(home)) {
        parts.next();
        parts.next();
    } else if path.starts_with('/') {
        parts.next();
    }
    match parts.last().filter(|last| !matches!(*last, "." | ".." | "~" | PATH)) {
        Some(last) => format!("{PATH}/{last}"),
        None => PATH.to_owned(),
    }
}

/// Whether a character ends a path.
fn ends(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | ')' | ']' | '}' | '<' | '>')
}

/// Replaces URLs, and paths that begin with `/`, `~/`, `./` or `../`.
fn without_paths(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let begins = shown.chars().next_back().is_none_or(|before| {
            // `</s>` is no path.
            (ends(before) && before != '<') || matches!(before, '(' | '[' | '{' | '=' | ':')
        });
        let scheme = rest.find("://").filter(|at| *at > 0 && rest[..*at].bytes().all(|b| b.is_ascii_alphanumeric()));
        let upto = |stops: fn(char) -> bool| rest.find(stops).unwrap_or(rest.len());
        let taken = if shown.ends_with(PATH) && c == '/' {
            // What follows a known folder: only the last part stays.
            let length = upto(|c| ends(c) || c == ':');
            shown.push_str(rest[..length].rfind('/').map_or("", |at| &rest[at..length]));
            length
        } else if begins && scheme.is_some() {
            shown.push_str(URL);
            upto(ends)
        } else if begins && is_path(rest) {
            let length = upto(|c| ends(c) || c == ':');
            let path = &rest[..length];
            let inside = |folder: &&str| path.strip_prefix(*folder).is_some_and(|r| r.is_empty() || r.starts_with('/'));
            shown.push_str(&if SYSTEM.iter().any(inside) { path.to_owned() } else { short(path) });
            length
        } else {
            shown.push(c);
            c.len_utf8()
        };
        rest = &rest[taken..];
    }
    shown
}

fn is_path(text: &str) -> bool {
    let after = |prefix| text.strip_prefix(prefix).and_then(|rest: &str| rest.chars().next());
    after("/").is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '@'))
        || ["~/", "./", "../"].iter().any(|prefix| after(prefix).is_some())
}

/// Replaces a name that stands as a word of its own, in any case of letters.
fn without_name(text: &str, name: &str) -> String {
    let (lower, wanted) = (text.to_ascii_lowercase(), name.to_ascii_lowercase());
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in lower.match_indices(&wanted) {
        let end = at + wanted.len();
        if at >= from && !is_word(text[..at].chars().next_back()) && !is_word(text[end..].chars().next()) {
            shown.push_str(&text[from..at]);
            shown.push_str(NAME);
            from = end;
        }
    }
    shown + &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrub() -> Scrub {
        let mut scrub = Scrub::default();
        scrub.path(Path::new("/home/alice"));
        scrub.path(Path::new("/data/my models/x"));
        scrub.name("Vulcan");
        scrub.text_of("one two three four five");
        scrub
    }

    #[test]
    fn texts_of_chats_are_found_wherever_they_stand() {
        let mut scrub = Scrub::default();
        scrub.texts_in(&json!([{"content": [{"text": "where does the boat go"}]}, {"tool": ["to the far island"]}]));
        assert_eq!(scrub.text("bad: where does the boat go?"), "bad: [text]?");
        assert_eq!(scrub.text("bad: to the far island"), "bad: [text]");
    }

    #[test]
    fn the_path_of_a_draft_model_is_learnt() {
        let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-v1-sound");
        let text = "cannot open /data/my drafts/tiny/config.json";
        let shown = |change: fn(&mut Settings)| {
            let mut manifest = crate::record::manifest::read(&record).unwrap();
            for cell in &mut manifest.plan.cells {
                change(&mut cell.load);
            }
            let mut scrub = Scrub::default();
            scrub.learn(&manifest);
            scrub.text(text)
        };
        // A path with blanks is found only if it is known.
        assert!(shown(|_| ()).contains("drafts"));
        let draft = |load: &mut Settings| _ = load.insert(DRAFT_MODEL.to_owned(), "/data/my drafts/tiny".into());
        assert_eq!(shown(draft), "cannot open [path]/config.json");
    }

    #[test]
    fn texts_lose_paths_names_and_prompts() {
        for (text, shown) in [
            ("cannot open /home/alice/a/b.py:12: no such file", "cannot open [path]/b.py:12: no such file"),
            ("/home/alice", "[path]"),
            ("in /home/bob, \"/opt/x/y\" and ~/z/q", "in [path], \"[path]/y\" and [path]/q"),
            ("at (/data/my models/x/config.json)", "at ([path]/config.json)"),
            ("12 tok/s, A/A, and / or, </s>", "12 tok/s, A/A, and / or, </s>"),
            ("/proc/self/stat, /sys/class", "/proc/self/stat, /sys/class"),
            ("see http://vulcan.local/x now", "see [url] now"),
            ("vulcan: Alice, malice", "[name]: [name], malice"),
            ("cannot tokenize 'one two three four five'", "cannot tokenize '[text]'"),
            ("key sk-test-123456", "key [secret]"),
        ] {
            assert_eq!(scrub().text(text), shown, "{text}");
            assert_eq!(scrub().text(shown), shown, "twice");
        }
    }

    #[test]
    fn command_lines_keep_the_names_of_files() {
        let words =
            ["python3", "/home/alice/adapter.py", "--x=/a/b/c", "dir/sub/f", "--in=a/b", "--token", "abc", "a b"];
        let words: Vec<String> = words.map(str::to_owned).into();
        let shown =
            ["python3", "[path]/adapter.py", "--x=[path]/c", "[path]/f", "--in=[path]/b", "--token", "[secret]", TEXT];
        assert_eq!(scrub().words(&words), shown);
        assert_eq!(scrub().words(&shown.map(str::to_owned)), shown, "twice");
    }

    #[test]
    fn settings_keep_what_was_measured() {
        assert_eq!(scrub().setting("workload.text=\"hello\""), "workload.text=[text]");
        assert_eq!(scrub().setting("workload.max_tokens=12"), "workload.max_tokens=12");
        assert_eq!(scrub().setting("toggles.kv_cache=rotating:512"), "toggles.kv_cache=rotating:512");
        assert_eq!(scrub().setting("engine.0.options.command=[\"x\"]"), "engine.0.options.command=[text]");
    }
}
