//! Chat templates: from messages to the text that a model was trained to continue.
//!
//! Templates are Jinja programs that come with a model. They get what `apply_chat_template` of the
//! Python library `transformers` gives them. A template is not trusted: steps, memory and time have
//! limits, and a panic is an error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value};

use super::TextError;
use super::gguf::chat_template;
use super::jinja::{self, FUEL, Template};
use super::tokenizer::Tokenizer;
use crate::folder;
use crate::gguf::{Gguf, Metadata};
use inferometer_host::guard::{Limits, Stopped, within};
use inferometer_protocol::bounded::read_limited;
use inferometer_protocol::{Chat, EngineError, Message};

pub(super) const CONFIG: &str = "tokenizer_config.json";

/// Longest `tokenizer_config.json` that is read; some list thousands of added tokens.
pub const LONGEST_CONFIG: u64 = 4 << 20;
/// Longest `chat_template.jinja` that is read.
pub const LONGEST_TEMPLATE: u64 = 1 << 20;

/// As many times the messages' own bytes may be held in addition.
const COPIES: u64 = 16;

/// What a template may take. Every model gets the default; the fuzz target takes less, so that its
/// executions are quick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Steps of the library that renders.
    pub steps: u64,
    /// Bytes to hold at a time: a few megabytes are usual.
    pub memory: u64,
    /// Single steps may take long, such as a sum over a list that is repeated without being stored.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { steps: FUEL, memory: 64 << 20, time: Duration::from_secs(10) }
    }
}

impl Bounds {
    /// For messages of `given` bytes.
    fn limits(&self, given: u64) -> Limits {
        Limits { memory: self.memory + COPIES * given, time: self.time }
    }
}

/// A limit that a template went beyond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    Steps(u64),
    /// Memory or time; or the library panicked.
    Stopped(Stopped),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Steps(steps) => write!(f, "it takes more than {steps} steps"),
            Limit::Stopped(stopped) => stopped.fmt(f),
        }
    }
}

/// Name of the template for chats with tools.
const FOR_TOOLS: &str = "tool_use";

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    program: Arc<Program>,
    /// The limit that it went beyond. It is then not rendered again, because what it holds may be
    /// lost.
    beyond: OnceLock<Limit>,
    /// The template for chats with tools, if the model has one of its own.
    for_tools: Option<Box<ChatTemplate>>,
}

/// The template itself and what it is given.
#[derive(Debug)]
struct Program {
    template: Template,
    path: PathBuf,
    /// Texts of the model's special tokens, by the names that templates know them by.
    tokens: Vec<(String, Value)>,
    bounds: Bounds,
}

impl ChatTemplate {
    /// Reads the template of a model's folder: `chat_template.jinja`, or else `chat_template` in
    /// `tokenizer_config.json` (of several named ones, `default`, and `tool_use` for chats with
    /// tools). Begin and end tokens come from
    /// the latter. Or reads the template in a GGUF file.
    ///
    /// # Errors
    /// When there is no template or it does not parse; the message names the file.
    pub fn from_model(path: &Path) -> Result<Self, TextError> {
        let Some(file) = folder::gguf(path) else { return Self::from_folder(path) };
        let fault = |error: EngineError| TextError::Model(error.message);
        let gguf = Gguf::open(&file).map_err(fault)?;
        Self::from_gguf(gguf.metadata(), &Tokenizer::from_gguf(gguf.metadata())?)
    }

    fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let no_template = || {
            let problem = "has no chat template (chat_template.jinja, or `chat_template` in tokenizer_config.json); \
                           give it a prompt instead of messages";
            let fault = folder::fault(folder).filter(|_| !folder.join(CONFIG).is_file());
            TextError::Model(fault.unwrap_or_else(|| format!("{} {problem}", folder.display())))
        };
        if !folder.is_dir() {
            return Err(no_template());
        }
        let config = read_config(folder)?;
        let (path, source) = find(folder, &config)?.ok_or_else(no_template)?;
        // A template in a file of its own is for all chats.
        let for_tools = named(&config, FOR_TOOLS).filter(|_| path.ends_with(CONFIG));
        let parsed = |source: String| Self::parsed(source, &path, special_tokens(&config), Bounds::default());
        let for_tools = for_tools.map(|source| parsed(source.to_owned())).transpose()?.map(Box::new);
        Ok(Self { for_tools, ..parsed(source)? })
    }

    /// A template that stands in another file, such as a GGUF file; `path` is what error messages
    /// name. `begin` and `end` are the texts of the model's begin and end tokens, if it has any.
    ///
    /// # Errors
    /// When `source` is longer than [`LONGEST_TEMPLATE`] or does not parse; the message names
    /// `path`.
    pub fn from_source(
        source: String,
        path: &Path,
        begin: Option<String>,
        end: Option<String>,
    ) -> Result<Self, TextError> {
        Self::from_source_within(source, path, begin, end, Bounds::default())
    }

    /// As [`ChatTemplate::from_source`], with other bounds than usual.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_source`].
    pub fn from_source_within(
        source: String,
        path: &Path,
        begin: Option<String>,
        end: Option<String>,
        bounds: Bounds,
    ) -> Result<Self, TextError> {
        let token = |name: &str, text: Option<String>| text.map(|text| (name.to_owned(), Value::String(text)));
        let tokens = token("bos_token", begin).into_iter().chain(token("eos_token", end));
        Self::parsed(source, path, tokens.collect(), bounds)
    }

    fn parsed(source: String, path: &Path, tokens: Vec<(String, Value)>, bounds: Bounds) -> Result<Self, TextError> {
        let fault = |problem| TextError::File { path: path.to_owned(), problem };
        if source.len() as u64 > LONGEST_TEMPLATE {
            let problem = format!("the chat template has {} bytes, more than {LONGEST_TEMPLATE}", source.len());
            return Err(fault(problem));
        }
        let parsed = within(bounds.limits(0), move || Template::parse(&source, bounds.steps));
        let stopped = |reason| TextError::Limit { path: path.to_owned(), limit: Limit::Stopped(reason) };
        let template = parsed
            .map_err(stopped)?
            .map_err(|e| fault(format!("the chat template does not parse: {}", jinja::described(&e))))?;
        let program = Program { template, path: path.to_owned(), tokens, bounds };
        Ok(Self { program: Arc::new(program), beyond: OnceLock::new(), for_tools: None })
    }

    /// Reads the template in a GGUF file; `tokenizer` is that of the same file.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_model`].
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let read = |name| chat_template(metadata, name).map_err(|e| TextError::Model(e.message));
        let source = read(None)?.ok_or_else(|| {
            let path = metadata.path().display();
            TextError::Model(format!("{path} has no chat template; give it a prompt instead of messages"))
        })?;
        let special = tokenizer.special_tokens();
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
        let [begin, end] = [special.and_then(|s| s.begin), special.and_then(|s| s.end)].map(text);
        let parsed = |source: &str| Self::from_source(source.to_owned(), metadata.path(), begin.clone(), end.clone());
        let for_tools = read(Some(FOR_TOOLS))?.map(parsed).transpose()?.map(Box::new);
        Ok(Self { for_tools, ..parsed(source)? })
    }

    /// Whether the model in `folder` has a template, valid or not.
    ///
    /// # Errors
    /// When a file that may hold it cannot be read.
    pub fn exists(folder: &Path) -> Result<bool, TextError> {
        Ok(find(folder, &read_config(folder)?)?.is_some())
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the assistant's reply
    /// begins.
    ///
    /// It contains the model's special tokens, so encode it without adding any.
    ///
    /// # Errors
    /// When the template refuses the messages or fails.
    pub fn render(&self, chat: &Chat, add_generation_prompt: bool) -> Result<String, TextError> {
        // As Transformers does: an empty list of tools counts.
        if let (Some(template), true) = (&self.for_tools, chat.tools.is_some()) {
            return template.render(chat, add_generation_prompt);
        }
        let stopped = |limit| TextError::Limit { path: self.program.path.clone(), limit };
        if let Some(limit) = self.beyond.get() {
            return Err(stopped(limit.clone()));
        }
        let size = |chat: &Chat| serde_json::to_vec(chat).map_or(0, |bytes| bytes.len() as u64);
        let given = size(chat) - size(&Chat::default());
        let limits = self.program.bounds.limits(given);
        let (program, chat) = (self.program.clone(), chat.clone());
        within(limits, move || program.render(chat, add_generation_prompt))
            .unwrap_or_else(|reason| Err(stopped(self.beyond.get_or_init(|| Limit::Stopped(reason)).clone())))
    }

    /// What the template leaves out of a chat: `tools`, `tool_calls`, names of template arguments.
    ///
    /// Tools and tool calls are left out where the text is the same without them, and tools also
    /// where the name of none of them is in the text. An argument is where its name is nowhere in
    /// the template: one that is given its default value changes no text either. Empty for a chat
    /// that cannot be rendered.
    #[must_use]
    pub fn ignored(&self, chat: &Chat) -> Vec<String> {
        if chat.is_plain() {
            return Vec::new();
        }
        let Ok(text) = self.render(chat, true) else { return Vec::new() };
        let same = |other: &Chat| self.render(other, true).is_ok_and(|other| other == text);
        let mut ignored = Vec::new();
        if let Some(tools) = chat.tools.as_ref().filter(|tools| !tools.is_empty()) {
            let names: Vec<&str> = tools.iter().filter_map(tool_name).collect();
            let unnamed = !names.is_empty() && !names.iter().any(|name| text.contains(name));
            if unnamed || same(&Chat { tools: None, ..chat.clone() }) {
                ignored.push("tools".to_owned());
            }
        }
        let calls = |message: &Message| message.fields().get(TOOL_CALLS).is_some_and(|calls| !calls.is_null());
        if chat.messages.iter().any(calls) {
            let messages = chat.messages.iter().map(without_tool_calls).collect();
            if same(&Chat { messages, ..chat.clone() }) {
                ignored.push(TOOL_CALLS.to_owned());
            }
        }
        let template = self.for_tools.as_deref().filter(|_| chat.tools.is_some()).unwrap_or(self);
        let source = template.program.template.source();
        ignored.extend(chat.template_arguments.keys().filter(|name| !source.contains(name.as_str())).cloned());
        ignored
    }
}

