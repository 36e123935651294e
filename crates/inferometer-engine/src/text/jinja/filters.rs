//! Filters and tests that differ from minijinja's.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, Value};

use super::print::{Style, text};
use super::{failed, methods};

pub fn add(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", text);
    environment.add_filter("join", join);
    environment.add_filter("pprint", |value: &Value| Style::python().of(value));
    environment.add_filter("title", |value: &Value| text(value).map(|text| title(&text)));
    environment.add_filter("indent", indent);
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("capitalize", |value: &Value| text(value).map(|text| methods::capitalized(&text)));
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_test("lower", |value: &Value| text(value).map(|text| methods::cased(&text, false)));
    environment.add_test("upper", |value: &Value| text(value).map(|text| methods::cased(&text, true)));
    environment.add_test("sequence", |value: &Value| {
        let sized = || value.kind() == ValueKind::Iterable && value.len().is_some();
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map) || sized()
    });
    environment
        .add_test("iterable", |value: &Value| value.is_undefined() || value.try_iter().is_ok() && !value.is_none());
    environment.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_test("callable", |value: &Value| matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined));
}

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`
fn tojson(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let on = |key| kwargs.get(key).map(|value: Option<Value>| value.is_some_and(|value| value.is_true()));
    let (ascii, sorted) = (on("ensure_ascii")?, on("sort_keys")?);
    let indent: Option<Value> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    kwargs.assert_all_used()?;
    let indent = match indent.filter(|value| !value.is_none()) {
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(i64::try_from(value)?).unwrap_or(0)),
        }),
        None => None,
    };
    let [item, key] = match separators {
        Some(given) => given.try_into().map_err(|_| failed("`separators` must be two texts"))?,
        None => [if indent.is_some() { "," } else { ", " }, ": "].map(str::to_owned),
    };
    Style { json: true, ascii, indent, item, key, sorted }.of(value)
}

fn join(value: &Value, between: Option<&str>, kwargs: Kwargs) -> Result<String, Error> {
    let attribute: Option<&str> = kwargs.get("attribute")?;
    let between = between.or(kwargs.get("d")?).unwrap_or_default();
    kwargs.assert_all_used()?;
    let mut out = String::new();
    for (i, item) in value.try_iter()?.enumerate() {
        let item = attribute.map_or(Ok(item.clone()), |name| item.get_attr(name))?;
        out.push_str(if i == 0 { "" } else { between });
        out.push_str(&text(&item)?);
    }
    Ok(out)
}

/// The default stands for whatever is no number.
fn int(value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or_else(|| 0.into());
    let base: u32 = kwargs.get::<Option<u32>>("base")?.unwrap_or(10);
    kwargs.assert_all_used()?;
    let Some(text) = value.as_str().map(str::trim) else {
        let number = f64::try_from(value.clone()).ok().filter(|number| number.is_finite());
        return Ok(i64::try_from(value.clone()).ok().or(number.map(|n| n as i64)).map_or(default, Value::from));
    };
    let digits = if base == 16 { text.trim_start_matches("0x") } else { text };
    let whole = (2..=36).contains(&base).then(|| i64::from_str_radix(digits, base).ok()).flatten();
    let number = || text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as i64);
    Ok(whole.or_else(number).map_or(default, Value::from))
}

fn float(value: &Value, default: Option<Value>) -> Value {
    let number = value.as_str().map_or_else(|| f64::try_from(value.clone()).ok(), |text| text.trim().parse().ok());
    number.map_or_else(|| default.unwrap_or_else(|| 0.0.into()), Value::from)
}

/// Unlike the method, only what stands behind a blank, a hyphen or a bracket begins a word.
fn title(text: &str) -> String {
    methods::title(text, |before| before.is_whitespace() || matches!(before, '-' | '(' | '{' | '[' | '<'))
}

/// Keeps a line break at the end, which minijinja's filter drops.
fn indent(
    value: &Value,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = width.or(kwargs.get("width")?).unwrap_or_else(|| 4.into());
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let margin = match width.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(width)?),
    };
    let text = text(value)?;
    let mut out = String::new();
    for (i, line) in text.split('\n').enumerate() {
        out.push_str(if i == 0 { "" } else { "\n" });
        out.push_str(if first && i == 0 || i > 0 && (blank || !line.is_empty()) { &margin } else { "" });
        out.push_str(line);
    }
    Ok(out)
}

fn escape(value: &Value) -> Result<Value, Error> {
    let mut out = String::new();
    for c in text(value)?.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Ok(Value::from_safe_string(out))
}