const TOOL_CALLS: &str = "tool_calls";

/// The name of a function, written as OpenAI's interface has it or by itself.
fn tool_name(tool: &Value) -> Option<&str> {
    tool["function"]["name"].as_str().or_else(|| tool["name"].as_str())
}

fn without_tool_calls(message: &Message) -> Message {
    let mut fields = message.fields().clone();
    fields.shift_remove(TOOL_CALLS);
    Message::try_from(fields).unwrap_or_else(|_| message.clone())
}

impl Program {
    fn render(&self, chat: Chat, add_generation_prompt: bool) -> Result<String, TextError> {
        let mut variables = self.tokens.clone();
        variables.extend(chat.template_arguments);
        variables.extend([
            ("messages".to_owned(), chat.messages.into_iter().map(seen).collect()),
            ("tools".to_owned(), chat.tools.into()),
            ("documents".to_owned(), Value::Null),
            ("add_generation_prompt".to_owned(), add_generation_prompt.into()),
        ]);
        self.template.render(variables).map_err(|e| match e.kind() {
            jinja::ErrorKind::OutOfFuel => {
                TextError::Limit { path: self.path.clone(), limit: Limit::Steps(self.bounds.steps) }
            }
            _ => TextError::Render { path: self.path.clone(), problem: jinja::described(&e) },
        })
    }
}

/// A message as `transformers` shows it to a template: without empty fields, and with the reasoning
/// under each of the names that templates read.
fn seen(message: Message) -> Value {
    let given: Map<String, Value> = message.into();
    let mut fields: Map<String, Value> = given.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let reasoning = ["reasoning_content", "thinking", "reasoning"].iter().find_map(|name| fields.get(*name)).cloned();
    if let Some(reasoning) = reasoning {
        let mut first = Map::from_iter([("thinking".to_owned(), reasoning.clone())]);
        first.extend(fields);
        first.insert("reasoning_content".to_owned(), reasoning);
        fields = first;
    }
    Value::Object(fields)
}

/// `tokenizer_config.json`, or null if there is none.
pub(super) fn read_config(folder: &Path) -> Result<Value, TextError> {
    let path = folder.join(CONFIG);
    match read_limited(&path, LONGEST_CONFIG) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|e| TextError::File { path, problem: format!("not JSON: {e}") })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(e) => Err(e.into()),
    }
}

/// The template's text and its file.
fn find(folder: &Path, config: &Value) -> Result<Option<(PathBuf, String)>, TextError> {
    let own = folder.join("chat_template.jinja");
    match read_limited(&own, LONGEST_TEMPLATE) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(source) => Ok(Some((own, source))),
            Err(e) => Err(TextError::File { path: own, problem: format!("not UTF-8: {e}") }),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok(configured(config).map(|source| (folder.join(CONFIG), source)))
        }
        Err(e) => Err(e.into()),
    }
}

/// The template in a tokenizer's configuration: one text, or a list of named ones.
fn configured(config: &Value) -> Option<String> {
    config.get("chat_template")?.as_str().or_else(|| named(config, "default")).map(str::to_owned)
}

fn named<'a>(config: &'a Value, name: &str) -> Option<&'a str> {
    let list = config.get("chat_template")?.as_array()?;
    list.iter().find(|item| item["name"] == name).and_then(|item| item["template"].as_str())
}

/// The special tokens that templates may name: each written plainly or as an object with `content`.
fn special_tokens(config: &Value) -> Vec<(String, Value)> {
    const NAMES: [&str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let text = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
    let named = |name: &str| Some((name.to_owned(), Value::String(text(config.get(name)?)?)));
    NAMES.into_iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn folder(config: &Value, own: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        if let Some(template) = own {
            fs_err::write(folder.path().join("chat_template.jinja"), template).unwrap();
        }
        folder
    }

    fn render(template: &str, messages: &[(&str, &str)]) -> Result<String, TextError> {
        let config = json!({"chat_template": template, "bos_token": "<s>", "eos_token": {"content": "</s>"}});
        let messages = messages.iter().map(|(role, text)| Message::new(role, text)).collect();
        ChatTemplate::from_model(folder(&config, None).path())?.render(&Chat::of(messages), true)
    }

    #[test]
    fn blocks_are_trimmed_and_tokens_known() {
        let template = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m['content'].strip() }}]\n    {%- endif %}\n{% endfor %}\n{{ eos_token }}{{ pad_token }}\n";
        assert_eq!(render(template, &[("user", " hi "), ("assistant", "no")]).unwrap(), "<s>\n[hi]</s>");
    }

    #[test]
    fn python_methods_slices_and_namespaces_work() {
        let template = "{%- set ns = namespace(last=0) %}{%- for m in messages[::-1] %}{%- if m.content.startswith('a') and m.content is string %}{%- set ns.last = loop.index0 %}{%- break %}{%- endif %}{%- endfor %}{{ ns.last }} {{ messages[0].content.split('</think>')[-1].lstrip('\\n') }} {{ messages[0].get('name', 'nobody') }}";
        let messages = [("user", "think</think>\n\nsaid"), ("user", "abc"), ("user", "x")];
        assert_eq!(render(template, &messages).unwrap(), "1 said nobody");
    }

    #[test]
    fn json_is_laid_out_as_python_does() {
        let template = "{{ {'z': [1, 2.0, none], 'a': '<ü\"'} | tojson }} {{ [1] | tojson(indent=2) }}";
        assert_eq!(render(template, &[]).unwrap(), "{\"z\": [1, 2.0, null], \"a\": \"<ü\\\"\"} [\n  1\n]");
    }

    #[test]
    fn the_date_stands_still() {
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}", &[]).unwrap(), "01 Jan 2026");
        assert_eq!(
            render("{{ strftime_now('%c|%e|%-d|%j|%!') }}", &[]).unwrap(),
            "Thu Jan  1 00:00:00 2026| 1|1|001|%!"
        );
    }

    #[test]
    fn the_models_own_refusal_is_passed_on() {
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err().to_string();
        assert!(error.contains("roles must alternate") && error.contains("tokenizer_config.json"), "{error}");
    }

    #[test]
    fn a_template_without_end_is_stopped() {
        let endless = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
        let long = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        for template in [endless, long] {
            assert!(render(template, &[]).is_err(), "{template}");
        }
        assert!(matches!(render(long, &[]), Err(TextError::Limit { limit: Limit::Steps(FUEL), .. })));
    }

    /// Each would take gigabytes, most of them in one step.
    #[test]
    fn a_template_that_wants_too_much_memory_is_stopped() {
        let unrolled = format!("{{% set s = 'a' * 1000 %}}{}", "{% set s = s ~ s %}".repeat(40));
        let raw =
            format!("{{% set s %}}{{% for i in range(100000) %}}{}{{% endfor %}}{{% endset %}}", "x".repeat(99_999));
        for template in [
            "{% set ns = namespace(s='a') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = (ns.s + ns.s)|list %}{% endfor %}",
            "{{ 'a' * 99999999 }}",
            "{{ ([1] * 9999999999)|list }}",
            "{% set s = 'a' * 1000000 %}{{ s.replace('a', s) }}",
            "{% set s = 'a' * 1000000 %}{{ ([s] * 100000)|join }}",
            "{{ '%999999999d'|format(1) }}{{ ([[1] * 100000] * 100000)|string }}",
            "{% for i in range(100000) %}{{ 'a' * 1000000 }}{% endfor %}",
            "{% macro f(s) %}{{ f(s ~ s) }}{% endmacro %}{{ f('a') }}",
            "{{ (['a' * 100000] * 100000)|tojson }}",
            &unrolled,
            &raw,
        ] {
            let shown = &template[..template.len().min(100)];
            match render(template, &[]) {
                Err(error @ TextError::Limit { limit: Limit::Stopped(Stopped::Memory(_)), .. }) => {
                    let text = error.to_string();
                    assert!(text.contains("tokenizer_config.json") && text.contains("64 MiB"), "{text}");
                }
                other => panic!("{shown}: {:?}", other.map(|text| text.len())),
            }
        }
    }

    #[test]
    fn a_template_keeps_within_other_bounds() {
        let bounds = Bounds { steps: 100, memory: 1 << 20, time: Duration::from_secs(60) };
        let path = Path::new("a.jinja");
        let of = |source: &str| {
            ChatTemplate::from_source_within(source.to_owned(), path, None, None, bounds)?
                .render(&Chat::default(), true)
        };
        assert_eq!(of("{% for a in range(3) %}{{ a }}{% endfor %}").unwrap(), "012");
        let long = of("{% for a in range(99) %}{{ a }}{% endfor %}").unwrap_err();
        assert!(matches!(long, TextError::Limit { limit: Limit::Steps(100), .. }), "{long}");
        // Constants are computed when the template is parsed.
        let large = of("{{ 'a' * 2000000 }}").unwrap_err().to_string();
        assert!(large.contains("a.jinja") && large.contains("1 MiB"), "{large}");
    }

    #[test]
    fn a_template_that_was_stopped_is_not_rendered_again() {
        let hungry = "{% if messages[0].content == 'eat' %}{{ messages[0].role * 9999999 }}{% endif %}";
        let config = json!({"chat_template": hungry});
        let template = ChatTemplate::from_model(folder(&config, None).path()).unwrap();
        let render = |content: &str| template.render(&Chat::of(vec![Message::new("user", content)]), true);
        assert_eq!(render("no").unwrap(), "");
        let first = render("eat").unwrap_err().to_string();
        assert_eq!(render("no").unwrap_err().to_string(), first);
    }

    #[test]
    fn a_template_of_another_file_is_named_by_that_file() {
        let of = |source: String| {
            ChatTemplate::from_source(source, Path::new("a.gguf"), Some("<s>".into()), None)?
                .render(&Chat::default(), true)
        };
        assert_eq!(of("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}".into()).unwrap(), "<s>True");
        for source in ["{% if %}".to_owned(), "x".repeat(LONGEST_TEMPLATE as usize + 1)] {
            let error = of(source).unwrap_err().to_string();
            assert!(error.starts_with("a.gguf: the chat template"), "{error}");
        }
    }

    #[test]
    fn the_file_of_its_own_comes_first_and_of_named_ones_the_default() {
        let named = json!({"chat_template": [{"name": "tool_use", "template": "tools"},
                                             {"name": "default", "template": "plain"}]});
        let of = |folder: &tempfile::TempDir| ChatTemplate::from_model(folder.path())?.render(&Chat::default(), false);
        assert_eq!(of(&folder(&named, None)).unwrap(), "plain");
        let tools = Chat { tools: Some(Vec::new()), ..Chat::default() };
        let with_tools = |own| ChatTemplate::from_model(folder(&named, own).path()).unwrap().render(&tools, false);
        assert_eq!(with_tools(None).unwrap(), "tools");
        assert_eq!(with_tools(Some("own")).unwrap(), "own");
        assert_eq!(of(&folder(&named, Some("own"))).unwrap(), "own");
        let without = of(&folder(&json!({"chat_template": null}), None)).unwrap_err().to_string();
        assert!(without.contains("no chat template"), "{without}");
        let broken = of(&folder(&named, Some("{% if %}"))).unwrap_err().to_string();
        assert!(broken.contains("chat_template.jinja: the chat template does not parse"), "{broken}");
    }

    #[test]
    fn what_a_template_leaves_out_is_named() {
        let chat: Chat = serde_json::from_value(json!({
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "tides"}}]},
            ],
            "tools": [{"type": "function", "function": {"name": "weather"}}],
            "template_arguments": {"enable_thinking": true},
        }))
        .unwrap();
        let ignored = |template: &str, chat: &Chat| {
            let template = ChatTemplate::from_source(template.to_owned(), Path::new("a.gguf"), None, None).unwrap();
            template.ignored(chat)
        };
        let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}";
        assert_eq!(ignored(plain, &chat), ["tools", "tool_calls", "enable_thinking"]);
        let announced = format!("{plain}{{% if tools %}}There are tools.{{% endif %}}");
        assert_eq!(ignored(&announced, &chat), ["tools", "tool_calls", "enable_thinking"]);
        // `true` is its default, so that it changes no text.
        let thinking = "{% if enable_thinking is defined and not enable_thinking %}no{% endif %}";
        let all = format!("{plain}{{{{ tools }}}}{{{{ messages[1].tool_calls }}}}{thinking}");
        assert_eq!(ignored(&all, &chat), [""; 0]);
        assert_eq!(ignored("{{ raise_exception('no') }}", &chat), [""; 0]);
        assert_eq!(ignored(plain, &Chat::of(vec![Message::new("user", "hi")])), [""; 0]);
    }
}
